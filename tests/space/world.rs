//! A space on some machine, and frames to show in it.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use allotment::{
    arch::{
        Access, Entry, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, VirtAddr,
        find_leaf_entry,
    },
    space::{Edit, Space},
};

use crate::common::{Fault, MIB, TestArch};

/// Pages of the window.
pub(crate) const WINDOW: usize = (2 << 30) / PAGE_SIZE;
/// Frames that a test may show.
pub(crate) const FRAMES: usize = 12 * MIB / PAGE_SIZE;

pub(crate) struct World<A: TestArch> {
    pub(crate) space: Space<A>,
    frames: PhysAddr,
}

impl<A: TestArch> World<A> {
    /// A window that begins two granules before a directory ends.
    pub(crate) fn new() -> Self {
        Self::with_tables(16 * MIB)
    }

    /// The same with so many bytes for directories and tables.
    pub(crate) fn with_tables(bytes: usize) -> Self {
        let (arch, window, arena) = A::machine(bytes + 14 * MIB);
        let start = window.start.offset((1 << 30) - 2 * TABLE_SPAN);
        let window = start..start.offset(WINDOW * PAGE_SIZE);
        let tables = arena.start..arena.start.offset(bytes);
        let frames = PhysAddr(tables.end.0.next_multiple_of(TABLE_SPAN as u64));
        for n in 0..FRAMES {
            // SAFETY: nobody uses the frame yet.
            unsafe { arch.zero_frame(frames.offset(n * PAGE_SIZE)) };
        }
        // SAFETY: machine, window and arena are this test's.
        let space = unsafe { Space::new(arch, window, tables) }.unwrap();
        Self { space, frames }
    }

    pub(crate) fn page(&self, n: usize) -> VirtAddr {
        self.space.window().start.offset(n * PAGE_SIZE)
    }

    pub(crate) fn pages(&self, first: usize, count: usize) -> Pages {
        Pages { start: self.page(first), count }
    }

    /// Granules are numbered from the window's first.
    pub(crate) fn granule(&self, n: usize) -> VirtAddr {
        self.page(n * 512)
    }

    pub(crate) fn frame(&self, n: usize) -> PhysAddr {
        assert!(n < FRAMES);
        self.frames.offset(n * PAGE_SIZE)
    }

    /// Maps pages to the frames from `frame` on.
    pub(crate) fn map(&self, first: usize, count: usize, frame: usize, access: Access) -> Edit {
        // SAFETY: the frames are the test's.
        unsafe { self.space.map(self.pages(first, count), |n| self.frame(frame + n), access) }.unwrap()
    }

    pub(crate) fn mapped(&self, first: usize, count: usize, frame: usize, access: Access) {
        self.space.settle(self.map(first, count, frame, access));
    }

    pub(crate) fn entry(&self, n: usize) -> Entry {
        self.space.entry(self.page(n)).unwrap()
    }

    /// All entries from a page on, to be compared.
    pub(crate) fn entries(&self, first: usize, count: usize) -> Vec<Entry> {
        (first..first + count).map(|n| self.entry(n)).collect()
    }

    /// How many of these pages have the hint of a contiguous run.
    pub(crate) fn hinted(&self, first: usize, count: usize) -> usize {
        let hinted = |&n: &usize| {
            // SAFETY: the tables are the space's, and stay.
            let entry = unsafe { find_leaf_entry(self.space.arch(), self.page(n)) };
            entry.is_some_and(|e| e.load(Ordering::Relaxed) & A::Format::RUN_HINT != 0)
        };
        (first..first + count).filter(hinted).count()
    }

    pub(crate) fn load(&self, n: usize) -> Result<u8, Fault> {
        self.space.arch().load(self.page(n))
    }

    /// Stores as running code would, whose faults the space answers.
    pub(crate) fn store(&self, n: usize, byte: u8) -> Result<(), Fault> {
        // A harvest beside it may clear the mark again, but not as often as that.
        for _ in 0..100 {
            match self.space.arch().store(self.page(n), byte) {
                Err(fault) if self.space.write_fault(fault.0) => {}
                done => return done,
            }
        }
        panic!("the same store faulted again and again")
    }

    /// Makes the machine forget everything, for tests that show one frame in
    /// several pages.
    pub(crate) fn forget(&self) {
        self.space.arch().invalidate_everywhere(Invalidation::EVERYTHING);
    }

    /// Harvests, settles, and returns pages by number with how many tables were
    /// looked at.
    pub(crate) fn harvest(&self, first: usize, count: usize) -> (Vec<(usize, usize)>, usize) {
        let mut found = Vec::new();
        // SAFETY: the pages are the test's.
        let edit =
            unsafe { self.space.harvest(self.pages(first, count), |pages| found.push(pages)) }.unwrap();
        let tables = edit.tables;
        self.space.settle(edit);
        (self.numbers(&found), tables)
    }

    pub(crate) fn peek(&self, first: usize, count: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        self.space.peek(self.pages(first, count), |pages| found.push(pages)).unwrap();
        self.numbers(&found)
    }

    fn numbers(&self, found: &[Pages]) -> Vec<(usize, usize)> {
        let number = |page: VirtAddr| usize::try_from(page.0 - self.page(0).0).unwrap() / PAGE_SIZE;
        found.iter().map(|pages| (number(pages.start), pages.count)).collect()
    }
}

pub(crate) fn present(frame: PhysAddr, access: Access) -> Entry {
    Entry::Present { frame, access, written: false }
}

/// Waits until so many have come, or for as long as workers that run at once
/// would need: on bare metal they run one after the other.
pub(crate) fn meet(arrived: &AtomicUsize, all: usize) {
    arrived.fetch_add(1, Ordering::Relaxed);
    for _ in 0..2000 {
        if arrived.load(Ordering::Relaxed) >= all {
            return;
        }
        core::hint::spin_loop();
    }
}
