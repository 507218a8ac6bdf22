//! x86_64: booted by PVH, one CPU, port-mapped devices of a PC.

pub(crate) mod clock;
pub(crate) mod cpu;
mod descriptors;
pub(crate) mod exception;
pub(crate) mod paging;
pub(crate) mod power;
pub(crate) mod random;
pub(crate) mod serial;
mod start;

use core::arch::global_asm;

global_asm!(include_str!("boot.s"), options(raw));
global_asm!(include_str!("vectors.s"), options(raw));
global_asm!(include_str!("mem.s"), options(raw));
