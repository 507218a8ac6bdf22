//! Preview 1 as a guest sees it, on real Wasmtime.

#![cfg(not(target_os = "none"))]

mod files;
mod hostile;
mod read_only;
mod streams;
mod support;
mod time;
mod tree;
