//! The emulated MMU: that it does what CPUs do, and finds what is wrong.
//!
//! Each rule has a test that breaks it with hand-made edits, and a twin with
//! the right sequence that stays silent.

#![cfg(not(target_os = "none"))]

mod access;
mod entries;
mod instructions;
mod mistakes;
mod random;
mod reuse;
mod stale;
mod tables;
mod threads;
