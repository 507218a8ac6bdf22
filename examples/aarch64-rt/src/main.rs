//! A small aarch64 kernel on [`aarch64_rt`] which runs wasm.
//!
//! ```text
//!   aarch64-rt: entry, first page table, vectors   (the macros below, paging::FIRST)
//!     -> main           console, heap, device tree, page tables    an ordinary kernel
//!     -> with_threads   goes on on a stack that exceptions do not use
//!     -> wasm::run      Wasmtime over Allotment                     all that wasm adds
//!   an exception -> exceptions::handle -> wasm::answer
//! ```

#![no_std]
#![no_main]

mod console;
mod exceptions;
mod memory;
mod paging;
mod stack;
mod wasm;

use core::{
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use aarch64_rt::entry;
use semihosting::process::exit;
use smccc::{Hvc, psci::system_off};
use spin::Mutex;

use crate::memory::Map;

entry!(main);

static MAP: Mutex<Option<Map>> = Mutex::new(None);

/// On the boot stack, which is the exceptions' from then on. `device_tree` is where QEMU put it.
fn main(device_tree: u64, _: u64, _: u64, _: u64) -> ! {
    memory::init_heap();
    // SAFETY: QEMU passes the device tree's address, in memory that the first page table maps.
    let map = unsafe { memory::map(device_tree) };
    paging::init(&map);
    *MAP.lock() = Some(map);
    stack::switch(with_threads)
}

extern "C" fn with_threads() -> ! {
    let map = MAP.lock().take().expect("main found the memory");
    match wasm::run(map.module, map.usable()) {
        Ok(()) => exit(0),
        Err(error) => panic!("{error:?}"),
    }
}

/// Ends with a status, for which QEMU needs `-semihosting`; without, that is an exception, and panics again.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    if !PANICKED.swap(true, Ordering::Relaxed) {
        println!("{info}");
        exit(1)
    }
    // Nothing is left to try if the firmware cannot.
    let _ = system_off::<Hvc>();
    loop {
        core::hint::spin_loop();
    }
}
