//! From a configuration to the slabs of its pools.

use allotment_arch::PAGE_SIZE;

use super::{Config, MemoryPoolConfig, PoolingAllocationConfig, Total};
use crate::{
    ConfigError,
    pooling::{SlabConstraints, SlabLayout},
};

/// Bytes of a table element, a pointer.
const ELEMENT: usize = 8;

/// A kind of slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    Memories,
    Tables,
    Stacks,
    /// Memories of the pool that was added as this number.
    Further(usize),
}

impl Slots {
    /// In the order of their slabs.
    pub(super) const ALL: [Self; 3 + MemoryPoolConfig::MOST] =
        [Self::Memories, Self::Tables, Self::Stacks, Self::Further(0), Self::Further(1), Self::Further(2)];

    /// How many are asked for.
    pub(super) fn total(self, config: &Config, pooling: &PoolingAllocationConfig) -> Total {
        match self {
            Self::Memories => pooling.total_memories,
            Self::Tables => pooling.total_tables,
            // Stacks of nothing are refused when one is asked for.
            Self::Stacks if config.async_stack_size == 0 => Total::Exactly(0),
            Self::Stacks => pooling.total_stacks,
            Self::Further(nth) => {
                pooling.memory_pools.get(nth).map_or(Total::Exactly(0), |pool| pool.total_memories)
            }
        }
    }

    /// So many slots of this kind.
    pub(super) fn layout(
        self,
        config: &Config,
        pooling: &PoolingAllocationConfig,
        count: usize,
        premapped_tables: usize,
    ) -> Result<SlabLayout, ConfigError> {
        match self {
            Self::Memories => SlabConstraints {
                memory_reservation: config.memory_reservation,
                max_memory_size: pooling.max_memory_size,
                memory_guard_size: config.memory_guard_size,
                guard_before_linear_memory: config.guard_before_linear_memory,
                total_memories: count,
                premapped_tables,
            }
            .layout(),
            Self::Further(nth) => match pooling.memory_pools.get(nth) {
                Some(pool) => SlabConstraints {
                    memory_reservation: pool.memory_reservation,
                    max_memory_size: pool.max_memory_size,
                    memory_guard_size: pool.memory_guard_size,
                    guard_before_linear_memory: config.guard_before_linear_memory,
                    total_memories: count,
                    premapped_tables,
                }
                .layout(),
                None => Ok(SlabLayout::NONE),
            },
            Self::Tables => {
                let knobs = ("table_elements", pooling.table_elements, "total_tables");
                // Compiled code checks every index: no guard.
                let bytes = pooling.table_elements.checked_mul(ELEMENT);
                whole(bytes, 0, count, premapped_tables, knobs)
            }
            Self::Stacks => {
                let knobs = ("async_stack_size", config.async_stack_size, "total_stacks");
                // Stacks grow down: the guard that matters is the one before.
                whole(Some(config.async_stack_size), PAGE_SIZE, count, premapped_tables, knobs)
            }
        }
    }
}

/// Slots all of which is accessible. `knobs` are what their size comes from, its
/// value, and what counts them.
fn whole(
    bytes: Option<usize>,
    guard: usize,
    count: usize,
    premapped_tables: usize,
    (knob, value, total): (&'static str, usize, &'static str),
) -> Result<SlabLayout, ConfigError> {
    let too_large = ConfigError::TooLarge { knob, value };
    let bytes = bytes.ok_or(too_large)?;
    let slab = SlabConstraints {
        memory_reservation: bytes,
        max_memory_size: bytes,
        memory_guard_size: guard,
        guard_before_linear_memory: guard > 0,
        total_memories: count,
        premapped_tables,
    };
    slab.layout().map_err(|error| match error {
        ConfigError::PoolTooLarge { count, each, .. } => {
            ConfigError::PoolTooLarge { knob: total, count, each }
        }
        _ => too_large,
    })
}
