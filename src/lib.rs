#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use allotment_arch as arch;

mod allocator;
pub mod boot;
mod config;
mod error;
mod fault;
mod memory;
mod on_demand;
mod plan;
pub mod pooling;
mod request;
mod vm;
#[cfg(feature = "wasmtime-platform")]
pub mod wasmtime;

pub use allocator::Allocator;
pub use config::{
    Backing, Commit, Config, ConfigError, InstanceAllocationStrategy, MemorySizes, PoolingAllocationConfig,
    Premapped, Scrub, Total,
};
pub use error::{CarveError, Error};
pub use fault::{FaultAccess, FaultRegion, FaultReport, Verdict};
pub use memory::{DynamicMemory, MakeAccessible, Memory};
pub use on_demand::{RangeKind, RangePart};
pub use plan::{Invalidations, Metrics, Plan};
pub use request::{CompiledModuleId, MemoryInModule, MemoryRequest};
pub use vm::space;

use arch::Native;
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Allocator<Native>: Send, Sync);
assert_impl_all!(MakeAccessible<'static, Native>: Copy, Send, Sync);
// A memory is one claim on one slot.
assert_not_impl_any!(Memory<'static, Native>: Clone, Copy);
assert_not_impl_any!(DynamicMemory<'static, Native>: Clone, Copy);
