//! Allotment in this kernel: what it is given, what it is told, what it is asked.

use core::ops::Range;

use allotment::{
    Allocator, FaultAccess, FaultReport, PoolingAllocationConfig,
    arch::{Cpus, Native, PhysAddr, PhysOffset, VirtAddr},
    boot::largest_arena,
    wasmtime::{Delivery, Platform, allocator_config, configure, deliver, install, installed},
};
use wasmtime::{Config, Engine};
use x86_64::structures::paging::PhysFrame;

use crate::{
    cpus,
    exceptions::{Exception, Frame},
    memory::{self, MemoryMap},
};

/// In the kernel's half, so that each root that has it has the window: one top-level entry.
const WINDOW: Range<VirtAddr> = VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9080_0000_0000);

/// As many memories as the processes have, and no more: who begins has to take what somebody left.
pub const MEMORIES: usize = 6;

/// Once, before the first process's root is made: those are copies of the kernel's.
pub fn start(memory: &MemoryMap) -> Engine {
    let arena = largest_arena(memory.rest()).expect("RAM for an arena");
    // SAFETY: all of RAM is mapped at `OFFSET`. CR3 is the kernel's root, of whose upper half all roots are
    // copies, and no CPU is counted out.
    let machine = unsafe { Native::current(PhysOffset(memory::OFFSET)) }.with_cpus(&KernelCpus);
    let pool = PoolingAllocationConfig::new()
        .total_memories(MEMORIES)
        .max_memory_size(4 << 20)
        .total_tables(0)
        .total_stacks(0)
        .total_gc_heaps(0);
    // SAFETY: the rest of RAM is nobody's, and neither is this part of the kernel's half.
    let allocator =
        unsafe { Allocator::new(machine, WINDOW, arena, &allocator_config().allocation_strategy(pool)) };
    let platform = Platform::new(allocator.unwrap_or_else(|error| panic!("no allocator: {error}")));
    install(platform, |ip| panic!("code at {ip:#x} faulted where wasm cannot")).expect("the only platform");

    let mut config = Config::new();
    configure(&mut config);
    Engine::new(&config).expect("an engine")
}

/// This CPU goes on with work of another's.
pub fn arrive() {
    platform().arrive();
}

/// Gives a root the window that it was made too early for.
pub fn share_window(root: PhysFrame) {
    let root = PhysAddr(root.start_address().as_u64());
    // SAFETY: a process's root, whose upper half nobody else edits.
    unsafe { platform().allocator().share_window(root) }.expect("nothing else is there");
}

/// From the exceptions' handler. An error is no fault of wasm's, with what Allotment knows of the address.
pub fn answer(frame: &mut Frame, exception: Exception) -> Result<(), Option<FaultReport>> {
    let fault = match exception {
        Exception::PageFault { address, code } => {
            let access = FaultAccess::from_error_code(code.bits()).ok_or(None)?;
            Some((address as usize, access))
        }
        Exception::Instruction => None,
    };
    match deliver(&allotment::wasmtime::Exception { pc: frame.rip as usize, fault }) {
        Delivery::Resume => Ok(()),
        Delivery::Divert(stub) => {
            frame.rip = stub as u64;
            Ok(())
        }
        Delivery::NotWasm(report) => Err(report),
    }
}

/// The platform, for what the kernel wants to know.
pub fn platform() -> &'static Platform {
    installed().expect("`start` was called")
}

struct KernelCpus;

// SAFETY: CPUs have their number in `gs`, nothing moves between them but by `Process::run`, and all that are
// counted answer: no interrupts are masked for longer than an exception's handler runs.
unsafe impl Cpus for KernelCpus {
    fn count(&self) -> usize {
        cpus::COUNT
    }

    fn current(&self) -> usize {
        cpus::current()
    }

    fn interrupt_others(&self, work: &(dyn Fn() + Sync)) {
        cpus::interrupt_others(work);
    }
}
