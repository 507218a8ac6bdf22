//! A kernel with several address spaces and several CPUs, which all run wasm in one window.
//!
//! ```text
//!               0            0x40000000                          0xffff9000..
//!   root of ada |            |own page|          | kernel's half | window |   |
//!   root of bob |            |own page|          |       "       |   "    |   |     one entry, copied
//!   root of cyd |            |own page|          |       "       |   "    |   |
//! ```
//!
//! [`wasm`] is all that knows of Allotment, and [`program`] of Wasmtime. [`rounds`] is what happens. All else is an
//! ordinary kernel.
#![no_std]
#![no_main]

extern crate alloc;

mod apic;
mod cpus;
mod descriptors;
mod exceptions;
mod memory;
mod process;
mod program;
mod rounds;
mod serial;
mod wasm;

use core::{arch::global_asm, panic::PanicInfo};

use cpus::{COUNT, STACK_SIZE, STACKS};

global_asm!(
    include_str!("boot.s"),
    CPUS = const COUNT,
    STACKS = sym STACKS,
    STACK_SIZE = const STACK_SIZE,
    cpu_start = sym cpu_start,
);

unsafe extern "C" {
    fn pvh_start() -> !;
}
pvh::xen_elfnote_phys32_entry!(pvh_start);

/// Where `boot.s` ends, on each CPU, with the boot code's root.
extern "C" fn cpu_start(number: usize, start_info: u32) -> ! {
    if number > 0 {
        memory::load_kernel_root();
        cpus::init(number);
        cpus::idle();
    }
    let memory = memory::init(start_info);
    cpus::init(0);
    cpus::start();
    x86_64::instructions::interrupts::enable();
    rounds::run(&memory);
    println!("processes: all as expected");
    serial::exit(true)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    serial::print_last(format_args!("processes: CPU {}: {info}\n", cpus::current()));
    serial::exit(false)
}
