//! x86_64: booted by PVH, xAPIC, port-mapped devices of a PC.

mod apic;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod cpus;
mod descriptors;
pub(crate) mod exception;
mod fw_cfg;
pub(crate) mod paging;
pub(crate) mod power;
pub(crate) mod random;
pub(crate) mod serial;
mod start;
pub(crate) mod timer;

use core::arch::global_asm;

global_asm!(include_str!("boot.s"), options(raw));
global_asm!(include_str!("vectors.s"), options(raw));
global_asm!(include_str!("mem.s"), options(raw));
