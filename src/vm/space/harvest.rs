//! Which pages were written, and forgetting it.
//!
//! A directory entry's summary says that something below may be writable or
//! marked. It is set before that becomes so, and cleared when all of a table
//! was looked at and nothing is; a table without it is not looked at. Accessed
//! bits are never asked: what they skip would only be likely.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages, VirtAddr, index};

use super::{
    Edit, Space, SpaceError,
    edit::Tally,
    walk::{Below, How, Part, Runs, Walk},
};
use crate::vm::pages;

impl<A: Arch> Space<A> {
    /// Reports the pages that may have been written since they were mapped or
    /// last harvested, in order and adjacent ones at once, and clears their
    /// marks. Hidden pages are among them.
    ///
    /// Before the edit is settled a CPU may write without leaving a mark: look
    /// at contents after that. The dirty set is exact to what is mapped: all of
    /// a contiguous run, and of a block that is in the range as a whole.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutOfFrames`] for tables, and those of every range;
    /// nothing was reported then.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn harvest(&self, pages: Pages, report: impl FnMut(Pages)) -> Result<Edit, SpaceError> {
        let walk = self.walk(pages)?;
        // Only the first part and the last can be less than their block.
        let mut tables = 0;
        for part in self.ends(walk).into_iter().flatten() {
            tables += usize::from(!part.is_whole() && matches!(self.below(part.directory), Below::Block(_)));
        }
        let mut promise = self.vm.promise(tables).map_err(SpaceError::out_of_frames(tables))?;
        // A mark that a fault sets would leave the sixteen entries of a run
        // different in more than what hardware keeps.
        let runs = if self.vm.arch.hardware_dirty() { Runs::Cut } else { Runs::Broken };
        let how = How { runs, ..How::default() };
        let mut tally = Tally::default();
        self.vm.await_marks();
        let mut found = Adjacent::new(report);
        for part in self.parts(walk).filter(|part| self.may_be_written(*part)) {
            self.ready(part, &mut promise, how, &mut tally);
            tally.tables += 1;
            match self.below(part.directory) {
                Below::Nothing | Below::Shared(_) | Below::Busy => {}
                Below::Block(_) => {
                    let clean = |block| A::Format::block(pages::cleaned::<A>(A::Format::page(block)));
                    if let Some((old, new)) = pages::exchange::<A>(part.directory, clean) {
                        let change = (A::Format::page(old), A::Format::page(new));
                        tally.block::<A>(part.pages.start, change);
                        found.add(part.pages);
                    }
                }
                Below::Table(table) => {
                    clean::<A>(part, table, &mut tally, &mut found);
                    self.settle_summary(part);
                }
            }
        }
        found.finish();
        Ok(tally.done())
    }

    /// Reports as [`harvest`](Self::harvest) does, and clears nothing.
    ///
    /// # Errors
    ///
    /// Those of every range.
    pub fn peek(&self, pages: Pages, report: impl FnMut(Pages)) -> Result<(), SpaceError> {
        let walk = self.walk(pages)?;
        self.vm.await_marks();
        let mut found = Adjacent::new(report);
        for part in self.parts(walk).filter(|part| self.may_be_written(*part)) {
            match self.below(part.directory) {
                Below::Nothing | Below::Shared(_) | Below::Busy => {}
                Below::Block(_) => found.add(part.pages),
                Below::Table(table) => {
                    for (page, _) in part.leaves(table) {
                        if run_of::<A>(table, index(page, 0)).iter().any(is_written::<A>) {
                            found.add(Pages { start: page, count: 1 });
                        }
                    }
                }
            }
        }
        found.finish();
        Ok(())
    }

    /// Whether anything in a part may be marked, as far as its directory entry
    /// knows.
    fn may_be_written(&self, part: Part<'_>) -> bool {
        match self.below(part.directory) {
            Below::Nothing | Below::Shared(_) | Below::Busy => false,
            Below::Table(_) => part.directory.load(Ordering::Acquire) & A::Format::SUMMARY != 0,
            Below::Block(first) => pages::is_written::<A>(first),
        }
    }

    /// The first and the last part of a range, or the only one.
    fn ends<'a>(&'a self, walk: Walk<'a>) -> [Option<Part<'a>>; 2] {
        let pages = walk.pages;
        let first = self.parts(walk).next();
        let Some(before) = first.map(|part| part.pages.count).filter(|&count| count < pages.count) else {
            return [first, None];
        };
        let after = (pages.count - before - 1) / ENTRIES_PER_TABLE * ENTRIES_PER_TABLE + before;
        let last = Pages { start: pages.start.offset(after * PAGE_SIZE), count: pages.count - after };
        [first, self.part(last).ok()]
    }
}

/// Clears and reports the marks of a part. Any mark of a contiguous run is one
/// of all its pages.
fn clean<A: Arch>(
    part: Part<'_>,
    table: &[AtomicU64],
    tally: &mut Tally,
    found: &mut Adjacent<impl FnMut(Pages)>,
) {
    let hinted = |entry: &AtomicU64| entry.load(Ordering::Relaxed) & A::Format::RUN_HINT != 0;
    if !part.entries(table).iter().any(hinted) {
        tally.leaves::<A>(part, table, |start, entry| {
            let change = pages::exchange::<A>(entry, pages::cleaned::<A>);
            if change.is_some() {
                found.add(Pages { start, count: 1 });
            }
            change
        });
        return;
    }
    let first = index(part.pages.start, 0);
    let mut nth = 0;
    while nth < part.pages.count {
        let run = run_of::<A>(table, first + nth);
        let page = part.pages.start.offset(nth * PAGE_SIZE);
        let before = tally.entries;
        for entry in run {
            if let Some(change) = pages::exchange::<A>(entry, pages::cleaned::<A>) {
                tally.leaf::<A>(page, change);
            }
        }
        if tally.entries > before {
            let pages = Pages { start: page, count: run.len() };
            found.add(pages);
            if run.len() > 1 {
                tally.stale(page, run.len());
            }
        }
        nth += run.len();
    }
}

/// The entries of the contiguous run that entry `nth` belongs to: as a rule
/// itself alone.
fn run_of<A: Arch>(table: &[AtomicU64], nth: usize) -> &[AtomicU64] {
    if table[nth].load(Ordering::Relaxed) & A::Format::RUN_HINT == 0 {
        return &table[nth..=nth];
    }
    let first = nth / A::Format::RUN * A::Format::RUN;
    &table[first..first + A::Format::RUN]
}

fn is_written<A: Arch>(entry: &AtomicU64) -> bool {
    pages::is_written::<A>(entry.load(Ordering::Acquire))
}

/// Pages that are reported in order, those that follow one another at once.
pub(super) struct Adjacent<F: FnMut(Pages)> {
    pending: Option<Pages>,
    report: F,
}

impl<F: FnMut(Pages)> Adjacent<F> {
    pub(super) fn new(report: F) -> Self {
        Self { pending: None, report }
    }

    pub(super) fn add(&mut self, pages: Pages) {
        let end = |pages: Pages| -> VirtAddr { pages.start.offset(pages.count * PAGE_SIZE) };
        match &mut self.pending {
            Some(pending) if end(*pending) == pages.start => pending.count += pages.count,
            pending => {
                if let Some(before) = pending.replace(pages) {
                    (self.report)(before);
                }
            }
        }
    }

    pub(super) fn finish(mut self) {
        if let Some(last) = self.pending.take() {
            (self.report)(last);
        }
    }
}
