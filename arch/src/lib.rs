//! The machine under Allotment: what a page-table entry looks like, how tables
//! are walked, and what must be invalidated after an edit. It knows pages, not
//! WebAssembly.
//!
//! ```text
//!            Arch  (one value per machine: CPU operations, physical memory)
//!              |
//!       +------+----------------------+
//!     Native                       Emulated<F>        (feature `emulated`)
//!   the CPU we run on            a software MMU over host memory
//!              |                        |
//!              +---- Format (pure) -----+
//!                      |         |
//!                   X86_64    Aarch64     encoders, compiled on every target
//! ```
//!
//! [`Format`] is arithmetic on `u64` and is compiled and tested everywhere, and
//! so are the operands of invalidations ([`x86_64::invalidate`],
//! [`aarch64::invalidate`]). What needs a privileged instruction stands beside
//! it, in one small module per CPU.
//!
//! | to | use |
//! |---|---|
//! | adopt the live tables | [`Native::current`], and [`with_cpus`](Native::with_cpus) where several CPUs have them |
//! | tell where memory, frames and CPUs are | [`PhysMap`], [`FrameSource`], [`Cpus`] |
//! | say what an edit left stale, and have it forgotten | [`Invalidation`], [`Arch::invalidate_local`], [`Arch::invalidate_everywhere`] |
//! | look an address up in anybody's tables | [`translate`] |
//! | decode what a CPU says about a fault | [`FaultAccess::from_error_code`], [`FaultAccess::from_esr`] |
//! | test on a host what edits tables | `emulated::Emulated`, with the feature `emulated` |
//! | pass on what a kernel has of the crate `x86_64` | `x86_64_v0_15`, with the feature of that name, `x86_64-v0_15` |
//!
//! An edit is complete only when what it left stale is forgotten: by this CPU
//! before it uses the pages anew, by every CPU before a frame or table becomes
//! something else.

#![no_std]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("allotment needs a 64-bit target: its windows are terabytes of address space");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "allotment supports x86_64 and aarch64 only; see docs/porting.md for what a new architecture takes"
);

#[cfg(any(test, all(feature = "emulated", not(target_os = "none"))))]
extern crate std;

mod address;
mod embedder;
mod fault;
mod format;
mod invalidation;
mod machine;
mod walk;

pub mod aarch64;
#[cfg(any(test, all(feature = "emulated", not(target_os = "none"))))]
pub mod emulated;
pub mod x86_64;
#[cfg(all(target_arch = "x86_64", feature = "x86_64-v0_15"))]
pub mod x86_64_v0_15;

pub use aarch64::Aarch64;
pub use address::{
    ENTRIES_PER_TABLE, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, VirtAddr, page_ceil, page_floor,
};
pub use embedder::{Cpus, FrameSource, PhysMap, PhysOffset};
pub use fault::FaultAccess;
pub use format::{Access, Entry, Format, Upper};
pub use invalidation::{Invalidation, Scope};
pub use machine::{Arch, CpuError, Occupant};
pub use walk::{Table, Translation, find_leaf_entry, index, translate};
pub use x86_64::X86_64;

/// The CPU that this build runs on.
#[cfg(target_arch = "aarch64")]
pub use aarch64::Native;
/// The CPU that this build runs on.
#[cfg(target_arch = "x86_64")]
pub use x86_64::Native;
