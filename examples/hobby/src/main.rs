//! A hobby kernel, and WebAssembly in it.
//!
//! ```text
//!   main         boots, runs the program, ends         ----.
//!   serial       println!                                   |
//!   cpu          vector registers                          |
//!   gdt          segments, a stack for exceptions            > as in every kernel of this kind
//!   interrupts   the IDT, and who answers exceptions        |
//!   memory       page tables, frames                        |
//!   heap         the global allocator                  ----'
//!   wasm         Allotment: all there is of it
//!   program      what is done with Wasmtime, here as anywhere
//! ```

#![no_std]
#![no_main]

extern crate alloc;

mod cpu;
mod gdt;
mod heap;
mod interrupts;
mod memory;
mod program;
mod qemu;
mod serial;
mod wasm;

use core::panic::PanicInfo;

use bootloader_api::{BootInfo, BootloaderConfig, config::Mapping, entry_point};
use x86_64::VirtAddr;

use crate::memory::BootInfoFrameAllocator;

static CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    // Wasm runs on it: 512 KiB of it, unless `Config::max_wasm_stack` says otherwise.
    config.kernel_stack_size = 1 << 20;
    config
};

entry_point!(main, config = &CONFIG);

fn main(info: &'static mut BootInfo) -> ! {
    println!("hobby: booted");
    cpu::init();
    gdt::init();
    interrupts::init();

    let offset = info.physical_memory_offset.into_option().expect("CONFIG asks for it");
    // The highest of the memory is for wasm, the rest for everything else.
    let arena = wasm::arena(memory::usable(&info.memory_regions)).expect("128 MiB are free");
    // SAFETY: the boot-loader maps all physical memory at this offset, and the map is its.
    let mut mapper = unsafe { memory::init(VirtAddr::new(offset)) };
    // SAFETY: what the map calls usable is, and nobody has used any of it yet.
    let mut frames = unsafe { BootInfoFrameAllocator::new(&info.memory_regions, arena.start.0) };
    heap::init(&mut mapper, &mut frames).expect("the heap's pages are free, and there are frames");

    // SAFETY: as above; the arena was kept from `frames`, and nothing is mapped in the window.
    let engine = unsafe { wasm::init(offset, arena) }.unwrap_or_else(|error| panic!("no wasm: {error}"));
    let program = ramdisk(info).expect("the loader has found a ramdisk");
    program::run(&engine, program).unwrap_or_else(|error| panic!("the program failed: {error:?}"));
    println!("hobby: done");
    qemu::exit(qemu::SUCCESS)
}

/// The compiled program, which the boot-loader has loaded.
fn ramdisk(info: &BootInfo) -> Option<&'static [u8]> {
    let start = info.ramdisk_addr.into_option()? as *const u8;
    // SAFETY: the loader has mapped so many bytes there, and nobody writes them.
    Some(unsafe { core::slice::from_raw_parts(start, info.ramdisk_len as usize) })
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("hobby: {info}");
    qemu::exit(qemu::FAILURE)
}
