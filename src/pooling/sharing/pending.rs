//! Access that is given before it is known what the memory shows.
//!
//! ```text
//!   Wasmtime:   reserve        give access         place the image
//!   slot:       (paired) ────> pending ──────────> linked as it was
//!                                 '── first fault ─> zeros, no longer paired
//! ```
//!
//! A slot that is paired with an image has its tables ready for it. Linking zeros
//! first, and the image right after, would cost entries and invalidations for
//! nothing: so nothing is linked until either the image comes or somebody touches
//! the memory.

use core::sync::atomic::Ordering;

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Entry, Format, PAGE_SIZE, Pages, page_ceil};

use super::{
    super::{SlotId, slot::SlotState, slot_edits::Slot, slot_pool::SlotPool},
    granule::own_table,
    write_fault::is_own,
};
use crate::{
    Error,
    vm::{Image, Vm, copy_on_write::Touch, pages},
};

impl SlotPool {
    /// Makes the first `len` bytes accessible, of which nothing is: zeros, unless
    /// [`show_image`](Self::show_image) says something else before they are touched.
    #[cfg(feature = "wasmtime-platform")]
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
    /// [`Error::ImageBeyondMemory`], [`Error::Written`] and [`Error::OutOfFrames`];
    /// nothing changed then.
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
        } else if !slot.is_untouched(&state) {
            return Err(Error::Written { slot: id.slot });
        }
        // What it takes is built first: the memory stays as it is if that fails.
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            vm.view(Some(image.record(vm)), nth, last)?;
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

    /// A fault below a directory entry that is not present.
    #[cold]
    pub(super) fn touch_unlinked(&self, entry: u64) -> Touch<'static> {
        let record = self.record;
        if !record.pending.load(Ordering::Acquire) {
            // Being replaced this moment, or done.
            let busy = matches!(A::Format::decode(entry), Entry::Empty { state: pages::BUSY });
            return if busy || record.detached.load(Ordering::Acquire) {
                Touch::Given
            } else {
                Touch::NotHere
            };
        }
        if record.try_claim() {
            if record.pending.load(Ordering::Acquire) {
                self.link_zeros_claimed();
            }
            record.unclaim();
        }
        Touch::Given
    }

    /// Has a pending slot show zeros.
    pub(in crate::pooling) fn link_zeros(&self, state: &mut SlotState) {
        while !self.record.try_claim() {
            core::hint::spin_loop();
        }
        if self.record.pending.load(Ordering::Acquire) {
            self.link_zeros_claimed();
        }
        self.record.unclaim();
        self.note_detached(state);
    }

    /// Own tables that were ready for the image are cleared: at most what the slot may
    /// keep resident.
    fn link_zeros_claimed(&self) {
        let (vm, record) = (self.vm, self.record);
        let last = record.accessible.load(Ordering::Acquire) / PAGE_SIZE;
        let zero = A::Format::present(vm.zeros.frame(), Access::CopyOnWrite, false);
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            let Some(place) = self.directory_entry(nth) else { continue };
            let pages = ENTRIES_PER_TABLE.min(last - nth * ENTRIES_PER_TABLE);
            let Some(table) = own_table::<A>(place.load(Ordering::Relaxed)) else {
                let view = vm.zeros.view(vm, pages).unwrap_or(0);
                place.store(view, Ordering::Release);
                continue;
            };
            for entry in vm.table(table) {
                let old = entry.load(Ordering::Relaxed);
                match pages::shown_frame::<A>(old) {
                    Some(own) if is_own::<A>(old) => {
                        // SAFETY: the table is linked nowhere, and the frame its own.
                        unsafe { vm.arch.zero_frame(own) };
                    }
                    Some(_) => entry.store(zero, Ordering::Relaxed),
                    None => {}
                }
            }
            pages::hide_at_rest::<A>(&vm.table(table)[pages..]);
            place.store(A::Format::table(table), Ordering::Release);
        }
        vm.arch.publish();
        // What was replaced may be cached elsewhere, and on this CPU of former users.
        self.replaced_at_rest(Pages { start: self.base(), count: last });
        record.detached.store(true, Ordering::Release);
        record.pending.store(false, Ordering::Release);
    }

    /// Learns that a fault had a pending slot show zeros.
    pub(in crate::pooling) fn note_detached(&self, state: &mut SlotState) {
        if self.record.detached.swap(false, Ordering::AcqRel) {
            state.linked = state.present.div_ceil(ENTRIES_PER_TABLE);
            if let Some(image) = self.record.take_image() {
                image.release(self.vm);
            }
        }
    }
}
