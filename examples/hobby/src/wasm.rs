//! All there is of Allotment in this kernel: memories for Wasmtime, and its traps.
//!
//! ```text
//!   the kernel                      this file                              Wasmtime
//!   memory map ----> arena -.
//!   physical offset --------+-----> Allocator --> Platform --> install <-- its C symbols
//!   page tables (CR3) ------'                                  Engine  <-- configure
//!   exceptions ----> on_exception -> deliver: resume | divert | not wasm's
//! ```

use core::ops::Range;

use allotment::{
    Allocator, FaultAccess,
    arch::{Native, PhysAddr, PhysOffset, VirtAddr},
    boot::{self, NoArena},
    wasmtime::{Delivery, Exception, Platform, allocator_config, configure, deliver, install},
};
use wasmtime::{Config, Engine};
use x86_64::structures::idt::PageFaultErrorCode;

use crate::{interrupts::Frame, println};

/// Address space for memories: top-level entries that neither loader nor kernel use.
const WINDOW: Range<VirtAddr> = VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9100_0000_0000);

/// Bytes of physical memory for them, and for their page tables.
const ARENA: u64 = 128 << 20;

/// What the kernel must leave to us, of what is usable.
pub fn arena(usable: impl Iterator<Item = Range<u64>>) -> Result<Range<PhysAddr>, NoArena> {
    boot::arena(usable, ARENA)
}

/// An engine whose memories are slots of the window. Call it once, with a heap.
///
/// # Safety
///
/// All physical memory is mapped at `physical_offset`; nobody else uses the arena.
pub unsafe fn init(physical_offset: u64, arena: Range<PhysAddr>) -> wasmtime::Result<Engine> {
    // SAFETY: this is ring 0, on one CPU with one root, and physical memory is mapped there.
    let machine = unsafe { Native::current(PhysOffset(physical_offset)) };
    // SAFETY: nobody else uses the arena, and the window's top-level entries are empty.
    let allocator = unsafe { Allocator::new(machine, WINDOW, arena, &allocator_config()) }?;
    println!("{}", allocator.plan());
    install(Platform::new(allocator), |ip| {
        panic!("compiled wasm faulted at {ip:#x}, which Wasmtime does not know")
    })?;
    let mut config = Config::new();
    configure(&mut config);
    Engine::new(&config)
}

/// Whether an exception was wasm's, or nothing: then the kernel returns to what `frame` says now.
pub fn on_exception(frame: &mut Frame, page_fault: Option<(u64, PageFaultErrorCode)>) -> bool {
    let fault = match page_fault {
        Some((address, code)) => match FaultAccess::from_error_code(code.bits()) {
            Some(access) => Some((address as usize, access)),
            None => return false,
        },
        None => None,
    };
    match deliver(&Exception { pc: frame.rip as usize, fault }) {
        Delivery::Resume => true,
        Delivery::Divert(to) => {
            frame.rip = to as u64;
            true
        }
        Delivery::NotWasm(report) => {
            if let Some(report) = report {
                println!("the kernel itself: {report:#}");
            }
            false
        }
    }
}
