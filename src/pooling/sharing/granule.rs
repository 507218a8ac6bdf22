//! One granule of a slot, 2 MiB: the directory's entry for it, and whose table
//! that points to.
//!
//! ```text
//!   the entry            in use             at rest
//!   0                    no access          shows what the image does
//!   shared table         nobody wrote       -
//!   table                the slot's own     -
//!   hidden               -                  the slot's own, parked
//!   block                the slot's own     parked too, and said to be one
//!   empty, busy          being replaced     -
//! ```

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, PhysAddr, TABLE_SPAN, Upper, index};

use super::{
    super::{far, slot_edits::Slot},
    GROUP, Summary,
};
pub(in crate::pooling) use crate::vm::copy_on_write::Attempt;
use crate::vm::copy_on_write::make_table_own;
pub(super) use crate::vm::copy_on_write::{is_shared, own_table};

impl<'p, A: Arch> Slot<'p, A> {
    /// The directory's entry for granule `nth`, if it has a directory.
    #[inline]
    pub(in crate::pooling) fn directory_entry(&self, nth: usize) -> Option<&'p AtomicU64> {
        if nth > 0 && !self.is_in_first_directory(nth) {
            return far::directory_entry(self.vm, self.base().offset(nth * TABLE_SPAN));
        }
        let place = self.record.directory.offset(nth * size_of::<u64>());
        let found = self.vm.arch.physical(place).cast::<AtomicU64>();
        // SAFETY: the carve made the directory, for good, and found the entry there;
        // everybody uses atomics on it.
        Some(unsafe { found.as_ref() })
    }

    /// Whether granule `nth` has its entry in the same directory as the first, which
    /// the carve made.
    #[inline]
    pub(in crate::pooling) fn is_in_first_directory(&self, nth: usize) -> bool {
        let first = self.record.directory;
        first.offset(nth * size_of::<u64>()).0 / PAGE_SIZE as u64 == first.0 / PAGE_SIZE as u64
    }

    /// Gives `edit` the directory's entries for granules `first..last`, a run at a time,
    /// and the number of each run's first.
    #[inline(always)]
    pub(super) fn for_each_directory_run(
        &self,
        first: usize,
        last: usize,
        mut edit: impl FnMut(usize, &[AtomicU64]),
    ) {
        let base = index(self.base(), 1);
        let mut nth = first;
        while nth < last {
            let at = (base + nth) % ENTRIES_PER_TABLE;
            let len = (ENTRIES_PER_TABLE - at).min(last - nth);
            if let Some(entry) = self.directory_entry(nth) {
                let run = NonNull::slice_from_raw_parts(NonNull::from(entry), len);
                // SAFETY: from this entry to its directory's last there are as many, all of
                // which are used by atomics only.
                edit(nth, unsafe { run.as_ref() });
            }
            nth += len;
        }
    }

    /// Whether granule `nth` has a leaf table since the carve.
    #[inline]
    pub(super) fn is_near(&self, nth: usize) -> bool {
        nth < self.pool.settings.layout.premapped_tables
    }

    /// The leaf table that granule `nth` has since the carve.
    #[inline]
    pub(super) fn near_table(&self, nth: usize) -> PhysAddr {
        let tables = self.pool.settings.layout.premapped_tables;
        self.pool.leaf_tables.offset((self.number as usize * tables + nth) * PAGE_SIZE)
    }

    /// Gives `edit` each granule before page `last` that has an own table, in use or
    /// parked: its number, its directory entry and its table.
    pub(super) fn for_each_own(&self, last: usize, mut edit: impl FnMut(usize, &AtomicU64, PhysAddr)) {
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            let Some(entry) = self.directory_entry(nth) else { continue };
            if let Some(table) = own_table::<A>(entry.load(Ordering::Acquire)) {
                edit(nth, entry, table);
            }
        }
    }

    /// The groups of a table that exists since the carve: below, those in which
    /// something may be writable; above, those that were written of late.
    #[inline]
    pub(super) fn near_summary(&self, nth: usize) -> &'p AtomicU64 {
        &self.summary(nth).groups
    }

    /// How often in a row each group of such a table was written as a whole.
    #[inline]
    pub(super) fn streaks(&self, nth: usize) -> &'p AtomicU64 {
        &self.summary(nth).streaks
    }

    #[inline]
    fn summary(&self, nth: usize) -> &'p Summary {
        let tables = self.pool.settings.layout.premapped_tables;
        &self.pool.summaries.as_slice()[self.number as usize * tables + nth]
    }

    /// The groups of an own table in which something may be writable.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the upper half says what was written of late")]
    pub(super) fn groups(&self, nth: usize, table: PhysAddr) -> u32 {
        if self.is_near(nth) {
            return self.near_summary(nth).load(Ordering::Acquire) as u32;
        }
        self.vm.arena.word(table).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Notes that pages `first..last` of a table may be writable.
    #[inline]
    pub(super) fn mark_groups(&self, nth: usize, table: PhysAddr, first: usize, last: usize) {
        let groups = last.div_ceil(GROUP) - first / GROUP;
        let bits = (u32::MAX >> (u32::BITS as usize - groups.max(1))) << (first / GROUP);
        if self.is_near(nth) {
            self.near_summary(nth).fetch_or(u64::from(bits), Ordering::AcqRel);
        } else if let Some(word) = self.vm.arena.word(table) {
            word.fetch_or(bits, Ordering::AcqRel);
        }
    }

    /// Notes which groups may be writable, and no others.
    pub(super) fn set_groups(&self, nth: usize, table: PhysAddr, groups: u32) {
        if self.is_near(nth) {
            self.near_summary(nth).store(u64::from(groups), Ordering::Release);
        } else if let Some(word) = self.vm.arena.word(table) {
            word.store(groups, Ordering::Release);
        }
    }

    /// Gives granule `nth` a table of its own that shows the same, if it has a shared
    /// one. For handlers too: no lock, and the frame of a far table was promised.
    pub(super) fn make_private(&self, nth: usize) -> Attempt {
        let Some(place) = self.directory_entry(nth) else { return Attempt::Again };
        let old = place.load(Ordering::Acquire);
        if !is_shared::<A>(old) {
            return if old & A::Format::PRESENT == 0 { Attempt::Again } else { Attempt::Done };
        }
        if !self.record.try_claim() {
            return Attempt::Again;
        }
        let attempt = self.make_private_claimed(nth, place);
        self.record.unclaim();
        attempt
    }

    /// The same for who has claimed the slot's tables.
    fn make_private_claimed(&self, nth: usize, place: &AtomicU64) -> Attempt {
        let (vm, record) = (self.vm, self.record);
        let old = place.load(Ordering::Acquire);
        let Upper::Table { frame: shared, .. } = A::Format::upper(1, old) else { return Attempt::Again };
        if !is_shared::<A>(old) {
            return Attempt::Done;
        }
        let Some(table) = self.table_for(nth) else { return Attempt::Exhausted };
        self.set_groups(nth, table, 0);
        // SAFETY: the table is this slot's, linked nowhere: who else would write it, or
        // the entry, has no claim.
        unsafe { make_table_own(vm, place, self.base().offset(nth * TABLE_SPAN), shared, table) };
        record.replaced(vm.arch.current_cpu());
        if nth > 0 {
            record.own_beyond.fetch_add(1, Ordering::Relaxed);
        }
        Attempt::Done
    }

    /// The frame of granule `nth`'s own table: since the carve, or from what was
    /// promised.
    fn table_for(&self, nth: usize) -> Option<PhysAddr> {
        if self.is_near(nth) {
            return Some(self.near_table(nth));
        }
        let one_less = |left: usize| left.checked_sub(1);
        let promised = &self.record.promised_tables;
        promised.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).ok()?;
        self.record.far_tables.fetch_add(1, Ordering::Relaxed);
        Some(self.vm.arena.take(&self.vm.arch))
    }
}
