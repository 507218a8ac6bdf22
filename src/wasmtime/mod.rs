//! Allotment under the real Wasmtime.
//!
//! Wasmtime without `std` asks its platform for virtual memory, thread-local
//! words, locks and trap delivery, by C symbols. This module is that platform:
//!
//! ```text
//!   Wasmtime 48                 this module              the allocator
//!   mmap_new(4 GiB + guards) -> slot of the pool      -> allocate
//!   mprotect(read, write)    -> make_accessible       -> entries, no walk
//!   munmap                   -> slot back             -> hide, clear
//!   mmap_new(other), R / RX  -> region, W^X           -> leaf tables, frames
//!   init_traps(handler)      -> kept for `deliver`
//! ```
//!
//! An embedder
//! 1. calls [`install`] with an [`Allocator`](crate::Allocator),
//! 2. passes its `wasmtime::Config` through [`configure`],
//! 3. asks [`deliver`] from its exception handlers.
//!
//! The host that precompiles modules passes its own through
//! `configure_compiler` (feature `wasmtime-compiler`), so that both sides
//! agree. Slots of the pool are used for reservations of exactly the
//! configured size; everything else is a region. Initial images are not
//! offered yet: Wasmtime then copies data segments itself.

mod config;
mod platform;
mod traps;

#[cfg(target_os = "none")]
mod symbols;
#[cfg(target_os = "none")]
mod sync;

pub use config::{GUARD_SIZE, RESERVATION, allocator_config, configure};
#[cfg(feature = "wasmtime-compiler")]
pub use config::{Target, configure_compiler};
pub use platform::{Platform, PlatformError, Protection};
#[cfg(target_os = "none")]
pub use symbols::{AlreadyInstalled, deliver, install, installed};
pub use traps::{Delivery, Diversion, Exception, TrapHandler};
