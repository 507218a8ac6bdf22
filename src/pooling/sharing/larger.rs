//! Translations larger than a page, for what is written as a whole again and again.
//!
//! ```text
//!   own table     | W W W .. W | W C C W .. C | ...    W: the slot's own, C: shared
//!   streak             3            0                  of each 16 pages
//!                 one run (aarch64)
//!
//!   directory     | T | B | ...       B: all 32 groups of the table have their streak,
//!                       |                and while it is linked it is a block of 2 MiB
//!   at rest       | parked: its table, as that of any other
//! ```
//!
//! One TLB entry then serves 16 pages, or 512. But the CPU marks it for all of them:
//! one byte written has all be reset. So it is made only of pages that were all
//! written in each of the last runs that wrote any of them, never of what was learned
//! from others; and is taken apart now and then, to see whether that still holds.
//! It is taken apart, too, before less than the whole of it changes: when the slot
//! opens with less of it, when rights are taken away, for a capture, when nobody
//! writes there any more.
//!
//! The frames have to be adjacent: with `Fixed` a slot's are. And the CPU has to keep
//! dirty state: entries of a run cannot be marked by one fault each. On aarch64 each
//! change is made in unlinked tables, and forgotten everywhere, before anything is
//! linked again (Arm ARM D8.16.1).

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, Upper,
};

use super::{
    super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking},
    GROUP,
    granule::is_shared,
    write_fault::is_own,
};
use crate::vm::pages;

/// How often a group has to be written as a whole, in a row, until it is steady. Two
/// bits for each group: a word for a table.
pub(super) const STEADY: u64 = 3;

/// The lower bit of each group's streak.
const LOWER: u64 = u64::MAX / STEADY;

/// What a table's word is when all its groups are steady.
const ALL_STEADY: u64 = u64::MAX;

/// How many translations of a slot are larger than a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::pooling) struct Larger {
    pub(in crate::pooling) runs: usize,
    pub(in crate::pooling) blocks: usize,
}

impl<A: Arch> Slot<'_, A> {
    /// Whether translations may be larger than a page.
    #[inline]
    pub(in crate::pooling) fn has_adjacent_frames(&self) -> bool {
        matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) && self.vm.arch.hardware_dirty()
    }

    /// How often in a row the 16 pages from `first` on of granule `nth` were written as a
    /// whole. Steady ones are worth their copies, however many those are.
    #[inline]
    pub(super) fn streak(&self, nth: usize, first: usize) -> u64 {
        if !self.is_near(nth) {
            return 0;
        }
        self.streaks(nth).load(Ordering::Relaxed) >> shift(first) & STEADY
    }

    /// Whether a group is one contiguous run.
    #[inline]
    pub(super) fn is_run(group: &[AtomicU64]) -> bool {
        A::Format::RUN > 1 && group[0].load(Ordering::Relaxed) & A::Format::RUN_HINT != 0
    }

    /// Notes that the 16 pages from `first` on were all written, or only some of them, by a
    /// user who has gone. Returns whether they are one contiguous run from now on.
    pub(super) fn note_streak(&self, nth: usize, first: usize, group: &[AtomicU64], all: bool) -> bool {
        let (streaks, shift) = (self.streaks(nth), shift(first));
        let old = streaks.load(Ordering::Relaxed);
        let streak = if all { STEADY.min((old >> shift & STEADY) + 1) } else { 0 };
        streaks.store(old & !(STEADY << shift) | streak << shift, Ordering::Relaxed);
        if A::Format::RUN != GROUP || streak < STEADY || Self::is_run(group) || !are_adjacent::<A>(group) {
            return false;
        }
        for entry in group {
            entry.store(entry.load(Ordering::Relaxed) | A::Format::RUN_HINT, Ordering::Relaxed);
        }
        true
    }

    /// The same of all pages of a slot at rest that does not share, before they are cleared.
    pub(in crate::pooling) fn note_streaks(&self, state: &mut SlotState) {
        let last = state.present.min(self.near_pages());
        let (groups, _) = self.near(0, last).as_chunks::<GROUP>();
        let before = state.larger.runs;
        for (at, group) in groups.iter().enumerate() {
            if Self::is_run(group) {
                spread_marks::<A>(group);
            }
            let written = |entry: &&AtomicU64| pages::is_written::<A>(entry.load(Ordering::Relaxed));
            let written = group.iter().filter(written).count();
            if written > 0 {
                let (nth, first) = (at * GROUP / ENTRIES_PER_TABLE, at * GROUP % ENTRIES_PER_TABLE);
                let formed = self.note_streak(nth, first, group, written == GROUP);
                state.larger.runs += usize::from(formed);
            }
        }
        if state.larger.runs > before {
            self.replaced_at_rest(Pages { start: self.base(), count: last });
        }
    }

    /// Has a granule at rest be linked as a block from now on, if all its groups are steady.
    /// Returns whether that is new.
    #[inline]
    pub(super) fn note_block(&self, nth: usize, table: PhysAddr) -> bool {
        self.is_near(nth)
            && self.streaks(nth).load(Ordering::Relaxed) == ALL_STEADY
            && self.form_block(nth, table)
    }

    #[cold]
    fn form_block(&self, nth: usize, table: PhysAddr) -> bool {
        let Some(place) = self.directory_entry(nth) else { return false };
        if is_parked_block::<A>(place.load(Ordering::Relaxed)) || !are_adjacent::<A>(self.vm.table(table)) {
            return false;
        }
        place.store(A::Format::hidden(table, true), Ordering::Release);
        true
    }

    /// What links a granule's own table that is parked: a pointer to it, or a block.
    #[inline]
    pub(super) fn own_link(&self, nth: usize, parked: u64) -> u64 {
        if is_parked_block::<A>(parked) { self.block(nth) } else { A::Format::table(self.near_table(nth)) }
    }

    #[cold]
    fn block(&self, nth: usize) -> u64 {
        let SlotBacking::Fixed { first } = self.pool.settings.backing else { return 0 };
        let frame = self.fixed_frame(first, nth * ENTRIES_PER_TABLE);
        A::Format::block(A::Format::present(frame, Access::ReadWrite, false))
    }

    /// What parks a granule whose directory entry was `entry`, a block: if it was written,
    /// all its pages were.
    #[cold]
    pub(super) fn park_block(&self, nth: usize, entry: u64) -> u64 {
        if !is_block::<A>(entry) {
            return 0;
        }
        let table = self.near_table(nth);
        if pages::is_written::<A>(A::Format::page(entry)) {
            pages::mark_all_written::<A>(self.vm.table(table));
        }
        A::Format::hidden(table, true)
    }

    /// Has granule `nth` of a slot at rest be translated by pages alone. Streaks of steady
    /// groups are one shorter. Returns whether anything was larger: it is to be forgotten
    /// everywhere then.
    pub(super) fn loosen(&self, state: &mut SlotState, nth: usize) -> bool {
        if !self.is_near(nth) {
            return false;
        }
        let streaks = self.streaks(nth);
        let old = streaks.load(Ordering::Relaxed);
        streaks.store(old & !(old & old >> 1 & LOWER), Ordering::Relaxed);
        let (table, before) = (self.near_table(nth), state.larger);
        let (groups, _) = self.vm.table(table).as_chunks::<GROUP>();
        for group in groups.iter().filter(|group| Self::is_run(*group)) {
            break_run::<A>(group);
            state.larger.runs -= 1;
        }
        if let Some(place) = self.directory_entry(nth)
            && is_parked_block::<A>(place.load(Ordering::Relaxed))
        {
            place.store(A::Format::hidden(table, false), Ordering::Release);
            state.larger.blocks -= 1;
        }
        state.larger != before
    }

    /// The same of all granules that pages `first..last` of a slot at rest are in.
    pub(in crate::pooling) fn loosen_range(&self, state: &mut SlotState, first: usize, last: usize) {
        if state.larger == Larger::default() {
            return;
        }
        for nth in first / ENTRIES_PER_TABLE..last.div_ceil(ENTRIES_PER_TABLE) {
            if self.loosen(state, nth) {
                self.replaced_at_rest(self.granule(nth));
            }
        }
    }

    /// The same of all granules of a slot in use, which nobody writes meanwhile. Who reads
    /// faults, and tries again.
    pub(in crate::pooling) fn loosen_in_use(&self, state: &mut SlotState) {
        if state.larger == Larger::default() {
            return;
        }
        for nth in 0..state.linked {
            let Some(place) = self.directory_entry(nth) else { continue };
            let entry = place.load(Ordering::Acquire);
            if !self.is_near(nth) || entry & A::Format::PRESENT == 0 || is_shared::<A>(entry) {
                continue;
            }
            let entry = place.swap(A::Format::empty(pages::BUSY), Ordering::AcqRel);
            let table = self.near_table(nth);
            if is_block::<A>(entry) {
                self.park_block(nth, entry);
                state.larger.blocks -= 1;
            }
            self.loosen(state, nth);
            self.replaced_at_rest(self.granule(nth));
            place.store(A::Format::table(table), Ordering::Release);
        }
        self.vm.arch.publish();
    }

    fn granule(&self, nth: usize) -> Pages {
        Pages { start: self.base().offset(nth * TABLE_SPAN), count: ENTRIES_PER_TABLE }
    }
}

/// Where a group's streak stands in its table's word.
fn shift(first: usize) -> usize {
    first / GROUP * 2
}

/// Whether pages are all the slot's own and present, and begin at a multiple of what they
/// are together. They are adjacent then.
pub(super) fn are_adjacent<A: Arch>(entries: &[AtomicU64]) -> bool {
    let first = pages::shown_frame::<A>(entries[0].load(Ordering::Relaxed));
    let own = |entry: &AtomicU64| {
        let entry = entry.load(Ordering::Relaxed);
        entry & A::Format::PRESENT != 0 && is_own::<A>(entry)
    };
    first.is_some_and(|first| first.is_aligned(entries.len() * PAGE_SIZE)) && entries.iter().all(own)
}

/// Has a run at rest be pages.
pub(super) fn break_run<A: Arch>(group: &[AtomicU64]) {
    spread_marks::<A>(group);
    for entry in group {
        entry.store(entry.load(Ordering::Relaxed) & !A::Format::RUN_HINT, Ordering::Relaxed);
    }
}

/// Has all pages of a run at rest be marked, if any is: the CPU marks one for all.
pub(super) fn spread_marks<A: Arch>(group: &[AtomicU64]) {
    if pages::any_written::<A>(group) {
        for entry in group {
            let old = entry.load(Ordering::Relaxed);
            entry.store(A::Format::mark_written(old).unwrap_or(old), Ordering::Relaxed);
        }
    }
}

/// Whether a directory entry is a block.
#[inline]
pub(super) fn is_block<A: Arch>(entry: u64) -> bool {
    matches!(A::Format::upper(1, entry), Upper::Leaf { .. })
}

/// Whether the own table that a directory entry has parked is linked as a block.
#[inline]
pub(super) fn is_parked_block<A: Arch>(parked: u64) -> bool {
    parked & A::Format::PRESENT == 0 && pages::is_written::<A>(parked)
}
