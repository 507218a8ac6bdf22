//! What memories share until they write it: tables of a granule, and the frames
//! that these show.
//!
//! ```text
//!   directory:   | T | S | ...       S: a table that others share
//!                  |                 T: the memory's own
//!                | W C C W ... |     C: a frame that others share, copied on write
//!                                    W: the memory's own
//!
//!   first write:   S ──> T, which shows the same;  C ──> busy ──> W, which holds the same
//! ```
//!
//! Both are for handlers too: no lock, no heap, no interrupt. On aarch64
//! break-before-make is a broadcast; on x86_64 other CPUs forget when they
//! [arrive](super::Revoked).

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Entry, Format, Invalidation, Pages, PhysAddr, Upper, VirtAddr,
};

use super::{Vm, pages};

/// Pages that a memory of zeros gets at once, whatever it writes: one wasm page.
/// Larger ones share zeros.
pub(crate) const EAGER_PAGES: usize = 16;

/// What became of an attempt that others may get in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Done,
    /// Another CPU is at it this moment.
    Again,
    /// What was promised is used up.
    Exhausted,
}

/// The own table that a directory entry points to, or has parked.
#[inline]
pub(crate) fn own_table<A: Arch>(entry: u64) -> Option<PhysAddr> {
    if entry & A::Format::PRESENT == 0 {
        return match A::Format::decode(entry) {
            Entry::Hidden { frame, .. } => Some(frame),
            Entry::Empty { .. } | Entry::Present { .. } => None,
        };
    }
    match A::Format::upper(1, entry) {
        Upper::Table { frame, .. } if entry & A::Format::SHARED_TABLE == 0 => Some(frame),
        _ => None,
    }
}

/// Whether a directory entry points to a table that is shared.
#[inline]
pub(crate) fn is_shared<A: Arch>(entry: u64) -> bool {
    let both = A::Format::PRESENT | A::Format::SHARED_TABLE;
    entry & both == both
}

/// Whether an entry has a frame of its own.
#[inline]
pub(crate) fn is_own<A: Arch>(entry: u64) -> bool {
    pages::has_frame::<A>(entry) && entry & A::Format::SHARED == 0
}

/// Has the granule from `start` on, whose directory entry `place` points to the
/// shared table `shared`, show the same by the table `own`.
///
/// # Safety
///
/// `own` is the granule's alone and linked nowhere, and nobody else changes the
/// directory entry meanwhile.
#[inline]
pub(crate) unsafe fn make_table_own<A: Arch>(
    vm: &Vm<A>,
    place: &AtomicU64,
    start: VirtAddr,
    shared: PhysAddr,
    own: PhysAddr,
) {
    // SAFETY: a shared table does not change; the rest is this function's contract.
    unsafe { vm.arch.copy_frame(shared, own) };
    let new = A::Format::table(own);
    let pages = Pages { start, count: ENTRIES_PER_TABLE };
    let breaks = A::Format::needs_break(place.load(Ordering::Relaxed), new);
    if breaks {
        place.store(A::Format::empty(pages::BUSY), Ordering::Release);
        vm.arch.invalidate_everywhere(Invalidation::tables(pages));
    }
    place.store(new, Ordering::Release);
    vm.arch.publish();
    if !breaks {
        // What was read ahead by way of the shared table shows the same, but the
        // pointer to it would go on to.
        vm.arch.invalidate_local(Invalidation::tables(Pages { count: 1, ..pages }));
    }
}

/// An accessible page that shows a shared frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedPage<'e> {
    pub(crate) start: VirtAddr,
    pub(crate) leaf: &'e AtomicU64,
    /// What stands there,
    pub(crate) old: u64,
    /// and the frame that it shows.
    pub(crate) shown: PhysAddr,
}

impl SharedPage<'_> {
    /// Gives the page the frame that `take` has for it, holding the same, readable and
    /// writable. `take` is asked once nobody else is at the page; its frame holds zeros
    /// if the shared one is the zero frame.
    #[inline]
    pub(crate) fn make_own<A: Arch>(
        &self,
        vm: &Vm<A>,
        written: bool,
        take: impl FnOnce() -> Option<PhysAddr>,
    ) -> Attempt {
        let Self { start, leaf, old, shown } = *self;
        let busy = A::Format::empty(pages::BUSY);
        if leaf.compare_exchange(old, busy, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Attempt::Again;
        }
        let Some(own) = take() else {
            leaf.store(old, Ordering::Release);
            return Attempt::Exhausted;
        };
        let new = A::Format::present(own, Access::ReadWrite, written);
        let stale = Invalidation::leaves(Pages { start, count: 1 });
        let breaks = A::Format::needs_break(old, new);
        if breaks {
            vm.arch.invalidate_everywhere(stale);
        }
        if shown != vm.zeros.frame() {
            // SAFETY: the shared frame does not change; the other is the page's own, which
            // is busy: nobody else is at it.
            unsafe { vm.arch.copy_frame(shown, own) };
        }
        leaf.store(new, Ordering::Release);
        vm.arch.publish();
        if written && !breaks {
            // The fault had this CPU forget the shared page. Until the page was busy it
            // may have come back: whoever reads ahead asks nobody.
            vm.arch.invalidate_local(stale);
        }
        Attempt::Done
    }
}
