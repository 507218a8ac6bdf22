//! The boot kernel that tests, benches, examples and `cargo xtask run` share.
//!
//! It takes a machine from its first instruction to [`entry!`]'s function and gives that
//! program what a small kernel owes it: memory that is mapped as it should be, a heap,
//! exceptions that can be answered, a console, a clock, random bytes, and an end.
//! To Allotment it is an embedder like any other.
//!
//! ```text
//!   QEMU -kernel ELF
//!     `- arch: _start       own stack, vectors on, first page tables, CPU checked
//!         `- boot::start    what the machine has -> final map, heap, exceptions, other CPUs
//!             `- entry!     the program: a test kernel or the wasm runtime
//!                  |- console   serial line: messages, panics, the verdict line
//!                  |- channel   virtio console: the program's bytes and status
//!                  |- exception a hook that may answer faults by editing the frame
//!                  |- cpus      work for all CPUs at once, interrupts between them
//!                  |- timer     a tick every so often, while somebody wants it
//!                  `- exit      the machine ends, with a verdict in words
//! ```
//!
//! Interrupts masked, but for the timer's while it is wanted, all of RAM mapped at its physical address ("identity"), except
//! page 0 and the guard pages below stacks, which are not mapped at all. The top-level entries of
//! [`window`] are left empty for Allotment.
//!
//! The program runs on CPU 0. The others (up to [`cpus::MAX`] in all, QEMU's `-smp`) have the same
//! map and wait until [`cpus::together`] has work for them. Everything here may be called on any of
//! them, except where it says otherwise.
//!
//! On x86_64 the word `la57` on the command line, which the program does not see, switches to five
//! levels of page tables; [`window`] is then one that only 57 bits reach.
//!
//! On a hosted target this library is empty, so that workspace-wide commands work.
#![cfg(target_os = "none")]
#![no_std]

extern crate alloc;

mod arch;
pub mod boot;
pub mod channel;
pub mod clock;
pub mod console;
pub mod cpus;
pub mod exception;
pub mod heap;
mod map;
mod panic;
mod payload;
mod power;
pub mod random;
mod ranges;
pub mod stack;
pub mod timer;
mod virtio;

pub use arch::exception::Frame;
pub use boot::{BootInfo, root, window};
pub use power::{Exit, exit};

/// What the expansion of this crate's macros refers to.
#[doc(hidden)]
pub mod __private {
    pub use crate::boot::Main;
}

/// Declares the function that runs once the machine is up, a
/// `fn(&'static BootInfo) -> !`. Exactly one crate of a program says this.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Called by name from the kernel library, which is compiled before its program.
        #[unsafe(no_mangle)]
        static __allotment_main: $crate::__private::Main = $main;
    };
}
