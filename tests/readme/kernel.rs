use core::ops::Range;

use allotment::{
    Allocator, CarveError, Config, FaultAccess, FaultReport, PoolingAllocationConfig, Verdict,
    arch::{Native, PhysAddr, PhysOffset, VirtAddr},
};

// All physical memory is mapped at `offset`. For the window any range of 1 TiB whose top-level entries are
// empty will do, such as VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9100_0000_0000).
pub fn boot(offset: u64, window: Range<VirtAddr>, arena: Range<PhysAddr>) -> Result<Allocator, CarveError> {
    // SAFETY: we run privileged, with memory mapped at this offset, on one CPU
    // (for more: `.with_cpus(&MY_CPUS)`, see below).
    let machine = unsafe { Native::current(PhysOffset(offset)) };
    let pool = PoolingAllocationConfig::new().total_memories(64).max_memory_size(256 << 20);
    let config = Config::new().allocation_strategy(pool);
    // SAFETY: nobody else uses the arena, or the window's top-level entries.
    unsafe { Allocator::new(machine, window, arena, &config) }
}

// `access` as the CPU reports it: in the error code, or in ESR_EL1.
pub fn on_page_fault(allocator: &Allocator, address: u64, access: FaultAccess) -> Result<(), FaultReport> {
    match allocator.fault(VirtAddr(address), access) {
        Verdict::Resume => Ok(()),            // return from the exception: the access is tried again
        Verdict::Trap(report) => Err(report), // if wasm's code is running: its trap; else `panic!("{report}")`
        Verdict::NotOurs => panic!("a page fault of the kernel's own at {address:#x}"),
    }
}

pub fn instance(allocator: &Allocator) -> Result<(), allotment::Error> {
    let mut memory = allocator.allocate_memory(65536)?; // zeros, guarded
    let grown = memory.grow_to(2 * 65536);              // 16 stores
    allocator.deallocate_memory(memory);                // what was written is cleared; warm for the next
    grown                                               // (a dropped memory keeps its slot)
}
