//! What was carved, in numbers.

use core::{fmt, ops::Range};

use allotment_arch::{PAGE_SIZE, PhysAddr, VirtAddr};

use crate::{
    Backing, BackingReason, Limit, MemoryPoolConfig, Resolved, ResolvedPool,
    pooling::{Pools, SlabLayout},
    vm::Places,
};

/// What was carved, as numbers and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The whole window.
    pub window: Range<VirtAddr>,
    /// The whole arena.
    pub arena: Range<PhysAddr>,
    /// First address of the address space beside the slots.
    pub regions: VirtAddr,
    /// Its bytes.
    pub region_space: usize,
    /// Memory slots.
    pub memories: PoolPlan,
    /// Table slots.
    pub tables: PoolPlan,
    /// Fiber stacks.
    pub stacks: PoolPlan,
    /// Memory slots of other sizes, in the order in which they were asked for.
    pub memory_pools: [Option<PoolPlan>; MemoryPoolConfig::MOST],
    /// What backs the slots, and why.
    pub backing: Backing,
    /// Why that.
    pub backing_reason: BackingReason,
    /// Bytes of the arena that went into tables and records.
    pub overhead: usize,
    /// Frames of 4 KiB that slots own.
    pub own_frames: usize,
    /// Frames of 4 KiB that are left for contents.
    pub frames: usize,
    /// What things cost.
    pub footprint: Footprint,
}

/// One pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolPlan {
    /// First address of the first slot.
    pub first: VirtAddr,
    /// Where slots stand.
    pub slab: SlabLayout,
    /// Why there are as many.
    pub limit: Limit,
}

/// Bytes of the arena that things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// All tables and records, while nothing is in use and nothing was.
    pub idle_allocator: usize,
    /// Of that, what each memory slot has for itself: records and premapped leaf
    /// tables. The tables above are shared.
    pub idle_slot: usize,
    /// The tables above the leaf tables, all of them.
    pub upper_tables: usize,
    /// What a page takes that becomes resident.
    pub touched_page: usize,
    /// What a memory takes besides for each 2 MiB beyond its slot's premapped
    /// tables.
    pub far_table: usize,
}

impl Plan {
    pub(crate) fn new(
        resolved: &Resolved,
        places: &Places,
        window: Range<VirtAddr>,
        arena: Range<PhysAddr>,
    ) -> Self {
        let pool = |nth: usize, pool: &ResolvedPool| PoolPlan {
            first: places.pools[nth].slab.offset(pool.slab.base(0)),
            slab: pool.slab,
            limit: pool.limit,
        };
        let specs = Pools::specs(resolved);
        let own_frames = specs.iter().map(|spec| spec.frames_per_slot * spec.slab.total_memories).sum();
        let taken = usize::try_from(places.first_frame.0 - arena.start.0).unwrap_or(usize::MAX);
        let overhead = taken - own_frames * PAGE_SIZE;
        let memories = pool(0, &resolved.memories);
        let mut memory_pools = [None; MemoryPoolConfig::MOST];
        for (nth, (place, resolved)) in memory_pools.iter_mut().zip(&resolved.memory_pools).enumerate() {
            *place = resolved.as_ref().map(|resolved| pool(3 + nth, resolved));
        }
        Self {
            window,
            arena,
            regions: places.regions,
            region_space: resolved.region_space,
            memories,
            tables: pool(1, &resolved.tables),
            stacks: pool(2, &resolved.stacks),
            memory_pools,
            backing: resolved.backing,
            backing_reason: resolved.backing_reason,
            overhead,
            own_frames,
            frames: places.frames,
            footprint: Footprint {
                idle_allocator: overhead,
                idle_slot: if memories.slab.total_memories > 0 { specs[0].bytes_per_slot() } else { 0 },
                upper_tables: places.upper_count * PAGE_SIZE,
                touched_page: PAGE_SIZE,
                far_table: PAGE_SIZE,
            },
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = &self.window;
        writeln!(f, "window   {start}..{end}")?;
        let Range { start, end } = &self.arena;
        writeln!(f, "arena    {start}..{end}, {} MiB", (end.0 - start.0) >> 20)?;
        writeln!(f, "regions  from {}, {} GiB", self.regions, self.region_space >> 30)?;
        for (name, pool) in
            [("memories", &self.memories), ("tables  ", &self.tables), ("stacks  ", &self.stacks)]
        {
            writeln!(f, "{name} {pool}")?;
        }
        for (number, pool) in (1..).zip(self.memory_pools.iter().flatten()) {
            writeln!(f, "pool {number}   memories: {pool}")?;
        }
        match self.backing_reason {
            BackingReason::OnDemand => writeln!(f, "backing  frames on demand: {}", self.backing_reason)?,
            reason => writeln!(f, "backing  {}: {reason}", self.backing)?,
        }
        let Footprint { idle_slot, upper_tables, .. } = self.footprint;
        write!(f, "tables   {} KiB above the leaf tables", upper_tables / 1024)?;
        if self.memories.slab.total_memories > 0 {
            write!(f, "; {idle_slot} bytes for each idle memory slot")?;
        }
        writeln!(f)?;
        write!(
            f,
            "frames   {} of 4 KiB, and {} that slots own, after {} KiB of tables and records",
            self.frames,
            self.own_frames,
            self.overhead / 1024
        )
    }
}

impl fmt::Display for PoolPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlabLayout { total_memories, stride, max_memory_size, premapped_tables, .. } = self.slab;
        if total_memories == 0 {
            return write!(f, "none ({})", self.limit);
        }
        write!(
            f,
            "{total_memories} slots ({}) from {}, {} MiB apart, at most {} KiB each, {premapped_tables} tables premapped",
            self.limit,
            self.first,
            stride >> 20,
            max_memory_size >> 10
        )
    }
}

/// How often translations were invalidated, since the carve. The fault path is
/// not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidations {
    /// By a CPU for itself.
    pub local: usize,
    /// On every CPU: on x86_64 with several CPUs by an interrupt to each other
    /// one.
    pub everywhere: usize,
}

impl fmt::Display for Invalidations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalidations: {} by one CPU for itself, {} on every CPU", self.local, self.everywhere)
    }
}
