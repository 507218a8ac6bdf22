//! One slot's edits: opened for a user, extended, shrunk, closed.
//!
//! ```text
//!              open, reopen             extend                   shrink
//!   at rest ──────────────> in use ─────────────> more of it ─────────────> less
//!      ^                                                                      |
//!      '────────────────────────────── close ─────────────────────────────────'
//!        drop_present: what the next user must not have
//!        clean: what was poisoned, or left for idle work
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages, VirtAddr};

use super::{SlotRecord, sharing::EAGER_PAGES, slot::SlotState, slot_pool::SlotPool};
use crate::{
    Error,
    vm::{Image, Vm, pages},
};

/// One slot, as whoever holds it edits it.
#[derive(Debug)]
pub(super) struct Slot<'p, A: Arch> {
    pub(super) pool: &'p SlotPool,
    pub(super) vm: &'p Vm<A>,
    pub(super) number: u32,
    pub(super) record: &'p SlotRecord,
}

impl<'p, A: Arch> Slot<'p, A> {
    pub(super) fn base(&self) -> VirtAddr {
        self.pool.base(self.number)
    }

    /// Pages whose leaf tables exist since the carve.
    pub(super) fn near_pages(&self) -> usize {
        self.pool.settings.layout.premapped_tables * ENTRIES_PER_TABLE
    }

    /// The entries of pages `first..last`, which are premapped.
    #[inline(always)]
    pub(super) fn near(&self, first: usize, last: usize) -> &'p [AtomicU64] {
        &self.pool.premapped(self.vm, self.number as usize)[first..last]
    }

    /// Gives `edit` the entries of pages `first..last`, as far as they have
    /// tables.
    pub(super) fn for_each_run(&self, first: usize, last: usize, mut edit: impl FnMut(&[AtomicU64])) {
        let near = self.near_pages();
        if first < near {
            edit(self.near(first, last.min(near)));
        }
        if last > near {
            self.for_each_far_run(first.max(near), last, edit);
        }
    }

    /// Makes the first `last` pages of a slot at rest accessible, and no others. They
    /// show `image` over zeros.
    #[inline(always)]
    pub(super) fn open(&self, state: &mut SlotState, image: Option<Image>, last: usize) -> Result<(), Error> {
        if state.sharing {
            if last == 0 && image.is_none() {
                // What it will show is decided when it becomes accessible. Until then it shows
                // nothing, nor what this CPU caches of former users.
                if state.present > 0 {
                    self.record.revoke(self.vm, Pages { start: self.base(), count: state.present });
                }
                return Ok(());
            }
            if self.reopen_sharing(state, image, last) {
                return Ok(());
            }
        }
        let zeros = state.sharing || self.begins_sharing(state, last);
        if image.is_some() || (zeros && self.can_share_zeros(last)) {
            return self.open_sharing(state, image, last);
        }
        if state.sharing {
            self.make_fresh(state);
        }
        if state.unwiped > 0 {
            self.clean(state, usize::MAX);
        }
        if self.reopen(state, last) {
            return Ok(());
        }
        if last < state.present {
            self.drop_present(state, last);
        }
        if last == 0 {
            return Ok(());
        }
        self.extend(state, last)
    }

    /// Whether a slot that nobody used shares, also for zeros alone: as many of them as
    /// would take long, or any where each page counts that has a frame.
    #[inline]
    pub(super) fn begins_sharing(&self, state: &SlotState, last: usize) -> bool {
        let some = last > EAGER_PAGES || (self.pool.is_sparse() && last > 0);
        some && self.pool.settings.shares && state.top == 0
    }

    /// Makes a slot at rest accessible again if its last user left it just so, in
    /// one table.
    #[inline(always)]
    pub(super) fn reopen(&self, state: &mut SlotState, last: usize) -> bool {
        let same = last == state.present && last.wrapping_sub(1) < ENTRIES_PER_TABLE;
        if same {
            self.link(0);
            self.vm.arch.publish();
            state.linked = 1;
            self.record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        }
        same
    }

    /// Makes `[offset, offset + len)` of a slot in use accessible if that is growth by pages
    /// that it has, in tables that are linked. `false` if it is not; nothing happened then.
    #[inline(always)]
    pub(super) fn reveal_further(&self, state: &mut SlotState, offset: usize, len: usize) -> bool {
        let from = state.present;
        let last = offset.saturating_add(len).div_ceil(PAGE_SIZE);
        let ready = state.resident.min(self.near_pages()).min(state.linked * ENTRIES_PER_TABLE);
        if last > ready || last <= from || offset > from * PAGE_SIZE {
            return false;
        }
        // All hidden; and its own, if it shares: of what others show nothing is `resident`
        // that is not present.
        if state.sharing {
            self.note_revealed(from, last);
        }
        pages::reveal::<A>(self.near(from, last));
        self.vm.arch.publish();
        state.present = last;
        self.record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        true
    }

    /// Has all written pages cleared, nothing accessible, and the slot at rest.
    #[inline(always)]
    pub(super) fn close(&self, state: &mut SlotState) {
        if state.sharing {
            return self.close_sharing(state);
        }
        let (vm, record) = (self.vm, self.record);
        record.accessible.store(0, Ordering::Release);
        match state.linked {
            0 => {}
            1 => self.set_directory_entry(0, 0),
            linked => (0..linked).for_each(|table| self.set_directory_entry(table, 0)),
        }
        state.linked = 0;
        if self.pool.settings.wipes && state.present > 0 {
            vm.await_marks();
            if self.any_written(state.present) {
                self.clear_written(state);
            }
        }
        if state.far > 0 {
            self.park_far();
        }
        #[cfg(feature = "audit")]
        self.audit(state);
    }

    #[inline(always)]
    fn any_written(&self, last: usize) -> bool {
        if last <= self.near_pages() {
            return pages::any_written::<A>(self.near(0, last));
        }
        let mut written = false;
        self.for_each_run(0, last, |run| written |= pages::any_written_or_empty::<A>(run));
        written
    }

    /// Clears what was written, or poisons it, of a slot whose tables are
    /// unlinked.
    #[cold]
    #[inline(never)]
    fn clear_written(&self, state: &mut SlotState) {
        self.record.revoke(self.vm, Pages { start: self.base(), count: state.present });
        if self.pool.settings.shares && A::Format::RUN > 1 && self.has_adjacent_frames() {
            self.note_streaks(state);
        }
        let (poison, later) = (self.pool.settings.poison, self.pool.settings.clean_when_idle);
        self.for_each_run(0, state.present, |run| {
            if poison {
                // SAFETY: this CPU caches nothing of the slot, and its tables are
                // out of all CPUs' way. What others cache is used by nobody: a
                // CPU arrives before it uses a slot.
                unsafe { pages::poison(self.vm, run) };
            } else if !later {
                // SAFETY: as above.
                unsafe { pages::wipe(self.vm, run, usize::MAX) };
            }
        });
        if poison || later {
            state.unwiped = state.present;
        }
        if later {
            self.note_unclean();
        }
        self.mark_before_writes(0, state.present);
    }

    /// Has the first writes to pages not fault, where they must not.
    fn mark_before_writes(&self, first: usize, last: usize) {
        if self.pool.settings.premarked {
            self.for_each_run(first, last, pages::mark_all_written::<A>);
        }
    }

    /// Clears what is left in a slot at rest, up to `most` pages. Returns how many those
    /// were: if fewer, nothing is left.
    pub(super) fn wipe(&self, state: &mut SlotState, most: usize) -> usize {
        let mut wiped = 0;
        self.for_each_run(0, state.unwiped, |run| {
            // SAFETY: as in `clear_written`: nobody used the slot since.
            wiped += unsafe { pages::wipe(self.vm, run, most - wiped) };
        });
        if wiped < most {
            self.mark_before_writes(0, state.present);
            state.unwiped = 0;
        }
        wiped
    }

    /// Takes away the pages of a slot at rest from `last` on: they hold zeros, or
    /// will be wiped. Tables behind stay as they are, and are not linked.
    #[cold]
    #[inline(never)]
    fn drop_present(&self, state: &mut SlotState, last: usize) {
        let pages = Pages { start: self.base().offset(last * PAGE_SIZE), count: state.present - last };
        self.loosen_range(state, last, state.present);
        if last > 0 {
            // For nobody at all the entries may stay: no table is linked.
            state.retained = state.retained.max(state.present);
            state.present = last;
            self.hide_rest_of_table(state, last);
        }
        self.record.revoke(self.vm, pages);
    }

    /// Hides what is retained from `last` to the end of its table, which is not
    /// linked.
    fn hide_rest_of_table(&self, state: &SlotState, last: usize) {
        let end = last.next_multiple_of(ENTRIES_PER_TABLE).min(state.retained);
        if last < end {
            pages::hide_at_rest::<A>(self.near(last, end));
        }
    }

    /// Makes pages up to `last` accessible, and links their tables.
    #[cold]
    #[inline(never)]
    pub(super) fn extend(&self, state: &mut SlotState, last: usize) -> Result<(), Error> {
        if state.sharing || (state.linked > 0 && self.adopts(state, last)) {
            if self.record.pending.load(Ordering::Acquire) {
                self.link_zeros(state);
            }
            return self.grow_sharing(state, last);
        }
        if state.linked == 0 && last < state.present {
            self.drop_present(state, last);
        }
        let tables = last.min(self.near_pages()).div_ceil(ENTRIES_PER_TABLE);
        let from = state.present;
        if last > from {
            self.populate(state, from, last)?;
            let some = from < state.retained;
            self.for_each_run(from, last, |run| {
                if some { pages::reveal_some::<A>(run) } else { pages::reveal::<A>(run) }
            });
            self.mark_before_writes(from, last);
            if tables > state.linked {
                self.hide_rest_of_table(state, last);
            }
            state.present = last;
        }
        (state.linked..tables).for_each(|table| self.link(table));
        state.linked = state.linked.max(tables);
        self.vm.arch.publish();
        self.record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        Ok(())
    }

    /// Whether a plain slot in use grows by so much that it shares from then on: by a
    /// whole granule.
    fn adopts(&self, state: &SlotState, last: usize) -> bool {
        self.pool.settings.shares
            && last - state.present > ENTRIES_PER_TABLE
            && self.can_share_zeros(ENTRIES_PER_TABLE)
    }

    /// Hides, invalidates and clears what is accessible from page `keep` on.
    #[cfg(feature = "wasmtime-platform")]
    pub(super) fn shrink(&self, state: &mut SlotState, keep: usize) {
        if state.sharing {
            return self.shrink_sharing(state, keep);
        }
        if state.linked == 0 || keep >= state.present {
            return;
        }
        self.loosen_in_use(state);
        let last = state.present;
        self.record.accessible.store(keep * PAGE_SIZE, Ordering::Release);
        self.vm.await_marks();
        self.for_each_run(keep, last, |run| pages::hide_at_rest::<A>(run));
        let start = self.base().offset(keep * PAGE_SIZE);
        self.record.revoke(self.vm, Pages { start, count: last - keep });
        self.for_each_run(keep, last, |run| {
            // SAFETY: this CPU caches nothing of the run. What others cache is
            // used by nobody: a CPU arrives before it uses a slot.
            unsafe { pages::wipe(self.vm, run, usize::MAX) };
        });
        state.present = keep;
    }

    /// Links the `nth` premapped leaf table.
    #[inline]
    pub(super) fn link(&self, nth: usize) {
        let tables = self.pool.settings.layout.premapped_tables;
        let leaf = self.pool.leaf_tables.offset((self.number as usize * tables + nth) * PAGE_SIZE);
        self.set_directory_entry(nth, A::Format::table(leaf));
    }

    /// Sets the directory's entry for the `nth` premapped leaf table.
    #[inline]
    fn set_directory_entry(&self, nth: usize, entry: u64) {
        if let Some(place) = self.directory_entry(nth) {
            place.store(entry, Ordering::Release);
        }
    }
}
