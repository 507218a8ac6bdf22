//! Zeros that all memories share.
//!
//! ```text
//!   zero table: | Z Z Z Z ... Z |      a granule of zeros
//!   tail 16:    | Z x 16, - ... |      a memory's last granule, of 16 pages
//! ```
//!
//! One frame of zeros, one table of 512 entries for it, and one for each number
//! of pages that some memory's last granule has. They are made when they are
//! first asked for, and stay.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Format, PhysAddr};
use spin::mutex::SpinMutex;

use crate::{Error, vm::Vm};

/// The zero frame and the tables that show it.
#[derive(Debug, Default)]
pub(crate) struct Zeros {
    /// Address of the zero frame; 0 if there is none yet.
    frame: AtomicU64,
    /// Address of a frame with a directory entry for each number of pages but 0:
    /// that of `n` at `n - 1`.
    tables: AtomicU64,
    making: SpinMutex<()>,
}

impl Zeros {
    /// The zero frame, once [`make`](Self::make) has made it.
    #[inline]
    pub(crate) fn frame(&self) -> PhysAddr {
        PhysAddr(self.frame.load(Ordering::Relaxed))
    }

    /// Makes sure that there is a zero frame.
    pub(crate) fn make<A: Arch>(&self, vm: &Vm<A>) -> Result<(), Error> {
        if self.tables.load(Ordering::Acquire) != 0 {
            return Ok(());
        }
        let _making = self.making.lock();
        if self.tables.load(Ordering::Acquire) == 0 {
            let mut promise = vm.promise(2)?;
            if let (Some(frame), Some(tables)) = (promise.take(), promise.take()) {
                vm.arena.lend(2);
                self.frame.store(frame.0, Ordering::Relaxed);
                self.tables.store(tables.0, Ordering::Release);
            }
        }
        Ok(())
    }

    /// The directory entry for a table whose first `pages` are zeros, 1 to 512.
    #[inline]
    pub(crate) fn view<A: Arch>(&self, vm: &Vm<A>, pages: usize) -> Result<u64, Error> {
        self.find(vm, pages).map_or_else(|| self.build(vm, pages), Ok)
    }

    /// The same if there is such a table.
    #[inline(always)]
    pub(crate) fn find<A: Arch>(&self, vm: &Vm<A>, pages: usize) -> Option<u64> {
        let tables = PhysAddr(self.tables.load(Ordering::Acquire));
        if tables.0 == 0 {
            return None;
        }
        let entry = vm.table(tables).get(pages.wrapping_sub(1))?.load(Ordering::Acquire);
        (entry != 0).then_some(entry)
    }

    #[cold]
    fn build<A: Arch>(&self, vm: &Vm<A>, pages: usize) -> Result<u64, Error> {
        self.make(vm)?;
        let _making = self.making.lock();
        let place = &vm.table(PhysAddr(self.tables.load(Ordering::Acquire)))[pages - 1];
        let found = place.load(Ordering::Acquire);
        if found != 0 {
            return Ok(found);
        }
        let table = vm.promise(1)?.take().ok_or(Error::OutOfFrames { needed: 1, available: 0 })?;
        vm.arena.lend(1);
        let zero = A::Format::present(self.frame(), Access::CopyOnWrite, false);
        for entry in &vm.table(table)[..pages.min(ENTRIES_PER_TABLE)] {
            entry.store(zero, Ordering::Relaxed);
        }
        vm.arch.publish();
        let entry = A::Format::shared_table(table);
        place.store(entry, Ordering::Release);
        Ok(entry)
    }
}
