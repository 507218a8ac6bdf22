#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "instance", all(target_os = "none", feature = "wasmtime")))]
extern crate alloc;

pub use allotment_arch as arch;

#[cfg(any(feature = "instance", feature = "wasmtime-platform"))]
mod access;
mod allocator;
pub mod boot;
mod config;
mod error;
mod events;
mod fault;
mod gc_heap;
pub mod image;
#[cfg(feature = "instance")]
pub mod instance;
mod instances;
mod memory;
mod metrics;
mod on_demand;
mod plan;
pub mod pooling;
mod request;
mod roots;
mod stack;
mod table;
mod validate;
mod view;
mod vm;
#[cfg(feature = "wasmtime-platform")]
pub mod wasmtime;

pub use allocator::Allocator;
pub use arch::FaultAccess;
pub use config::{
    Backing, BackingReason, Commit, Config, ConfigError, InstanceAllocationStrategy, Limit, MemoryPoolConfig,
    MemoryPools, MemorySizes, PoolingAllocationConfig, Premapped, Resolved, ResolvedCount, ResolvedPool,
    Scrub, Total,
};
pub use error::{CarveError, Error};
pub use fault::{FaultRegion, FaultReport, FaultSlot, Verdict};
pub use gc_heap::GcHeap;
pub use image::MemoryImage;
pub use memory::{DynamicMemory, MakeAccessible, Memory};
pub use metrics::{IdleWork, MemoryPoolMetrics, Metrics, PoolingAllocatorMetrics};
pub use plan::{Footprint, Invalidations, Plan, PoolPlan};
pub use pooling::{PoolKind, SlotView};
pub use request::{CompiledModuleId, MemoryInModule, MemoryRequest, TableRequest};
pub use stack::FiberStack;
pub use table::Table;
pub use validate::{
    ComponentError, ComponentSummary, MemoryError, MemorySummary, ModuleError, ModuleSummary, TableSummary,
};
pub use vm::{RegionView, space};

use arch::Native;
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Allocator<Native>: Send, Sync);
assert_not_impl_any!(DynamicMemory<'static, Native>: Clone, Copy);
assert_not_impl_any!(Table<'static, Native>: Clone, Copy);
assert_not_impl_any!(FiberStack<'static, Native>: Clone, Copy);
assert_impl_all!(MakeAccessible<'static, Native>: Copy, Send, Sync);
// What a handler has may go anywhere: to a panic's screen, to another CPU.
assert_impl_all!(FaultReport: Copy, Send, Sync);
assert_impl_all!(Verdict: Copy, Send, Sync);
// A memory is one claim on one slot.
assert_not_impl_any!(Memory<'static, Native>: Clone, Copy);
