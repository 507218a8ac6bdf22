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

use allotment_arch::Arch;

use crate::{Allocator, RegionView, SlotView, pooling::SlotPool};

impl<A: Arch> Allocator<A> {
    /// Shows `visit` every slot, pool by pool. Takes one slot's lock at a time, and
    /// none while `visit` runs. Not for hot paths: there may be many slots.
    pub fn for_each_slot(&self, visit: impl FnMut(SlotView)) {
        self.pools.all().flat_map(SlotPool::views).for_each(visit);
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
