//! Pages of one granule that have their frames and are revealed from the first
//! on: what a linear memory, a stack or a table is.
//!
//! ```text
//!   | revealed ............ | hidden, with frames ............ |
//!   0                    revealed()                        pages().count
//! ```
//!
//! The walk and all checks are made once. What is left of an edit is a load and
//! a store a page.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Arch, Format, Invalidation, Native, PAGE_SIZE, Pages};

use super::{Edit, Space, SpaceError, harvest::Adjacent, walk::Below};
use crate::vm::pages;

/// A premapped run of pages, of which a prefix is revealed.
#[derive(Debug)]
pub struct Premapped<'s, A: Arch = Native> {
    space: &'s Space<A>,
    pages: Pages,
    directory: &'s AtomicU64,
    entries: &'s [AtomicU64],
    revealed: usize,
}

impl<A: Arch> Space<A> {
    /// Takes hidden pages of one granule in hand, each of which has a frame.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NoFrame`], [`SpaceError::InUse`] for a page that is present,
    /// [`SpaceError::SharedTable`], [`SpaceError::SeveralTables`], and those of
    /// every range.
    ///
    /// # Safety
    ///
    /// While the value lives nobody else edits the pages, but for
    /// [`harvest`](Self::harvest) and [`write_fault`](Self::write_fault).
    pub unsafe fn premapped(&self, pages: Pages) -> Result<Premapped<'_, A>, SpaceError> {
        let page = pages.start;
        let walk = self.walk(pages)?;
        let Some(part) = self.parts(walk).next() else { return Err(SpaceError::NoFrame { page }) };
        if part.pages != pages {
            return Err(SpaceError::SeveralTables { page: page.offset(part.pages.count * PAGE_SIZE) });
        }
        let table = match self.below(part.directory) {
            Below::Table(table) => table,
            Below::Shared(_) | Below::Busy => return Err(SpaceError::SharedTable { page }),
            Below::Nothing | Below::Block(_) => return Err(SpaceError::NoFrame { page }),
        };
        for (page, entry) in part.leaves(table) {
            let entry = entry.load(Ordering::Relaxed);
            if entry & A::Format::PRESENT != 0 {
                return Err(SpaceError::InUse { page });
            }
            if !pages::has_frame::<A>(entry) {
                return Err(SpaceError::NoFrame { page });
            }
        }
        let (directory, entries) = (part.directory, part.entries(table));
        Ok(Premapped { space: self, pages, directory, entries, revealed: 0 })
    }
}

impl<A: Arch> Premapped<'_, A> {
    /// All of the pages.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// How many of them are revealed.
    pub fn revealed(&self) -> usize {
        self.revealed
    }

    /// Reveals the pages below `count`, with the access that they had when they
    /// were hidden. Those that are revealed already stay so. Nothing is left to
    /// invalidate.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NoFrame`] beyond the last page; nothing changed.
    #[inline]
    pub fn reveal_to(&mut self, count: usize) -> Result<(), SpaceError> {
        let Some(run) = self.entries.get(self.revealed.min(count)..count) else {
            return Err(SpaceError::NoFrame { page: self.pages.start.offset(self.pages.count * PAGE_SIZE) });
        };
        // Before it is so. A harvest may have found nothing, and said that.
        if self.directory.load(Ordering::Relaxed) & A::Format::SUMMARY == 0 {
            self.directory.fetch_or(A::Format::SUMMARY, Ordering::AcqRel);
        }
        pages::reveal::<A>(run);
        self.space.vm.arch.publish();
        self.revealed = self.revealed.max(count);
        Ok(())
    }

    /// Hides the pages from `count` on; they keep their frames, and whether they
    /// were written.
    ///
    /// # Safety
    ///
    /// Nobody uses the pages during the call and after: a mark that a CPU sets
    /// meanwhile may be lost.
    #[inline]
    pub unsafe fn hide_from(&mut self, count: usize) -> Edit {
        let Some(run) = self.entries.get(count..self.revealed).filter(|run| !run.is_empty()) else {
            return Edit::NOTHING;
        };
        self.space.vm.await_marks();
        let _ = pages::hide::<A>(run);
        self.revealed = count;
        let start = self.pages.start.offset(count * PAGE_SIZE);
        let invalidation = Invalidation::leaves(Pages { start, count: run.len() });
        Edit { entries: run.len(), tables: 1, invalidation, taken: () }
    }

    /// Reports pages that may have been written since they were mapped or last
    /// harvested, as [`Space::harvest`] does, and clears their marks. Hidden
    /// pages are among them.
    pub fn harvest(&mut self, report: impl FnMut(Pages)) -> Edit {
        self.space.vm.await_marks();
        // As a rule few runs have any; this is two operations a page.
        let mark = |entry: &AtomicU64| entry.load(Ordering::Relaxed) ^ A::Format::CLEAN;
        if self.entries.iter().fold(0, |marks, entry| marks | mark(entry)) & A::Format::WRITTEN == 0 {
            return Edit { tables: 1, ..Edit::NOTHING };
        }
        let page = |nth| self.pages.start.offset(nth * PAGE_SIZE);
        let mut found = Adjacent::new(report);
        let (mut entries, mut first, mut last) = (0, usize::MAX, 0);
        for (nth, entry) in self.entries.iter().enumerate() {
            // They all have a frame.
            if mark(entry) & A::Format::WRITTEN == 0 {
                continue;
            }
            if let Some((old, new)) = pages::exchange::<A>(entry, A::Format::mark_clean) {
                entries += 1;
                if A::Format::needs_invalidation(old, new) {
                    first = first.min(nth);
                    last = nth;
                }
                found.add(Pages { start: page(nth), count: 1 });
            }
        }
        found.finish();
        let count = if first <= last { last - first + 1 } else { 0 };
        let start = if count > 0 { page(first) } else { self.pages.start };
        let invalidation = Invalidation::leaves(Pages { start, count });
        Edit { entries, tables: 1, invalidation, taken: () }
    }
}
