//! One memory, and what its tenant may expect of it.

use std::collections::BTreeSet;

use allotment::{
    CompiledModuleId, Error, FaultAccess, FaultRegion, FaultReport, Memory, PoolKind,
    arch::{
        VirtAddr,
        emulated::{Emulated, Mmu},
    },
};

use super::{MODULES, Owner};
use crate::{amount::PAGE, contents::Contents, ground::Ground, tally::Event};

/// Pages that are looked at in a memory of many, besides those written.
const PAGES_LOOKED_AT: usize = 24;

/// A memory that somebody has.
pub(super) struct Tenant<'a, F: Mmu> {
    pub(super) memory: Memory<'a, Emulated<F>>,
    /// What can be accessed: `memory.size()` and more.
    pub(super) contents: Contents,
    /// The CPUs that may use it, as bits.
    pub(super) cpus: u8,
    pub(super) owner: Option<Owner>,
    /// Frames that it took, and gives back.
    pub(super) paid: usize,
    /// Pages that it may touch, and which it has, where that is bounded.
    pub(super) commit: Option<usize>,
    pub(super) touched: BTreeSet<usize>,
}

impl<F: Mmu> Tenant<'_, F> {
    /// It is used on this CPU from now on.
    pub(super) fn arrive(&mut self, ground: &Ground<'_, F>, cpu: usize) {
        if self.cpus >> cpu & 1 == 0 {
            assert_eq!(ground.allocator.arrive(&self.memory), Ok(()));
            self.cpus |= 1 << cpu;
        }
    }

    pub(super) fn grow(&mut self, ground: &mut Ground<'_, F>, size: usize, limit: usize, price: usize) {
        let before = self.memory.size();
        let done = self.memory.grow_to(size);
        assert_eq!(self.memory.size(), if done.is_ok() { before.max(size) } else { before });
        self.answered(ground, done, if size > before { size } else { 0 }, limit, price);
    }

    pub(super) fn extend(
        &mut self,
        ground: &mut Ground<'_, F>,
        offset: usize,
        len: usize,
        limit: usize,
        price: usize,
    ) {
        let Memory::Static { make_accessible, .. } = &self.memory else { return };
        let done = make_accessible.call(offset, len);
        let end = offset.saturating_add(len);
        let accessible = self.contents.bytes();
        if end <= limit && offset > accessible {
            return assert_eq!(done, Err(Error::NotAPrefix { offset, accessible }));
        }
        self.answered(ground, done, end, limit, price);
    }

    /// Holds an answer against what was wanted: so many bytes, for that many
    /// frames at most.
    fn answered(
        &mut self,
        ground: &mut Ground<'_, F>,
        done: Result<(), Error>,
        bytes: usize,
        limit: usize,
        price: usize,
    ) {
        match done {
            Ok(()) if bytes <= limit => {
                let pages = bytes.div_ceil(PAGE).max(self.contents.pages());
                self.contents.resize(pages);
                self.paid += ground.paid(price);
                ground.tally.note(Event::Grown);
            }
            Err(Error::MemoryTooLarge { requested, limit: most }) if bytes > limit => {
                assert_eq!((requested, most), (bytes, limit));
            }
            Err(
                Error::OutOfAddressSpace { .. } | Error::OutOfRegions { .. } | Error::BeyondCapacity { .. },
            ) if self.is_dynamic() && bytes > self.memory.capacity() => {}
            Err(Error::OutOfFrames { .. }) if bytes <= limit && price > ground.free => {
                ground.tally.note(Event::OutOfFrames);
            }
            other => panic!("{price} frames, of {} free: {other:?}", ground.free),
        }
    }

    pub(super) fn prepare_write(&mut self, ground: &Ground<'_, F>, offset: usize, len: usize) {
        let done = ground.allocator.prepare_write(&self.memory, offset, len);
        let (accessible, end) = (self.contents.bytes(), offset.saturating_add(len));
        if end > accessible {
            return assert_eq!(done, Err(Error::OutOfBounds { offset, len, accessible }));
        }
        let pages = if len == 0 { 0..0 } else { offset / PAGE..end.div_ceil(PAGE) };
        let more = pages.clone().filter(|page| !self.touched.contains(page)).count();
        match done {
            Ok(()) => self.touched.extend(pages),
            Err(Error::CommitmentExceeded { needed, available }) => {
                assert!(needed > available && more >= needed, "{done:?}");
                assert!(!self.may_touch(more), "{more} pages more: {done:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_dynamic(&self) -> bool {
        matches!(self.memory, Memory::Dynamic(_))
    }

    /// Whether so many pages more may surely be touched.
    fn may_touch(&self, more: usize) -> bool {
        self.commit.is_none_or(|commit| self.touched.len() + more <= commit)
    }

    /// Holds an access to one page against what it should be.
    fn accessed(&mut self, done: Result<(), FaultReport>, page: usize, at: usize) -> bool {
        let inside = page < self.contents.pages();
        let surely = self.touched.contains(&page) || self.may_touch(1);
        match done {
            Ok(()) => {
                assert!(inside, "byte {at:#x} is not in the memory's {:#x}", self.contents.bytes());
                self.touched.insert(page);
                true
            }
            Err(report) => {
                assert!(!inside || !surely, "byte {at:#x} of {:#x}: {report}", self.contents.bytes());
                assert_eq!(inside, matches!(report.region, FaultRegion::Uncommitted(_)), "{report}");
                self.reported(&report, at);
                false
            }
        }
    }

    pub(super) fn store(&mut self, ground: &Ground<'_, F>, at: usize, count: usize) {
        let mark = ground.mark();
        for (page, from, to) in parts(at, count) {
            let done = ground.store(base(&self.memory).offset(from), &vec![mark; to - from]);
            if !self.accessed(done, page, from) {
                return;
            }
            (from..to).for_each(|byte| self.contents.store(byte, mark));
        }
    }

    pub(super) fn load(&mut self, ground: &Ground<'_, F>, at: usize, count: usize) {
        for (page, from, to) in parts(at, count) {
            let mut real = vec![0; to - from];
            let done = ground.load(base(&self.memory).offset(from), &mut real);
            if !self.accessed(done, page, from) {
                return;
            }
            let own = &self.contents.page(page)[from % PAGE..][..to - from];
            assert_eq!(real, own, "bytes from {from:#x} on are not the tenant's own");
        }
    }

    pub(super) fn beyond(&self, ground: &Ground<'_, F>, offset: usize, access: FaultAccess) {
        let report = ground.refuse(base(&self.memory).offset(offset), access);
        self.reported(&report, offset);
    }

    /// A report for an address in or after this memory names it.
    pub(super) fn reported(&self, report: &FaultReport, at: usize) {
        let index = self.owner.map(|owner| u32::from(owner.index));
        let named = match report.region {
            FaultRegion::Memory(named) | FaultRegion::Uncommitted(named) | FaultRegion::GuardAfter(named) => {
                named
            }
            _ => panic!("offset {at:#x} of a memory is reported as {report}"),
        };
        assert_eq!((named, report.module), (index, self.owner.map(Owner::module)), "{report}");
        assert_eq!(report.offset, i64::try_from(at).ok(), "{report}");
        let slot = report.slot.expect("a memory lies in a slot, or in a range");
        let pool = if self.is_dynamic() { None } else { Some(PoolKind::Memories) };
        assert_eq!((slot.pool, slot.accessible), (pool, self.contents.bytes()), "{report}");
        assert_eq!(slot.generation % 2, 1, "the slot is in use: {report}");
    }

    pub(super) fn inspect(&self, ground: &Ground<'_, F>) {
        let pages = self.contents.pages();
        let every = pages.div_ceil(PAGES_LOOKED_AT).max(1);
        for page in 0..pages {
            let looked_at = self.contents.is_written(page) || page % every == 0 || page + 1 == pages;
            // To look would be to touch.
            if looked_at && (self.commit.is_none() || self.touched.contains(&page)) {
                ground.inspect(base(&self.memory).offset(page * PAGE), self.contents.page(page));
            }
        }
    }
}

impl Owner {
    pub(super) fn module(self) -> CompiledModuleId {
        CompiledModuleId(u64::from(self.module) % MODULES)
    }
}

/// Cuts bytes where they cross from page to page: the page, its first byte, and
/// the one after its last.
fn parts(at: usize, count: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let end = at + count;
    (at / PAGE..end.div_ceil(PAGE)).map(move |page| (page, at.max(page * PAGE), end.min((page + 1) * PAGE)))
}

/// Address of a memory's first byte.
pub(super) fn base<F: Mmu>(memory: &Memory<'_, Emulated<F>>) -> VirtAddr {
    VirtAddr(memory.base().as_ptr() as u64)
}
