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
//!   memory_image_new, map_at -> MemoryImage           -> shared tables
//!   init_traps(handler)      -> kept for `deliver`
//! ```
//!
//! A slot is best taken by the module that had it last, as it shows that one's images
//! still. Wasmtime says which module it is for only afterwards: [`Platform::for_module`]
//! tells it before, and without it the platform guesses from the order so far.
//!
//! It is for Wasmtime 48, the line with long-term support, on x86_64 and aarch64, with its
//! features `custom-virtual-memory`, `custom-native-signals` and
//! `custom-sync-primitives`; `async`, `component-model`, `component-model-async` and
//! all collectors of `gc` go with them. Symbols of `custom-fiber` are not defined: Wasmtime
//! switches fibers by itself here.
//!
//! An embedder
//! 1. carves an [`Allocator`](crate::Allocator) by [`allocator_config`],
//! 2. calls `install` with a [`Platform`] over it, before the first `Engine`,
//! 3. passes its `wasmtime::Config` through `configure`,
//! 4. asks `deliver` from its exception handlers.
//!
//! `install`, `installed`, `deliver` and `configure` exist on bare metal only, as do the C
//! symbols: on an operating system Wasmtime has a platform of its own. So do what an
//! engine may be given besides, each by a function that takes its `wasmtime::Config`:
//!
//! | | feature | |
//! |---|---|---|
//! | `configure_stacks` | `wasmtime-async` | asynchronous calls run on the allocator's stacks, with guards |
//! | `configure_code_memory` | `wasmtime` | `deserialize_raw` runs modules where they were loaded |
//! | `configure_memories` | `wasmtime` | memories by Wasmtime's `MemoryCreator`, without images |
//!
//! Every CPU that the allocator counts may run wasm. What a kernel does that switches
//! threads meanwhile, or goes on with a store on another CPU:
//!
//! | | |
//! |---|---|
//! | threads run to their end | nothing |
//! | it switches threads | [`Platform::suspend_thread`] and [`Platform::resume_thread`], which see to the CPU as well |
//! | also in the midst of Wasmtime | besides, [`Platform::with_preemption`] |
//! | a store, or a call that waits, goes on on another CPU | [`Platform::arrive`] there |
//!
//! The host that precompiles modules passes its own through
//! [`configure_compiler!`](crate::configure_compiler), so that both sides
//! agree. Slots of the pool are used for reservations of exactly the
//! configured size; everything else is a region, in which images are copied.

mod code;
#[cfg(all(target_os = "none", feature = "wasmtime"))]
mod code_memory;
mod config;
mod images;
mod locks;
#[cfg(all(target_os = "none", feature = "wasmtime"))]
mod memories;
mod next;
mod platform;
#[cfg(all(target_os = "none", feature = "wasmtime-async"))]
mod stacks;
mod threads;
mod traps;

#[cfg(target_os = "none")]
mod symbols;
#[cfg(target_os = "none")]
mod sync;

pub use crate::configure_compiler;
#[cfg(all(target_os = "none", feature = "wasmtime"))]
pub use code_memory::{CodeMemory, configure_code_memory};
#[cfg(all(target_os = "none", feature = "wasmtime"))]
pub use config::configure;
pub use config::{GUARD_SIZE, RESERVATION, Target, allocator_config};
pub use locks::{Lock, RwLock, RwTurn, Turn};
#[cfg(all(target_os = "none", feature = "wasmtime"))]
pub use memories::{HostMemories, configure_memories};
pub use platform::{Platform, PlatformError, Protection};
#[cfg(all(target_os = "none", feature = "wasmtime-async"))]
pub use stacks::{FiberStacks, configure_stacks};
#[cfg(target_os = "none")]
pub use symbols::{AlreadyInstalled, deliver, install, installed};
pub use threads::{Preemption, ThreadWords};
pub use traps::{Delivery, Exception, TrapHandler, Trapped};
