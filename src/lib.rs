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
mod plan;
pub mod pooling;
mod view;
mod vm;
#[cfg(feature = "wasmtime-platform")]
pub mod wasmtime;

pub use allocator::Allocator;
pub use config::Config;
pub use error::{CarveError, ConfigError, Error};
pub use fault::{FaultAccess, FaultRegion, FaultReport, Verdict};
pub use memory::{MakeAccessible, Memory};
pub use plan::{Invalidations, Metrics, Plan};
pub use view::{PoolKind, RegionView, SlotView};
pub use vm::space;

use arch::Native;
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Allocator<Native>: Send, Sync);
assert_impl_all!(MakeAccessible<'static, Native>: Copy, Send, Sync);
// A memory is one claim on one slot.
assert_not_impl_any!(Memory<'static, Native>: Clone, Copy);
