//! Edits on a run of leaf entries: the only code that writes them.
//!
//! The run is a slice of one or more leaf tables, so that an edit is straight
//! loads and stores. What each edit leaves to do for the caller:
//!
//! | edit | from | to | afterwards |
//! |---|---|---|---|
//! | [`fill`] | empty | hidden | nothing |
//! | [`reveal`] | hidden | present | publish |
//! | [`set`] | hidden, present | present | publish; invalidate if it says so |
//! | [`hide`] | present | hidden | invalidate if it says so |
//! | [`scrub`] | hidden | hidden, holding zeros | nothing (after invalidation) |
//! | [`strip`] | hidden, holding zeros | empty | nothing (after invalidation) |

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Access, Arch, Entry, Format};

use super::{Promise, Vm};

/// Whether cached translations of the run must be invalidated before what the
/// edit took away may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Stale {
    No,
    Yes,
}

/// How many entries hold no frame.
pub(crate) fn count_empty<A: Arch>(run: &[AtomicU64]) -> usize {
    run.iter().filter(|entry| A::Format::decode(entry.load(Ordering::Relaxed)) == Entry::Empty).count()
}

/// Gives every empty entry a hidden frame of zeros.
///
/// Stops when the promise has no more; the caller counted first.
pub(crate) fn fill<A: Arch>(run: &[AtomicU64], frames: &mut Promise<'_, A>) {
    for entry in run {
        if A::Format::decode(entry.load(Ordering::Relaxed)) == Entry::Empty {
            let Some(frame) = frames.take() else { return };
            entry.store(A::Format::hidden(frame, false), Ordering::Relaxed);
        }
    }
}

/// Makes hidden pages readable and writable. Nothing that was accessible is
/// taken away: there is nothing to invalidate.
pub(crate) fn reveal<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) {
    let no_dirty_state = !vm.arch.hardware_dirty();
    for entry in run {
        if let Entry::Hidden { frame, written } = A::Format::decode(entry.load(Ordering::Relaxed)) {
            let new = A::Format::present(frame, Access::ReadWrite, written || no_dirty_state);
            entry.store(new, Ordering::Release);
        }
    }
}

/// Gives every page that has a frame the access asked for.
pub(crate) fn set<A: Arch>(vm: &Vm<A>, run: &[AtomicU64], access: Access) -> Stale {
    let no_dirty_state = !vm.arch.hardware_dirty();
    let mut stale = Stale::No;
    for entry in run {
        let old = entry.load(Ordering::Relaxed);
        let (frame, written) = match A::Format::decode(old) {
            Entry::Empty => continue,
            Entry::Present { access: same, .. } if same == access => continue,
            Entry::Hidden { frame, written } => (frame, written),
            Entry::Present { .. } => {
                // The CPU may be setting its dirty state this moment: hide
                // with a swap, so that the mark cannot fall between.
                stale = Stale::Yes;
                match A::Format::decode(entry.swap(0, Ordering::AcqRel)) {
                    Entry::Present { frame, written, .. } | Entry::Hidden { frame, written } => {
                        (frame, written)
                    }
                    Entry::Empty => continue,
                }
            }
        };
        let written = written || access == Access::ReadWrite && no_dirty_state;
        entry.store(A::Format::present(frame, access, written), Ordering::Release);
    }
    stale
}

/// Takes away all access; frames stay where they are, and remember whether
/// they were written.
pub(crate) fn hide<A: Arch>(run: &[AtomicU64]) -> Stale {
    let mut stale = Stale::No;
    for entry in run {
        if let Entry::Present { frame, .. } = A::Format::decode(entry.load(Ordering::Relaxed)) {
            let old = entry.swap(A::Format::hidden(frame, true), Ordering::AcqRel);
            stale = Stale::Yes;
            if let Entry::Present { written: false, .. } = A::Format::decode(old) {
                entry.store(A::Format::hidden(frame, false), Ordering::Relaxed);
            }
        }
    }
    stale
}

/// Clears every hidden page that was written.
///
/// # Safety
///
/// No CPU caches a translation for the run any more.
pub(crate) unsafe fn scrub<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) {
    for entry in run {
        if let Entry::Hidden { frame, written: true } = A::Format::decode(entry.load(Ordering::Relaxed)) {
            // SAFETY: the page is hidden and not cached, so nobody reaches it.
            unsafe { vm.arch.zero_frame(frame) };
            entry.store(A::Format::hidden(frame, false), Ordering::Relaxed);
        }
    }
}

/// Gives the frames of hidden pages back to the arena, the last first.
/// Returns how many.
///
/// # Safety
///
/// The run was scrubbed, and no CPU caches a translation for it.
pub(crate) unsafe fn strip<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) -> usize {
    let mut stripped = 0;
    for entry in run.iter().rev() {
        if let Entry::Hidden { frame, written: false } = A::Format::decode(entry.load(Ordering::Relaxed)) {
            entry.store(0, Ordering::Relaxed);
            // SAFETY: the frame came from the arena, holds zeros and has just
            // left its only entry.
            unsafe { vm.arena.give_back(frame) };
            stripped += 1;
        }
    }
    stripped
}
