//! Access first, then the image: the order in which Wasmtime's platform is asked.

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, ENTRIES_PER_TABLE, PAGE_SIZE, VirtAddr, page_ceil};

use super::super::{SlotId, slot::SlotState, slot_edits::Slot, slot_pool::SlotPool};
use crate::{
    Error,
    vm::{Image, Vm, distance, pages},
};

impl SlotPool {
    /// Makes `[start, start + len)` accessible in the usual cases: growth that is
    /// [mere revealing](Self::reveal_further), and a slot that shows zeros, from its first
    /// byte on, just as its last user left it. If it is `false`, nothing happened.
    #[inline(always)]
    pub(crate) fn give_access_at<A: Arch>(&self, vm: &Vm<A>, start: VirtAddr, len: usize) -> bool {
        let place = distance(self.start, start).and_then(|offset| self.settings.layout.locate(offset));
        let Some((number, offset)) = place else { return false };
        let Some(record) = self.slots.as_slice().get(number) else { return false };
        let mut state = record.state.lock();
        if !record.is_in_use() || record.detached.load(Ordering::Relaxed) {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "slots are numbered with u32 at the carve")]
        let slot = Slot { pool: self, vm, number: number as u32, record };
        if state.linked > 0 {
            return offset.is_multiple_of(PAGE_SIZE) && slot.reveal_further(&mut state, offset, len);
        }
        // One that is paired with an image waits for it.
        offset == 0 && slot.reopen_sharing(&mut state, None, len.div_ceil(PAGE_SIZE))
    }

    /// Makes the first `len` bytes accessible, of which nothing is: zeros, unless
    /// [`show_image`](Self::show_image) says something else before they are touched.
    pub(crate) fn make_accessible_at_first<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: SlotId,
        len: usize,
    ) -> Result<(), Error> {
        let limit = self.settings.layout.max_memory_size;
        let end = page_ceil(len).filter(|&end| end <= limit);
        let last = end.ok_or(Error::MemoryTooLarge { requested: len, limit })? / PAGE_SIZE;
        let (slot, mut state) = self.hold(vm, id)?;
        let untouched = state.linked == 0 && !slot.record.pending.load(Ordering::Relaxed) && last > 0;
        let fresh = state.top == 0 && state.present == 0;
        if untouched && (state.sharing || fresh) && !slot.can_share_zeros(last) {
            slot.make_fresh(&mut state);
            drop(state);
            return self.make_accessible(vm, id, 0, len);
        }
        let Some(image) = slot.record.image().filter(|_| untouched && state.sharing) else {
            if untouched && (state.sharing || fresh) {
                return slot.open_sharing(&mut state, None, last);
            }
            drop(state);
            return self.make_accessible(vm, id, 0, len);
        };
        // Built now: a fault cannot.
        vm.zeros.view(vm, (last - 1) % ENTRIES_PER_TABLE + 1)?;
        if last > ENTRIES_PER_TABLE {
            vm.zeros.view(vm, ENTRIES_PER_TABLE)?;
        }
        let kept = Some(image).filter(|image| image.record(vm).end() <= last);
        slot.prepare_sharing(&mut state, kept, last)?;
        if kept.is_none() {
            return slot.link_sharing(&mut state, last);
        }
        slot.record.pending.store(true, Ordering::Release);
        slot.record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        Ok(())
    }

    /// Has a slot in use that nobody wrote to show an image, as far as it is accessible.
    ///
    /// # Errors
    ///
    /// [`Error::ImageBeyondMemory`] and [`Error::Written`]; nothing changed then.
    /// [`Error::OutOfFrames`]; the slot may have lost its access then, or what was
    /// promised of it, and is good for nothing but to be taken back.
    pub(crate) fn show_image<A: Arch>(&self, vm: &Vm<A>, id: SlotId, image: Image) -> Result<(), Error> {
        let (slot, mut state) = self.hold(vm, id)?;
        let record = slot.record;
        let accessible = record.accessible.load(Ordering::Relaxed);
        let last = accessible / PAGE_SIZE;
        let end = image.record(vm).end();
        if end > last {
            return Err(Error::ImageBeyondMemory { end: end * PAGE_SIZE, size: accessible });
        }
        if record.pending.load(Ordering::Acquire) {
            if record.image() == Some(image) && last == state.present {
                slot.link_sharing(&mut state, last)?;
                record.pending.store(false, Ordering::Release);
                return Ok(());
            }
        } else {
            slot.loosen_in_use(&mut state);
            if !slot.is_untouched(&state) {
                return Err(Error::Written { slot: id.slot });
            }
        }
        // What it takes is built first: the memory stays as it is if that fails.
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            if let Err(error) = vm.view(Some(image.record(vm)), nth, last)
                && !slot.can_have_own(nth, &error)
            {
                return Err(error);
            }
        }
        record.accessible.store(0, Ordering::Release);
        record.pending.store(false, Ordering::Release);
        slot.unlink(state.linked);
        state.linked = 0;
        slot.unpromise();
        slot.open_sharing(&mut state, Some(image), last)
    }
}

impl<A: Arch> Slot<'_, A> {
    /// Whether nothing was written of a slot in use, as far as marks tell.
    fn is_untouched(&self, state: &SlotState) -> bool {
        self.vm.await_marks();
        let mut written = false;
        if state.sharing {
            self.for_each_own(state.present, |_, _, table| {
                written |= pages::any_written_or_empty::<A>(self.vm.table(table));
            });
        } else {
            self.for_each_run(0, state.present, |run| written |= pages::any_written_or_empty::<A>(run));
        }
        !written
    }
}
