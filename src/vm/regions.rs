//! Address space for everything that is no slot: code, and reservations whose
//! size is no slot's.
//!
//! ```text
//!   | granule | granule | granule | granule | ...      2 MiB each
//!   |<- region A ------->| gap     |<- B -->| gap
//!     used: 1   1          1         1        1
//!    first: 1   0          0         1        0
//! ```
//!
//! A region takes whole granules, one leaf table each, and one more that stays
//! empty as its guard. Two bitmaps say which granules are taken and where
//! regions begin; what is mapped in a region is written in its page tables and
//! nowhere else. Leaf tables come from the arena when access is first given,
//! and go back with the region.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Entry, Format, Invalidation, PAGE_SIZE, Pages, TABLE_SPAN, Table, Upper,
    VirtAddr, find_leaf_entry, index, page_ceil,
};
use bitvec::{order::Lsb0, slice::BitSlice, view::BitView};
use spin::Mutex;

use super::{Records, Vm, distance, pages, pages::Stale};
use crate::{Error, RegionView};

/// A region begins at a multiple of this many bytes.
pub(crate) const REGION_GRANULE: usize = TABLE_SPAN;

#[derive(Debug)]
pub(crate) struct Regions {
    start: VirtAddr,
    granules: usize,
    /// Held while page entries of any region are edited.
    bitmaps: Mutex<Records<u64>>,
}

impl Regions {
    /// Words of bitmap for `space` bytes of address space.
    pub(crate) const fn words(space: usize) -> usize {
        2 * (space / REGION_GRANULE).div_ceil(64)
    }

    /// Nothing reserved in `[start, start + space)`; `bitmaps` holds zeros.
    pub(crate) fn new(start: VirtAddr, space: usize, bitmaps: Records<u64>) -> Self {
        Self { start, granules: space / REGION_GRANULE, bitmaps: Mutex::new(bitmaps) }
    }

    /// Whether `address` lies in this address space, reserved or not.
    pub(crate) fn contains(&self, address: VirtAddr) -> bool {
        distance(self.start, address).is_some_and(|offset| offset / REGION_GRANULE < self.granules)
    }

    /// Sets address space aside. Nothing in it can be accessed.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<VirtAddr, Error> {
        let no_space = Error::OutOfAddressSpace { requested: bytes };
        let granules = bytes.div_ceil(REGION_GRANULE).checked_add(1).ok_or(no_space)?;
        let mut bitmaps = self.bitmaps.lock();
        let (used, first) = self.split(&mut bitmaps);
        let at = find_clear_run(used, granules).ok_or(no_space)?;
        used[at..at + granules].fill(true);
        first.set(at, true);
        Ok(self.start.offset(at * REGION_GRANULE))
    }

    /// Gives all pages of `[start, start + bytes)` the same access, or none.
    /// Pages that had no frame get one of zeros; the others keep their bytes.
    pub(crate) fn protect<A: Arch>(
        &self,
        vm: &Vm<A>,
        start: VirtAddr,
        bytes: usize,
        access: Option<Access>,
    ) -> Result<(), Error> {
        let mut bitmaps = self.bitmaps.lock();
        let pages = self.check_inside(&mut bitmaps, start, bytes)?;
        let Some(access) = access else {
            let mut taken = Invalidation::NOTHING;
            for_each_run(vm, pages, |run, part| {
                taken = taken.merge(invalidation(pages::hide_live::<A>(run).stale, part));
            });
            let _ = vm.settle(taken);
            return Ok(());
        };
        // Count first, so that running out changes nothing.
        let (mut tables, mut frames) = (0, 0);
        for part in split_at_tables(pages) {
            match leaf_run(vm, part) {
                Some(run) => frames += pages::count_empty::<A>(run),
                None => {
                    tables += 1;
                    frames += part.count;
                }
            }
        }
        let mut promise = vm.promise(tables + frames)?;
        let mut taken = Invalidation::NOTHING;
        for part in split_at_tables(pages) {
            if leaf_run(vm, part).is_none()
                && let Some(directory) = directory_entry(vm, part.start)
                && let Some(table) = promise.take()
            {
                directory.store(A::Format::table(table), Ordering::Release);
            }
            if let Some(run) = leaf_run(vm, part) {
                pages::fill::<A>(run, &mut promise);
                taken = taken.merge(invalidation(pages::set::<A>(run, access), part));
            }
        }
        vm.arch.publish();
        let _ = vm.settle(taken);
        if access == Access::ReadExecute {
            // To the end of the last page: all of it can be executed.
            vm.arch.synchronise_code(start, pages.count * PAGE_SIZE);
        }
        Ok(())
    }

    /// Makes `[start, start + bytes)` read as zeros, where it has frames, and
    /// takes all access away.
    pub(crate) fn reset<A: Arch>(&self, vm: &Vm<A>, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        let mut bitmaps = self.bitmaps.lock();
        let pages = self.check_inside(&mut bitmaps, start, bytes)?;
        clear(vm, pages);
        Ok(())
    }

    /// Ends a region: its frames, tables and address space are free again.
    /// `start` and `bytes` are those of its reservation.
    pub(crate) fn release<A: Arch>(&self, vm: &Vm<A>, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        let unknown = Error::UnknownRange { address: start, bytes };
        let mut bitmaps = self.bitmaps.lock();
        let at = self.granule(start).ok_or(unknown)?;
        let (used, first) = self.split(&mut bitmaps);
        let granules = bytes.div_ceil(REGION_GRANULE) + 1;
        if !start.is_aligned(REGION_GRANULE) || !first[at] || region_end(used, first, at) != at + granules {
            return Err(unknown);
        }
        let pages = Pages { start, count: (granules - 1) * ENTRIES_PER_TABLE };
        clear(vm, pages);
        let mut unlinked = Invalidation::NOTHING;
        for part in split_at_tables(pages) {
            let Some(directory) = directory_entry(vm, part.start) else { continue };
            if let Upper::Table { frame, .. } = A::Format::upper(1, directory.load(Ordering::Relaxed)) {
                // Out of the CPUs' way, and not forgotten yet.
                directory.store(A::Format::hidden(frame, false), Ordering::Release);
                unlinked = unlinked.merge(Invalidation::tables(Pages { start: part.start, count: 1 }));
            }
        }
        let settled = vm.settle(unlinked);
        for part in split_at_tables(pages) {
            let Some(directory) = directory_entry(vm, part.start) else { continue };
            let Entry::Hidden { frame, .. } = A::Format::decode(directory.swap(0, Ordering::Relaxed)) else {
                continue;
            };
            // SAFETY: no CPU knows the table any more, and we hold the region.
            let table = unsafe { Table::new(&vm.arch, frame, 1) };
            // SAFETY: `clear` scrubbed the run after it was hidden everywhere.
            unsafe { pages::strip(vm, table.entries(), settled) };
            // SAFETY: the table came from the arena, every entry is empty
            // again, and no CPU's paging-structure cache leads to it.
            unsafe { vm.arena.give_back(frame, settled) };
        }
        used[at..at + granules].fill(false);
        first.set(at, false);
        Ok(())
    }

    /// The first region that begins at granule `from` or after it, and the
    /// granule behind its end.
    pub(crate) fn view<A: Arch>(&self, vm: &Vm<A>, from: usize) -> Option<(RegionView, usize)> {
        let mut bitmaps = self.bitmaps.lock();
        let (used, first) = self.split(&mut bitmaps);
        let at = from + first.get(from..)?.first_one()?;
        let end = region_end(used, first, at);
        let start = self.start.offset(at * REGION_GRANULE);
        // The last granule is the guard.
        let count = (end - at - 1) * ENTRIES_PER_TABLE;
        let bytes = count * PAGE_SIZE;
        let mut view = RegionView { start, bytes, accessible: 0, executable: 0, resident: 0 };
        for_each_run(vm, Pages { start, count }, |run, _| {
            for entry in run {
                let entry = A::Format::decode(entry.load(Ordering::Relaxed));
                view.resident += if entry.own_frame().is_some() { PAGE_SIZE } else { 0 };
                if let Entry::Present { access, .. } = entry {
                    view.accessible += PAGE_SIZE;
                    view.executable += if access == Access::ReadExecute { PAGE_SIZE } else { 0 };
                }
            }
        });
        Some((view, end))
    }

    /// The pages of a range that lies in one region.
    fn check_inside(
        &self,
        bitmaps: &mut Records<u64>,
        start: VirtAddr,
        bytes: usize,
    ) -> Result<Pages, Error> {
        let unknown = Error::UnknownRange { address: start, bytes };
        let rounded = page_ceil(bytes).ok_or(unknown)?;
        let at = self.granule(start).ok_or(unknown)?;
        let (used, first) = self.split(bitmaps);
        // The last granule of a region is its guard.
        let end = (region_end(used, first, at) - 1) * REGION_GRANULE;
        let offset = distance(self.start, start).ok_or(unknown)?;
        let inside = used[at] && offset.checked_add(rounded).is_some_and(|last| last <= end);
        if !inside || !start.is_aligned(PAGE_SIZE) {
            return Err(unknown);
        }
        Ok(Pages { start, count: rounded / PAGE_SIZE })
    }

    fn granule(&self, address: VirtAddr) -> Option<usize> {
        let granule = distance(self.start, address)? / REGION_GRANULE;
        (granule < self.granules).then_some(granule)
    }

    /// The two bitmaps: taken granules, and those where a region begins.
    fn split<'b>(
        &self,
        bitmaps: &'b mut Records<u64>,
    ) -> (&'b mut BitSlice<u64, Lsb0>, &'b mut BitSlice<u64, Lsb0>) {
        let words = bitmaps.as_mut_slice();
        let (used, first) = words.split_at_mut(words.len() / 2);
        (&mut used.view_bits_mut()[..self.granules], &mut first.view_bits_mut()[..self.granules])
    }
}

/// First run of `len` clear bits.
fn find_clear_run(bits: &BitSlice<u64, Lsb0>, len: usize) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bits.get(at..)?.first_zero()?;
        match bits.get(at..at.checked_add(len)?)?.last_one() {
            None => return Some(at),
            Some(taken) => at += taken + 1,
        }
    }
}

/// The granule after the region that `at` belongs to, guard included.
fn region_end(used: &BitSlice<u64, Lsb0>, first: &BitSlice<u64, Lsb0>, at: usize) -> usize {
    let after = at + 1;
    let next_region = first[after..].first_one();
    let next_free = used[after..].first_zero();
    let rest = used.len() - after;
    after + next_region.unwrap_or(rest).min(next_free.unwrap_or(rest))
}

/// Hides, invalidates and clears pages; they keep their frames.
fn clear<A: Arch>(vm: &Vm<A>, pages: Pages) {
    let (mut taken, mut written) = (Invalidation::NOTHING, false);
    for_each_run(vm, pages, |run, part| {
        let hidden = pages::hide_live::<A>(run);
        taken = taken.merge(invalidation(hidden.stale, part));
        written |= hidden.written;
    });
    let _ = vm.settle(taken);
    if written {
        for_each_run(vm, pages, |run, _| {
            // SAFETY: nothing of the run is cached on any CPU since the lines above.
            unsafe { pages::scrub(vm, run) };
        });
    }
}

fn invalidation(stale: Stale, pages: Pages) -> Invalidation {
    if stale == Stale::Yes { Invalidation::leaves(pages) } else { Invalidation::NOTHING }
}

fn for_each_run<A: Arch>(vm: &Vm<A>, pages: Pages, mut edit: impl FnMut(&[AtomicU64], Pages)) {
    for part in split_at_tables(pages) {
        if let Some(run) = leaf_run(vm, part) {
            edit(run, part);
        }
    }
}

/// Cuts a run of pages where it crosses from one leaf table to the next.
fn split_at_tables(pages: Pages) -> impl Iterator<Item = Pages> {
    let mut rest = pages;
    core::iter::from_fn(move || {
        if rest.count == 0 {
            return None;
        }
        let room = ENTRIES_PER_TABLE - index(rest.start, 0);
        let count = room.min(rest.count);
        let part = Pages { start: rest.start, count };
        rest = Pages { start: rest.start.offset(count * PAGE_SIZE), count: rest.count - count };
        Some(part)
    })
}

/// The entries of a run within one leaf table, if that table exists.
fn leaf_run<A: Arch>(vm: &Vm<A>, part: Pages) -> Option<&[AtomicU64]> {
    let Upper::Table { frame, .. } =
        A::Format::upper(1, directory_entry(vm, part.start)?.load(Ordering::Acquire))
    else {
        return None;
    };
    // SAFETY: a leaf table of a region lives until `release`, which needs the
    // lock that every caller holds.
    let table = unsafe { Table::new(&vm.arch, frame, 1) };
    let at = index(part.start, 0);
    table.entries().get(at..at + part.count)
}

/// The entry that points to the leaf table for `address`. The carve made all
/// the tables above.
fn directory_entry<A: Arch>(vm: &Vm<A>, address: VirtAddr) -> Option<&AtomicU64> {
    let mut frame = vm.arch.root(address);
    for level in (2..vm.arch.levels()).rev() {
        // SAFETY: upper tables of the window are made at the carve and stay.
        let table = unsafe { Table::new(&vm.arch, frame, 1) };
        match A::Format::upper(level, table.entries()[index(address, level)].load(Ordering::Relaxed)) {
            Upper::Table { frame: next, .. } => frame = next,
            Upper::NotPresent | Upper::Leaf { .. } => return None,
        }
    }
    // SAFETY: as above.
    let table = unsafe { Table::new(&vm.arch, frame, 1) };
    Some(&table.entries()[index(address, 1)])
}

/// The leaf entry for an address of a region, without a lock, for the fault
/// path.
///
/// Nobody uses a region that is being released, so that no fault of a user's
/// comes here with one. For one that does by mistake its leaf table is arena
/// memory still: it reads as zeros, or as whatever its next owner has there. What
/// the caller then answers is wrong, and where the CPU keeps no dirty state it
/// may clear a bit of what looks like a clean writable entry.
pub(crate) fn entry<A: Arch>(vm: &Vm<A>, address: VirtAddr) -> Option<&AtomicU64> {
    // SAFETY: leaf tables of regions are arena memory for ever, accessed
    // atomically by everybody who may take them for tables.
    unsafe { find_leaf_entry(&vm.arch, address) }
}
