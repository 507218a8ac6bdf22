//! What the plain map makes of operations on more than pages: shared tables,
//! contiguous runs and blocks.

use core::ops::Range;

use allotment::{
    arch::{Access, Entry, PAGE_SIZE, Pages, PhysAddr, VirtAddr},
    space::SpaceError,
};

use crate::pages::{Answer, GRANULE, Granule, Map, RESERVE, Runs, is_written, set_written};

impl Map {
    /// The number of a granule by its first page.
    fn granule(&self, page: VirtAddr) -> Answer<usize> {
        self.aligned(page, GRANULE).map(|numbers| numbers.start / GRANULE)
    }

    /// As many pages from `page` on, which is a multiple of that.
    fn aligned(&self, page: VirtAddr, count: usize) -> Answer<Range<usize>> {
        let alignment = count * PAGE_SIZE;
        if !page.0.is_multiple_of(alignment as u64) {
            return Err(SpaceError::Misaligned { address: page, alignment });
        }
        self.numbers(Pages { start: page, count })
    }

    pub(crate) fn pages_of(granule: usize) -> Range<usize> {
        granule * GRANULE..(granule + 1) * GRANULE
    }

    pub(crate) fn share(&mut self, page: VirtAddr, table: &[Entry]) -> Answer {
        let granule = self.granule(page)?;
        match self.granules[granule] {
            Granule::Block => return Err(SpaceError::InUse { page }),
            Granule::Table => {
                if let Some(n) = Self::pages_of(granule).find(|&n| self.pages[n] != Entry::NONE) {
                    return Err(SpaceError::InUse { page: self.page(n) });
                }
                self.available += 1;
            }
            Granule::Nothing | Granule::Shared => {}
        }
        self.granules[granule] = Granule::Shared;
        self.pages[Self::pages_of(granule)].copy_from_slice(table);
        Ok(())
    }

    pub(crate) fn unshare(&mut self, page: VirtAddr) -> Answer {
        let granule = self.granule(page)?;
        if self.granules[granule] != Granule::Shared {
            return Err(SpaceError::NotShared { page });
        }
        self.granules[granule] = Granule::Nothing;
        self.pages[Self::pages_of(granule)].fill(Entry::NONE);
        Ok(())
    }

    pub(crate) fn make_private(&mut self, page: VirtAddr) -> Answer {
        let granule = self.numbers(Pages { start: page, count: 1 })?.start / GRANULE;
        if self.granules[granule] == Granule::Shared {
            let out = SpaceError::OutOfReserve { limit: RESERVE };
            self.reserve = self.reserve.checked_sub(1).ok_or(out)?;
            self.granules[granule] = Granule::Table;
        }
        Ok(())
    }

    pub(crate) fn refill(&mut self) -> Answer {
        let missing = RESERVE - self.reserve;
        self.enough(missing)?;
        self.available -= missing;
        self.reserve = RESERVE;
        Ok(())
    }

    pub(crate) fn form_run(&mut self, page: VirtAddr) -> Answer {
        let numbers = self.aligned(page, self.run)?;
        if self.run == 1 {
            return Ok(());
        }
        match self.granules[numbers.start / GRANULE] {
            Granule::Block => return Ok(()),
            Granule::Nothing => return Err(SpaceError::NoFrame { page }),
            Granule::Shared => return Err(SpaceError::SharedTable { page }),
            Granule::Table => {}
        }
        let access = self.even(numbers.clone())?;
        let run = &mut self.runs[numbers.start / self.run];
        if !core::mem::replace(run, true) {
            let marked = access == Access::ReadWrite && !self.hardware_dirty;
            let written = marked || self.pages[numbers.clone()].iter().any(|&entry| is_written(entry));
            numbers.for_each(|n| set_written(&mut self.pages[n], written));
        }
        Ok(())
    }

    pub(crate) fn break_run(&mut self, page: VirtAddr) -> Answer {
        let numbers = self.aligned(page, self.run)?;
        if self.granules[numbers.start / GRANULE] == Granule::Shared {
            return Err(SpaceError::SharedTable { page });
        }
        self.runs[numbers.start / self.run] = false;
        Ok(())
    }

    pub(crate) fn form_block(&mut self, page: VirtAddr) -> Answer {
        let granule = self.granule(page)?;
        match self.granules[granule] {
            Granule::Block => return Ok(()),
            Granule::Nothing => return Err(SpaceError::NoFrame { page }),
            Granule::Shared => return Err(SpaceError::SharedTable { page }),
            Granule::Table => {}
        }
        let numbers = Self::pages_of(granule);
        self.even(numbers.clone())?;
        let written = self.pages[numbers.clone()].iter().any(|&entry| is_written(entry));
        self.ready(numbers.clone(), false, Runs::All);
        numbers.for_each(|n| set_written(&mut self.pages[n], written));
        self.granules[granule] = Granule::Block;
        self.available += 1;
        Ok(())
    }

    pub(crate) fn split_block(&mut self, page: VirtAddr) -> Answer {
        let granule = self.granule(page)?;
        match self.granules[granule] {
            Granule::Table => Ok(()),
            Granule::Nothing => Err(SpaceError::NoFrame { page }),
            Granule::Shared => Err(SpaceError::SharedTable { page }),
            Granule::Block => self.enough(1).map(|()| self.take_table(granule)),
        }
    }

    /// The access of pages that are present, alike, and have adjacent frames
    /// from a multiple of their size on.
    fn even(&self, numbers: Range<usize>) -> Answer<Access> {
        let mut first = None;
        let size = (numbers.len() * PAGE_SIZE) as u64;
        for (nth, n) in numbers.enumerate() {
            let page = self.page(n);
            let Entry::Present { frame, access, .. } = self.pages[n] else {
                return Err(SpaceError::NoFrame { page });
            };
            let (begins, alike): (PhysAddr, Access) = *first.get_or_insert((frame, access));
            let fits = frame == begins.offset(nth * PAGE_SIZE) && begins.0.is_multiple_of(size);
            if !fits || access != alike {
                return Err(SpaceError::Uneven { page });
            }
        }
        Ok(first.expect("a run has pages").1)
    }
}
