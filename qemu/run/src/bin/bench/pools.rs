//! Pools: what a memory costs warm, dirty and cold, whatever the size of its
//! pool, and what the pool itself costs.

use core::ops::Range;

use allotment::{
    Allocator, Backing, CarveError, Commit, CompiledModuleId, Config, MemoryRequest, PoolingAllocationConfig,
    arch::{PAGE_SIZE, PhysAddr, VirtAddr},
};
use kernel::BootInfo;

use crate::{
    count::{average, average_of, counted, row},
    edits::{native, whole},
    group::{Group, group},
};

pub(crate) const GROUPS: &[Group] = &[
    group(
        "pools",
        true,
        &[
            "pool-warm-clean",
            "pool-warm-clean-no-module",
            "pool-warm-one-page-written",
            "pool-warm-other-size",
            "pool-cold",
            "pool-grow-16",
            "pool-table-warm",
            "pool-stack-warm",
        ],
        memories,
    ),
    group(
        "pool-sizes",
        true,
        &[
            "pool-warm-clean-10",
            "pool-create-1000",
            "pool-warm-clean-1000",
            "pool-create-10000",
            "pool-warm-clean-10000",
            "pool-warm-clean-100000",
            "pool-idle-slot-bytes",
        ],
        sizes,
    ),
];

const WASM_PAGE: usize = 0x1_0000;
pub(crate) const MIB: usize = 1 << 20;

/// Slots of 1 MiB, all of it premapped, which share frames.
pub(crate) fn pool(slots: usize) -> PoolingAllocationConfig {
    PoolingAllocationConfig::new()
        .total_memories(slots)
        .total_tables(0)
        .total_stacks(0)
        .max_memory_size(MIB)
        .poison(false)
        .backing(Backing::Elastic(Commit::Strict))
}

/// A part of the machine that no other allocator has.
pub(crate) struct Part {
    window: Range<VirtAddr>,
    arena: Range<PhysAddr>,
}

/// As many parts as there are top-level entries and room in the arena for.
pub(crate) fn parts(boot: &BootInfo, arenas: &[usize]) -> impl Iterator<Item = Part> {
    const TOP_LEVEL_ENTRY: usize = 512 << 30;
    let (window, arena) = whole(boot);
    let mut next = (window.start, arena.start);
    arenas.iter().map(move |&bytes| {
        let (start, frames) = next;
        next = (start.offset(TOP_LEVEL_ENTRY), frames.offset(bytes));
        assert!(next.0 <= window.end && next.1 <= arena.end, "the machine is too small");
        Part { window: start..next.0, arena: frames..next.1 }
    })
}

pub(crate) fn carve(part: Part, config: &Config) -> Allocator {
    try_carve(&part, config).expect("an allocator")
}

/// The same of a part that may be too small. Carve it once.
pub(crate) fn try_carve(part: &Part, config: &Config) -> Result<Allocator, CarveError> {
    // SAFETY: nobody else uses this part of window and arena.
    unsafe { Allocator::new(native(), part.window.clone(), part.arena.clone(), config) }
}

fn memories(boot: &'static BootInfo) {
    let mut parts = parts(boot, &[256 * MIB, 256 * MIB]);
    let mut part = || parts.next().expect("a part");
    let config = Config::new().region_space(1 << 30);
    let allocator = &carve(part(), &config.allocation_strategy(pool(100)));
    let request = MemoryRequest::new(WASM_PAGE).module(CompiledModuleId(1), 0);
    let cycle = |request: MemoryRequest| {
        let memory = allocator.allocate_memory(request).expect("a slot");
        allocator.deallocate_memory(memory);
    };
    row("pool-warm-clean", || average(|| cycle(request)));
    row("pool-warm-clean-no-module", || average(|| cycle(MemoryRequest::new(WASM_PAGE))));
    let written = || {
        let memory = allocator.allocate_memory(request).expect("a slot");
        // SAFETY: the memory has a wasm page.
        unsafe { memory.base().write_volatile(1) };
        allocator.deallocate_memory(memory);
    };
    row("pool-warm-one-page-written", || average(written));
    let mut size = 0;
    let other_size = || {
        size = 3 - size;
        cycle(MemoryRequest::new((1 + size / 3) * WASM_PAGE).module(CompiledModuleId(2), 0));
    };
    row("pool-warm-other-size", || average(other_size));
    // Each of a module of its own, so that none is warm for it.
    let mut module = 100;
    let cold = || {
        module += 1;
        let memory =
            allocator.allocate_memory(MemoryRequest::new(WASM_PAGE).module(CompiledModuleId(module), 0));
        allocator.deallocate_memory(memory.expect("a slot"));
    };
    row("pool-cold", || average_of(50, cold));
    row("pool-grow-16", || grow(allocator));

    let stacks = pool(1).total_tables(10).total_stacks(10);
    let config = config.async_stack_size(MIB).allocation_strategy(stacks);
    let allocator = &carve(part(), &config);
    let table = || {
        let table = allocator.allocate_table(1000).expect("a table");
        allocator.deallocate_table(table);
    };
    row("pool-table-warm", || average(table));
    let stack = || {
        let stack = allocator.allocate_fiber_stack().expect("a stack");
        allocator.deallocate_fiber_stack(stack);
    };
    row("pool-stack-warm", || average(stack));
}

/// A warm memory that grows by a wasm page.
fn grow(allocator: &Allocator) -> u64 {
    let request = MemoryRequest::new(WASM_PAGE).module(CompiledModuleId(9), 0);
    let mut count = 0;
    for operations in [0, 15] {
        let mut memory = allocator.allocate_memory(request).expect("a slot");
        count = counted(operations, || {
            (2..=16).for_each(|pages| memory.grow_to(pages * WASM_PAGE).expect("frames"));
        });
        allocator.deallocate_memory(memory);
    }
    count / 15
}

fn sizes(boot: &'static BootInfo) {
    // Leaf tables of 100,000 slots take 400 MiB.
    let mut parts = parts(boot, &[64 * MIB, 64 * MIB, 256 * MIB, 1024 * MIB]);
    for (slots, created, cycled) in [
        (10, None, "pool-warm-clean-10"),
        (1000, Some("pool-create-1000"), "pool-warm-clean-1000"),
        (10_000, Some("pool-create-10000"), "pool-warm-clean-10000"),
        (100_000, None, "pool-warm-clean-100000"),
    ] {
        let part = parts.next().expect("a part");
        // 4 MiB of address space each, so that the largest fits.
        let config =
            Config::new().region_space(1 << 30).memory_reservation(2 * MIB).memory_guard_size(2 * MIB);
        let config = config.allocation_strategy(pool(slots));
        let mut carved = None;
        let create = || counted(1, || carved = Some(carve(part, &config)));
        match created {
            Some(created) => row(created, create),
            None => create(),
        };
        let allocator = &carved.expect("it was carved");
        let request = MemoryRequest::new(WASM_PAGE).module(CompiledModuleId(1), 0);
        let cycle = || {
            let memory = allocator.allocate_memory(request).expect("a slot");
            allocator.deallocate_memory(memory);
        };
        row(cycled, || average(cycle));
    }
    row("pool-idle-slot-bytes", || idle_slot(boot));
}

/// Bytes of tables and records for each slot of 4 GiB beyond its premapped leaf
/// tables, those that slots share included.
fn idle_slot(boot: &'static BootInfo) -> u64 {
    const SLOTS: usize = 100;
    let (window, arena) = whole(boot);
    let start = window.start.offset(4 * (512 << 30));
    let bytes = |slots: usize, start: VirtAddr, arena: PhysAddr| {
        let config = Config::new().region_space(1 << 30);
        let part = Part { window: start..start.offset(512 << 30), arena: arena..arena.offset(64 * MIB) };
        let pool = pool(slots).premapped_tables(1);
        carve(part, &config.allocation_strategy(pool)).plan().footprint.idle_allocator
    };
    let arena = arena.start.offset(1536 * MIB);
    let none = bytes(0, start, arena);
    let all = bytes(SLOTS, start.offset(512 << 30), arena.offset(64 * MIB));
    ((all - none) / SLOTS - PAGE_SIZE) as u64
}
