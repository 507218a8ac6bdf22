//! WASI preview 1 for command modules, for Wasmtime without `std`.
//!
//! ```text
//!   guest module                this crate                       embedder
//!  ┌─────────────┐  import   ┌──────────────────────────┐      ┌───────────────┐
//!  │ fd_read ────┼──────────►│ linker ─► calls ─► Guest │      │               │
//!  │ path_open   │           │            │      memory │      │ trait Host    │
//!  │ proc_exit   │           │   Descriptors   Tree     ├─────►│ clocks, stdio │
//!  └─────────────┘           └──────────────────────────┘      │ randomness    │
//!                                                              └───────────────┘
//! ```
//!
//! A program gets arguments, environment, clocks, randomness, timers, standard input and output, and a
//! read-only [`Tree`] of files that are already in memory. Calls that would write give `EROFS`; every other
//! preview 1 function is defined and gives `ENOSYS`, so that any module instantiates. No call traps: pointers
//! that lead out of the guest's memory give `EFAULT`. Where the WASI text leaves a choice, errors are those
//! that Wasmtime on Linux gives, and for what a read-only file system refuses, those of Linux.
//!
//! `proc_exit` surfaces as the error [`Exit`], which the embedder finds with `downcast_ref`:
//!
//! ```
//! # use wasmtime::{Engine, Linker, Module, Store};
//! # struct Machine;
//! # impl wasi::Host for Machine {
//! #     fn monotonic_ns(&mut self) -> u64 { 0 }
//! #     fn realtime_ns(&mut self) -> u64 { 0 }
//! #     fn sleep_until(&mut self, _: u64) {}
//! #     fn fill_random(&mut self, _: &mut [u8]) {}
//! #     fn stdin_read(&mut self, _: &mut [u8]) -> usize { 0 }
//! #     fn stdout_write(&mut self, _: &[u8]) {}
//! #     fn stderr_write(&mut self, _: &[u8]) {}
//! # }
//! # fn main() -> wasmtime::Result<()> {
//! # let engine = Engine::default();
//! # let module = Module::new(&engine, r#"(module
//! #     (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
//! #     (memory (export "memory") 1)
//! #     (func (export "_start") i32.const 3 call $exit))"#)?;
//! let program = wasi::Program { args: vec![b"hello".to_vec()], ..Default::default() };
//! let state = wasi::Wasi::new(Machine, program)?;
//!
//! let mut linker = Linker::new(&engine);
//! wasi::add_to_linker(&mut linker, |state: &mut wasi::Wasi<Machine>| state)?;
//! let mut store = Store::new(&engine, state);
//! let instance = linker.instantiate(&mut store, &module)?;
//! let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
//! let status = match start.call(&mut store, ()) {
//!     Ok(()) => 0,
//!     Err(error) => match error.downcast_ref::<wasi::Exit>() {
//!         Some(exit) => exit.status(),
//!         None => return Err(error),
//!     },
//! };
//! assert_eq!(status, 3);
//! # Ok(())
//! # }
//! ```

#![no_std]

extern crate alloc;

mod abi;
mod calls;
mod descriptor;
mod errno;
mod exit;
mod guest;
mod host;
mod linker;
mod program;
mod state;
pub mod tree;

pub use exit::Exit;
pub use host::{Host, Stream};
pub use linker::add_to_linker;
#[cfg(feature = "async")]
pub use linker::add_waiting_to_linker;
pub use program::{Program, ProgramError};
pub use state::Wasi;
pub use tree::{Entry, Kind, Tree, TreeError};

pub(crate) use errno::Errno;
pub(crate) use guest::Guest;
