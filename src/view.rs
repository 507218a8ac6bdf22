//! What there is at this moment, one by one: for pictures, and for whoever
//! wonders where memory went.
//!
//! ```text
//!   for_each_slot      pool, number, base, in use?, accessible, resident, owner
//!   for_each_region    start, bytes, accessible, executable, resident
//! ```
//!
//! Each view is consistent in itself. Between two of them others may allocate
//! and release: a sum over all is exact only while nobody does.

use allotment_arch::{Arch, VirtAddr};

use crate::{Allocator, MemoryInModule, PoolKind, pooling::SlotPool};

/// A slot as it was when it was looked at. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotView {
    /// Which pool it belongs to: memories, tables or stacks.
    pub pool: PoolKind,
    /// Its number in the pool, from 0.
    pub slot: u32,
    /// Address of its first byte.
    pub base: VirtAddr,
    /// Whether somebody holds it.
    pub in_use: bool,
    /// Changes whenever the slot is given out or taken back; 0 if it never was.
    pub generation: u64,
    /// What can be accessed, from the first byte on.
    pub accessible: usize,
    /// What has frames, accessible or kept for the next holder.
    pub resident: usize,
    /// Whose it is, or was last.
    pub owner: Option<MemoryInModule>,
}

/// A region as it was when it was looked at. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionView {
    /// Address of its first byte.
    pub start: VirtAddr,
    /// Its address space, in multiples of 2 MiB, without the guard behind it.
    pub bytes: usize,
    /// What can be accessed.
    pub accessible: usize,
    /// What of that can be executed.
    pub executable: usize,
    /// What has frames, accessible or not.
    pub resident: usize,
}

impl<A: Arch> Allocator<A> {
    /// Shows `visit` every slot, pool by pool. Takes one slot's lock at a time, and
    /// none while `visit` runs. Not for hot paths: there may be many slots.
    pub fn for_each_slot(&self, visit: impl FnMut(SlotView)) {
        self.pools.all().into_iter().flat_map(SlotPool::views).for_each(visit);
    }

    /// Shows `visit` every region, in order of addresses. Holds no lock while
    /// `visit` runs. Not for hot paths: it reads every page's entry.
    pub fn for_each_region(&self, mut visit: impl FnMut(RegionView)) {
        let mut from = 0;
        while let Some((view, next)) = self.regions.view(&self.vm, from) {
            visit(view);
            from = next;
        }
    }
}
