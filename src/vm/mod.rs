//! Pages, frames and ranges; nothing here knows WebAssembly.
//!
//! ```text
//!   window (virtual)                         arena (physical)
//!   +----------------------+---------+       +---------+--------+-----------+
//!   | regions: any size,   | slab of |       | records | tables | frames    |
//!   | tables come and go   | slots   |       |         |        |           |
//!   +----------------------+---------+       +---------+--------+-----------+
//!     regions/               pooling/          carve.rs           arena.rs
//! ```
//!
//! The page tables are the only record of what is mapped where; [`pages`] is
//! the only place that edits leaf entries.

mod address_space;
mod arena;
mod carve;
mod checks;
pub(crate) mod copy_on_write;
mod epochs;
mod frames;
mod images;
mod occupied;
pub(crate) mod pages;
mod records;
mod regions;
mod revoked;
pub mod space;

use core::ptr::NonNull;

use allotment_arch::{Arch, Invalidation, VirtAddr};

pub(crate) use arena::{Arena, Promise};
pub(crate) use carve::{Carving, POOLS, Places, PoolPlaces, PoolSpec};
use checks::{check_cpu, check_mappings, check_root, is_usable_frame};
pub(crate) use checks::{check_ranges, check_reach};
#[cfg(feature = "wasmtime-platform")]
pub(crate) use epochs::AboveCpu;
pub(crate) use epochs::{CpuRecord, Epoch, Epochs, Settled};
pub(crate) use images::{Image, ImageRecord, PageSource, ShownImage, Zeros};
use occupied::check_unoccupied;
pub(crate) use records::Records;
pub use regions::RegionView;
pub(crate) use regions::{
    Label, MAPPED_MEMORY, RegionId, RegionPosition, RegionSizes, Regions, Reservation, entry as region_entry,
};
pub(crate) use revoked::Revoked;

/// The machine and the frames that are ours on it.
#[derive(Debug)]
pub(crate) struct Vm<A> {
    pub(crate) arch: A,
    pub(crate) arena: Arena,
    pub(crate) epochs: Epochs,
    pub(crate) zeros: Zeros,
}

/// Bytes from `start` to `address`, if it is not before.
pub(crate) fn distance(start: VirtAddr, address: VirtAddr) -> Option<usize> {
    usize::try_from(address.0.checked_sub(start.0)?).ok()
}

/// An address of the window as a pointer.
pub(crate) fn pointer(address: VirtAddr) -> NonNull<u8> {
    let bits = usize::try_from(address.0).unwrap_or(usize::MAX);
    NonNull::new(core::ptr::with_exposed_provenance_mut(bits)).unwrap_or(NonNull::dangling())
}

impl<A: Arch> Vm<A> {
    /// Promises `count` frames.
    pub(crate) fn promise(&self, count: usize) -> Result<Promise<'_, A>, crate::Error> {
        self.arena.promise(&self.arch, count)
    }

    /// Has the marks of what this CPU wrote before in the tables, so that a load
    /// of an entry finds them: it could otherwise come before the mark that an
    /// earlier store to the page is about to set. What other CPUs wrote was
    /// marked before they said so.
    #[inline]
    pub(crate) fn await_marks(&self) {
        // On aarch64 a `dsb`, which nothing overtakes; on x86_64 the CPU sets marks
        // by locked cycles, which order loads (SDM 3A, 10.1.2.1 and 10.2.2).
        self.arch.publish();
    }

    /// Makes every CPU forget what an edit took away.
    pub(crate) fn settle(&self, what: Invalidation) -> Settled {
        self.epochs.settle(&self.arch, what)
    }
}
