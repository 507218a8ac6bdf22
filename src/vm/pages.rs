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

/// Makes pages readable and writable, all of which are hidden. Nothing that
/// was accessible is taken away: there is nothing to invalidate.
pub(crate) fn reveal<A: Arch>(vm: &Vm<A>, run: &[AtomicU64]) {
    let reveal = |entry: &AtomicU64| {
        let hidden = entry.load(Ordering::Relaxed);
        debug_assert!(matches!(A::Format::decode(hidden), Entry::Hidden { .. }), "{hidden:#x} is not hidden");
        entry.store(A::Format::reveal(hidden), Ordering::Release);
    };
    if vm.arch.hardware_dirty() {
        // By eights: growth by a wasm page is sixteen of these.
        let (eights, rest) = run.as_chunks::<8>();
        eights.iter().for_each(|eight| eight.iter().for_each(reveal));
        rest.iter().for_each(reveal);
        return;
    }
    for entry in run {
        if let Entry::Hidden { frame, .. } = A::Format::decode(entry.load(Ordering::Relaxed)) {
            entry.store(A::Format::present(frame, Access::ReadWrite, true), Ordering::Release);
        }
    }
}

/// Gives every page that has a frame the access asked for.
pub(crate) fn set<A: Arch>(vm: &Vm<A>, run: &[AtomicU64], access: Access) -> Stale {
    let no_dirty_state = !vm.arch.hardware_dirty();
    let mut stale = Stale::No;
    for entry in run {
        let mut old = entry.load(Ordering::Relaxed);
        loop {
            let (frame, written, was_present) = match A::Format::decode(old) {
                Entry::Empty => break,
                Entry::Present { access: same, .. } if same == access => break,
                Entry::Hidden { frame, written } => (frame, written, false),
                Entry::Present { frame, written, .. } => (frame, written, true),
            };
            let written = written || access == Access::ReadWrite && no_dirty_state;
            let new = A::Format::present(frame, access, written);
            // The CPU may be setting its dirty state this moment: in one step,
            // so that the mark cannot fall between. And without a moment in
            // which nothing is present, as readers may go on reading; a change
            // of rights alone needs no break-before-make (Arm ARM D8.16.1).
            match entry.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if was_present => stale = Stale::Yes,
                Ok(_) => {}
                Err(marked) => {
                    old = marked;
                    continue;
                }
            }
            break;
        }
    }
    stale
}

/// What [`hide`] found.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Hidden {
    pub(crate) stale: Stale,
    /// Whether any page of the run may hold anything but zeros.
    pub(crate) written: bool,
}

/// Takes away all access; frames stay where they are, and remember whether
/// they were written.
pub(crate) fn hide<A: Arch>(run: &[AtomicU64]) -> Hidden {
    let (mut before, mut after) = (0, 0);
    for entry in run {
        let mut new = entry.load(Ordering::Relaxed);
        if new & A::Format::PRESENT != 0 {
            // The CPU may be setting its dirty state this moment: after the
            // swap it no longer can.
            let old = entry.swap(0, Ordering::AcqRel);
            before |= old;
            new = A::Format::hide(old);
            entry.store(new, Ordering::Relaxed);
        }
        after |= new;
    }
    let stale = if before & A::Format::PRESENT != 0 { Stale::Yes } else { Stale::No };
    Hidden { stale, written: after & A::Format::WRITTEN != 0 }
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
