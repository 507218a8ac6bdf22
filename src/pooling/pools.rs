//! All pools of an allocator, and what they do for one another.

use core::sync::atomic::AtomicU32;

use allotment_arch::{Arch, PAGE_SIZE, PhysAddr, VirtAddr};
use spin::mutex::SpinMutex;

use super::{
    Count, Link, ModuleAffinityIndexAllocator, PoolKind, PoolSettings, SlotBacking, SlotId, SlotPool,
    SlotRecord, buckets, directory_place,
    memory_pools::{BySize, by_size},
    sharing::Summary,
};
use crate::{
    Backing, Commit, CompiledModuleId, Config, Error, MemoryInModule, PoolingAllocationConfig, Resolved,
    ResolvedPool,
    vm::{Image, POOLS, Places, PoolPlaces, PoolSpec, Records, Vm},
};

/// How often idle frames are looked for that are there. A slot that other CPUs
/// take and give back all the time may be missed every time; not for ever.
const MOST_SEARCHES: usize = 64;

/// The pools, in the order of their slabs, and what is only counted.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) memories: SlotPool,
    pub(crate) tables: SlotPool,
    pub(crate) stacks: SlotPool,
    /// Memories of other sizes: the pools from number 1 on.
    pub(super) further: Records<SlotPool>,
    /// The numbers of all memory pools, the one of the least address space first.
    pub(super) by_size: BySize,
    /// Reservation and guard, in bytes, of memories of which nothing else is demanded.
    pub(super) reserved: (usize, usize),
    pub(crate) gc_heaps: Count,
    pub(crate) core_instances: Count,
    pub(crate) component_instances: Count,
    /// Memories that one module may have.
    pub(crate) memories_per_module: u32,
    /// Tables that one module may have.
    pub(crate) tables_per_module: u32,
    /// Held while idle frames are taken back, and while one is cleared.
    pub(super) reclaiming: SpinMutex<()>,
}

impl Pools {
    /// What the carve sets aside for the pools.
    pub(crate) fn specs(resolved: &Resolved) -> [PoolSpec; POOLS] {
        let fixed = resolved.backing == Backing::Fixed;
        let spec = |pool: &ResolvedPool| {
            let slots = pool.slab.total_memories;
            PoolSpec {
                slab: pool.slab,
                slot_record: size_of::<SlotRecord>(),
                links: slots.saturating_mul(size_of::<Link>()),
                buckets: buckets(slots).saturating_mul(size_of::<AtomicU32>()),
                summaries: slots
                    .saturating_mul(pool.slab.premapped_tables)
                    .saturating_mul(size_of::<Summary>()),
                frames_per_slot: if fixed { pool.slab.max_memory_size / PAGE_SIZE } else { 0 },
                frame_alignment: if fixed { pool.slab.frame_alignment() } else { PAGE_SIZE },
            }
        };
        let mut specs = [PoolSpec::NONE; POOLS];
        let [memories, tables, stacks, further @ ..] = &mut specs;
        *memories = spec(&resolved.memories);
        *tables = spec(&resolved.tables);
        *stacks = spec(&resolved.stacks);
        for (place, pool) in further.iter_mut().zip(resolved.memory_pools.iter().flatten()) {
            *place = spec(pool);
        }
        specs
    }

    /// Bytes of the records of memory pools beside the main one.
    pub(crate) fn record_bytes(resolved: &Resolved) -> usize {
        resolved.memory_pools.iter().flatten().count() * size_of::<SlotPool>()
    }

    /// The pools, in the places that were carved for these specs.
    ///
    /// # Safety
    ///
    /// `places` are the carve's, in an arena that is ours for good, and used by
    /// nobody else.
    pub(crate) unsafe fn in_places<A: Arch>(
        vm: &Vm<A>,
        config: &Config,
        resolved: &Resolved,
        places: &Places,
    ) -> Self {
        let none = PoolingAllocationConfig::new();
        let pooling = config.pooling().unwrap_or(&none);
        let [memories, tables, stacks, further @ ..] = &places.pools;
        let common = |kind, layout, own_frames, keep_resident| PoolSettings {
            kind,
            number: 0,
            layout,
            backing: match resolved.backing {
                Backing::Fixed => SlotBacking::Fixed { first: own_frames },
                // Stacks and tables are the host's to touch: it cannot be stopped
                // by a trap.
                Backing::Elastic(Commit::PerInstance(pages)) if kind == PoolKind::Memories => {
                    SlotBacking::PerInstance { pages }
                }
                _ => SlotBacking::Strict,
            },
            keep_resident,
            decommit_batch_size: pooling.decommit_batch_size,
            wipes: kind != PoolKind::Stacks || config.async_stack_zeroing,
            premarked: kind == PoolKind::Stacks && !vm.arch.hardware_dirty(),
            poison: pooling.poison,
            clean_when_idle: pooling.clean_when_idle,
            shares: kind == PoolKind::Memories,
            checks_bounds: true,
        };
        let warm = pooling.max_unused_warm_slots;
        let of_memories = |number, pool: &ResolvedPool, own_frames, (reservation, guard)| PoolSettings {
            number,
            checks_bounds: checks_bounds(config.signals_based_traps, reservation, guard),
            ..common(PoolKind::Memories, pool.slab, own_frames, pooling.linear_memory_keep_resident)
        };
        let sizes = (config.memory_reservation, config.memory_guard_size);
        let settings = of_memories(0, &resolved.memories, memories.own_frames, sizes);
        // SAFETY: by this function's contract.
        let memories = unsafe { SlotPool::in_places(vm, settings, memories, warm) };
        let keep = pooling.table_keep_resident;
        let settings = common(PoolKind::Tables, resolved.tables.slab, tables.own_frames, keep);
        // SAFETY: as above. Tables and stacks have no module to be kept for.
        let tables = unsafe { SlotPool::in_places(vm, settings, tables, warm) };
        let keep = if config.async_stack_zeroing { pooling.async_stack_keep_resident } else { usize::MAX };
        let settings = common(PoolKind::Stacks, resolved.stacks.slab, stacks.own_frames, keep);
        // SAFETY: as above.
        let stacks = unsafe { SlotPool::in_places(vm, settings, stacks, 0) };
        let pools = resolved.memory_pools.iter().flatten().zip(pooling.memory_pools.iter()).zip(further);
        let further = (1..).zip(pools).map(|(number, ((pool, config), places))| {
            let sizes = (config.memory_reservation, config.memory_guard_size);
            let settings = of_memories(number, pool, places.own_frames, sizes);
            // SAFETY: as above.
            unsafe { SlotPool::in_places(vm, settings, places, warm) }
        });
        // SAFETY: as above: `record_bytes` were set aside, in whole pages.
        let further = unsafe { Records::of(&vm.arch, places.pool_records, further) };
        Self {
            tables,
            stacks,
            by_size: by_size(&memories, further.as_slice()),
            reserved: (config.memory_reservation, config.memory_guard_size),
            memories,
            further,
            gc_heaps: Count::new(PoolKind::GcHeaps, resolved.gc_heaps.count),
            core_instances: Count::new(PoolKind::CoreInstances, resolved.core_instances.count),
            component_instances: Count::new(PoolKind::ComponentInstances, resolved.component_instances.count),
            memories_per_module: pooling.max_memories_per_module,
            tables_per_module: pooling.max_tables_per_module,
            reclaiming: SpinMutex::new(()),
        }
    }
}

/// Whether some 32-bit address, in memories of such a reservation and guard, is neither
/// accessible nor sure to become a trap.
fn checks_bounds(signals_based_traps: bool, reservation: usize, guard: usize) -> bool {
    const ADDRESSES: u64 = 1 << 32;
    !signals_based_traps || guard == 0 || (reservation as u64) < ADDRESSES
}

impl SlotPool {
    /// The pool of `settings` in places that were carved for its spec.
    ///
    /// # Safety
    ///
    /// `places` are the carve's, in an arena that is ours for good, and used by
    /// nobody else.
    pub(crate) unsafe fn in_places<A: Arch>(
        vm: &Vm<A>,
        settings: PoolSettings,
        places: &PoolPlaces,
        max_unused_warm_slots: u32,
    ) -> Self {
        let slots = settings.layout.total_memories;
        let directory = |slot: usize| -> PhysAddr {
            let base: VirtAddr = places.slab.offset(settings.layout.base(slot));
            directory_place(vm, base)
        };
        // SAFETY: by this function's contract; pages are aligned for any record.
        let records = unsafe {
            Records::new(&vm.arch, places.slot_records, slots, |slot| SlotRecord::new(directory(slot)))
        };
        // SAFETY: as above.
        let links = unsafe { Records::new(&vm.arch, places.links, slots, |_| Link::default()) };
        // SAFETY: as above.
        let buckets =
            unsafe { Records::new(&vm.arch, places.buckets, buckets(slots), |_| AtomicU32::new(0)) };
        let tables = slots * settings.layout.premapped_tables;
        // SAFETY: as above.
        let summaries = unsafe { Records::new(&vm.arch, places.summaries, tables, |_| Summary::default()) };
        let index = ModuleAffinityIndexAllocator::new(links, buckets, vm.arch.cpus(), max_unused_warm_slots);
        Self::new(settings, places.slab, places.leaf_tables, records, summaries, index)
    }

    /// Gives back a slot that was taken from the index without its owner.
    fn forget_owner(&self, slot: u32) {
        let record = &self.slots.as_slice()[slot as usize];
        record.set_owner(None);
        let bytes = self.resident_bytes(record, &record.state.lock());
        self.index.free(slot, bytes);
    }
}

impl Pools {
    /// Takes a slot of `pool`, making room first where it has to.
    #[inline]
    pub(crate) fn allocate<A: Arch>(
        &self,
        vm: &Vm<A>,
        pool: &SlotPool,
        owner: Option<MemoryInModule>,
        image: Option<Image>,
        bytes: usize,
    ) -> Result<SlotId, Error> {
        loop {
            let error = match pool.allocate(vm, owner, image, bytes) {
                Ok(id) => return Ok(id),
                Err(error) => error,
            };
            if !self.can_help(vm, pool, &error) {
                // For what it says: its own slot may have lost frames.
                return pool.allocate(vm, owner, image, bytes);
            }
        }
    }

    /// Makes more of a slot accessible, making room first where it has to.
    #[inline]
    pub(crate) fn make_accessible<A: Arch>(
        &self,
        vm: &Vm<A>,
        pool: &SlotPool,
        id: SlotId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        if pool.reveal_further(vm, id, offset, len) {
            return Ok(());
        }
        self.make_accessible_slowly(vm, pool, id, offset, len)
    }

    #[inline(never)]
    fn make_accessible_slowly<A: Arch>(
        &self,
        vm: &Vm<A>,
        pool: &SlotPool,
        id: SlotId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        loop {
            let error = match pool.make_accessible(vm, id, offset, len) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !self.can_help(vm, pool, &error) {
                // As above.
                return pool.make_accessible(vm, id, offset, len);
            }
        }
    }

    /// Whether what `error` says is missing is there now.
    #[cold]
    #[inline(never)]
    fn can_help<A: Arch>(&self, vm: &Vm<A>, pool: &SlotPool, error: &Error) -> bool {
        match *error {
            Error::PoolConcurrencyLimit { kind, .. } if kind == pool.kind() => pool.make_free(vm),
            Error::OutOfFrames { needed, .. } => self.make_room(vm, needed),
            _ => false,
        }
    }

    /// After a promise of `needed` frames failed: takes idle frames back, and
    /// says whether asking again is worth it.
    pub(crate) fn make_room<A: Arch>(&self, vm: &Vm<A>, needed: usize) -> bool {
        // One at a time: what another CPU is taking back at this moment is in no
        // list, and would not be found.
        let _reclaiming = self.reclaiming.lock();
        for _ in 0..MOST_SEARCHES {
            for pool in self.all() {
                let short = needed.saturating_sub(vm.arena.available());
                if short == 0 {
                    return true;
                }
                pool.await_batches();
                pool.reclaim(vm, short);
            }
            // In this order, as frames go from the first to the second.
            if self.idle_frames() + vm.arena.available() < needed {
                break;
            }
            // A slot was on its way from its list to its user, or back.
        }
        // Another CPU may have taken what this one got back; then the next try
        // says so.
        vm.arena.available() >= needed
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &SlotPool> {
        [&self.memories, &self.tables, &self.stacks].into_iter().chain(self.further.as_slice())
    }

    /// Frames that slots hold and do not use.
    pub(crate) fn idle_frames(&self) -> usize {
        self.all().map(SlotPool::idle_frames).sum()
    }

    /// The pool in whose slab `address` lies.
    #[inline]
    pub(crate) fn pool_at(&self, address: VirtAddr) -> Option<&SlotPool> {
        let usual = [&self.memories, &self.tables, &self.stacks];
        usual.into_iter().find(|pool| pool.contains(address)).or_else(|| self.further_at(address))
    }

    /// Forgets which slots a module had.
    pub(crate) fn purge_module<A: Arch>(&self, vm: &Vm<A>, module: CompiledModuleId) {
        let memories = self.memory_pools().map(|pool| (pool, self.memories_per_module));
        for (pool, most) in memories.chain([(&self.tables, self.tables_per_module)]) {
            pool.rouse(vm);
            let forget = || pool.index.take_module(module, most).map(|slot| pool.forget_owner(slot));
            while pool.queue.while_busy(|| forget().map_or(0, |()| 1)) > 0 {}
        }
    }
}
