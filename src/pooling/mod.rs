//! The pooling strategy: slots of one size, carved at boot, reused for ever.

mod index_allocator;
mod layout;
mod memory_pool;

pub use index_allocator::{Allocated, Link, MAX_SHARDS, ModuleAffinityIndexAllocator, buckets, shard_count};
pub use layout::{SlabConstraints, SlabLayout};
#[cfg(feature = "wasmtime-platform")]
pub(crate) use memory_pool::is_in_use;
pub(crate) use memory_pool::{MemoryPool, Position, SlotId, SlotRecord};
