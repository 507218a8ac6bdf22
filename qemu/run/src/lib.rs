//! The wasm unikernel: Wasmtime over Allotment, on the boot kernel.
//!
//! ```text
//!   payload: options, module, args, env, files       channel: stdin, stdout, stderr, status
//!        |                                                 |
//!        v                                                 v
//!   run::run --- module --- instance --- wasi (clocks, files) --- streams
//!        |                     ^
//!        |                     |--- series     many, one after another, and a summary
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
mod instance;
pub mod machine;
mod module;
mod picture;
pub mod run;
mod series;
mod streams;

pub use machine::{KernelCpus, StartError, carve, start, start_with};
