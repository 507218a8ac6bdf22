//! The pooling strategy: slots of one size, carved at boot, reused for ever.
//!
//! ```text
//!   Pools ── memories ──┐                            memory_pools    which pool is asked
//!        ├── tables   ──┼── SlotPool ── index_allocator   which slot is next
//!        ├── stacks   ──┘       |   ├── decommit_queue    frames that leave slots, in batches
//!        |                      |   └── dormant           slots that wait for the same instance
//!        └── counts             v
//!            GC heaps,        Slot ── slot_edits          open, extend, shrink, close
//!                                  ├── sharing             the same with images and shared zeros
//!            instances             ├── backing             where its frames come from
//!                                  └── far                tables beyond the premapped ones
//! ```

mod backing;
mod counts;
mod decommit_queue;
mod dormant;
mod far;
mod idle;
mod index_allocator;
mod layout;
mod memory_pools;
mod pools;
mod sharing;
mod slot;
mod slot_edits;
mod slot_pool;
mod views;

#[cfg(feature = "audit")]
mod audit;

use core::fmt;

pub use index_allocator::{Allocated, Link, MAX_SHARDS, ModuleAffinityIndexAllocator, buckets, shard_count};
pub use layout::{SlabConstraints, SlabLayout};
pub use views::SlotView;

pub(crate) use counts::Count;
pub(crate) use far::directory_place;
pub(crate) use pools::Pools;
pub(crate) use slot::{SlotId, SlotRecord, is_in_use};
pub(crate) use slot_pool::{PoolSettings, Position, SlotBacking, SlotPool};

/// What there is a limited number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoolKind {
    /// Core instances.
    CoreInstances,
    /// Component instances.
    ComponentInstances,
    /// Slots for linear memories and GC heaps.
    Memories,
    /// Slots for tables.
    Tables,
    /// Fiber stacks.
    Stacks,
    /// GC heaps.
    GcHeaps,
}

impl fmt::Display for PoolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CoreInstances => "core instances",
            Self::ComponentInstances => "component instances",
            Self::Memories => "memories",
            Self::Tables => "tables",
            Self::Stacks => "fiber stacks",
            Self::GcHeaps => "GC heaps",
        })
    }
}

impl PoolKind {
    /// The knob that says how many.
    pub(crate) fn knob(self) -> &'static str {
        match self {
            Self::CoreInstances => "total_core_instances",
            Self::ComponentInstances => "total_component_instances",
            Self::Memories => "total_memories",
            Self::Tables => "total_tables",
            Self::Stacks => "total_stacks",
            Self::GcHeaps => "total_gc_heaps",
        }
    }
}
