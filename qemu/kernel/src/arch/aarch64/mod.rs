//! aarch64: QEMU's `-M virt` and what is like it (device tree, PL011, PSCI), 4 KiB granule.
//!
//! | file | what |
//! |---|---|
//! | `boot.s`, `boot.rs` | from the ELF entry to [`boot::start`](crate::boot::start) |
//! | `device_tree.rs` | what the device tree says |
//! | `vectors.s`, `exception.rs`, `syndrome.rs` | taking exceptions, `Frame`, what ESR_EL1 means |
//! | `paging.rs` | the final map |
//! | `serial.rs`, `power.rs`, `clock.rs`, `random.rs`, `cpu.rs` | the devices and registers behind the contract |
//! | `cpus.s`, `cpus.rs`, `gic.rs` | CPUs 1 and up |
//! | `timer.rs` | the generic timer's interrupt |
//! | `mem.s`, `mem.rs` | `memcpy` and its kin |
//!
//! Registers, fields and quoted sections are named as in the Arm Architecture Reference Manual (DDI 0487).

mod boot;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod cpus;
mod device_tree;
pub(crate) mod exception;
mod gic;
mod mem;
pub(crate) mod paging;
pub(crate) mod power;
pub(crate) mod random;
pub(crate) mod serial;
mod syndrome;
pub(crate) mod timer;
