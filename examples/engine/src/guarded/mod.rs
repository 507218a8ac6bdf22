//! The two machines that the engine knows: the boot kernel's CPU, and the emulated
//! one of hosts. A port to another kernel replaces `bare.rs`.

#[cfg_attr(target_os = "none", path = "bare.rs")]
#[cfg_attr(not(target_os = "none"), path = "host.rs")]
mod world;

#[cfg(target_os = "none")]
pub use world::answer_fault;
