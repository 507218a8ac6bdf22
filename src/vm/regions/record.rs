//! What is known of a region beside its page tables.

use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use spin::Mutex;

use crate::vm::{Revoked, ShownImage};

/// A region that is in use, as its holder names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionId {
    pub(crate) record: u32,
    pub(crate) generation: u32,
}

/// What a region is for, in the words of who reserved it. Nothing here looks
/// at them; all zeros is a region of no further meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) kind: u32,
    pub(crate) index: u32,
    pub(crate) module: u64,
}

/// Where a region lies and what it is for. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first granule, of the guard in front if there is one.
    pub(crate) first: usize,
    /// Granules in all, guards included.
    pub(crate) granules: usize,
    /// Granules in front of the base.
    pub(crate) front: usize,
    /// From the base: what may become accessible.
    pub(crate) bytes: usize,
    pub(crate) label: Label,
}

/// One of a fixed number. All fields are read without a lock, and written by
/// whoever holds it.
#[derive(Debug, Default)]
pub(crate) struct RegionRecord {
    /// Raised whenever the record is given out or taken back: odd while in use.
    generation: AtomicU32,
    kind: AtomicU32,
    index: AtomicU32,
    /// The next free record, plus 1, while this one is free.
    pub(super) next_free: AtomicU32,
    module: AtomicU64,
    first: AtomicUsize,
    granules: AtomicUsize,
    front: AtomicUsize,
    bytes: AtomicUsize,
    /// From the base: no page above has a frame. Of regions that only grow,
    /// what is accessible.
    reach: AtomicUsize,
    /// Whether its pages may be shared until they are written.
    lazy: AtomicBool,
    /// Whether a CPU gives it a page or table of its own this moment.
    claimed: AtomicBool,
    /// Frames that first writes may take, for pages and tables.
    pub(super) promised: AtomicUsize,
    pub(super) image: ShownImage,
    /// What the image [says](crate::vm::ImageRecord::begin) of when it began.
    pub(super) begun: AtomicU32,
    /// What CPUs other than the last may still have cached of what was replaced.
    pub(super) revoked: Revoked,
    /// Held while the region's entries are edited.
    pub(super) editing: Mutex<()>,
}

impl RegionRecord {
    /// Gives a free record out. The caller has it from the list of free ones.
    pub(super) fn give_out(&self, extent: &Extent, lazy: bool) -> u32 {
        // Who reads without a lock and finds any of what follows, finds the
        // generation even or changed as well.
        fence(Release);
        self.kind.store(extent.label.kind, Relaxed);
        self.index.store(extent.label.index, Relaxed);
        self.module.store(extent.label.module, Relaxed);
        self.first.store(extent.first, Relaxed);
        self.granules.store(extent.granules, Relaxed);
        self.front.store(extent.front, Relaxed);
        self.bytes.store(extent.bytes, Relaxed);
        self.reach.store(0, Relaxed);
        self.lazy.store(lazy, Relaxed);
        self.generation.fetch_add(1, Release).wrapping_add(1)
    }

    /// Ends what the record stands for. The caller holds it.
    pub(super) fn end(&self) {
        self.generation.fetch_add(1, Release);
    }

    /// Whether pages may be shared until they are written.
    pub(super) fn is_lazy(&self) -> bool {
        self.lazy.load(Acquire)
    }

    /// Claims the entries of a region that shares. `None` if another CPU has.
    pub(super) fn try_claim(&self) -> Option<Claim<'_>> {
        (!self.claimed.swap(true, Acquire)).then_some(Claim(self))
    }

    /// The same for who holds the region, and so may wait.
    pub(super) fn claim(&self) -> Claim<'_> {
        loop {
            if let Some(claim) = self.try_claim() {
                return claim;
            }
            core::hint::spin_loop();
        }
    }

    /// Has no fault be answered from here on.
    pub(super) fn close(&self) {
        let _claim = self.claim();
        self.lazy.store(false, Release);
    }

    /// Whether `id` still names whom it was made for.
    pub(super) fn is(&self, id: RegionId) -> bool {
        is_in_use(id.generation) && self.generation.load(Acquire) == id.generation
    }

    /// The generation, if the record is in use.
    pub(super) fn generation(&self) -> Option<u32> {
        Some(self.generation.load(Acquire)).filter(|&generation| is_in_use(generation))
    }

    pub(super) fn reach(&self) -> usize {
        self.reach.load(Relaxed)
    }

    /// The caller holds the record.
    pub(super) fn set_reach(&self, reach: usize) {
        self.reach.store(reach, Release);
    }

    /// For who holds the record, or looks at the generation before and after.
    pub(super) fn extent(&self) -> Extent {
        let label = Label {
            kind: self.kind.load(Relaxed),
            index: self.index.load(Relaxed),
            module: self.module.load(Relaxed),
        };
        Extent {
            first: self.first.load(Relaxed),
            granules: self.granules.load(Relaxed),
            front: self.front.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            label,
        }
    }

    /// All of it, and of one moment, without the lock. `None` if the record is
    /// free, or changes hands meanwhile.
    pub(super) fn snapshot(&self) -> Option<(u32, Extent, usize)> {
        let generation = self.generation()?;
        let (extent, reach) = (self.extent(), self.reach());
        fence(Acquire);
        (self.generation.load(Relaxed) == generation).then_some((generation, extent, reach))
    }
}

/// The right to replace what a region shares.
#[must_use]
pub(super) struct Claim<'r>(&'r RegionRecord);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.claimed.store(false, Release);
    }
}

fn is_in_use(generation: u32) -> bool {
    !generation.is_multiple_of(2)
}
