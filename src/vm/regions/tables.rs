//! Edits on the pages of one region, whose leaf tables come and go.
//!
//! ```text
//!   directory (1 GiB)   | table | table | none  | table | ...   made at the carve
//!                           |       |               |
//!   leaf tables             x 512   x 512           x 512       frames of the arena
//! ```
//!
//! A leaf table serves one granule, and a granule belongs to one region. So a
//! region's tables are its own, and can leave it whole: to the arena, or to
//! another region, with all that stands in them.
//!
//! The caller of each of these holds the region.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Entry, Format, Invalidation, PAGE_SIZE, Pages, Table, Upper, VirtAddr,
    find_leaf_entry, index,
};

use crate::vm::{Promise, Settled, Vm, copy_on_write::is_shared, pages, pages::Stale};

/// How many leaf tables, and how many frames, are missing.
pub(super) fn count_missing<A: Arch>(vm: &Vm<A>, pages: Pages) -> usize {
    granules(vm, pages)
        .map(|(directory, part)| match leaf_run(vm, directory, part) {
            Some(run) => pages::count_empty::<A>(run),
            None => 1 + part.count,
        })
        .sum()
}

/// Gives pages the access asked for, and those without a frame one of zeros;
/// `frames` are as many as were missing.
pub(super) fn give<A: Arch>(
    vm: &Vm<A>,
    pages: Pages,
    access: Access,
    frames: &mut Promise<'_, A>,
) -> Invalidation {
    let mut taken = Invalidation::NOTHING;
    for (directory, part) in granules(vm, pages) {
        if let Some(run) = make_run(vm, directory, part, frames) {
            pages::fill::<A>(run, frames);
            taken = taken.merge(invalidation(pages::set::<A>(run, access), part));
        }
    }
    vm.arch.publish();
    taken
}

/// Makes pages of one granule readable and writable that have no frame yet, none
/// of them; `frames` are as many, and the table if it is missing.
pub(super) fn extend<A: Arch>(vm: &Vm<A>, directory: &AtomicU64, part: Pages, frames: &mut Promise<'_, A>) {
    if let Some(run) = make_run(vm, directory, part, frames) {
        pages::fill::<A>(run, frames);
        pages::reveal::<A>(run);
    }
}

/// Gives `look` the entries of pages that have a table.
pub(super) fn for_each_run<A: Arch>(vm: &Vm<A>, pages: Pages, mut look: impl FnMut(&[AtomicU64])) {
    for (directory, part) in granules(vm, pages) {
        if let Some(run) = leaf_run(vm, directory, part) {
            look(run);
        }
    }
}

/// Takes all access away; frames stay.
pub(super) fn hide<A: Arch>(vm: &Vm<A>, pages: Pages) -> Invalidation {
    granules(vm, pages)
        .filter_map(|(directory, part)| {
            let hidden = pages::hide_live::<A>(leaf_run(vm, directory, part)?);
            Some(invalidation(hidden.stale, part))
        })
        .fold(Invalidation::NOTHING, Invalidation::merge)
}

/// Clears hidden pages that were written. Those that others share lose their frame.
///
/// # Safety
///
/// No CPU caches anything of the pages.
pub(super) unsafe fn scrub<A: Arch>(vm: &Vm<A>, pages: Pages) {
    for (directory, part) in granules(vm, pages) {
        if let Some(run) = leaf_run(vm, directory, part) {
            if vm.arena.has_shared() {
                pages::leave_shared(vm, run);
            }
            // SAFETY: by this function's contract.
            unsafe { pages::scrub(vm, run) };
        }
    }
}

/// Gives the frames of hidden pages back to the arena, and keeps their tables.
///
/// # Safety
///
/// `settled` came after the pages were hidden.
#[cfg(feature = "instance")]
pub(super) unsafe fn strip<A: Arch>(vm: &Vm<A>, pages: Pages, settled: Settled) {
    for (directory, part) in granules(vm, pages) {
        if let Some(run) = leaf_run(vm, directory, part) {
            // SAFETY: by this function's contract.
            unsafe { pages::strip(vm, run, settled) };
        }
    }
}

/// Takes the leaf tables out of the CPUs' way, with all pages in them. `pages`
/// begin with a table, and none beyond them is present.
pub(super) fn unlink<A: Arch>(vm: &Vm<A>, pages: Pages) -> Invalidation {
    let mut unlinked = Invalidation::NOTHING;
    for (directory, part) in granules(vm, pages) {
        if let Upper::Table { frame, .. } = A::Format::upper(1, directory.load(Ordering::Relaxed)) {
            // Not forgotten yet: `collect` and `relink` find it there. What is shared is
            // marked.
            let shared = is_shared::<A>(directory.load(Ordering::Relaxed));
            directory.store(A::Format::hidden(frame, shared), Ordering::Release);
            unlinked = unlinked.merge(Invalidation::tables(part));
        }
    }
    unlinked
}

/// Gives unlinked tables and all frames in them back to the arena, but for those
/// that others share. `pages` are those of `unlink`. `written` is told the address
/// of each page that was.
pub(super) fn collect<A: Arch>(
    vm: &Vm<A>,
    pages: Pages,
    settled: Settled,
    mut written: impl FnMut(VirtAddr),
) {
    for (directory, part) in granules(vm, pages) {
        let entry = A::Format::decode(directory.swap(0, Ordering::Relaxed));
        let Entry::Hidden { frame, written: false, .. } = entry else { continue };
        // SAFETY: no CPU knows the table any more, and the caller holds the region.
        let table = unsafe { Table::new(&vm.arch, frame, 1) };
        let run = run_of(table, part);
        for (nth, entry) in run.iter().enumerate() {
            if pages::is_written::<A>(entry.load(Ordering::Relaxed)) {
                written(part.start.offset(nth * PAGE_SIZE));
            }
        }
        // SAFETY: `settled` came after the table was unlinked, which took all of the
        // run out of the CPUs' reach.
        unsafe { pages::take_all(vm, run, settled) };
        // SAFETY: the table came from the arena, every entry is empty again,
        // and no CPU's paging-structure cache leads to it.
        unsafe { vm.arena.give_back(frame, settled) };
    }
}

/// Links unlinked tables at the same place of another range, which has none
/// there. Pages, contents and marks go with them: nothing is copied.
pub(super) fn relink<A: Arch>(vm: &Vm<A>, from: Pages, to: VirtAddr, _settled: Settled) {
    let to = Pages { start: to, count: from.count };
    for ((old, _), (new, _)) in granules(vm, from).zip(granules(vm, to)) {
        if let Entry::Hidden { frame, written: shared, .. } =
            A::Format::decode(old.swap(0, Ordering::Relaxed))
        {
            let table = if shared { A::Format::shared_table(frame) } else { A::Format::table(frame) };
            new.store(table, Ordering::Release);
        }
    }
    vm.arch.publish();
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

fn invalidation(stale: Stale, pages: Pages) -> Invalidation {
    if stale == Stale::Yes { Invalidation::leaves(pages) } else { Invalidation::NOTHING }
}

/// The entries of a part of one granule, in a table that is made if it is
/// missing.
fn make_run<'a, A: Arch>(
    vm: &'a Vm<A>,
    directory: &AtomicU64,
    part: Pages,
    frames: &mut Promise<'_, A>,
) -> Option<&'a [AtomicU64]> {
    if leaf_run(vm, directory, part).is_none() {
        directory.store(A::Format::table(frames.take()?), Ordering::Release);
    }
    leaf_run(vm, directory, part)
}

/// The entries of a part of one granule, if it has a leaf table.
fn leaf_run<'a, A: Arch>(vm: &'a Vm<A>, directory: &AtomicU64, part: Pages) -> Option<&'a [AtomicU64]> {
    let Upper::Table { frame, .. } = A::Format::upper(1, directory.load(Ordering::Acquire)) else {
        return None;
    };
    // SAFETY: a leaf table of a region lives until it is unlinked, and every
    // caller holds the region.
    let table = unsafe { Table::new(&vm.arch, frame, 1) };
    Some(run_of(table, part))
}

fn run_of(table: Table<'_>, part: Pages) -> &[AtomicU64] {
    let at = index(part.start, 0);
    &table.entries()[at..at + part.count]
}

/// Cuts pages where they cross from one leaf table to the next. With each part
/// comes the entry that points to its table, or would.
pub(super) fn granules<A: Arch>(vm: &Vm<A>, pages: Pages) -> impl Iterator<Item = (&AtomicU64, Pages)> {
    let mut rest = pages;
    let mut directory = None;
    core::iter::from_fn(move || {
        if rest.count == 0 {
            return None;
        }
        let room = ENTRIES_PER_TABLE - index(rest.start, 0);
        let part = Pages { start: rest.start, count: room.min(rest.count) };
        // A walk from the root for each GiB only.
        let at = index(part.start, 1);
        if at == 0 || directory.is_none() {
            directory = find_directory(vm, part.start);
        }
        rest = Pages { start: part.start.offset(part.count * PAGE_SIZE), count: rest.count - part.count };
        Some((&directory?.entries()[at], part))
    })
}

/// The entry that points to the leaf table of an address, or would.
pub(super) fn directory_entry<A: Arch>(vm: &Vm<A>, address: VirtAddr) -> Option<&AtomicU64> {
    Some(&find_directory(vm, address)?.entries()[index(address, 1)])
}

/// The table of the entries that point to leaf tables. The carve made all of
/// these for the address space of regions.
fn find_directory<A: Arch>(vm: &Vm<A>, address: VirtAddr) -> Option<Table<'_>> {
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
    Some(unsafe { Table::new(&vm.arch, frame, 1) })
}
