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

use core::{
    mem,
    sync::atomic::{AtomicU64, Ordering},
};

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages, PhysAddr};

use super::{
    super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking},
    GROUP,
    granule::{is_shared, own_table},
    larger::{Larger, STEADY, break_run, spread_marks},
    write_fault::is_own,
};
use crate::vm::{ImageRecord, pages};

/// How often a slot is taken back until groups that nobody wrote meanwhile are given
/// up: their next write faults again.
const PERIOD: u32 = 16;

/// How often it is until translations larger than a page are taken apart, to see
/// whether all of their pages are still written.
const LARGER_PERIOD: u32 = 4 * PERIOD;

/// Pages that one run may have written and that are still made ready for the next by
/// copying: 4 MiB. Of what is beyond, the slot's own frames are given up, unless each
/// run writes them.
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
    /// Whether a group of the table at hand was written as a whole.
    whole: bool,
    /// What became larger than a page, and how many runs are no longer.
    formed: Larger,
    broken: usize,
    /// Whether it may stop before all is reset, or went on where another one stopped.
    in_parts: bool,
}

/// Which granules have own tables: the first 64, and whether any further does.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::pooling) struct Own {
    first: u64,
    further: bool,
}

impl Own {
    #[inline]
    fn note(&mut self, nth: usize, own: bool) {
        if nth < u64::BITS as usize {
            self.first |= u64::from(own) << nth;
        } else {
            self.further |= own;
        }
    }

    #[inline]
    fn any(self) -> bool {
        self.first != 0 || self.further
    }
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
        if own.any() {
            self.vm.await_marks();
            if self.pool.settings.clean_when_idle {
                state.unwiped = state.present;
            } else {
                self.reset(state, own, usize::MAX);
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

    /// Empties the directory entry of granule `nth`, or parks the own table that it points
    /// to. Whether there is one.
    #[inline(always)]
    fn park(&self, nth: usize, place: &AtomicU64) -> bool {
        let entry = place.load(Ordering::Relaxed);
        if is_shared::<A>(entry) || entry == 0 {
            place.store(0, Ordering::Release);
            return false;
        }
        let parked = match own_table::<A>(entry) {
            Some(table) => A::Format::hidden(table, false),
            None => self.park_block(nth, entry),
        };
        place.store(parked, Ordering::Release);
        parked != 0
    }

    /// Takes the tables of the first granules out of the CPUs' way, and parks own ones.
    #[inline]
    pub(super) fn unlink(&self, tables: usize) -> Own {
        let mut own = Own::default();
        if tables == 0 {
            return own;
        }
        if let Some(place) = self.directory_entry(0) {
            own.note(0, self.park(0, place));
        }
        if tables > 1 {
            self.unlink_from(1, tables, &mut own);
        }
        own
    }

    /// The same of granules `first..last`, which are not the first.
    #[inline(never)]
    pub(super) fn unlink_from(&self, first: usize, last: usize, own: &mut Own) {
        if self.record.own_beyond.load(Ordering::Relaxed) == 0 {
            self.for_each_directory_run(first, last, |_, run| {
                run.iter().for_each(|place| place.store(0, Ordering::Release));
            });
            return;
        }
        self.for_each_directory_run(first, last, |start, run| {
            for (nth, place) in (start..).zip(run) {
                own.note(nth, self.park(nth, place));
            }
        });
    }

    /// Makes up to `most` pages that were written what they were. Returns how many
    /// those are: if fewer, nothing is left.
    pub(in crate::pooling) fn reset(&self, state: &mut SlotState, own: Own, most: usize) -> usize {
        let record = self.record;
        let image = record.image().map(|image| image.record(self.vm));
        let faulted = record.faulted.swap(false, Ordering::Relaxed);
        let learn = faulted && image.is_some_and(|image| image.learns.load(Ordering::Relaxed));
        let (first, copies) = (usize::MAX, state.copies);
        let mut reset = Reset {
            image,
            learn,
            copies,
            left: most,
            first,
            end: 0,
            shared: 0,
            whole: false,
            formed: Larger::default(),
            broken: 0,
            in_parts: state.unwiped > 0,
        };
        self.for_each_parked(own, state.present, |nth, table| self.reset_table(nth, table, &mut reset));
        state.larger.runs = state.larger.runs + reset.formed.runs - reset.broken;
        state.larger.blocks += reset.formed.blocks;
        if reset.left > 0 {
            self.finish(state, own, &mut reset);
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
            let pages = Pages { start, count: reset.end - reset.first };
            // Where pages are shared again, others may have cached their own frames; and
            // pages where there is something larger.
            let replaced = reset.shared > 0 || reset.broken > 0 || reset.formed != Larger::default();
            if replaced { self.replaced_at_rest(pages) } else { record.revoke(self.vm, pages) }
        }
        most - reset.left
    }

    /// Nothing that was written is left: now and then groups are given up.
    fn finish(&self, state: &mut SlotState, own: Own, reset: &mut Reset<'_>) {
        (state.unwiped, state.copies) = (0, 0);
        state.closes = state.closes.wrapping_add(1);
        if state.closes.is_multiple_of(PERIOD) {
            self.for_each_parked(own, state.present, |nth, table| {
                if self.is_near(nth) {
                    self.give_up_groups(state, nth, table, reset);
                }
            });
        }
        if state.closes.is_multiple_of(LARGER_PERIOD) {
            self.loosen_range(state, 0, state.present);
        }
    }

    /// Gives `edit` the own tables of granules up to page `last`, at rest.
    #[inline]
    fn for_each_parked(&self, own: Own, last: usize, mut edit: impl FnMut(usize, PhysAddr)) {
        let mut first = own.first;
        while first != 0 {
            let nth = first.trailing_zeros() as usize;
            first &= first - 1;
            if let Some(table) = self.parked_table(nth) {
                edit(nth, table);
            }
        }
        if own.further {
            for nth in u64::BITS as usize..last.div_ceil(ENTRIES_PER_TABLE) {
                let parked = |place: &AtomicU64| place.load(Ordering::Relaxed) != 0;
                if let (true, Some(table)) =
                    (self.directory_entry(nth).is_some_and(parked), self.parked_table(nth))
                {
                    edit(nth, table);
                }
            }
        }
    }

    /// Which granules of a slot at rest have own tables.
    pub(in crate::pooling) fn parked(&self, state: &SlotState) -> Own {
        let mut own = Own::default();
        self.for_each_own(state.present, |nth, _, _| own.note(nth, true));
        own
    }

    #[inline]
    fn parked_table(&self, nth: usize) -> Option<PhysAddr> {
        if self.is_near(nth) {
            return Some(self.near_table(nth));
        }
        own_table::<A>(self.directory_entry(nth)?.load(Ordering::Relaxed))
    }

    fn reset_table(&self, nth: usize, table: PhysAddr, reset: &mut Reset<'_>) {
        let entries = self.vm.table(table);
        let mut groups = self.groups(nth, table);
        while groups != 0 {
            let first = groups.trailing_zeros() as usize * GROUP;
            groups &= groups - 1;
            let run = &entries[first..first + GROUP];
            if pages::any_written::<A>(run) {
                self.reset_group(nth, first, run, reset);
            }
        }
        if mem::take(&mut reset.whole) && self.note_block(nth, table) {
            reset.formed.blocks += 1;
            reset.touched(nth * ENTRIES_PER_TABLE);
            reset.touched((nth + 1) * ENTRIES_PER_TABLE - 1);
        }
    }

    /// Resets what was written of 16 pages.
    #[inline(never)]
    fn reset_group(&self, nth: usize, first: usize, run: &[AtomicU64], reset: &mut Reset<'_>) {
        let master = self.master(reset, nth);
        let zero = self.vm.zeros.frame();
        let gives_up = matches!(self.pool.settings.backing, SlotBacking::Fixed { .. });
        let streak = self.streak(nth, first);
        let gives_up = gives_up && streak < STEADY;
        if Self::is_run(run) {
            spread_marks::<A>(run);
            if reset.left < GROUP {
                // What is left of it for later is to be told from what is done.
                break_run::<A>(run);
                reset.broken += 1;
                reset.touched(nth * ENTRIES_PER_TABLE + first);
                reset.touched(nth * ENTRIES_PER_TABLE + first + GROUP - 1);
            }
        }
        let before = reset.left;
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
            if gives_up && reset.copies > MOST_COPIES {
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
            let all = before - reset.left == GROUP;
            // Of what was reset in parts nobody knows.
            let known = all || (streak > 0 && !reset.in_parts);
            if known && self.has_adjacent_frames() {
                reset.formed.runs += usize::from(self.note_streak(nth, first, run, all));
                reset.whole |= all;
            }
        }
    }

    /// The master table of a granule, if the image has one there.
    fn master(&self, reset: &Reset<'_>, nth: usize) -> Option<&[AtomicU64]> {
        self.vm.table_of(reset.image?.master(nth)?)
    }

    /// Has pages of groups that nobody wrote for a period be shared again, and forgets
    /// them in the image's working set.
    fn give_up_groups(&self, state: &mut SlotState, nth: usize, table: PhysAddr, reset: &mut Reset<'_>) {
        let summary = self.near_summary(nth);
        let both = summary.load(Ordering::Relaxed);
        let (writable, written) = (both & u64::from(u32::MAX), both >> u32::BITS);
        if !matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) {
            // Frames of the arena would have to be forgotten everywhere first: the
            // batch that takes what may not be kept does it. Other slots do without them.
            summary.store(writable, Ordering::Relaxed);
            if let Some(image) = reset.image {
                forget_groups(image, nth, writable & !written);
            }
            return;
        }
        summary.store(writable & written, Ordering::Relaxed);
        let (master, entries) = (self.master(reset, nth), self.vm.table(table));
        let mut idle = writable & !written;
        if idle != 0 {
            self.loosen_range(state, nth * ENTRIES_PER_TABLE, (nth + 1) * ENTRIES_PER_TABLE);
        }
        while idle != 0 {
            let first = idle.trailing_zeros() as usize * GROUP;
            idle &= idle - 1;
            for (at, entry) in (first..).zip(&entries[first..first + GROUP]) {
                let old = entry.load(Ordering::Relaxed);
                if old & A::Format::PRESENT == 0 || !is_own::<A>(old) {
                    continue;
                }
                let page = nth * ENTRIES_PER_TABLE + at;
                self.share_again(entry, shown::<A>(master, at).unwrap_or(self.vm.zeros.frame()));
                reset.touched(page);
                reset.shared = reset.shared.max(page + 1);
            }
        }
        if let Some(image) = reset.image {
            forget_groups(image, nth, writable & !written);
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

/// Has the working set be without the pages of some groups of a granule.
fn forget_groups(image: &ImageRecord, nth: usize, groups: u64) {
    let mut working_set = image.working_set.lock();
    for group in (0..ENTRIES_PER_TABLE / GROUP).filter(|group| groups & 1 << group != 0) {
        let first = nth * ENTRIES_PER_TABLE + group * GROUP;
        (first..first + GROUP).for_each(|page| _ = working_set.remove(page));
    }
}

/// What a master table shows.
fn shown<A: Arch>(master: Option<&[AtomicU64]>, at: usize) -> Option<PhysAddr> {
    pages::shown_frame::<A>(master?[at].load(Ordering::Relaxed))
}
