//! What a slot has beyond its premapped tables: leaf tables, and directories of
//! 1 GiB that lie within the slot, from the arena.
//!
//! ```text
//!   slot:     | premapped tables | leaf tables from the arena ...               |
//!   level 2:  | the carve's directory     | its own directory | the carve's ... |
//! ```
//!
//! They come when the slot grows that far. When it is taken back they are
//! *parked*: out of the CPUs' way, but still found in their place, until all
//! CPUs have forgotten them and they go back to the arena. A slot at rest that
//! can be taken has none.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Arch, ENTRIES_PER_TABLE, Entry, Format, PAGE_SIZE, PhysAddr, TABLE_SPAN, Table, Upper, VirtAddr,
    find_leaf_entry, index,
};

use super::{slot::SlotState, slot_edits::Slot};
use crate::{
    Error,
    vm::{Promise, Settled, Vm, pages},
};

/// Bytes of address space that a directory serves.
const DIRECTORY_SPAN: usize = TABLE_SPAN * ENTRIES_PER_TABLE;

impl<A: Arch> Slot<'_, A> {
    /// Tables that are missing for pages `first..last`, directories included.
    pub(super) fn count_missing_tables(&self, first: usize, last: usize) -> usize {
        let mut missing = 0;
        let mut seen = None;
        for address in self.far_tables(first, last) {
            match step(self.vm, address, 2) {
                Some(directory) if is_table::<A>(directory, 2) => {
                    let leaf = step(self.vm, address, 1);
                    missing += usize::from(leaf.is_none_or(|leaf| !is_table::<A>(leaf, 1)));
                }
                _ => {
                    let granule = address.0 / DIRECTORY_SPAN as u64;
                    missing += 1 + usize::from(seen.replace(granule) != Some(granule));
                }
            }
        }
        missing
    }

    /// Makes the tables that are missing for pages `first..last`. Returns how
    /// many.
    pub(super) fn make_tables(&self, first: usize, last: usize, frames: &mut Promise<'_, A>) -> usize {
        let mut made = 0;
        for address in self.far_tables(first, last) {
            for level in [2, 1] {
                let Some(entry) = step(self.vm, address, level) else { break };
                if is_table::<A>(entry, level) {
                    continue;
                }
                let Some(frame) = frames.take() else { return made };
                // The mark says that the directory is this slot's.
                let own = if level == 2 { A::Format::SUMMARY } else { 0 };
                entry.store(A::Format::table(frame) | own, Ordering::Release);
                made += 1;
            }
        }
        made
    }

    /// Gives `edit` the entries of pages `first..last` that have a far table.
    pub(super) fn for_each_far_run(&self, first: usize, last: usize, mut edit: impl FnMut(&[AtomicU64])) {
        let mut page = first;
        while page < last {
            let end = (page / ENTRIES_PER_TABLE + 1) * ENTRIES_PER_TABLE;
            let address = self.base().offset(page * PAGE_SIZE);
            let leaf = step(self.vm, address, 1).and_then(|entry| table_at::<A>(entry, 1));
            if let Some(frame) = leaf {
                let at = page % ENTRIES_PER_TABLE;
                edit(&table(self.vm, frame)[at..at + last.min(end) - page]);
            }
            page = end;
        }
    }

    /// Makes the directories that are missing for pages `first..last`.
    pub(super) fn make_directories(
        &self,
        state: &mut SlotState,
        first: usize,
        last: usize,
    ) -> Result<(), Error> {
        if last <= self.near_pages() || self.is_in_first_directory(last.saturating_sub(1) / ENTRIES_PER_TABLE)
        {
            return Ok(());
        }
        self.make_missing_directories(state, first, last)
    }

    #[cold]
    fn make_missing_directories(
        &self,
        state: &mut SlotState,
        first: usize,
        last: usize,
    ) -> Result<(), Error> {
        let missing = || {
            let mut before = None;
            self.far_tables(first, last)
                .filter(|&address| step(self.vm, address, 2).is_some_and(|entry| !is_table::<A>(entry, 2)))
                .filter(move |address| {
                    let granule = address.0 / DIRECTORY_SPAN as u64;
                    before.replace(granule) != Some(granule)
                })
        };
        let mut frames = self.vm.promise(missing().count())?;
        // One at a time: each is found by those after it.
        while let Some((entry, frame)) = missing()
            .next()
            .and_then(|address| step(self.vm, address, 2))
            .and_then(|entry| Some((entry, frames.take()?)))
        {
            // The mark says that the directory is this slot's.
            entry.store(A::Format::table(frame) | A::Format::SUMMARY, Ordering::Release);
            state.far += 1;
        }
        Ok(())
    }

    /// Takes the slot's own directories out of the CPUs' way, whose leaf tables are.
    pub(super) fn unlink_directories(&self) {
        for address in self.far_tables(0, self.pages()) {
            let Some(entry) = step(self.vm, address, 2).filter(|entry| own_directory::<A>(entry)) else {
                continue;
            };
            if let Some(frame) = table_at::<A>(entry, 2) {
                entry.store(A::Format::hidden(frame, true), Ordering::Release);
            }
        }
    }

    /// Gives unlinked directories back, in which nothing is left.
    pub(super) fn remove_directories(&self, state: &mut SlotState, settled: Settled) {
        for address in self.far_tables(0, self.pages()) {
            let Some(entry) = step(self.vm, address, 2) else { continue };
            if let Some(frame) = parked::<A>(entry) {
                entry.store(0, Ordering::Relaxed);
                // SAFETY: it came from the arena, no CPU knows it any more, and the slot
                // is held.
                unsafe { self.vm.arena.give_back_stained(&self.vm.arch, frame, settled) };
            }
        }
        state.far = 0;
    }

    /// Takes the far tables out of the CPUs' way.
    #[cold]
    #[inline(never)]
    pub(super) fn park_far(&self) {
        let near = self.near_pages();
        for address in self.far_tables(near, self.pages()) {
            let Some(directory) = step(self.vm, address, 2) else { continue };
            if own_directory::<A>(directory) {
                if let Some(frame) = table_at::<A>(directory, 2) {
                    directory.store(A::Format::hidden(frame, true), Ordering::Release);
                }
            } else if let Some(leaf) = step(self.vm, address, 1)
                && let Some(frame) = table_at::<A>(leaf, 1)
            {
                leaf.store(A::Format::hidden(frame, true), Ordering::Release);
            }
        }
    }

    /// Gives the parked tables and the frames in them back. Returns how many
    /// frames of pages there were.
    pub(super) fn remove_far(&self, settled: Settled) -> usize {
        let (near, mut frames) = (self.near_pages(), 0);
        let mut parked_directory = None;
        for address in self.far_tables(near, self.pages()) {
            let Some(directory) = step(self.vm, address, 2) else { continue };
            let last_of_directory = (address.0 + TABLE_SPAN as u64).is_multiple_of(DIRECTORY_SPAN as u64)
                || address.0 + TABLE_SPAN as u64 >= self.base().offset(self.pages() * PAGE_SIZE).0;
            let leaf = match parked::<A>(directory) {
                Some(frame) => {
                    parked_directory = Some((directory, frame));
                    let leaf = &table(self.vm, frame)[index(address, 1)];
                    table_at::<A>(leaf, 1).map(|frame| (leaf, frame))
                }
                None => step(self.vm, address, 1).and_then(|leaf| Some((leaf, parked::<A>(leaf)?))),
            };
            if let Some((leaf, frame)) = leaf {
                // SAFETY: no CPU knows the table any more, and we hold the slot.
                frames += unsafe { pages::strip_at_rest(self.vm, table(self.vm, frame), settled) };
                leaf.store(0, Ordering::Relaxed);
                // SAFETY: the table came from the arena, all its entries are
                // empty, and no CPU has a pointer to it.
                unsafe { self.vm.arena.give_back(frame, settled) };
            }
            if last_of_directory && let Some((entry, frame)) = parked_directory.take() {
                entry.store(0, Ordering::Relaxed);
                // SAFETY: as above.
                unsafe { self.vm.arena.give_back(frame, settled) };
            }
        }
        frames
    }

    /// Pages that the slot may have.
    fn pages(&self) -> usize {
        self.pool.settings.layout.max_memory_size / PAGE_SIZE
    }

    /// The first address of each far table that pages `first..last` touch.
    fn far_tables(&self, first: usize, last: usize) -> impl Iterator<Item = VirtAddr> + use<A> {
        let first = first.max(self.near_pages()) / ENTRIES_PER_TABLE;
        let base = self.base();
        (first..last.div_ceil(ENTRIES_PER_TABLE)).map(move |table| base.offset(table * TABLE_SPAN))
    }
}

/// The leaf entry for an address of a slot that is in use. No lock.
pub(super) fn entry<A: Arch>(vm: &Vm<A>, address: VirtAddr) -> Option<&AtomicU64> {
    // SAFETY: the far tables of a slot live until it is taken back, and nobody
    // uses it then.
    unsafe { find_leaf_entry(&vm.arch, address) }
}

/// The directory's entry for an address, if it has a directory.
pub(super) fn directory_entry<A: Arch>(vm: &Vm<A>, address: VirtAddr) -> Option<&AtomicU64> {
    step(vm, address, 1)
}

/// Where the directory's entry for an address is.
pub(crate) fn directory_place<A: Arch>(vm: &Vm<A>, address: VirtAddr) -> PhysAddr {
    match step(vm, address, 2).and_then(|entry| table_at::<A>(entry, 2)) {
        Some(directory) => directory.offset(index(address, 1) * size_of::<u64>()),
        // Only of pools without tables, which never ask.
        None => PhysAddr(0),
    }
}

/// The entry of `level` on the way to `address`, if the tables above exist.
fn step<A: Arch>(vm: &Vm<A>, address: VirtAddr, level: u8) -> Option<&AtomicU64> {
    let mut frame = vm.arch.root(address);
    for above in (level + 1..vm.arch.levels()).rev() {
        frame = table_at::<A>(&table(vm, frame)[index(address, above)], above)?;
    }
    Some(&table(vm, frame)[index(address, level)])
}

fn table<A: Arch>(vm: &Vm<A>, frame: PhysAddr) -> &[AtomicU64] {
    // SAFETY: the carve's tables stay for good; those of a slot until nobody can
    // reach them, which whoever asks holds.
    unsafe { Table::new(&vm.arch, frame, 1) }.entries()
}

fn is_table<A: Arch>(entry: &AtomicU64, level: u8) -> bool {
    table_at::<A>(entry, level).is_some()
}

/// The table that an entry points to.
fn table_at<A: Arch>(entry: &AtomicU64, level: u8) -> Option<PhysAddr> {
    match A::Format::upper(level, entry.load(Ordering::Acquire)) {
        Upper::Table { frame, .. } => Some(frame),
        Upper::NotPresent | Upper::Leaf { .. } => None,
    }
}

/// The table that an entry has parked.
fn parked<A: Arch>(entry: &AtomicU64) -> Option<PhysAddr> {
    match A::Format::decode(entry.load(Ordering::Relaxed)) {
        Entry::Hidden { frame, .. } => Some(frame),
        Entry::Empty { .. } | Entry::Present { .. } => None,
    }
}

fn own_directory<A: Arch>(entry: &AtomicU64) -> bool {
    is_table::<A>(entry, 2) && entry.load(Ordering::Relaxed) & A::Format::SUMMARY != 0
}
