//! Runs a wasm file on the emulated machine; as a kernel, and with no file, the
//! program that it has in itself.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod demo;
#[cfg_attr(target_os = "none", path = "bare.rs")]
#[cfg_attr(not(target_os = "none"), path = "host.rs")]
mod world;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    world::main()
}
