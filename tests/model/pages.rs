//! The plain map of pages: what each operation should make of them, and with
//! which error it should refuse. No tables, no summaries, no marks in entries.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use allotment::{
    arch::{Access, Arch, Entry, Format, PAGE_SIZE, Pages, PhysAddr, VirtAddr},
    space::SpaceError,
};

/// Pages of a granule.
pub(crate) const GRANULE: usize = 512;
/// Granules of the window.
pub(crate) const GRANULES: usize = 3;
/// Pages of the window.
pub(crate) const PAGES: usize = GRANULES * GRANULE;
/// Frames in a full reserve.
pub(crate) const RESERVE: usize = 2;

/// Where a granule's pages are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granule {
    Nothing,
    Table,
    Shared,
    Block,
}

pub(crate) struct Map {
    pub(crate) start: VirtAddr,
    pub(crate) pages: Vec<Entry>,
    /// The access that hidden pages get back.
    had: Vec<Access>,
    pub(crate) granules: [Granule; GRANULES],
    /// By the number of its first page, divided by its length.
    pub(crate) runs: Vec<bool>,
    /// Pages of a contiguous run; 1 where there are none.
    pub(crate) run: usize,
    pub(crate) hardware_dirty: bool,
    /// Frames for tables.
    pub(crate) available: usize,
    /// Frames that were set aside.
    pub(crate) reserve: usize,
}

/// What an operation does with the contiguous runs that it touches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    Cut,
    All,
}

pub(crate) type Answer<T = ()> = Result<T, SpaceError>;

impl Map {
    pub(crate) fn new<A: Arch>(arch: &A, start: VirtAddr, available: usize) -> Self {
        let run = A::Format::RUN;
        Self {
            start,
            pages: vec![Entry::NONE; PAGES],
            had: vec![Access::ReadWrite; PAGES],
            granules: [Granule::Nothing; GRANULES],
            runs: vec![false; PAGES / run],
            run,
            hardware_dirty: arch.hardware_dirty(),
            available,
            reserve: RESERVE,
        }
    }

    pub(crate) fn page(&self, n: usize) -> VirtAddr {
        self.start.offset(n * PAGE_SIZE)
    }

    /// The numbers of pages that lie in the window.
    pub(crate) fn numbers(&self, pages: Pages) -> Answer<Range<usize>> {
        let Pages { start, count } = pages;
        if !start.0.is_multiple_of(PAGE_SIZE as u64) {
            return Err(SpaceError::Misaligned { address: start, alignment: PAGE_SIZE });
        }
        let end = self.page(PAGES);
        if start < self.start || start > end || start == end && count > 0 {
            return Err(SpaceError::OutsideWindow { address: start });
        }
        let first = usize::try_from((start.0 - self.start.0) / PAGE_SIZE as u64).unwrap();
        if count > PAGES - first {
            return Err(SpaceError::OutsideWindow { address: end });
        }
        Ok(first..first + count)
    }

    /// A range, granule by granule.
    fn parts(numbers: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let Range { start, end } = numbers;
        (start / GRANULE..end.div_ceil(GRANULE))
            .map(move |g| (g, start.max(g * GRANULE)..end.min((g + 1) * GRANULE)))
            .filter(|(_, part)| !part.is_empty())
    }

    /// Refuses what is under shared tables, what `check` refuses, and what
    /// there are too few tables for.
    fn verify(
        &self,
        pages: Pages,
        made: bool,
        check: impl Fn(VirtAddr, Entry) -> Answer,
    ) -> Answer<Range<usize>> {
        let numbers = self.numbers(pages)?;
        let mut needed = 0;
        for (granule, part) in Self::parts(numbers.clone()) {
            match self.granules[granule] {
                Granule::Shared => return Err(SpaceError::SharedTable { page: self.page(part.start) }),
                Granule::Nothing => needed += usize::from(made),
                Granule::Block => needed += usize::from(part.len() < GRANULE),
                Granule::Table => {}
            }
            part.into_iter().try_for_each(|n| check(self.page(n), self.pages[n]))?;
        }
        self.enough(needed)?;
        Ok(numbers)
    }

    pub(crate) fn enough(&self, needed: usize) -> Answer {
        let available = self.available;
        if needed > available { Err(SpaceError::OutOfFrames { needed, available }) } else { Ok(()) }
    }

    /// Makes tables, splits blocks and breaks runs, as a range needs it.
    pub(crate) fn ready(&mut self, numbers: Range<usize>, made: bool, runs: Runs) {
        for (granule, part) in Self::parts(numbers) {
            match self.granules[granule] {
                Granule::Nothing if made => self.take_table(granule),
                Granule::Block if part.len() < GRANULE => self.take_table(granule),
                _ => {}
            }
            for run in part.start / self.run..part.end.div_ceil(self.run) {
                let whole = part.start <= run * self.run && (run + 1) * self.run <= part.end;
                self.runs[run] &= whole && runs == Runs::Cut;
            }
        }
    }

    pub(crate) fn take_table(&mut self, granule: usize) {
        self.granules[granule] = Granule::Table;
        self.available -= 1;
    }

    pub(crate) fn map(
        &mut self,
        pages: Pages,
        frames: &[PhysAddr],
        entry: impl Fn(PhysAddr) -> Entry,
    ) -> Answer {
        let numbers = self.verify(pages, true, empty)?;
        if let Some(&frame) = frames.iter().find(|&&frame| is_bad(frame)) {
            return Err(SpaceError::BadFrame { frame });
        }
        self.ready(numbers.clone(), true, Runs::Cut);
        for (n, &frame) in numbers.zip(frames) {
            self.pages[n] = entry(frame);
            self.had[n] = Access::ReadWrite;
        }
        Ok(())
    }

    pub(crate) fn protect(&mut self, pages: Pages, access: Access) -> Answer {
        let numbers = self.verify(pages, false, |page, entry| match entry {
            Entry::Empty { .. } => Err(SpaceError::NoFrame { page }),
            _ if is_shared(entry) && access != Access::CopyOnWrite => {
                Err(SpaceError::SharedFrame { page, access })
            }
            _ => Ok(()),
        })?;
        self.ready(numbers.clone(), false, Runs::All);
        for n in numbers {
            if let Entry::Hidden { frame, written, .. } | Entry::Present { frame, written, .. } =
                self.pages[n]
            {
                let written = written && access != Access::CopyOnWrite;
                self.pages[n] = Entry::Present { frame, access, written };
            }
        }
        Ok(())
    }

    pub(crate) fn hide(&mut self, pages: Pages) -> Answer {
        let numbers = self.verify(pages, false, any)?;
        self.ready(numbers.clone(), false, Runs::All);
        for n in numbers {
            if let Entry::Present { frame, access, written } = self.pages[n] {
                let shared = access == Access::CopyOnWrite;
                self.pages[n] = Entry::Hidden { frame, written, shared };
                self.had[n] = if access == Access::ReadExecute { Access::Read } else { access };
            }
        }
        Ok(())
    }

    pub(crate) fn reveal(&mut self, pages: Pages) -> Answer {
        let numbers = self.verify(pages, false, has_frame)?;
        self.ready(numbers.clone(), false, Runs::Cut);
        for n in numbers {
            if let Entry::Hidden { frame, written, .. } = self.pages[n] {
                self.pages[n] = Entry::Present { frame, access: self.had[n], written };
            }
        }
        Ok(())
    }

    pub(crate) fn set_state(&mut self, pages: Pages, state: u8) -> Answer {
        const LIMIT: u8 = 14;
        if state > LIMIT {
            return Err(SpaceError::StateTooLarge { state, limit: LIMIT });
        }
        let numbers = self.verify(pages, state != 0, empty)?;
        self.ready(numbers.clone(), state != 0, Runs::Cut);
        numbers.for_each(|n| self.pages[n] = Entry::Empty { state });
        Ok(())
    }

    /// What comes out: page, frame, and whether it was the page's own.
    pub(crate) fn unmap(&mut self, pages: Pages) -> Answer<Vec<(VirtAddr, PhysAddr, bool)>> {
        let numbers = self.verify(pages, false, any)?;
        self.ready(numbers.clone(), false, Runs::All);
        let mut out = Vec::new();
        for (granule, part) in Self::parts(numbers) {
            if self.granules[granule] == Granule::Block {
                self.granules[granule] = Granule::Nothing;
            }
            for n in part {
                if let Some(frame) = frame_of(self.pages[n]) {
                    out.push((self.page(n), frame, !is_shared(self.pages[n])));
                    self.pages[n] = Entry::NONE;
                }
            }
        }
        Ok(out)
    }

    /// The page's own frame that comes out.
    pub(crate) fn replace(
        &mut self,
        page: VirtAddr,
        frame: PhysAddr,
        access: Access,
    ) -> Answer<Option<PhysAddr>> {
        if is_bad(frame) {
            return Err(SpaceError::BadFrame { frame });
        }
        let numbers = self.verify(Pages { start: page, count: 1 }, true, any)?;
        self.ready(numbers.clone(), true, Runs::All);
        let old = core::mem::replace(
            &mut self.pages[numbers.start],
            Entry::Present { frame, access, written: false },
        );
        Ok(frame_of(old).filter(|&old_frame| !is_shared(old) && old_frame != frame))
    }

    /// The pages that were written.
    pub(crate) fn peek(&self, pages: Pages) -> Answer<Vec<usize>> {
        Ok(self.numbers(pages)?.filter(|&n| is_written(self.pages[n])).collect())
    }

    pub(crate) fn harvest(&mut self, pages: Pages) -> Answer<Vec<usize>> {
        let found = self.peek(pages)?;
        let numbers = self.numbers(pages)?;
        let cut = |(granule, part): &(usize, Range<usize>)| {
            self.granules[*granule] == Granule::Block && part.len() < GRANULE
        };
        self.enough(Self::parts(numbers.clone()).filter(cut).count())?;
        let runs = if self.hardware_dirty { Runs::Cut } else { Runs::All };
        for (granule, part) in Self::parts(numbers) {
            // A block that was not written is not looked at.
            if self.granules[granule] != Granule::Block || is_written(self.pages[part.start]) {
                self.ready(part.clone(), false, runs);
            }
            part.for_each(|n| set_written(&mut self.pages[n], false));
        }
        Ok(found)
    }

    /// A store through a page. What is one translation has one mark.
    pub(crate) fn write(&mut self, n: usize) {
        let (run, granule) = (n / self.run, n / GRANULE);
        let marked = if self.granules[granule] == Granule::Block {
            Self::pages_of(granule)
        } else if self.runs[run] {
            run * self.run..(run + 1) * self.run
        } else {
            n..n + 1
        };
        marked.for_each(|n| set_written(&mut self.pages[n], true));
    }
}

pub(crate) fn is_shared(entry: Entry) -> bool {
    entry.own_frame() != frame_of(entry)
}

pub(crate) fn frame_of(entry: Entry) -> Option<PhysAddr> {
    match entry {
        Entry::Empty { .. } => None,
        Entry::Hidden { frame, .. } | Entry::Present { frame, .. } => Some(frame),
    }
}

pub(crate) fn is_written(entry: Entry) -> bool {
    matches!(entry, Entry::Hidden { written: true, .. } | Entry::Present { written: true, .. })
}

pub(crate) fn set_written(entry: &mut Entry, mark: bool) {
    if let Entry::Hidden { written, .. } | Entry::Present { written, .. } = entry {
        *written = mark;
    }
}

/// Whether no entry could hold the frame.
fn is_bad(frame: PhysAddr) -> bool {
    !frame.0.is_multiple_of(PAGE_SIZE as u64) || frame.0 >> 48 != 0
}

fn any(_: VirtAddr, _: Entry) -> Answer {
    Ok(())
}

fn empty(page: VirtAddr, entry: Entry) -> Answer {
    if frame_of(entry).is_none() { Ok(()) } else { Err(SpaceError::InUse { page }) }
}

fn has_frame(page: VirtAddr, entry: Entry) -> Answer {
    if frame_of(entry).is_some() { Ok(()) } else { Err(SpaceError::NoFrame { page }) }
}
