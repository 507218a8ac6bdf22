//! Cleaning ahead of demand, when nobody has anything better to do.
//!
//! ```text
//!                   close                    idle work, 16 pages at a time
//!   slot:   in use ───────> at rest, marked ──────────────────────────────> at rest, clean
//!                                '── taken before that: cleaned first ──────────> in use
//!
//!   frame:  given back ───> stained ──────────────────────────────────────> clean
//!                                '── taken before that: cleared first
//! ```
//!
//! A slot that is left for it keeps the marks of what was written, and is *unclean*.
//! Its user's bytes stay where they are, in frames that no table shows that is
//! linked, until somebody cleans it under its lock: idle work, or its next user.

use core::sync::atomic::Ordering;

use allotment_arch::Arch;

use super::{Pools, SlotPool, slot::SlotState, slot_edits::Slot};
use crate::vm::Vm;

/// Pages that are cleaned while a slot is held: whoever wants it waits for no more.
const AT_A_TIME: usize = 16;

impl Pools {
    /// Cleans up to `budget` pages of slots at rest. Returns how many those were.
    pub(crate) fn clean_slots<A: Arch>(&self, vm: &Vm<A>, budget: usize) -> usize {
        self.all().fold(0, |done, pool| done + pool.clean_ahead(vm, budget - done))
    }

    /// Clears up to `budget` free frames. Returns how many those were.
    pub(crate) fn clear_frames<A: Arch>(&self, vm: &Vm<A>, budget: usize) -> usize {
        let clear = |_: &usize| {
            // Who finds too few frames available waits for it, and counts again.
            let _reclaiming = self.reclaiming.lock();
            vm.arena.clear_one(&vm.arch)
        };
        (0..budget).take_while(clear).count()
    }
}

impl SlotPool {
    fn clean_ahead<A: Arch>(&self, vm: &Vm<A>, budget: usize) -> usize {
        let mut done = 0;
        if self.unclean() == 0 {
            return done;
        }
        for (number, record) in (0..).zip(self.slots.as_slice()) {
            while done < budget && record.unclean.load(Ordering::Relaxed) {
                match self.clean_some(vm, number, AT_A_TIME.min(budget - done)) {
                    0 => break,
                    pages => done += pages,
                }
            }
        }
        done
    }

    fn clean_some<A: Arch>(&self, vm: &Vm<A>, number: u32, most: usize) -> usize {
        let slot = self.slot(vm, number);
        let mut state = slot.record.state.lock();
        if slot.record.is_in_use() {
            return 0;
        }
        let before = slot.resident_bytes(&state);
        let pages = slot.clean(&mut state, most);
        self.note_resident(slot.record, before, slot.resident_bytes(&state));
        pages
    }

    /// Slots that idle work has not looked at yet.
    pub(crate) fn unclean(&self) -> usize {
        self.unclean.load(Ordering::Relaxed)
    }
}

impl<A: Arch> Slot<'_, A> {
    /// Makes up to `most` pages of a slot at rest what its next user is to see.
    /// Returns how many those were: if fewer, nothing is left.
    #[cold]
    #[inline(never)]
    pub(super) fn clean(&self, state: &mut SlotState, most: usize) -> usize {
        let pages =
            if state.sharing { self.reset(state, self.parked(state), most) } else { self.wipe(state, most) };
        if pages < most {
            self.note_clean();
            #[cfg(feature = "audit")]
            if state.sharing { self.audit_sharing(state) } else { self.audit(state) }
        }
        pages
    }

    /// Has idle work look at a slot.
    pub(super) fn note_unclean(&self) {
        if !self.record.unclean.swap(true, Ordering::Relaxed) {
            self.pool.unclean.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has it no longer.
    pub(super) fn note_clean(&self) {
        if self.record.unclean.load(Ordering::Relaxed) {
            self.record.unclean.store(false, Ordering::Relaxed);
            self.pool.unclean.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
