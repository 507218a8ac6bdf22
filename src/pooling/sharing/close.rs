//! Taking a slot back that shares: what was written is made what it was.
//!
//! ```text
//!   own table:  | C C C C | W W' C C | C C C C | W C C C | ...     ': written
//!   summary:        0          1         0         1
//!                              |                   |
//!                              looked through      looked through
//! ```
//!
//! A page that was written is copied from the image again, or cleared, and stays
//! the slot's own: the copy costs what the next first write to it would, without
//! the fault. It is given up where that is not worth it: beyond so many pages in
//! one run, and in groups that nobody wrote for some runs.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages, PhysAddr};

use super::{
    super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking},
    GROUP,
    granule::own_table,
    write_fault::is_own,
};
use crate::vm::{ImageRecord, pages};

/// How often a slot is taken back until groups that nobody wrote meanwhile are given
/// up: their next write faults again.
const PERIOD: u32 = 16;

/// Pages that one run may have written and that are still made ready for the next by
/// copying: 4 MiB. Of what is beyond, the slot's own frames are given up.
const MOST_COPIES: usize = 1024;

/// One reset, as it goes on.
#[derive(Debug)]
struct Reset<'r> {
    image: Option<&'r ImageRecord>,
    /// Whether the pages that were written are to be noted.
    learn: bool,
    copies: usize,
    /// How many more pages it may reset.
    left: usize,
    /// What was replaced, or may be marked in somebody's cache.
    first: usize,
    end: usize,
    /// The page after the last that is shared again.
    shared: usize,
}

impl Reset<'_> {
    fn touched(&mut self, page: usize) {
        self.first = self.first.min(page);
        self.end = self.end.max(page + 1);
    }
}

impl<A: Arch> Slot<'_, A> {
    /// Unlinks a slot and resets what was written.
    #[inline]
    pub(in crate::pooling) fn close_sharing(&self, state: &mut SlotState) {
        let record = self.record;
        record.accessible.store(0, Ordering::Release);
        record.pending.store(false, Ordering::Release);
        let own = self.unlink(state.linked);
        state.linked = 0;
        if own {
            self.vm.await_marks();
            if self.pool.settings.clean_when_idle {
                state.unwiped = state.present;
            } else {
                self.reset(state, usize::MAX);
            }
        }
        if state.unwiped > 0 {
            self.note_unclean();
        }
        if record.is_replaced() {
            record.revoke(self.vm, Pages { start: self.base(), count: 0 });
        }
        self.unpromise();
        self.end_stale_pairing(state);
        #[cfg(feature = "audit")]
        self.audit_sharing(state);
    }

    /// Takes the tables of the first granules out of the CPUs' way, and parks own ones.
    /// Whether there are any.
    #[inline]
    pub(super) fn unlink(&self, tables: usize) -> bool {
        self.unlink_from(0, tables * ENTRIES_PER_TABLE)
    }

    /// The same from granule `first` on, up to page `last`.
    #[inline]
    pub(super) fn unlink_from(&self, first: usize, last: usize) -> bool {
        let mut any = false;
        for nth in first..last.div_ceil(ENTRIES_PER_TABLE) {
            let Some(place) = self.directory_entry(nth) else { continue };
            let own = own_table::<A>(place.load(Ordering::Relaxed));
            place.store(own.map_or(0, |table| A::Format::hidden(table, false)), Ordering::Release);
            any |= own.is_some();
        }
        any
    }

    /// Makes up to `most` pages that were written what they were. Returns how many
    /// those are: if fewer, nothing is left.
    pub(in crate::pooling) fn reset(&self, state: &mut SlotState, most: usize) -> usize {
        let record = self.record;
        let image = record.image().map(|image| image.record(self.vm));
        let faulted = record.faulted.swap(false, Ordering::Relaxed);
        let learn = faulted && image.is_some_and(|image| image.learns.load(Ordering::Relaxed));
        let (first, copies) = (usize::MAX, state.copies);
        let mut reset = Reset { image, learn, copies, left: most, first, end: 0, shared: 0 };
        let last = if record.own_beyond.load(Ordering::Relaxed) > 0 { state.present } else { 1 };
        self.for_each_own(last, |nth, _, table| self.reset_table(nth, table, &mut reset));
        if reset.left > 0 {
            self.finish(state, last, &mut reset);
        } else {
            // There may be more, to be noted then.
            record.faulted.store(faulted, Ordering::Relaxed);
            state.copies = reset.copies;
        }
        if state.shared < reset.shared {
            (state.shared, state.resident) = (reset.shared, reset.shared);
        }
        if let (true, Some(image)) = (reset.learn, image) {
            // This slot has what it has just noted.
            state.version = image.version.load(Ordering::Relaxed);
        }
        if reset.first < reset.end {
            let start = self.base().offset(reset.first * PAGE_SIZE);
            record.revoke(self.vm, Pages { start, count: reset.end - reset.first });
        }
        most - reset.left
    }

    /// Nothing that was written is left: now and then groups are given up.
    fn finish(&self, state: &mut SlotState, last: usize, reset: &mut Reset<'_>) {
        (state.unwiped, state.copies) = (0, 0);
        state.closes = state.closes.wrapping_add(1);
        if state.closes.is_multiple_of(PERIOD) {
            self.for_each_own(last, |nth, _, table| {
                if self.is_near(nth) {
                    self.give_up_groups(nth, table, reset);
                }
            });
        }
    }

    fn reset_table(&self, nth: usize, table: PhysAddr, reset: &mut Reset<'_>) {
        let entries = self.vm.table(table);
        let mut groups = self.groups(nth, table);
        while groups != 0 {
            let first = groups.trailing_zeros() as usize * GROUP;
            groups &= groups - 1;
            let run = &entries[first..first + GROUP];
            if pages::any_written_or_empty::<A>(run) {
                self.reset_group(nth, first, run, reset);
            }
        }
    }

    /// Resets what was written of 16 pages.
    #[inline(never)]
    fn reset_group(&self, nth: usize, first: usize, run: &[AtomicU64], reset: &mut Reset<'_>) {
        let master = self.master(reset, nth);
        let zero = self.vm.zeros.frame();
        let fixed = matches!(self.pool.settings.backing, SlotBacking::Fixed { .. });
        for (at, entry) in (first..).zip(run) {
            let old = entry.load(Ordering::Relaxed);
            if !pages::is_written::<A>(old) {
                continue;
            }
            let Some(own) = pages::shown_frame::<A>(old) else { continue };
            let Some(left) = reset.left.checked_sub(1) else { return };
            reset.left = left;
            let shown = shown::<A>(master, at).unwrap_or(zero);
            let page = nth * ENTRIES_PER_TABLE + at;
            reset.touched(page);
            reset.copies += 1;
            if fixed && reset.copies > MOST_COPIES {
                self.share_again(entry, shown);
                reset.shared = reset.shared.max(page + 1);
                continue;
            }
            if shown == zero {
                // SAFETY: the slot is unlinked, and this frame its own: nobody is at it
                // but by what other CPUs cache, which they use no more.
                unsafe { self.vm.arch.zero_frame(own) };
            } else {
                // SAFETY: as above; the shared frame does not change.
                unsafe { self.vm.arch.copy_frame(shown, own) };
            }
            entry.store(A::Format::mark_clean(old), Ordering::Relaxed);
            if reset.learn
                && let Some(image) = reset.image
            {
                image.learn(page);
            }
        }
        if self.is_near(nth) {
            let written = 1 << (first / GROUP + u32::BITS as usize);
            self.near_summary(nth).fetch_or(written, Ordering::Relaxed);
        }
    }

    /// The master table of a granule, if the image has one there.
    fn master(&self, reset: &Reset<'_>, nth: usize) -> Option<&[AtomicU64]> {
        self.vm.table_of(reset.image?.master(nth)?)
    }

    /// Has pages of groups that nobody wrote for a period be shared again, and forgets
    /// them in the image's working set.
    fn give_up_groups(&self, nth: usize, table: PhysAddr, reset: &mut Reset<'_>) {
        let summary = self.near_summary(nth);
        let both = summary.load(Ordering::Relaxed);
        let (writable, written) = (both & u64::from(u32::MAX), both >> u32::BITS);
        if !matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) {
            // Frames of the arena would have to be forgotten everywhere first: the
            // batch that takes what may not be kept does it.
            summary.store(writable, Ordering::Relaxed);
            return;
        }
        summary.store(writable & written, Ordering::Relaxed);
        let (master, entries) = (self.master(reset, nth), self.vm.table(table));
        let mut idle = writable & !written;
        while idle != 0 {
            let first = idle.trailing_zeros() as usize * GROUP;
            idle &= idle - 1;
            for at in first..first + GROUP {
                let old = entries[at].load(Ordering::Relaxed);
                if old & A::Format::PRESENT == 0 || !is_own::<A>(old) {
                    continue;
                }
                let page = nth * ENTRIES_PER_TABLE + at;
                self.share_again(&entries[at], shown::<A>(master, at).unwrap_or(self.vm.zeros.frame()));
                reset.touched(page);
                reset.shared = reset.shared.max(page + 1);
                if let Some(image) = reset.image {
                    image.working_set.lock().remove(page);
                }
            }
        }
    }

    /// Has an own page show a shared frame again. The frame is the page's still, as all
    /// are with `Fixed`, and what it holds nobody's.
    fn share_again(&self, entry: &AtomicU64, shown: PhysAddr) {
        if self.pool.settings.poison
            && let Some(own) = pages::shown_frame::<A>(entry.load(Ordering::Relaxed))
        {
            let bytes = self.vm.arch.physical(own);
            // SAFETY: `physical` gives writable memory of a page, which is the slot's own
            // and shown to nobody from here on.
            unsafe { bytes.write_bytes(pages::POISON, PAGE_SIZE) };
        }
        entry.store(A::Format::present(shown, Access::CopyOnWrite, false), Ordering::Relaxed);
        self.record.private.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a master table shows.
fn shown<A: Arch>(master: Option<&[AtomicU64]>, at: usize) -> Option<PhysAddr> {
    pages::shown_frame::<A>(master?[at].load(Ordering::Relaxed))
}
