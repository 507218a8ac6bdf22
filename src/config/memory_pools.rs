//! Memory slots of other sizes, beside those that a pool has by its own knobs.
//!
//! ```text
//!   memories     | 4 GiB   | guard | 4 GiB   | guard | ..     Config's reservation and guard
//!   pool 1       | 64 MiB | guard | 64 MiB | guard | ..       MemoryPoolConfig
//!   pool 2       | 8 GiB        | guard | ..                  another
//! ```

use core::fmt;

use super::{MemorySizes, strategy::Total};

/// A pool of memory slots beside the main one, with address space and counts of its own:
/// what [`PoolingAllocationConfig::memory_pool`](super::PoolingAllocationConfig::memory_pool)
/// takes. All other settings are those of the main pool.
///
/// Every field is set by the method of its name. Sizes are in bytes.
///
/// ```ignore-none
/// use allotment::{Config, MemoryPoolConfig, PoolingAllocationConfig};
///
/// let small = MemoryPoolConfig::new(64 << 20).total_memories(1000).memory_guard_size(2 << 20);
/// let pools = PoolingAllocationConfig::new().total_memories(10).memory_pool(small);
/// assert!(Config::new().allocation_strategy(pools).validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct MemoryPoolConfig {
    /// Slots.
    pub total_memories: Total,
    /// Bytes that one memory may make accessible.
    pub max_memory_size: usize,
    /// Address space of each slot before its guard.
    pub memory_reservation: usize,
    /// Bytes after each reservation that are never mapped.
    pub memory_guard_size: usize,
}

impl MemoryPoolConfig {
    /// The most that there may be beside the main pool.
    pub const MOST: usize = 3;

    /// Slots that reserve so many bytes, all of which a memory may make accessible: as
    /// many as fit, at most [`Total::AUTO`], with guards of Wasmtime's default, 32 MiB.
    pub fn new(memory_reservation: usize) -> Self {
        Self {
            total_memories: Total::Auto,
            max_memory_size: memory_reservation,
            memory_reservation,
            memory_guard_size: MemorySizes::DEFAULT.guard_size,
        }
    }

    /// Slots.
    pub fn total_memories(mut self, count: impl Into<Total>) -> Self {
        self.total_memories = count.into();
        self
    }

    /// Bytes that one memory may make accessible, at most `memory_reservation`. Rounded
    /// up to 4 KiB.
    pub fn max_memory_size(mut self, bytes: usize) -> Self {
        self.max_memory_size = bytes;
        self
    }

    /// Address space, in bytes, of each slot before its guard.
    pub fn memory_reservation(mut self, bytes: usize) -> Self {
        self.memory_reservation = bytes;
        self
    }

    /// Bytes after each reservation that are never mapped, and before the first if
    /// `Config::guard_before_linear_memory` is set.
    pub fn memory_guard_size(mut self, bytes: usize) -> Self {
        self.memory_guard_size = bytes;
        self
    }
}

/// The memory pools of a configuration beside its main one, in the order in which they
/// were added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPools {
    pools: [Option<MemoryPoolConfig>; MemoryPoolConfig::MOST],
    /// How many were added, those too that there is no place for.
    added: usize,
}

impl MemoryPools {
    /// How many were added. More than [`MemoryPoolConfig::MOST`] are refused when the
    /// configuration is validated.
    #[must_use]
    pub fn added(&self) -> usize {
        self.added
    }

    /// Those that there is a place for.
    pub fn iter(&self) -> impl Iterator<Item = &MemoryPoolConfig> {
        self.pools.iter().flatten()
    }

    /// The one that was added as number `nth`, from 0.
    #[must_use]
    pub fn get(&self, nth: usize) -> Option<&MemoryPoolConfig> {
        self.pools.get(nth)?.as_ref()
    }

    pub(super) fn add(&mut self, pool: MemoryPoolConfig) {
        if let Some(place) = self.pools.get_mut(self.added) {
            *place = Some(pool);
        }
        self.added = self.added.saturating_add(1);
    }
}

impl fmt::Display for MemoryPoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::display::Bytes;

        write!(
            f,
            "{} of at most {}, {} reserved, {} of guard",
            self.total_memories,
            Bytes(self.max_memory_size),
            Bytes(self.memory_reservation),
            Bytes(self.memory_guard_size)
        )
    }
}
