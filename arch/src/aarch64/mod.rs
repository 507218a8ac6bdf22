//! aarch64 with the 4 KiB granule: entries ([`Aarch64`]) and, on such a CPU,
//! the instructions (`Native`). Source: Arm ARM (DDI 0487), chapter D8.

pub mod control;
mod entry;
pub mod invalidate;

#[cfg(target_arch = "aarch64")]
mod cpu;

#[cfg(target_arch = "aarch64")]
pub use cpu::Native;
pub use entry::Aarch64;
