//! What the boot kernel and the program that starts QEMU say to each other.
//!
//! ```text
//!   host (xtask)                                   machine (kernel)
//!   ------------                                   ----------------
//!   image::PayloadSlot, patched in the kernel ---> finds its payload archive
//!   payload::Writer  -- one ELF segment ---------> payload::Payload, options::Options, settings::Settings
//!   Stdin, StdinEnd  ---- virtio console --------> frame::Header
//!   frame::Header   <---- virtio console --------- Ready, Stdout, Stderr, ReadStdin, Exit(Status)
//!   dump::Dump      <---- as Stdout ------------- dump::Line, for a picture of the machine
//!   spec::Step      --- in the payload ---------> the specification's tests, for a kernel of its own
//!   spec::Report    <---- as Stdout ------------- what came of them
//!   verdict         <---- serial console --------- the last line
//!   status.process_exit() becomes the exit status of `cargo xtask run`
//! ```
//!
//! Everything is plain bytes, little-endian, read with every bound checked: a reader
//! that gets malformed input returns an error that names what is wrong and never panics.
//! Nothing here allocates except the archive writer and the dump's reader (feature `std`, host only), and `spec`
//! (a feature of its own).

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![deny(unsafe_code)]

pub mod dump;
pub mod frame;
pub mod image;
pub mod options;
pub mod payload;
pub mod settings;
#[cfg(feature = "spec")]
pub mod spec;
pub mod status;
pub mod verdict;
