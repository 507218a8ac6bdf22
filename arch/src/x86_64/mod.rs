//! x86_64: entries ([`X86_64`]) and, on such a CPU, the instructions
//! (`Native`). Source: Intel SDM volume 3A, chapter 4.

pub mod control;
mod entry;
pub mod invalidate;

#[cfg(target_arch = "x86_64")]
mod cpu;

#[cfg(target_arch = "x86_64")]
pub use cpu::Native;
pub use entry::X86_64;
