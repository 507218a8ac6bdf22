//! What is known of a slot beside its page tables.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use allotment_arch::{Arch, Pages, PhysAddr};
use spin::mutex::SpinMutex;

use super::sharing::Larger;
use crate::{
    CompiledModuleId, MemoryInModule,
    vm::{Image, Revoked, Settled, ShownImage, Vm},
};

/// A slot that is in use, as its holder names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    /// Of which of the [memory pools](super::memory_pools); 0 of what is no memory.
    pub(crate) pool: u8,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

/// Scalars of one slot. What only its editor needs is under the lock.
#[derive(Debug)]
pub(crate) struct SlotRecord {
    /// Raised whenever the slot is given out or taken back: odd while in use.
    pub(super) generation: AtomicU64,
    /// Bytes that can be accessed, from the slot's base.
    pub(super) accessible: AtomicUsize,
    revoked: Revoked,
    /// Frames of the arena in the slot's entries, tables not counted.
    pub(super) frames: AtomicUsize,
    /// Frames that faults may still put into its entries.
    pub(super) promised: AtomicUsize,
    /// The same of leaf tables, for granules that share one.
    pub(super) promised_tables: AtomicUsize,
    /// Whether the slot [shares](super::sharing) what nobody wrote.
    pub(super) sharing: AtomicBool,
    /// The image that it shows, or last showed.
    image: ShownImage,
    /// Of a slot that shares: accessible pages that are its own,
    pub(super) private: AtomicUsize,
    /// its own tables beyond the first granule's,
    pub(super) own_beyond: AtomicUsize,
    /// and those of them that came from the arena.
    pub(super) far_tables: AtomicUsize,
    /// Whether it became accessible before it was known what it shows.
    pub(super) pending: AtomicBool,
    /// Whether a fault decided that.
    pub(super) detached: AtomicBool,
    /// Whether a page became its own by a fault since it was opened.
    pub(super) faulted: AtomicBool,
    /// Whether a CPU gives a granule a table of its own this moment.
    claimed: AtomicBool,
    /// Whose slot it is: a module's number, and one of its memories or tables.
    /// What holds without one has [`NO_MODULE`] here.
    module: AtomicU64,
    index: AtomicU32,
    pub(super) gc_heap: AtomicBool,
    /// Whether it is at rest and in no list: its last user may have it back. Changed
    /// under the lock.
    pub(super) dormant: AtomicBool,
    /// Whether idle work may find something to do in it. Changed under the lock.
    pub(super) unclean: AtomicBool,
    /// The slot after it in the decommit queue.
    pub(super) next_queued: AtomicU32,
    /// Where the directory's entry for the slot's first leaf table is.
    pub(super) directory: PhysAddr,
    pub(super) state: SpinMutex<SlotState>,
}

/// In [`SlotRecord::index`]: there is no module.
const NO_MODULE: u32 = u32::MAX;

/// What the editor of a slot knows of its entries, in pages from its base.
///
/// ```text
///   entry:  | present ........ | hidden ......... | either or empty | empty ........ |
///   page:   0               present           resident             top         slot size
/// ```
///
/// While the slot is open, `present` is what can be accessed. In a slot at rest
/// it is what a next user of that size finds ready: its tables are unlinked,
/// so that nothing translates.
#[derive(Debug, Default)]
pub(crate) struct SlotState {
    pub(super) present: usize,
    /// Pages below may be present too, if their table is not linked: what former
    /// users had, and everybody has forgotten.
    pub(super) retained: usize,
    /// All pages below have frames.
    pub(super) resident: usize,
    /// No page from here on has a frame, nor one that a fault has not given it.
    pub(super) top: usize,
    /// Premapped leaf tables that are linked, from the first.
    pub(super) linked: usize,
    /// Tables and directories beyond the premapped ones.
    pub(super) far: usize,
    /// Pages below may hold something else than the next user is to see, and are
    /// marked then: they are wiped, or reset, before they are used.
    pub(super) unwiped: usize,
    /// Pages that were reset since, of a slot that shares.
    pub(super) copies: usize,
    /// Whether pages share frames, and granules tables: see [`sharing`](super::sharing).
    /// Then `linked` counts granules and `far` directories; own tables
    /// are below `top`.
    pub(super) sharing: bool,
    /// Pages from here to `resident` are the slot's own.
    pub(super) shared: usize,
    /// The version of the image's working set that is the slot's own.
    pub(super) version: u32,
    /// How often the slot was reset.
    pub(super) closes: u32,
    /// Whether it no longer shows what a next user of its image is to see.
    pub(super) spoiled: bool,
    /// What of it is translated by more than pages.
    pub(super) larger: Larger,
}

impl SlotRecord {
    pub(super) fn new(directory: PhysAddr) -> Self {
        Self {
            generation: AtomicU64::new(0),
            accessible: AtomicUsize::new(0),
            revoked: Revoked::default(),
            frames: AtomicUsize::new(0),
            promised: AtomicUsize::new(0),
            promised_tables: AtomicUsize::new(0),
            sharing: AtomicBool::new(false),
            image: ShownImage::default(),
            private: AtomicUsize::new(0),
            own_beyond: AtomicUsize::new(0),
            far_tables: AtomicUsize::new(0),
            pending: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            faulted: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
            module: AtomicU64::new(0),
            index: AtomicU32::new(NO_MODULE),
            gc_heap: AtomicBool::new(false),
            dormant: AtomicBool::new(false),
            unclean: AtomicBool::new(false),
            next_queued: AtomicU32::new(0),
            directory,
            state: SpinMutex::new(SlotState::default()),
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        is_in_use(self.generation.load(Ordering::Relaxed))
    }

    /// Notes who has the slot.
    #[inline]
    pub(super) fn set_owner(&self, owner: Option<MemoryInModule>) {
        let (module, index) = owner.map_or((0, NO_MODULE), |owner| (owner.module.0, owner.index));
        self.module.store(module, Ordering::Relaxed);
        self.index.store(index, Ordering::Relaxed);
    }

    /// Who has the slot, or had it last.
    pub(super) fn owner(&self) -> Option<MemoryInModule> {
        let index = self.index.load(Ordering::Relaxed);
        let module = CompiledModuleId(self.module.load(Ordering::Relaxed));
        (index != NO_MODULE).then_some(MemoryInModule { module, index })
    }

    /// Makes this CPU forget what was taken away from the slot, unless it has.
    #[inline]
    pub(super) fn forget<A: Arch>(&self, vm: &Vm<A>, cpu: usize) {
        self.revoked.forget(vm, cpu);
    }

    /// Notes that `pages` of the slot, or tables above them, were taken away, and
    /// makes this CPU forget them. The caller holds the slot.
    pub(super) fn revoke<A: Arch>(&self, vm: &Vm<A>, pages: Pages) {
        self.revoked.revoke(vm, pages);
    }

    /// Notes that this CPU, in a fault, showed another frame or table in the slot. It
    /// does not cache the old one any more; others must not use the slot before they
    /// forget. The caller may hold nothing.
    #[inline]
    pub(super) fn replaced(&self, cpu: usize) {
        self.revoked.replaced(cpu);
    }

    /// Whether something was replaced since the last revocation.
    #[inline]
    pub(super) fn is_replaced(&self) -> bool {
        self.revoked.is_replaced()
    }

    /// Claims the tables of the slot. `false` if another CPU has.
    pub(super) fn try_claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::Acquire)
    }

    pub(super) fn unclaim(&self) {
        self.claimed.store(false, Ordering::Release);
    }

    /// The image that the slot shows or last showed, of which it is an owner.
    #[inline]
    pub(super) fn image(&self) -> Option<Image> {
        self.image.get()
    }

    /// Notes which image it shows. The slot's share in it is the caller's to count.
    pub(super) fn set_image(&self, image: Option<Image>) {
        self.image.set(image);
    }

    /// Takes the image out, and the slot's share in it with it.
    pub(super) fn take_image(&self) -> Option<Image> {
        self.image.take()
    }

    /// Makes every CPU forget what was taken away from the slot, unless they
    /// have. The caller holds the slot.
    pub(super) fn settle<A: Arch>(&self, vm: &Vm<A>) -> Settled {
        self.revoked.settle(vm)
    }
}

/// Whether a slot of this generation is given out.
pub(crate) fn is_in_use(generation: u64) -> bool {
    !generation.is_multiple_of(2)
}
