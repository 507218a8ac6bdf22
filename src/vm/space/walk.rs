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

/// A range of the window, and the way to its first page: an edit that goes over
/// it several times comes from the root once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    pub(super) pages: Pages,
    directory: &'a [AtomicU64],
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

    /// The part's own entries in its table.
    pub(super) fn entries<'a>(&self, table: &'a [AtomicU64]) -> &'a [AtomicU64] {
        let first = index(self.pages.start, 0);
        &table[first..first + self.pages.count]
    }

    /// The part's own entries in its table, with their pages.
    pub(super) fn leaves<'a>(
        &self,
        table: &'a [AtomicU64],
    ) -> impl Iterator<Item = (VirtAddr, &'a AtomicU64)> {
        self.pages.iter().zip(self.entries(table))
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
    /// The way to a range. Refuses what does not lie in the window.
    pub(super) fn walk(&self, pages: Pages) -> Result<Walk<'_>, SpaceError> {
        self.check_range(pages)?;
        let outside = SpaceError::OutsideWindow { address: pages.start };
        let directory = if pages.count == 0 { &[] } else { self.directory(pages.start).ok_or(outside)? };
        Ok(Walk { pages, directory })
    }

    fn check_range(&self, pages: Pages) -> Result<(), SpaceError> {
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
        let walk = self.walk(pages)?;
        self.parts(walk).next().ok_or(SpaceError::OutsideWindow { address: pages.start })
    }

    /// A range, granule by granule.
    pub(super) fn parts<'a>(&'a self, walk: Walk<'a>) -> impl Iterator<Item = Part<'a>> {
        let Pages { mut start, count: mut left } = walk.pages;
        let mut directory = walk.directory;
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let at = index(start, 1);
            if at == 0 && start != walk.pages.start {
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
    /// on any page of the range (on one of those that a granule without a table,
    /// or with a block, has), and gets tables promised as [`plan`](Self::plan)
    /// does.
    pub(super) fn verify(
        &self,
        walk: Walk<'_>,
        made: bool,
        check: impl Fn(VirtAddr, Entry) -> Result<(), SpaceError>,
    ) -> Result<Promise<'_, A>, SpaceError> {
        self.plan(walk, made, |part, below| match below {
            Below::Nothing => check(part.pages.start, Entry::NONE),
            Below::Shared(_) | Below::Busy => Err(SpaceError::SharedTable { page: part.pages.start }),
            Below::Block(first) => check(part.pages.start, A::Format::decode(first)),
            Below::Table(table) => {
                let check = |(page, entry): (VirtAddr, &AtomicU64)| {
                    check(page, A::Format::decode(entry.load(Ordering::Relaxed)))
                };
                part.leaves(table).try_for_each(check)
            }
        })
    }

    /// The first pass of an edit that refuses pages without a frame.
    pub(super) fn verify_frames(&self, walk: Walk<'_>) -> Result<Promise<'_, A>, SpaceError> {
        self.plan(walk, false, |part, below| match below {
            Below::Nothing => Err(SpaceError::NoFrame { page: part.pages.start }),
            Below::Shared(_) | Below::Busy => Err(SpaceError::SharedTable { page: part.pages.start }),
            Below::Block(_) => Ok(()),
            Below::Table(table) => {
                let entries = part.entries(table);
                let is_empty = |entry: &AtomicU64| !pages::has_frame::<A>(entry.load(Ordering::Relaxed));
                match entries.iter().position(is_empty) {
                    Some(nth) => Err(SpaceError::NoFrame { page: part.pages.start.offset(nth * PAGE_SIZE) }),
                    None => Ok(()),
                }
            }
        })
    }

    /// The first pass of an edit that refuses nothing but shared tables: looks
    /// at no entries.
    pub(super) fn verify_tables(&self, walk: Walk<'_>) -> Result<Promise<'_, A>, SpaceError> {
        self.plan(walk, false, |part, below| match below {
            Below::Shared(_) | Below::Busy => Err(SpaceError::SharedTable { page: part.pages.start }),
            Below::Nothing | Below::Block(_) | Below::Table(_) => Ok(()),
        })
    }

    /// Refuses what `check` does on any part, and gets the tables promised that
    /// blocks must be split into, and, if they are to be `made`, those that are
    /// missing.
    fn plan(
        &self,
        walk: Walk<'_>,
        made: bool,
        check: impl Fn(Part<'_>, Below<'_>) -> Result<(), SpaceError>,
    ) -> Result<Promise<'_, A>, SpaceError> {
        let mut tables = 0;
        for part in self.parts(walk) {
            let below = self.below(part.directory);
            tables += usize::from(match below {
                Below::Nothing => made,
                Below::Block(_) => !part.is_whole(),
                Below::Table(_) | Below::Shared(_) | Below::Busy => false,
            });
            check(part, below)?;
        }
        self.vm.promise(tables).map_err(SpaceError::out_of_frames(tables))
    }

    /// The second pass: edits each page of a verified range, or whole blocks,
    /// by `edit` of the entry, after making of each part what `how` says.
    pub(super) fn rewrite(
        &self,
        walk: Walk<'_>,
        promise: &mut Promise<'_, A>,
        how: How,
        edit: impl Fn(VirtAddr, u64) -> u64,
    ) -> Tally {
        let mut tally = Tally::default();
        for part in self.parts(walk) {
            self.ready(part, promise, how, &mut tally);
            match self.below(part.directory) {
                Below::Nothing | Below::Shared(_) | Below::Busy => {}
                Below::Block(_) => {
                    tally.tables += 1;
                    let page = part.pages.start;
                    let edit = |block| A::Format::block(edit(page, A::Format::page(block)));
                    if let Some((old, new)) = pages::exchange::<A>(part.directory, edit) {
                        tally.block::<A>(page, (A::Format::page(old), A::Format::page(new)));
                    }
                }
                Below::Table(table) => {
                    tally.tables += 1;
                    let mut ended_runs = false;
                    tally.leaves::<A>(part, table, |page, entry| {
                        let change = pages::exchange::<A>(entry, |old| edit(page, old));
                        // Only whole runs are left, and hiding ends them.
                        if let Some((old, new)) = change
                            && old & !new & A::Format::RUN_HINT != 0
                            && (index(page, 0) + 1).is_multiple_of(A::Format::RUN)
                        {
                            spread_mark::<A>(table, index(page, 0));
                            ended_runs = true;
                        }
                        change
                    });
                    tally.ended_runs |= ended_runs;
                }
            }
        }
        tally
    }

    /// Makes of a part what can be edited page by page, or as a whole block.
    pub(super) fn ready(&self, part: Part<'_>, promise: &mut Promise<'_, A>, how: How, tally: &mut Tally) {
        match self.below(part.directory) {
            Below::Nothing if how.makes_tables => {
                if let Some(table) = promise.take() {
                    part.directory.store(A::Format::table(table), Ordering::Release);
                }
            }
            Below::Block(_) if !part.is_whole() => self.split(part, promise, tally),
            Below::Table(table) => self.break_runs(part, table, how.runs, tally),
            Below::Nothing | Below::Shared(_) | Below::Busy | Below::Block(_) => {}
        }
        // Before it is so, and after a block has become a table.
        if how.makes_writable && matches!(self.below(part.directory), Below::Table(_)) {
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

/// What an edit needs of the parts that it goes over. Blocks that it covers
/// only in part are always split, and such contiguous runs broken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// Tables, where there are none.
    pub(super) makes_tables: bool,
    /// A summary that says that something may be writable.
    pub(super) makes_writable: bool,
    /// Which contiguous runs are broken.
    pub(super) runs: Runs,
}

/// Which contiguous runs an edit breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Runs {
    /// Those that it covers only in part.
    #[default]
    Cut,
    /// All that it touches.
    Broken,
}
