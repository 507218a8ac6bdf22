//! The wasm unikernel: Wasmtime over Allotment, on the boot kernel.
//!
//! ```text
//!   payload: options, settings, module, args ...     channel: stdin, stdout, stderr, status
//!        |                                                 |
//!        v                                                 v
//!   run::run --- module --- instance --- wasi (clocks, files) --- streams
//!        |                     ^
//!        |                     |--- series     many, one after another, and a summary
//!        |                     |--- slices     many at a time, in turn (executor), on all CPUs
//!        |                     '--- picture    some at a time, and a dump of the machine
//!        v
//!   Wasmtime 48 --- C symbols --- allotment::wasmtime --- slots, regions
//!        ^                               ^
//!        '------- exceptions ------------'  faults of wasm become traps
//! ```
//!
//! It uses Allotment as any embedder would, through its public interface: this
//! library is also the worked example of how to.
#![cfg(target_os = "none")]
#![no_std]

extern crate alloc;

pub mod exceptions;
#[cfg(feature = "async")]
pub mod executor;
#[cfg(feature = "programs")]
mod instance;
pub mod machine;
#[cfg(feature = "programs")]
mod module;
#[cfg(feature = "programs")]
mod picture;
#[cfg(feature = "programs")]
pub mod run;
#[cfg(feature = "programs")]
mod series;
#[cfg(feature = "programs")]
mod settings;
#[cfg(feature = "programs")]
mod slices;
#[cfg(feature = "programs")]
mod streams;
#[cfg(feature = "programs")]
mod ticks;

pub use machine::{KernelCpus, StartError, carve, start, start_with};
