//! What tenants stand on: the allocator, its machine, and the frames that
//! nobody has.

use core::cell::Cell;

use allotment::{
    Allocator, Backing, Commit, FaultAccess, FaultReport, Verdict,
    arch::{
        Access, VirtAddr,
        emulated::{AccessFault, Emulated, FaultKind, Mmu},
    },
};

use crate::{
    amount::PAGE,
    contents::Page,
    tally::{Event, Tally},
};

/// Pages that a leaf table holds.
pub(crate) const TABLE: usize = 512;

pub(crate) struct Ground<'a, F: Mmu> {
    pub(crate) allocator: &'a Allocator<Emulated<F>>,
    /// Frames that no tenant has, by the model.
    pub(crate) free: usize,
    /// Whether frames are counted by the page. Where instances are promised
    /// frames that they may not touch, what a slot in use has kept from former
    /// tenants is no count's until it is reclaimed.
    pub(crate) exact: bool,
    pub(crate) tally: Tally,
    mark: Cell<u8>,
}

impl<'a, F: Mmu> Ground<'a, F> {
    pub(crate) fn new(allocator: &'a Allocator<Emulated<F>>) -> Self {
        let plan = allocator.plan();
        let exact = !matches!(plan.backing, Backing::Elastic(Commit::PerInstance(_)));
        Self { allocator, free: plan.frames, exact, tally: Tally::default(), mark: Cell::new(0) }
    }

    /// What to write next: another byte than anybody wrote lately, and not 0.
    pub(crate) fn mark(&self) -> u8 {
        self.mark.set(self.mark.get() % u8::MAX + 1);
        self.mark.get()
    }

    /// Loads as running code would, whose faults the allocator answers.
    pub(crate) fn load(&self, from: VirtAddr, into: &mut [u8]) -> Result<(), FaultReport> {
        let done = self.allocator.arch().read_with(from, into, |fault| self.verdict(fault).is_ok());
        done.map_err(|fault| self.trapped(fault))
    }

    /// Stores as running code would, up to the first byte that traps.
    pub(crate) fn store(&self, to: VirtAddr, bytes: &[u8]) -> Result<(), FaultReport> {
        let done = self.allocator.arch().write_with(to, bytes, |fault| self.verdict(fault).is_ok());
        done.map_err(|fault| self.trapped(fault))
    }

    /// Fetches a byte as an instruction, as running code would.
    pub(crate) fn fetch(&self, from: VirtAddr) -> Result<u8, FaultReport> {
        // A page that can be executed by now: the fault was spurious.
        for _ in 0..8 {
            match self.allocator.arch().fetch(from) {
                Ok(byte) => return Ok(byte),
                Err(fault) => self.verdict(fault).map_or_else(Err, Ok)?,
            }
        }
        panic!("a fetch from {from} was resumed again and again")
    }

    /// Frames that were given since this was asked last: the price of what was
    /// just done, at most `most`.
    pub(crate) fn paid(&mut self, most: usize) -> usize {
        let available = self.allocator.metrics().available_frames;
        let paid = self.free.saturating_sub(available);
        assert!(available <= self.free || !self.exact, "what is given does not make frames");
        assert!(paid <= most || !self.exact, "{paid} frames were taken for what takes {most} at most");
        self.free = available;
        paid
    }

    /// Holds the count of frames that nobody has against the model's.
    pub(crate) fn count(&mut self, available: usize) {
        if !self.exact {
            self.free = available;
        }
        assert_eq!(available, self.free, "frames that are available");
    }

    /// Asserts that this access traps.
    pub(crate) fn refuse(&self, at: VirtAddr, access: FaultAccess) -> FaultReport {
        let done = match access {
            FaultAccess::Read => self.load(at, &mut [0]),
            FaultAccess::Write => self.store(at, &[self.mark()]),
            FaultAccess::Execute => self.fetch(at).map(drop),
        };
        done.expect_err("nobody may do that here")
    }

    /// Asserts that a page reads as it should.
    pub(crate) fn inspect(&self, at: VirtAddr, expected: &Page) {
        self.tally.note(Event::Page);
        let real = self.page(at);
        if *real == *expected {
            return;
        }
        if let Some(byte) = (0..PAGE).find(|&byte| real[byte] != expected[byte]) {
            let (real, own) = (real[byte], expected[byte]);
            panic!("at {} a tenant reads {real:#x}, it wrote {own:#x}", at.offset(byte));
        }
    }

    /// The bytes of a tenant's page.
    pub(crate) fn page(&self, at: VirtAddr) -> Box<Page> {
        let mut bytes = Box::new([0; PAGE]);
        assert_eq!(self.load(at, &mut *bytes), Ok(()), "a tenant's page cannot be read");
        bytes
    }

    /// Takes all frames but `leave`, or nearly.
    pub(crate) fn starve(&mut self, leave: usize) -> Option<Starved> {
        let spare = self.free.saturating_sub(leave);
        // A table for each 512.
        let pages = spare - spare.div_ceil(TABLE + 1);
        if pages == 0 {
            return None;
        }
        let bytes = pages * PAGE;
        let start = self.allocator.reserve_region(bytes).ok()?;
        // SAFETY: the region is ours, and nobody is there.
        let filled = unsafe { self.allocator.protect_region(start, bytes, Some(Access::ReadWrite)) };
        assert_eq!(filled, Ok(()), "{spare} frames to spare do not make {pages} pages");
        // It keeps them, and nobody may look.
        // SAFETY: as above.
        assert_eq!(unsafe { self.allocator.protect_region(start, bytes, None) }, Ok(()));
        let frames = pages + pages.div_ceil(TABLE);
        self.free -= frames;
        Some(Starved { start, bytes, frames })
    }

    /// Gives them back.
    pub(crate) fn feed(&mut self, starved: &Starved) {
        // SAFETY: the region is ours, and nobody is there.
        let done = unsafe { self.allocator.release_region(starved.start, starved.bytes) };
        assert_eq!(done, Ok(()));
        self.free += starved.frames;
    }

    fn verdict(&self, fault: AccessFault) -> Result<(), FaultReport> {
        let access = match fault.kind {
            FaultKind::Read => FaultAccess::Read,
            FaultKind::Write => FaultAccess::Write,
            FaultKind::Execute => FaultAccess::Execute,
        };
        match self.allocator.fault(fault.address, access) {
            Verdict::Resume => Ok(()),
            Verdict::Trap(report) => {
                assert_eq!((report.address, report.access), (fault.address, access));
                assert!(report.to_string().contains(&fault.address.to_string()), "{report}");
                self.tally.note(Event::Trap);
                Err(report)
            }
            Verdict::NotOurs => panic!("{fault}, and that is not ours"),
        }
    }

    fn trapped(&self, fault: AccessFault) -> FaultReport {
        match self.verdict(fault) {
            Ok(()) => panic!("{fault} and was resumed again and again"),
            Err(report) => report,
        }
    }
}

/// A region whose only purpose is to have frames.
#[derive(Debug)]
pub(crate) struct Starved {
    start: VirtAddr,
    bytes: usize,
    frames: usize,
}
