//! Mappings that are slots: which those are, and what may be asked of their parts.
//!
//! ```text
//!   mmap_new(bytes, none)    guard | reservation | guard         bytes say which pool's
//!                                  '-- slot
//!   mprotect, mmap_remap     a prefix of it, longer or shorter
//! ```
//!
//! What Wasmtime maps says nothing of the memory but its reservation. So a slot is the
//! smallest pool's that reserves just as much and has one left, else a larger one's. Engines of
//! several reservations each have slots of their own pool.

use core::ptr::NonNull;

use allotment_arch::{Access, Arch, PAGE_SIZE, VirtAddr, page_ceil};

use super::{GUARD_SIZE, Platform, PlatformError, Protection, next::Next};
use crate::{
    Allocator, Error, PoolKind,
    pooling::{SlabLayout, SlotId, SlotPool, is_in_use},
    vm::pointer,
};

/// What a linear memory takes beside its reservation: a guard before, and one after.
pub(super) const GUARDS: usize = 2 * GUARD_SIZE;

impl<A: Arch> Platform<A> {
    /// Whether a new mapping is the reservation of a linear memory for which there is a slot.
    pub(super) fn is_memory(&self, bytes: usize, protection: Protection) -> bool {
        protection == Protection(None)
            && bytes != 0
            && (bytes == self.main_mapping || self.pools_are_mapped_as(bytes))
    }

    /// Whether the slots of some pool beside the main one are such mappings.
    fn pools_are_mapped_as(&self, bytes: usize) -> bool {
        let pools = &self.allocator().pools;
        pools.are_several() && pools.memory_pools().any(|pool| mapping(pool.layout()) == Some(bytes))
    }

    /// Whether a slot of a pool is given out for such mappings: its own, and smaller ones
    /// whose pools are exhausted.
    pub(super) fn is_mapping_of(&self, pool: &SlotPool, bytes: usize) -> bool {
        let own = mapping(pool.layout());
        own == Some(bytes) || own.is_some_and(|own| bytes < own) && self.is_memory(bytes, Protection(None))
    }

    pub(super) fn map_slot(&self, bytes: usize) -> Result<NonNull<u8>, PlatformError> {
        let Allocator { vm, pools, .. } = self.allocator();
        let next = self.next_memory();
        let main = Some(&pools.memories).filter(|_| !pools.are_several());
        let (pool, id) = match main {
            Some(pool) => (pool, pools.allocate(vm, pool, next.key, None, 0)?),
            None => self.smallest_slot(bytes, next)?,
        };
        self.begin_memory(id, next);
        Ok(pointer(VirtAddr(pool.base(id.slot).0 - GUARD_SIZE as u64)))
    }

    /// A slot of the smallest pool that has one left and is mapped as so many bytes, or as more.
    fn smallest_slot(&self, bytes: usize, next: Next) -> Result<(&SlotPool, SlotId), Error> {
        let Allocator { vm, pools, .. } = self.allocator();
        let mut slots = 0;
        for pool in pools.smallest_first() {
            if mapping(pool.layout()).is_none_or(|mapping| mapping < bytes) {
                continue;
            }
            match pools.allocate(vm, pool, next.key, None, 0) {
                Err(Error::PoolConcurrencyLimit { limit, .. }) => slots += limit,
                result => return result.map(|id| (pool, id)),
            }
        }
        Err(Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: slots })
    }

    pub(super) fn protect_slot(
        &self,
        pool: &SlotPool,
        id: SlotId,
        offset: usize,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), PlatformError> {
        let refused = PlatformError::SlotAccess { offset, bytes };
        let end = page_end(offset, bytes).ok_or(refused)?;
        // Not from the midst of a page: the page would lose its first bytes.
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(refused);
        }
        match protection.0 {
            Some(Access::ReadWrite) if offset == 0 => self.begin_slot(pool, id, bytes)?,
            Some(Access::ReadWrite) => self.allocator().make_accessible(id, offset, bytes)?,
            None if accessible(pool, id) <= end => {
                pool.make_inaccessible(&self.allocator().vm, id, offset)?;
            }
            _ => return Err(refused),
        }
        Ok(())
    }

    /// Gives access from the first byte on: an image may follow.
    fn begin_slot(&self, pool: &SlotPool, id: SlotId, bytes: usize) -> Result<(), Error> {
        let Allocator { vm, pools, .. } = self.allocator();
        loop {
            match pool.make_accessible_at_first(vm, id, bytes) {
                Err(Error::OutOfFrames { needed, .. }) if pools.make_room(vm, needed) => {}
                result => return result,
            }
        }
    }

    pub(super) fn remap_slot(
        &self,
        pool: &SlotPool,
        id: SlotId,
        offset: usize,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), PlatformError> {
        // Taking access away clears. Giving it comes first, as it may fail.
        self.protect_slot(pool, id, offset, bytes, protection)?;
        if protection.0.is_none() {
            return Ok(());
        }
        if page_end(offset, bytes).is_none_or(|end| accessible(pool, id) > end) {
            return Err(PlatformError::SlotAccess { offset, bytes });
        }
        Ok(pool.erase(&self.allocator().vm, id, offset)?)
    }
}

/// The slot of `pool` whose mapping, guard before included, holds `address`, and the
/// offset from the mapping's first byte.
pub(super) fn slot_of(pool: &SlotPool, address: VirtAddr) -> Option<(SlotId, usize)> {
    pool.find(address.offset(GUARD_SIZE)).filter(|(id, _)| is_in_use(id.generation))
}

fn accessible(pool: &SlotPool, id: SlotId) -> usize {
    pool.position_of(id.slot).map_or(0, |position| position.accessible)
}

/// Bytes of the mappings that the slots of a slab are: if there are any, and each has what a mapping
/// promises: guards before and after its reservation in which nothing ever becomes accessible.
/// Compiled code relies on both. With other slots, memories are regions.
pub(super) fn mapping(slab: &SlabLayout) -> Option<usize> {
    let guarded = slab.guard_before >= GUARD_SIZE && slab.guard_size >= GUARD_SIZE;
    (slab.total_memories > 0 && guarded).then(|| slab.reservation.saturating_add(GUARDS))
}

/// The end of the last page of a part.
fn page_end(offset: usize, bytes: usize) -> Option<usize> {
    offset.checked_add(bytes).and_then(page_ceil)
}
