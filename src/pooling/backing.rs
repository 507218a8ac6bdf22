//! The frames of a slot: where they come from, and when they are promised.
//!
//! | backing | when a page becomes accessible | at its first touch |
//! |---|---|---|
//! | `Fixed` | gets the frame that is its own | - |
//! | `Elastic`, strict | gets one of the arena | - |
//! | `Elastic`, per instance | gets none | gets one of those promised at allocation, in the fault |

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, PAGE_SIZE, VirtAddr};

use super::{
    SlotId,
    slot::SlotState,
    slot_edits::Slot,
    slot_pool::{SlotBacking, SlotPool},
};
use crate::{
    Error,
    vm::{Vm, distance, pages},
};

/// In [`SlotRecord::promised`](super::SlotRecord), above the frames that are
/// left: how many takers have theirs in hand, and not in its entry yet. Who finds
/// none left asks again while there are such: the frame may be for his page, or
/// come back.
const IN_HAND: usize = 1 << 32;

/// What became of the first touch of a page without a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// It has one now, or may have any moment: touching it again says so.
    Given,
    /// The instance has touched as many as it may.
    Exhausted,
    /// It is none that could get one.
    NotHere,
}

impl<A: Arch> Slot<'_, A> {
    /// Whether accessible pages may lack frames.
    #[inline]
    pub(super) fn is_sparse(&self) -> bool {
        matches!(self.pool.settings.backing, SlotBacking::PerInstance { .. })
    }

    /// Gives pages `from..last` tables and, unless they wait for a touch, frames.
    /// Pages before `from` have theirs.
    pub(super) fn populate(&self, state: &mut SlotState, from: usize, last: usize) -> Result<(), Error> {
        match self.pool.settings.backing {
            SlotBacking::Fixed { first } => {
                let from = from.max(state.resident);
                if from < last {
                    let pages = self.pool.settings.layout.max_memory_size / PAGE_SIZE;
                    let frame = first.offset((self.number as usize * pages + from) * PAGE_SIZE);
                    // SAFETY: the carve set as many frames as there are pages
                    // aside for each slot.
                    unsafe { pages::fill_from(self.vm, self.near(from, last), frame) };
                }
            }
            SlotBacking::Strict => {
                let from = from.max(state.resident);
                if from < last {
                    self.fill(state, from, last)?;
                }
            }
            SlotBacking::PerInstance { .. } => {
                let mut promise = self.vm.promise(self.count_missing_tables(from, last))?;
                state.far += self.make_tables(from, last, &mut promise);
                state.top = state.top.max(last);
                return Ok(());
            }
        }
        state.resident = state.resident.max(last);
        state.top = state.top.max(last);
        Ok(())
    }

    /// Gives pages frames of the arena, and tables where they lack them.
    fn fill(&self, state: &mut SlotState, from: usize, last: usize) -> Result<(), Error> {
        // Counted first, so that running out changes nothing.
        let tables = self.count_missing_tables(from, last);
        let mut empty = last - from;
        if from < state.top {
            self.for_each_run(from, last.min(state.top), |run| {
                empty -= run.len() - pages::count_empty::<A>(run);
            });
        }
        let mut promise = self.vm.promise(tables + empty)?;
        state.far += self.make_tables(from, last, &mut promise);
        self.for_each_run(from, last, |run| pages::fill::<A>(run, &mut promise));
        self.record.frames.fetch_add(empty, Ordering::Relaxed);
        Ok(())
    }

    /// Promises the slot what faults may give it, `pages` in all. Returns how
    /// many frames that took.
    pub(super) fn promise(&self, pages: usize) -> Result<usize, Error> {
        let more = pages.saturating_sub(self.record.frames.load(Ordering::Relaxed));
        self.vm.arena.set_aside(more)?;
        self.record.promised.store(more, Ordering::Release);
        Ok(more)
    }

    /// Takes back what of that is left.
    #[inline]
    pub(super) fn unpromise(&self) {
        if self.is_sparse() {
            self.vm.arena.release(self.record.promised.swap(0, Ordering::AcqRel) % IN_HAND);
        }
    }
}

impl SlotPool {
    /// Answers a fault at a page of an accessible part that has no frame. No
    /// lock, no allocation: the frame was promised when the slot was taken.
    #[cold]
    pub(crate) fn touch<A: Arch>(&self, vm: &Vm<A>, address: VirtAddr, write: bool) -> Touch {
        if !matches!(self.settings.backing, SlotBacking::PerInstance { .. }) {
            return Touch::NotHere;
        }
        let Some(entry) = self.entry(vm, address) else { return Touch::NotHere };
        if !pages::is_empty::<A>(entry.load(Ordering::Acquire)) {
            return Touch::NotHere;
        }
        let Some((slot, _)) =
            distance(self.start, address).and_then(|offset| self.settings.layout.locate(offset))
        else {
            return Touch::NotHere;
        };
        let record = &self.slots.as_slice()[slot];
        let take = |left: usize| (!left.is_multiple_of(IN_HAND)).then(|| left - 1 + IN_HAND);
        if let Err(none) = record.promised.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            return if none < IN_HAND { Touch::Exhausted } else { Touch::Given };
        }
        let frame = vm.arena.take(&vm.arch);
        if pages::give::<A>(entry, frame, write) {
            record.frames.fetch_add(1, Ordering::Relaxed);
            vm.arch.publish();
            record.promised.fetch_sub(IN_HAND, Ordering::Release);
        } else {
            // Another CPU touched it at the same time.
            // SAFETY: the frame was taken three lines up, and shown to nobody.
            unsafe { vm.arena.put_back(frame) };
            record.promised.fetch_sub(IN_HAND - 1, Ordering::Release);
        }
        Touch::Given
    }

    /// Gives `[offset, offset + len)`, which is accessible, the frames that it
    /// lacks, so that nothing there faults.
    pub(crate) fn prepare_write<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: SlotId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        // Holding the slot keeps it from being taken back; faults go on.
        let (slot, _state) = self.hold(vm, id)?;
        let accessible = slot.record.accessible.load(Ordering::Relaxed);
        let end = offset.checked_add(len).filter(|&end| end <= accessible);
        let end = end.ok_or(Error::OutOfBounds { offset, len, accessible })?;
        if !slot.is_sparse() || len == 0 {
            return Ok(());
        }
        let (first, last) = (offset / PAGE_SIZE, end.div_ceil(PAGE_SIZE));
        let count = || {
            let mut empty = 0;
            slot.for_each_run(first, last, |run| empty += pages::count_empty::<A>(run));
            empty
        };
        let promised = &slot.record.promised;
        let needed = loop {
            let needed = count();
            let take = |left: usize| (left % IN_HAND >= needed).then(|| left - needed + IN_HAND);
            match promised.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
                Ok(_) => break needed,
                Err(available) if available < IN_HAND && count() == needed => {
                    return Err(Error::CommitmentExceeded { needed, available });
                }
                // A fault gives one of these pages its frame this moment, or has.
                Err(_) => core::hint::spin_loop(),
            }
        };
        let mut left = needed;
        slot.for_each_run(first, last, |run| {
            for entry in run.iter().filter(|entry| pages::is_empty::<A>(entry.load(Ordering::Relaxed))) {
                let Some(less) = left.checked_sub(1) else { return };
                let frame = vm.arena.take(&vm.arch);
                if pages::give::<A>(entry, frame, false) {
                    slot.record.frames.fetch_add(1, Ordering::Relaxed);
                    left = less;
                } else {
                    // SAFETY: as in `touch`.
                    unsafe { vm.arena.put_back(frame) };
                }
            }
        });
        // What faults gave meanwhile they took from the promise themselves.
        vm.arch.publish();
        promised.fetch_sub(IN_HAND - left, Ordering::Release);
        Ok(())
    }
}
