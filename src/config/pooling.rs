//! [`PoolingAllocationConfig`]: how many slots of which size, and what they
//! keep.

use super::{
    GIB, MIB, MemoryPoolConfig, MemoryPools,
    strategy::{Backing, Premapped, Scrub, Total},
};

/// Sizes and counts of the pools. Names and, unless said otherwise, defaults
/// are Wasmtime's; a default marked *ours* differs, with its reason.
///
/// Every field is set by the method of its name. Totals are counts, a plain
/// number being [`Total::Exactly`]; sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct PoolingAllocationConfig {
    /// Component instances that may live at a time.
    pub total_component_instances: Total,
    /// Core instances that may live at a time.
    pub total_core_instances: Total,
    /// Memory slots. Each GC heap takes one as well.
    pub total_memories: Total,
    /// Table slots.
    pub total_tables: Total,
    /// Fiber stacks; each has `Config::async_stack_size` bytes.
    pub total_stacks: Total,
    /// GC heaps that may live at a time. Each lies in a memory slot.
    pub total_gc_heaps: Total,
    /// Bytes that one memory may make accessible.
    pub max_memory_size: usize,
    /// Pointer-sized elements that a table slot holds.
    pub table_elements: usize,
    /// Bytes of one component's context and of all its core instances.
    pub max_component_instance_size: usize,
    /// Bytes of one core instance with its context.
    pub max_core_instance_size: usize,
    /// Core instances in one component.
    pub max_core_instances_per_component: u32,
    /// Memories in one component.
    pub max_memories_per_component: u32,
    /// Tables in one component.
    pub max_tables_per_component: u32,
    /// Memories that one module may define.
    pub max_memories_per_module: u32,
    /// Tables that one module may define.
    pub max_tables_per_module: u32,
    /// Warm slots up to which cold ones are preferred to another module's.
    pub max_unused_warm_slots: u32,
    /// Slots with frames to give back that wait for one shootdown together.
    pub decommit_batch_size: usize,
    /// Bytes that an idle memory slot keeps. *Ours*: everything.
    pub linear_memory_keep_resident: usize,
    /// Bytes that an idle table slot keeps. *Ours*: everything.
    pub table_keep_resident: usize,
    /// Bytes that an idle stack keeps. *Ours*: everything.
    pub async_stack_keep_resident: usize,
    /// Where the slots' frames come from. *Ours*.
    pub backing: Backing,
    /// What a slot holds between two tenants. *Ours*.
    pub scrub: Scrub,
    /// Whether frames are filled with a pattern while they are free. *Ours*.
    pub poison: bool,
    /// Whether what a tenant wrote is reset by idle work. *Ours*.
    pub clean_when_idle: bool,
    /// Leaf tables that each memory slot has from the carve on. *Ours*.
    pub premapped_tables: Premapped,
    /// Memory slots of other sizes. *Ours*.
    pub memory_pools: MemoryPools,
}

impl Default for PoolingAllocationConfig {
    fn default() -> Self {
        Self {
            total_component_instances: Total::Auto,
            total_core_instances: Total::Auto,
            total_memories: Total::Auto,
            total_tables: Total::Auto,
            total_stacks: Total::Auto,
            total_gc_heaps: Total::Auto,
            max_memory_size: 4 * GIB,
            table_elements: 20_000,
            max_component_instance_size: MIB,
            max_core_instance_size: MIB,
            max_core_instances_per_component: u32::MAX,
            max_memories_per_component: u32::MAX,
            max_tables_per_component: u32::MAX,
            max_memories_per_module: 1,
            max_tables_per_module: 1,
            max_unused_warm_slots: 100,
            decommit_batch_size: 1,
            linear_memory_keep_resident: usize::MAX,
            table_keep_resident: usize::MAX,
            async_stack_keep_resident: usize::MAX,
            backing: Backing::Auto,
            scrub: Scrub::Zeroed,
            poison: cfg!(debug_assertions),
            clean_when_idle: false,
            premapped_tables: Premapped::Auto,
            memory_pools: MemoryPools::default(),
        }
    }
}

impl PoolingAllocationConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Component instances that may live at a time. No memory is set aside for
    /// them.
    pub fn total_component_instances(mut self, count: impl Into<Total>) -> Self {
        self.total_component_instances = count.into();
        self
    }

    /// Core instances that may live at a time, those inside components
    /// included. No memory is set aside for them.
    pub fn total_core_instances(mut self, count: impl Into<Total>) -> Self {
        self.total_core_instances = count.into();
        self
    }

    /// Memory slots. Each takes `memory_reservation` and `memory_guard_size` of
    /// address space. 0 is allowed: modules without memory still run.
    pub fn total_memories(mut self, count: impl Into<Total>) -> Self {
        self.total_memories = count.into();
        self
    }

    /// Table slots of `table_elements` each.
    pub fn total_tables(mut self, count: impl Into<Total>) -> Self {
        self.total_tables = count.into();
        self
    }

    /// Fiber stacks of `Config::async_stack_size` bytes each, with a guard
    /// below.
    pub fn total_stacks(mut self, count: impl Into<Total>) -> Self {
        self.total_stacks = count.into();
        self
    }

    /// GC heaps that may live at a time. Each lies in a memory slot, which
    /// `total_memories` must have room for. With 0 the `gc_heap_*` settings of
    /// `Config` may differ from those of memories.
    pub fn total_gc_heaps(mut self, count: impl Into<Total>) -> Self {
        self.total_gc_heaps = count.into();
        self
    }

    /// Bytes that one memory may make accessible, at most
    /// `Config::memory_reservation`. Rounded up to 4 KiB.
    pub fn max_memory_size(mut self, bytes: usize) -> Self {
        self.max_memory_size = bytes;
        self
    }

    /// Elements, of 8 bytes, that a table slot holds: what a table may begin
    /// with and grow to. Rounded up to 4 KiB.
    pub fn table_elements(mut self, count: usize) -> Self {
        self.table_elements = count;
        self
    }

    /// Bytes that a component's context and its core instances may take
    /// together. Checked when a component is validated.
    pub fn max_component_instance_size(mut self, bytes: usize) -> Self {
        self.max_component_instance_size = bytes;
        self
    }

    /// Bytes that a core instance with its context may take. Checked when a
    /// module is validated.
    pub fn max_core_instance_size(mut self, bytes: usize) -> Self {
        self.max_core_instance_size = bytes;
        self
    }

    /// Core instances that one component may contain.
    pub fn max_core_instances_per_component(mut self, count: u32) -> Self {
        self.max_core_instances_per_component = count;
        self
    }

    /// Memories that one component may contain.
    pub fn max_memories_per_component(mut self, count: u32) -> Self {
        self.max_memories_per_component = count;
        self
    }

    /// Tables that one component may contain.
    pub fn max_tables_per_component(mut self, count: u32) -> Self {
        self.max_tables_per_component = count;
        self
    }

    /// Memories that one module may define.
    pub fn max_memories_per_module(mut self, count: u32) -> Self {
        self.max_memories_per_module = count;
        self
    }

    /// Tables that one module may define.
    pub fn max_tables_per_module(mut self, count: u32) -> Self {
        self.max_tables_per_module = count;
        self
    }

    /// As long as fewer free slots than this were used before, a slot that was
    /// never used is preferred to one that another module used. 0 keeps to as
    /// few slots as possible; [`u32::MAX`] spreads over all.
    pub fn max_unused_warm_slots(mut self, count: u32) -> Self {
        self.max_unused_warm_slots = count;
        self
    }

    /// Released slots that have frames to give back wait until there are as
    /// many; one shootdown then serves all. 0 and 1 do not wait.
    pub fn decommit_batch_size(mut self, slots: usize) -> Self {
        self.decommit_batch_size = slots;
        self
    }

    /// Bytes, from the start, whose frames stay with a memory slot while it is
    /// free. Wasmtime's default is 0, since an operating system cannot ask
    /// for memory back; ours is everything, since idle frames are taken back
    /// before any request fails.
    pub fn linear_memory_keep_resident(mut self, bytes: usize) -> Self {
        self.linear_memory_keep_resident = bytes;
        self
    }

    /// The same of table slots.
    pub fn table_keep_resident(mut self, bytes: usize) -> Self {
        self.table_keep_resident = bytes;
        self
    }

    /// The same of stacks, from the top down.
    pub fn async_stack_keep_resident(mut self, bytes: usize) -> Self {
        self.async_stack_keep_resident = bytes;
        self
    }

    /// Where the frames of slots come from.
    pub fn backing(mut self, backing: Backing) -> Self {
        self.backing = backing;
        self
    }

    /// What a slot holds between two tenants.
    pub fn scrub(mut self, scrub: Scrub) -> Self {
        self.scrub = scrub;
        self
    }

    /// Whether free frames hold a pattern instead of zeros until they are
    /// handed out, so that a use after the release is seen. By default where
    /// debug assertions are on. A frame is then cleared when it is taken.
    pub fn poison(mut self, enable: bool) -> Self {
        self.poison = enable;
        self
    }

    /// Whether slots and frames are taken back as they are, and made what the next
    /// user is to see by [`Allocator::idle_work`](crate::Allocator::idle_work): for
    /// kernels that call it when they have nothing else to do. What is needed
    /// earlier is cleaned by whoever takes it, in the same time as without, and
    /// nobody sees it before. Cleaning holds a slot for 16 pages at a time.
    pub fn clean_when_idle(mut self, enable: bool) -> Self {
        self.clean_when_idle = enable;
        self
    }

    /// Leaf tables, of 2 MiB each, that every memory slot has from the carve
    /// on; those beyond come from the arena when growth reaches them.
    pub fn premapped_tables(mut self, tables: impl Into<Premapped>) -> Self {
        self.premapped_tables = tables.into();
        self
    }

    /// Adds a pool of memory slots of another size, up to [`MemoryPoolConfig::MOST`] of
    /// them. A memory gets a slot of the smallest pool, by address space, that
    /// [holds it](crate::Allocator::allocate_memory).
    pub fn memory_pool(mut self, pool: MemoryPoolConfig) -> Self {
        self.memory_pools.add(pool);
        self
    }
}
