//! Taking access away from the end of a slot that shares, while it is in use.

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages};

use super::{
    super::{slot::SlotState, slot_edits::Slot},
    close::Own,
    granule::Attempt,
    write_fault::is_own,
};
use crate::vm::pages;

impl<A: Arch> Slot<'_, A> {
    /// Has pages of a slot in use from `keep` on be inaccessible, and zeros for whoever is
    /// given access again.
    pub(in crate::pooling) fn shrink_sharing(&self, state: &mut SlotState, keep: usize) {
        if keep >= state.present {
            return;
        }
        if self.record.pending.load(Ordering::Acquire) {
            self.link_zeros(state);
        }
        self.loosen_in_use(state);
        let (vm, record, last) = (self.vm, self.record, state.present);
        record.accessible.store(keep * PAGE_SIZE, Ordering::Release);
        state.spoiled |= record.image().is_some_and(|image| image.record(vm).end() > keep);
        let nth = keep / ENTRIES_PER_TABLE;
        while !keep.is_multiple_of(ENTRIES_PER_TABLE) && self.make_private(nth) == Attempt::Again {
            core::hint::spin_loop();
        }
        match (keep.div_ceil(ENTRIES_PER_TABLE), last.div_ceil(ENTRIES_PER_TABLE)) {
            (0, end) => _ = self.unlink(end),
            (first, end) => self.unlink_from(first, end, &mut Own::default()),
        }
        let mut own = 0;
        self.for_each_own(last, |nth, _, table| {
            let start = nth * ENTRIES_PER_TABLE;
            for (page, entry) in (start..).zip(vm.table(table)).skip(keep.saturating_sub(start)) {
                let hidden = pages::hidden::<A>(entry.swap(0, Ordering::AcqRel));
                let Some(frame) = pages::shown_frame::<A>(hidden).filter(|_| is_own::<A>(hidden)) else {
                    continue;
                };
                // Those behind were hidden before.
                own += usize::from(page < last);
                entry.store(A::Format::hidden(frame, true), Ordering::Relaxed);
            }
        });
        self.replaced_at_rest(Pages { start: self.base().offset(keep * PAGE_SIZE), count: last - keep });
        self.for_each_own(last, |nth, _, table| {
            let first = keep.saturating_sub(nth * ENTRIES_PER_TABLE).min(ENTRIES_PER_TABLE);
            // SAFETY: this CPU caches nothing of the pages, and others use none of what
            // they do.
            unsafe { pages::wipe(vm, &vm.table(table)[first..], usize::MAX) };
        });
        record.private.fetch_sub(own, Ordering::Relaxed);
        (state.present, state.shared, state.resident) = (keep, keep, keep);
        state.linked = keep.div_ceil(ENTRIES_PER_TABLE);
        self.promise_less(keep);
    }
}
