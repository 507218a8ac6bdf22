//! Counts of the moment, readable at any time: nothing is stopped for them.

use core::fmt;

use allotment_arch::Arch;

use crate::{Allocator, pooling::SlotPool};

/// Counts of this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Memories in use, GC heaps among them.
    pub memories: usize,
    /// Memory slots that could be allocated.
    pub free_memories: usize,
    /// Tables in use.
    pub tables: usize,
    /// Fiber stacks in use.
    pub stacks: usize,
    /// GC heaps in use.
    pub gc_heaps: usize,
    /// Ranges of address space in use that are no slot: code, and memories,
    /// tables, stacks and GC heaps on demand.
    pub regions: usize,
    /// Bytes of the longest range that could be reserved for one, guards
    /// included.
    pub largest_free_region: usize,
    /// Frames of 4 KiB that could be given: free in the arena, or kept warm by
    /// slots that do not use them now.
    pub available_frames: usize,
    /// Of those, the ones that slots keep.
    pub idle_frames: usize,
    /// Frames that memories share: of images, of zeros, and of the tables that show
    /// them. What zeros need stays; what an image does goes with it.
    pub shared_frames: usize,
    /// Slots that wait for a batch before their frames go back.
    pub queued_slots: usize,
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memories, free_memories, tables, stacks, gc_heaps, .. } = self;
        writeln!(
            f,
            "in use   {memories} memory slots ({free_memories} free), {tables} tables, {stacks} stacks, {gc_heaps} GC heaps, {} regions",
            self.regions
        )?;
        write!(
            f,
            "frames   {} of 4 KiB available, {} of them kept by idle slots; {} shared; {} slots wait to give some back",
            self.available_frames, self.idle_frames, self.shared_frames, self.queued_slots
        )
    }
}

/// What of [`Metrics`] and [`PoolingAllocatorMetrics`] one memory pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryPoolMetrics {
    /// Memories in use, GC heaps among them.
    pub memories: usize,
    /// Slots that could be allocated.
    pub free_memories: usize,
    /// Slots that were used and now are free.
    pub unused_warm_memories: usize,
    /// Bytes of frames that free slots keep.
    pub unused_memory_bytes_resident: usize,
}

impl fmt::Display for MemoryPoolMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in use, {} free, {} of them warm ({} KiB)",
            self.memories,
            self.free_memories,
            self.unused_warm_memories,
            self.unused_memory_bytes_resident / 1024
        )
    }
}

/// What [`idle_work`](Allocator::idle_work) could do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdleWork {
    /// Slots that hold what their last users wrote; only with
    /// [`clean_when_idle`](crate::PoolingAllocationConfig::clean_when_idle).
    pub slots: usize,
    /// Free frames of the arena that do not hold zeros.
    pub frames: usize,
}

impl fmt::Display for IdleWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idle work: {} slots, {} free frames", self.slots, self.frames)
    }
}

/// What Wasmtime's pooling allocator counts, by its names.
///
/// Sums over parts that change meanwhile: each is right for some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolingAllocatorMetrics {
    /// Core instances that live.
    pub core_instances: u64,
    /// Component instances that live.
    pub component_instances: u64,
    /// Memories in use, GC heaps among them.
    pub memories: usize,
    /// Tables in use.
    pub tables: usize,
    /// Fiber stacks in use.
    pub stacks: usize,
    /// GC heaps in use.
    pub gc_heaps: usize,
    /// Memory slots that were used and now are free, but for those whose frames
    /// somebody else needed.
    pub unused_warm_memories: u32,
    /// Bytes of frames that free memory slots keep.
    pub unused_memory_bytes_resident: usize,
    /// Table slots that were used and now are free.
    pub unused_warm_tables: u32,
    /// Bytes of frames that free table slots keep.
    pub unused_table_bytes_resident: usize,
    /// Stacks that were used and now are free.
    pub unused_warm_stacks: u32,
    /// Bytes of frames that free stacks keep. `None` without
    /// `async_stack_zeroing`, as in Wasmtime.
    pub unused_stack_bytes_resident: Option<usize>,
}

impl fmt::Display for PoolingAllocatorMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "live     {} core and {} component instances, {} memories, {} tables, {} stacks, {} GC heaps",
            self.core_instances,
            self.component_instances,
            self.memories,
            self.tables,
            self.stacks,
            self.gc_heaps
        )?;
        write!(
            f,
            "warm     {} memories ({} KiB), {} tables ({} KiB), {} stacks ({} KiB)",
            self.unused_warm_memories,
            self.unused_memory_bytes_resident / 1024,
            self.unused_warm_tables,
            self.unused_table_bytes_resident / 1024,
            self.unused_warm_stacks,
            self.unused_stack_bytes_resident.unwrap_or(0) / 1024
        )
    }
}

impl<A: Arch> Allocator<A> {
    /// Counts of this moment. Walks the slots: not for hot paths.
    pub fn metrics(&self) -> Metrics {
        let pools = &self.pools;
        let idle_frames = pools.idle_frames();
        let memories = pools.memory_pools().map(SlotPool::in_use).sum();
        Metrics {
            memories,
            free_memories: pools.memory_slots().saturating_sub(memories),
            tables: pools.tables.in_use(),
            stacks: pools.stacks.in_use(),
            gc_heaps: pools.gc_heaps.live(),
            regions: self.regions.in_use(),
            largest_free_region: self.regions.largest_free(),
            available_frames: self.vm.arena.available() + idle_frames,
            idle_frames,
            shared_frames: self.vm.arena.lent(),
            queued_slots: pools.all().map(SlotPool::queued).sum(),
        }
    }

    /// What idle work could do now, if nobody does it before. Takes no lock.
    pub fn idle_work_left(&self) -> IdleWork {
        IdleWork { slots: self.pools.all().map(SlotPool::unclean).sum(), frames: self.vm.arena.uncleared() }
    }

    /// Counts of one of the memory pools: 0 is the main one, and those that were
    /// [added](crate::PoolingAllocationConfig::memory_pool) follow. `None` if there is no such.
    ///
    /// Reads a few numbers, and takes no lock.
    pub fn memory_pool_metrics(&self, number: usize) -> Option<MemoryPoolMetrics> {
        self.config.pooling()?;
        let pool = self.pools.memory_pools().nth(number)?;
        let (slots, memories) = (pool.layout().total_memories, pool.in_use());
        Some(MemoryPoolMetrics {
            memories,
            free_memories: slots.saturating_sub(memories),
            unused_warm_memories: pool.unused_warm_slots(),
            unused_memory_bytes_resident: pool.unused_bytes_resident(),
        })
    }

    /// What Wasmtime counts. `None` for an allocator without pools.
    ///
    /// Reads a few numbers, and takes no lock.
    pub fn pooling_allocator_metrics(&self) -> Option<PoolingAllocatorMetrics> {
        self.config.pooling()?;
        let pools = &self.pools;
        let warm = |pool: &SlotPool| u32::try_from(pool.unused_warm_slots()).unwrap_or(u32::MAX);
        let zeroes = self.config.async_stack_zeroing;
        Some(PoolingAllocatorMetrics {
            core_instances: pools.core_instances.live() as u64,
            component_instances: pools.component_instances.live() as u64,
            memories: pools.memory_pools().map(SlotPool::in_use).sum(),
            tables: pools.tables.in_use(),
            stacks: pools.stacks.in_use(),
            gc_heaps: pools.gc_heaps.live(),
            unused_warm_memories: pools.memory_pools().map(warm).fold(0, u32::saturating_add),
            unused_memory_bytes_resident: pools.memory_pools().map(SlotPool::unused_bytes_resident).sum(),
            unused_warm_tables: warm(&pools.tables),
            unused_table_bytes_resident: pools.tables.unused_bytes_resident(),
            unused_warm_stacks: warm(&pools.stacks),
            unused_stack_bytes_resident: zeroes.then(|| pools.stacks.unused_bytes_resident()),
        })
    }
}
