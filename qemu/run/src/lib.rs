//! The wasm unikernel: Wasmtime over Allotment, on the boot kernel.
//!
//! ```text
//!   payload: module, args, env, files        channel: stdin, stdout, stderr, status
//!        |                                          |
//!        v                                          v
//!   run::run --- wasi (clocks, files, streams) --- streams
//!        |
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
pub mod machine;
pub mod run;
mod streams;

pub use machine::{KernelCpus, StartError, start, start_with};
