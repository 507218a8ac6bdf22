//! What an allocator is built from: the part of `wasmtime::Config` that
//! concerns memory, by Wasmtime's names.
//!
//! ```text
//!   Config ── memory_*, gc_heap_*, *_stack_*     how large, and with which guards
//!     |   '── region_space                       address space beside the slots
//!     '── allocation_strategy
//!            |── OnDemand
//!            '── Pooling(PoolingAllocationConfig)   how many slots, and what they keep
//!     |
//!     |  + bytes of window and arena
//!     v
//!   resolve ──> Resolved                         exact numbers, and what limited each
//! ```

mod aliases;
mod display;
mod error;
mod memory_pools;
mod pooling;
mod resolve;
mod slabs;
mod strategy;
mod validate;

pub use error::ConfigError;
pub use memory_pools::{MemoryPoolConfig, MemoryPools};
pub use pooling::PoolingAllocationConfig;
pub use resolve::{BackingReason, Limit, Resolved, ResolvedCount, ResolvedPool};
pub use strategy::{Backing, Commit, InstanceAllocationStrategy, Premapped, Scrub, Total};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Sizes of memories, stacks and GC heaps, and where they come from.
///
/// Names are those of `wasmtime::Config`, defaults its on 64-bit systems; a
/// field is set by the method of its name. Sizes are in bytes. All knobs,
/// those of [`PoolingAllocationConfig`] too, stand in a table in
/// [`docs/configuration.md`](https://docs.rs/crate/allotment/latest/source/docs/configuration.md).
///
/// ```ignore-none
/// use allotment::{Config, PoolingAllocationConfig};
///
/// let pool = PoolingAllocationConfig::new().total_memories(100).max_memory_size(64 << 20);
/// let config = Config::new().memory_guard_size(1 << 20).allocation_strategy(pool);
/// assert_eq!(config.memory_reservation, 4 << 30);
/// ```
///
/// The window must hold `region_space` and all slots: with 1000 slots of 4 GiB
/// and their guards, 4.1 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Config {
    /// Address space of each memory before its guard.
    pub memory_reservation: usize,
    /// Bytes after each reservation that are never mapped.
    pub memory_guard_size: usize,
    /// Address space beyond the minimum of a memory that outgrew its
    /// reservation.
    pub memory_reservation_for_growth: usize,
    /// Whether a guard also stands before a memory.
    pub guard_before_linear_memory: bool,
    /// Whether a memory may move when it grows.
    pub memory_may_move: bool,
    /// Whether memories begin as copy-on-write images.
    pub memory_init_cow: bool,
    /// Span of data up to which an image is made in any case.
    pub memory_guaranteed_dense_image_size: usize,
    /// Whether faults in guards become traps.
    pub signals_based_traps: bool,
    /// Whether elements of tables are filled in when they are used.
    pub table_lazy_init: bool,
    /// Whether memories may be shared between threads.
    pub shared_memory: bool,
    /// Bytes of stack that wasm may use.
    pub max_wasm_stack: usize,
    /// Bytes of a fiber's stack.
    pub async_stack_size: usize,
    /// Whether a stack is cleared before its next use.
    pub async_stack_zeroing: bool,
    /// As `memory_reservation`, of GC heaps; see [`Config::gc_heap`].
    pub gc_heap_reservation: Option<usize>,
    /// As `memory_guard_size`, of GC heaps.
    pub gc_heap_guard_size: Option<usize>,
    /// As `memory_reservation_for_growth`, of GC heaps.
    pub gc_heap_reservation_for_growth: Option<usize>,
    /// As `memory_may_move`, of GC heaps.
    pub gc_heap_may_move: Option<bool>,
    /// Bytes that a GC heap begins with.
    pub gc_heap_initial_size: usize,
    /// Where instances' memories, tables and stacks come from.
    pub allocation_strategy: InstanceAllocationStrategy,
    /// Address space for all that is in no slot. *Ours*.
    pub region_space: usize,
}

/// Sizes that a kind of memory is made with: linear memories, or GC heaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemorySizes {
    /// Bytes of address space before the guard.
    pub reservation: usize,
    /// Bytes that are never mapped, after it.
    pub guard_size: usize,
    /// Bytes of address space beyond the minimum of what outgrew the
    /// reservation.
    pub reservation_for_growth: usize,
    /// Whether it may move when it grows.
    pub may_move: bool,
}

impl MemorySizes {
    /// Wasmtime's on 64-bit systems.
    const DEFAULT: Self =
        Self { reservation: 4 * GIB, guard_size: 32 * MIB, reservation_for_growth: 2 * GIB, may_move: true };
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_reservation: MemorySizes::DEFAULT.reservation,
            memory_guard_size: MemorySizes::DEFAULT.guard_size,
            memory_reservation_for_growth: MemorySizes::DEFAULT.reservation_for_growth,
            guard_before_linear_memory: true,
            memory_may_move: MemorySizes::DEFAULT.may_move,
            memory_init_cow: true,
            memory_guaranteed_dense_image_size: 16 * MIB,
            signals_based_traps: true,
            table_lazy_init: true,
            shared_memory: false,
            max_wasm_stack: 512 * KIB,
            async_stack_size: 2 * MIB,
            async_stack_zeroing: false,
            gc_heap_reservation: None,
            gc_heap_guard_size: None,
            gc_heap_reservation_for_growth: None,
            gc_heap_may_move: None,
            gc_heap_initial_size: 0,
            allocation_strategy: InstanceAllocationStrategy::OnDemand,
            region_space: 64 * GIB,
        }
    }
}

impl Config {
    /// The defaults: Wasmtime's, and 64 GiB of `region_space`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Address space, in bytes, that each memory reserves before its guard.
    /// From 4 GiB on, compiled code needs no bounds checks for 32-bit
    /// memories. A memory on demand whose minimum is larger has that, and
    /// `memory_reservation_for_growth`, instead.
    pub fn memory_reservation(mut self, bytes: usize) -> Self {
        self.memory_reservation = bytes;
        self
    }

    /// Bytes after each reservation that are never mapped. Compiled code
    /// leaves out checks of constant offsets up to it. 0 is allowed.
    pub fn memory_guard_size(mut self, bytes: usize) -> Self {
        self.memory_guard_size = bytes;
        self
    }

    /// Address space, in bytes, behind a memory that was moved or was larger
    /// than its reservation from the start, so that it need not move at its next
    /// growth. On demand only: a slot is never outgrown.
    pub fn memory_reservation_for_growth(mut self, bytes: usize) -> Self {
        self.memory_reservation_for_growth = bytes;
        self
    }

    /// Whether a guard stands before each memory too. In a pool that is the
    /// neighbour's, and only the first slot needs one of its own.
    pub fn guard_before_linear_memory(mut self, enable: bool) -> Self {
        self.guard_before_linear_memory = enable;
        self
    }

    /// Whether a memory on demand may move when it outgrows its address space.
    /// Without, growth ends there.
    pub fn memory_may_move(mut self, enable: bool) -> Self {
        self.memory_may_move = enable;
        self
    }

    /// Whether memories begin as copy-on-write images of their module's data.
    pub fn memory_init_cow(mut self, enable: bool) -> Self {
        self.memory_init_cow = enable;
        self
    }

    /// Bytes from the first to the last byte of a module's data up to which it
    /// is made an image, however little of it is data.
    pub fn memory_guaranteed_dense_image_size(mut self, bytes: usize) -> Self {
        self.memory_guaranteed_dense_image_size = bytes;
        self
    }

    /// Whether faults in guards become traps. Without, compiled code checks
    /// every access and every memory says that it needs that.
    pub fn signals_based_traps(mut self, enable: bool) -> Self {
        self.signals_based_traps = enable;
        self
    }

    /// Whether elements of tables of functions are filled in when they are first
    /// used, rather than when an instance is initialised. The core's tables are
    /// handed out zeroed either way.
    pub fn table_lazy_init(mut self, enable: bool) -> Self {
        self.table_lazy_init = enable;
        self
    }

    /// Whether memories may be shared between threads. Those are on demand
    /// always: a pool refuses them.
    pub fn shared_memory(mut self, enable: bool) -> Self {
        self.shared_memory = enable;
        self
    }

    /// Bytes of stack that wasm may use, more than 0. What a fiber's stack has
    /// beyond is for the host's functions.
    pub fn max_wasm_stack(mut self, bytes: usize) -> Self {
        self.max_wasm_stack = bytes;
        self
    }

    /// Bytes of a fiber's stack, at least `max_wasm_stack`; its guard comes on
    /// top. With 0 there are none: asking for one is an error.
    pub fn async_stack_size(mut self, bytes: usize) -> Self {
        self.async_stack_size = bytes;
        self
    }

    /// Whether a stack is cleared before its next use.
    pub fn async_stack_zeroing(mut self, enable: bool) -> Self {
        self.async_stack_zeroing = enable;
        self
    }

    /// As [`memory_reservation`](Self::memory_reservation), of GC heaps.
    ///
    /// As long as none of this and the next three is set, GC heaps have the
    /// values of memories. As soon as one is, the others have Wasmtime's
    /// defaults. A pool wants both equal, since GC heaps lie in memory slots.
    pub fn gc_heap_reservation(mut self, bytes: usize) -> Self {
        self.gc_heap_reservation = Some(bytes);
        self
    }

    /// As [`memory_guard_size`](Self::memory_guard_size), of GC heaps.
    pub fn gc_heap_guard_size(mut self, bytes: usize) -> Self {
        self.gc_heap_guard_size = Some(bytes);
        self
    }

    /// As [`memory_reservation_for_growth`](Self::memory_reservation_for_growth),
    /// of GC heaps.
    pub fn gc_heap_reservation_for_growth(mut self, bytes: usize) -> Self {
        self.gc_heap_reservation_for_growth = Some(bytes);
        self
    }

    /// As [`memory_may_move`](Self::memory_may_move), of GC heaps.
    pub fn gc_heap_may_move(mut self, enable: bool) -> Self {
        self.gc_heap_may_move = Some(enable);
        self
    }

    /// Bytes that a GC heap begins with. Rounded up to 64 KiB.
    pub fn gc_heap_initial_size(mut self, bytes: usize) -> Self {
        self.gc_heap_initial_size = bytes;
        self
    }

    /// Where memories, tables and stacks come from: [`InstanceAllocationStrategy`]
    /// or a [`PoolingAllocationConfig`].
    pub fn allocation_strategy(mut self, strategy: impl Into<InstanceAllocationStrategy>) -> Self {
        self.allocation_strategy = strategy.into();
        self
    }

    /// Bytes of address space for all that is in no slot: code, and memories,
    /// tables and stacks on demand. Rounded up to 1 GiB.
    pub fn region_space(mut self, bytes: usize) -> Self {
        self.region_space = bytes;
        self
    }

    /// The pools' half, if there are pools.
    #[must_use]
    pub fn pooling(&self) -> Option<&PoolingAllocationConfig> {
        match &self.allocation_strategy {
            InstanceAllocationStrategy::OnDemand => None,
            InstanceAllocationStrategy::Pooling(pooling) => Some(pooling),
        }
    }

    /// What linear memories are made with.
    #[must_use]
    pub fn memory(&self) -> MemorySizes {
        MemorySizes {
            reservation: self.memory_reservation,
            guard_size: self.memory_guard_size,
            reservation_for_growth: self.memory_reservation_for_growth,
            may_move: self.memory_may_move,
        }
    }

    /// What GC heaps are made with: the same as linear memories if none of the
    /// four settings is theirs, else those settings and Wasmtime's defaults.
    #[must_use]
    pub fn gc_heap(&self) -> MemorySizes {
        let none_set = self.gc_heap_reservation.is_none()
            && self.gc_heap_guard_size.is_none()
            && self.gc_heap_reservation_for_growth.is_none()
            && self.gc_heap_may_move.is_none();
        let otherwise = if none_set { self.memory() } else { MemorySizes::DEFAULT };
        MemorySizes {
            reservation: self.gc_heap_reservation.unwrap_or(otherwise.reservation),
            guard_size: self.gc_heap_guard_size.unwrap_or(otherwise.guard_size),
            reservation_for_growth: self
                .gc_heap_reservation_for_growth
                .unwrap_or(otherwise.reservation_for_growth),
            may_move: self.gc_heap_may_move.unwrap_or(otherwise.may_move),
        }
    }
}
