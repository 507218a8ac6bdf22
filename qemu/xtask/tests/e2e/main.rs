//! The tool as its users meet it: command lines in, bytes and exit statuses out, machines in between.
//!
//! ```text
//!   streams   standard input and output        refusals  modules that are not run, and why
//!   ends      exit statuses, traps, deadlines  memory    sizes, growth, depth
//!   given     arguments, environment, files    kernels   kernels that break
//!   images    `compile` and `image`            machines  QEMU as a process: debuggers, signals
//!   runner    what cargo calls with kernels    usage     lines of `test` and `bench` that are refused
//!   instances strategies, plans, many of them  draw      pictures of machines
//!   settings  by Wasmtime's names
//!   spec      the specification's tests
//! ```
//!
//! Each test starts the tool itself, which builds what it needs: the first one takes a while on a fresh clone.

#![expect(clippy::std_instead_of_core, reason = "a program for the host, where std is one thing")]

mod draw;
mod ends;
mod given;
mod images;
mod instances;
mod kernels;
mod machines;
mod memory;
mod refusals;
mod runner;
mod settings;
mod spec;
mod streams;
mod support;
mod usage;
