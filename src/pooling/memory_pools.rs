//! Memory pools of several sizes, and which of them a memory gets its slot from.
//!
//! ```text
//!   request: minimum, maximum, reservation, guard
//!      |
//!      |   the least address space first          the first that holds all of it and has
//!      v                                          a slot left
//!   | 64 MiB | 64 MiB | ..      pool 1
//!   | 1 GiB      | 1 GiB | ..   pool 2            never one that holds less: what a memory
//!   | 4 GiB           | ..      main, number 0    may grow to does not depend on its neighbours
//! ```
//!
//! All pools share arena, images and zeros; each has an index of its own, so that a
//! module's memories get the slots back that they had. With the main pool alone nothing
//! is looked for.

use allotment_arch::{Arch, VirtAddr};
use heapless::Vec;

use super::{PoolKind, Pools, SlotId, SlotPool};
use crate::{
    Error, MemoryPoolConfig, MemoryRequest,
    vm::{Image, Vm},
};

/// The numbers of memory pools in some order.
pub(super) type BySize = Vec<u8, { 1 + MemoryPoolConfig::MOST }>;

/// The pools by the address space that a slot takes, then by what it holds, then by number.
pub(super) fn by_size(memories: &SlotPool, further: &[SlotPool]) -> BySize {
    let all = || core::iter::once(memories).chain(further);
    let key = |pool: &SlotPool| (pool.layout().stride, pool.layout().max_memory_size, pool.number());
    let place = |of: &SlotPool| all().filter(|pool| key(pool) < key(of)).count();
    let mut order: BySize = all().map(|_| 0).collect();
    (0..).zip(all()).for_each(|(number, pool)| order[place(pool)] = number);
    order
}

/// What a memory needs of its slot. Bytes.
#[derive(Clone, Copy, Debug)]
struct Need {
    minimum: usize,
    /// What it is to have room for.
    room: usize,
    reservation: usize,
    guard: usize,
}

impl Need {
    /// Whether the slots of a pool have the address space.
    fn is_reserved_by(&self, pool: &SlotPool) -> bool {
        pool.layout().reservation >= self.reservation && pool.layout().guard_size >= self.guard
    }
}

impl Pools {
    /// Takes a memory slot of the smallest pool that holds what is asked for, making room
    /// first where it has to. Its pool comes with it.
    #[inline(always)]
    pub(crate) fn allocate_memory<A: Arch>(
        &self,
        vm: &Vm<A>,
        image: Option<Image>,
        request: &MemoryRequest,
    ) -> Result<(&SlotPool, SlotId), Error> {
        if request.reserved.is_some() || self.are_several() {
            return self.allocate_by_size(vm, image, request);
        }
        let pool = &self.memories;
        self.allocate(vm, pool, request.owner, image, request.minimum).map(|id| (pool, id))
    }

    #[inline(never)]
    fn allocate_by_size<A: Arch>(
        &self,
        vm: &Vm<A>,
        image: Option<Image>,
        request: &MemoryRequest,
    ) -> Result<(&SlotPool, SlotId), Error> {
        let need = self.need(request)?;
        let mut slots = 0;
        for pool in self.smallest_first() {
            if !need.is_reserved_by(pool) || pool.layout().max_memory_size < need.room {
                continue;
            }
            match self.allocate(vm, pool, request.owner, image, need.minimum) {
                Err(Error::PoolConcurrencyLimit { limit, .. }) => slots += limit,
                result => return result.map(|id| (pool, id)),
            }
        }
        Err(Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: slots })
    }

    /// Where nobody demands anything else, the address space of the main pool: compiled
    /// code may rely on it. Who may grow without end is to have as much room as there.
    fn need(&self, request: &MemoryRequest) -> Result<Need, Error> {
        let main = self.memories.layout();
        let (reservation, guard) = request.reserved.unwrap_or(self.reserved);
        let need = Need { minimum: request.minimum, room: 0, reservation, guard };
        if !self.memory_pools().any(|pool| need.is_reserved_by(pool)) {
            let sizes = |pool: &SlotPool| (pool.layout().reservation, pool.layout().guard_size);
            let limit = self.memory_pools().map(sizes).max().unwrap_or((0, 0));
            return Err(Error::Reservation { requested: (reservation, guard), limit });
        }
        let fits = self.memory_pools().filter(|pool| need.is_reserved_by(pool));
        let with_slots = fits.filter(|pool| pool.layout().total_memories > 0);
        let limit = with_slots.map(|pool| pool.layout().max_memory_size).max();
        let limit = limit.unwrap_or(main.max_memory_size);
        if need.minimum > limit {
            return Err(Error::MemoryTooLarge { requested: need.minimum, limit });
        }
        let declared = request.maximum.filter(|_| !request.open);
        let room = declared.unwrap_or(main.max_memory_size).max(need.minimum).min(limit);
        Ok(Need { room, ..need })
    }

    /// The memory pool of this number.
    #[inline(always)]
    pub(crate) fn memory_pool(&self, number: u8) -> &SlotPool {
        if number == 0 { &self.memories } else { self.further_pool(number) }
    }

    #[inline(never)]
    fn further_pool(&self, number: u8) -> &SlotPool {
        let pool = usize::from(number).checked_sub(1).and_then(|nth| self.further.as_slice().get(nth));
        // No id names any other number.
        pool.unwrap_or(&self.memories)
    }

    /// The pool that a memory's slot belongs to.
    #[inline(always)]
    pub(crate) fn of(&self, id: SlotId) -> &SlotPool {
        self.memory_pool(id.pool)
    }

    /// All memory pools, the main one first.
    pub(crate) fn memory_pools(&self) -> impl Iterator<Item = &SlotPool> {
        core::iter::once(&self.memories).chain(self.further.as_slice())
    }

    /// The same, the one of the least address space first.
    pub(crate) fn smallest_first(&self) -> impl Iterator<Item = &SlotPool> {
        self.by_size.iter().map(|&number| self.memory_pool(number))
    }

    /// How many memory slots there are, in all pools.
    pub(crate) fn memory_slots(&self) -> usize {
        self.memory_pools().map(|pool| pool.layout().total_memories).sum()
    }

    /// Whether there are others than the main one.
    #[inline(always)]
    pub(crate) fn are_several(&self) -> bool {
        !self.further.as_slice().is_empty()
    }

    /// The pool beside the main one in whose slab `address` lies.
    #[inline]
    pub(super) fn further_at(&self, address: VirtAddr) -> Option<&SlotPool> {
        self.further.as_slice().iter().find(|pool| pool.contains(address))
    }

    /// The memory pool in whose slab `address` lies.
    #[cfg(feature = "wasmtime-platform")]
    #[inline]
    pub(crate) fn memory_pool_at(&self, address: VirtAddr) -> Option<&SlotPool> {
        let main = Some(&self.memories).filter(|pool| pool.contains(address));
        main.or_else(|| self.further_at(address))
    }

    /// [`SlotPool::find`] among all memory pools.
    #[cfg(any(feature = "wasmtime-platform", feature = "instance"))]
    #[inline]
    pub(crate) fn find_memory(&self, address: VirtAddr) -> Option<(&SlotPool, SlotId, usize)> {
        let main = self.memories.find(address).map(|(id, offset)| (&self.memories, id, offset));
        main.or_else(|| {
            let pool = self.further_at(address)?;
            pool.find(address).map(|(id, offset)| (pool, id, offset))
        })
    }
}
