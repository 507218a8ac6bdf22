//! The range walker: from the root once per directory, then slices.
//!
//! ```text
//!   pages            |####|################|################|##|
//!   granules, 2 MiB  |        |                |                |
//!   parts            [    ][              ][              ][  ]
//!                      \  one directory entry each: nothing, a table, a
//!                       \ shared table, or a block
//! ```
//!
//! An edit goes over its parts twice: first it verifies, counts the tables that
//! will be needed, and gets them promised; then it edits, and cannot fail.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Arch, ENTRIES_PER_TABLE, Entry, Format, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, Table, Upper, VirtAddr,
    index,
};

use super::{Space, SpaceError, edit::Tally};
use crate::vm::{Promise, distance, pages};

/// The pages of a range that one directory entry serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) directory: &'a AtomicU64,
    pub(super) pages: Pages,
}

/// What a directory entry points to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Below<'a> {
    /// Nothing.
    Nothing,
    /// A table of its own: all entries of it.
    Table(&'a [AtomicU64]),
    /// A table that others point to as well.
    Shared(PhysAddr),
    /// Something that is being replaced this moment.
    Busy,
    /// A block, as the entry of its first page.
    Block(u64),
}

impl Part<'_> {
    /// Whether it is all pages of its granule.
    pub(super) fn is_whole(&self) -> bool {
        self.pages.count == ENTRIES_PER_TABLE
    }

    /// First page of the granule.
    pub(super) fn granule(&self) -> VirtAddr {
        granule(self.pages.start)
    }

    /// The part's own entries in its table, with their pages.
    pub(super) fn leaves<'a>(
        &self,
        table: &'a [AtomicU64],
    ) -> impl Iterator<Item = (VirtAddr, &'a AtomicU64)> {
        let first = index(self.pages.start, 0);
        self.pages.iter().zip(&table[first..first + self.pages.count])
    }
}

/// First page of the granule that `page` is in.
pub(super) fn granule(page: VirtAddr) -> VirtAddr {
    VirtAddr(page.0 & !(TABLE_SPAN as u64 - 1))
}

/// The entry of a block's page `nth`, from that of its first. Hidden entries
/// may hold the frame inverted; what is added to an aligned frame is then
/// subtracted from its inverse, which an exclusive or does both of.
pub(super) fn nth_of_block(first: u64, nth: usize) -> u64 {
    first ^ (nth * PAGE_SIZE) as u64
}

impl<A: Arch> Space<A> {
    /// Refuses what does not lie in the window.
    pub(super) fn check_range(&self, pages: Pages) -> Result<(), SpaceError> {
        let Pages { start, count } = pages;
        if !start.is_aligned(PAGE_SIZE) {
            return Err(SpaceError::Misaligned { address: start, alignment: PAGE_SIZE });
        }
        let outside = |address| Err(SpaceError::OutsideWindow { address });
        let Some(before) = distance(self.window.start, start) else { return outside(start) };
        let size = distance(self.window.start, self.window.end).unwrap_or(0);
        match size.checked_sub(before) {
            Some(left) if count <= left / PAGE_SIZE => Ok(()),
            Some(left) if left > 0 => outside(self.window.end),
            _ => outside(start),
        }
    }

    /// The part that is one whole granule.
    pub(super) fn whole(&self, granule: VirtAddr) -> Result<Part<'_>, SpaceError> {
        if !granule.is_aligned(TABLE_SPAN) {
            return Err(SpaceError::Misaligned { address: granule, alignment: TABLE_SPAN });
        }
        self.part(Pages { start: granule, count: ENTRIES_PER_TABLE })
    }

    /// The part that `pages`, all of one granule, are.
    pub(super) fn part(&self, pages: Pages) -> Result<Part<'_>, SpaceError> {
        self.check_range(pages)?;
        self.parts(pages).next().ok_or(SpaceError::OutsideWindow { address: pages.start })
    }

    /// A checked range, granule by granule.
    pub(super) fn parts(&self, pages: Pages) -> impl Iterator<Item = Part<'_>> {
        let Pages { mut start, count: mut left } = pages;
        let mut directory: &[AtomicU64] = &[];
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let at = index(start, 1);
            if at == 0 || directory.is_empty() {
                directory = self.directory(start)?;
            }
            let count = left.min(ENTRIES_PER_TABLE - index(start, 0));
            let part = Part { directory: &directory[at], pages: Pages { start, count } };
            start = start.offset(count * PAGE_SIZE);
            left -= count;
            Some(part)
        })
    }

    /// The directory for an address of the window: the carve made them all.
    fn directory(&self, address: VirtAddr) -> Option<&[AtomicU64]> {
        let arch = &self.vm.arch;
        let mut frame = arch.root(address);
        for level in (2..arch.levels()).rev() {
            // SAFETY: the root is live, and the carve made what is below it in
            // the window, for good.
            let table = unsafe { Table::new(arch, frame, 1) };
            let entry = table.entries()[index(address, level)].load(Ordering::Relaxed);
            let Upper::Table { frame: next, .. } = A::Format::upper(level, entry) else { return None };
            frame = next;
        }
        // SAFETY: as above.
        let table = unsafe { Table::new(arch, frame, 1) };
        Some(table.entries())
    }

    /// What a directory entry points to.
    #[inline]
    pub(super) fn below(&self, directory: &AtomicU64) -> Below<'_> {
        let entry = directory.load(Ordering::Acquire);
        match A::Format::upper(1, entry) {
            Upper::Table { frame, .. } if entry & A::Format::SHARED_TABLE != 0 => Below::Shared(frame),
            Upper::Table { frame, .. } => Below::Table(self.table(frame)),
            Upper::Leaf { .. } => Below::Block(A::Format::page(entry)),
            Upper::NotPresent => match A::Format::decode(A::Format::page(entry)) {
                Entry::Hidden { .. } => Below::Block(A::Format::page(entry)),
                Entry::Empty { state: pages::BUSY } => Below::Busy,
                Entry::Empty { .. } | Entry::Present { .. } => Below::Nothing,
            },
        }
    }

    /// The entries of a leaf table.
    pub(super) fn table(&self, frame: PhysAddr) -> &[AtomicU64] {
        // SAFETY: leaf tables of the space are frames of its arena. Who takes
        // one out settles first, and edits nothing under it meanwhile.
        let table = unsafe { Table::new(&self.vm.arch, frame, 1) };
        table.entries()
    }

    /// The first pass of an edit: refuses shared tables and what `check` does
    /// on any page of the range, and gets the tables promised that blocks must
    /// be split into, and, if they are to be `made`, those that are missing.
    pub(super) fn verify(
        &self,
        pages: Pages,
        made: bool,
        check: impl Fn(VirtAddr, Entry) -> Result<(), SpaceError>,
    ) -> Result<Promise<'_, A>, SpaceError> {
        self.check_range(pages)?;
        let mut tables = 0;
        for part in self.parts(pages) {
            match self.below(part.directory) {
                Below::Nothing => {
                    tables += usize::from(made);
                    check(part.pages.start, Entry::NONE)?;
                }
                Below::Shared(_) | Below::Busy => {
                    return Err(SpaceError::SharedTable { page: part.pages.start });
                }
                Below::Block(first) => {
                    tables += usize::from(!part.is_whole());
                    check(part.pages.start, A::Format::decode(first))?;
                }
                Below::Table(table) => {
                    for (page, entry) in part.leaves(table) {
                        check(page, A::Format::decode(entry.load(Ordering::Relaxed)))?;
                    }
                }
            }
        }
        self.vm.promise(tables).map_err(SpaceError::out_of_frames(tables))
    }

    /// The second pass: edits each page of a verified range, or whole blocks,
    /// by `edit` of the entry. Contiguous runs that it reaches into are broken;
    /// all that it touches are, unless every edit takes the hint away.
    pub(super) fn rewrite(
        &self,
        pages: Pages,
        promise: &mut Promise<'_, A>,
        runs: Runs,
        edit: impl Fn(VirtAddr, u64) -> u64,
    ) -> Tally {
        let mut tally = Tally::default();
        for part in self.parts(pages) {
            self.ready(part, promise, runs, &mut tally);
            match self.below(part.directory) {
                Below::Nothing | Below::Shared(_) | Below::Busy => {}
                Below::Block(_) => {
                    tally.tables += 1;
                    let page = part.pages.start;
                    let edit = |block| A::Format::block(edit(page, A::Format::page(block)));
                    if let Some((old, new)) = pages::exchange(part.directory, edit) {
                        tally.block::<A>(page, (A::Format::page(old), A::Format::page(new)));
                    }
                }
                Below::Table(table) => {
                    tally.tables += 1;
                    for (page, entry) in part.leaves(table) {
                        if let Some((old, new)) = pages::exchange(entry, |old| edit(page, old)) {
                            tally.leaf::<A>(page, (old, new));
                            // Only whole runs are left, and hiding ends them.
                            let unhinted = old & !new & A::Format::RUN_HINT != 0;
                            if unhinted && (index(page, 0) + 1).is_multiple_of(A::Format::RUN) {
                                spread_mark::<A>(table, index(page, 0));
                                tally.ended_runs = true;
                            }
                        }
                    }
                }
            }
        }
        tally
    }

    /// Makes of a part what can be edited page by page, or as a whole.
    pub(super) fn ready(&self, part: Part<'_>, promise: &mut Promise<'_, A>, runs: Runs, tally: &mut Tally) {
        match self.below(part.directory) {
            Below::Block(_) if !part.is_whole() => self.split(part, promise, tally),
            Below::Table(table) => self.break_runs(part, table, runs, tally),
            Below::Nothing | Below::Shared(_) | Below::Busy | Below::Block(_) => {}
        }
    }

    /// Gives a part a table if it has none, from what was promised.
    pub(super) fn make_table(&self, part: Part<'_>, promise: &mut Promise<'_, A>) {
        if let Below::Nothing = self.below(part.directory)
            && let Some(table) = promise.take()
        {
            part.directory.store(A::Format::table(table), Ordering::Release);
        }
    }

    /// Says, before it is so, that something under a part may be writable.
    pub(super) fn summarise(&self, part: Part<'_>) {
        if let Below::Table(_) = self.below(part.directory) {
            part.directory.fetch_or(A::Format::SUMMARY, Ordering::AcqRel);
        }
    }

    /// Says that nothing under a part is writable or marked any more, if that
    /// is so and the part is the whole table.
    pub(super) fn settle_summary(&self, part: Part<'_>) {
        let Below::Table(table) = self.below(part.directory) else { return };
        let may_be = |entry: &AtomicU64| pages::is_writable_or_written::<A>(entry.load(Ordering::Relaxed));
        if part.is_whole() && !table.iter().any(may_be) {
            part.directory.fetch_and(!A::Format::SUMMARY, Ordering::AcqRel);
        }
    }
}

/// Gives all of a run the mark that any of its pages has. The run ends at entry
/// `last`, lost its hint, and is not present: no CPU sets further marks.
fn spread_mark<A: Arch>(table: &[AtomicU64], last: usize) {
    let run = &table[last + 1 - A::Format::RUN..=last];
    let marked = |entry: &AtomicU64| pages::is_written::<A>(entry.load(Ordering::Relaxed));
    let Some(at) = run.iter().position(marked) else { return };
    let entry = run[at].load(Ordering::Relaxed);
    // Alike but for the frame, which is aligned as a block's is.
    pages::write_all(run, |nth| nth_of_block(entry, nth ^ at));
}

/// What happens to contiguous runs under an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Those that it covers only in part are broken.
    Cut,
    /// All that it touches are.
    Broken,
}
