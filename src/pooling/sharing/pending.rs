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

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Entry, Format, PAGE_SIZE, Pages, PhysAddr};

use super::{
    super::{slot::SlotState, slot_edits::Slot},
    granule::own_table,
    larger::{is_block, is_parked_block},
    write_fault::is_own,
};
use crate::{
    FaultAccess,
    fault::permits,
    vm::{copy_on_write::Touch, pages},
};

impl<A: Arch> Slot<'_, A> {
    /// A fault below a directory entry that points to no table.
    #[cold]
    pub(super) fn touch_unlinked(&self, entry: u64, access: FaultAccess) -> Touch<'static> {
        let record = self.record;
        if is_block::<A>(entry) {
            let permitted = permits::<A>(A::Format::page(entry), access);
            return if permitted { Touch::Given } else { Touch::NotHere };
        }
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

    /// Own tables that were ready for the image are cleared, which the slot may keep
    /// resident, and forgotten before anything is linked: no CPU may have the image
    /// beside zeros.
    fn link_zeros_claimed(&self) {
        let (vm, record) = (self.vm, self.record);
        let last = record.accessible.load(Ordering::Acquire) / PAGE_SIZE;
        self.for_each_own(last, |nth, _, table| self.clear_table(table, pages_of(nth, last)));
        self.replaced_at_rest(Pages { start: self.base(), count: last });
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            let Some(place) = self.directory_entry(nth) else { continue };
            let parked = place.load(Ordering::Relaxed);
            let entry = match own_table::<A>(parked) {
                Some(_) if is_parked_block::<A>(parked) => self.own_link(nth, parked),
                Some(table) => A::Format::table(table),
                // Built when access was given.
                None => vm.zeros.view(vm, pages_of(nth, last)).unwrap_or(0),
            };
            place.store(entry, Ordering::Release);
        }
        vm.arch.publish();
        record.detached.store(true, Ordering::Release);
        record.pending.store(false, Ordering::Release);
    }

    /// Has the first `pages` of an own table that is parked show zeros, and no others.
    fn clear_table(&self, table: PhysAddr, pages: usize) {
        let vm = self.vm;
        let zero = A::Format::present(vm.zeros.frame(), Access::CopyOnWrite, false);
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

/// Pages of granule `nth` before page `last` of the slot.
fn pages_of(nth: usize, last: usize) -> usize {
    ENTRIES_PER_TABLE.min(last - nth * ENTRIES_PER_TABLE)
}
