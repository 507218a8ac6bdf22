//! After `seal()` no heap is used and no frame of the embedder's is taken,
//! whatever is asked for and whatever fails: an allocator that does not forgive
//! stands behind every call.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "seal/heap.rs"]
mod heap;
#[path = "seal/instances.rs"]
mod instances;
#[path = "seal/quiet.rs"]
mod quiet;

use core::fmt::{self, Write as _};

use allotment::{
    Backing, Commit, CompiledModuleId, Config, Error, FaultAccess, MemoryRequest, PoolKind,
    PoolingAllocationConfig, TableRequest, Verdict,
    arch::{Access, VirtAddr},
};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled};
use quiet::Quiet;

harness::tests! {
    fn pools_that_share_frames_use_no_heap() {
        on_every_machine!(strict);
    }

    fn pools_that_own_their_frames_use_no_heap() {
        on_every_machine!(fixed);
    }

    fn pools_that_wait_for_touches_use_no_heap() {
        on_every_machine!(per_instance);
    }

    fn pools_that_decommit_in_batches_use_no_heap() {
        on_every_machine!(batches);
    }

    fn ranges_on_demand_use_no_heap() {
        on_every_machine!(on_demand);
    }

    fn regions_use_no_heap() {
        on_every_machine!(regions);
    }

    fn pooled_instances_use_no_heap() {
        on_every_machine!(instances::pools);
    }

    // On bare metal it ends the machine: the kernel's own tests show that.
    #[cfg(not(target_os = "none"))]
    fn a_use_of_the_heap_would_be_seen() {
        assert_eq!(heap::counted(|| drop(core::hint::black_box(Box::new(1)))), 1);
        assert_eq!(heap::counted(|| ()), 0);
    }
}

const SLOT: usize = 4 * MIB;
/// Less than the slots together.
const ARENA: usize = 14 * MIB;
const STACK: usize = 8 * PAGE;
const MODULE: CompiledModuleId = CompiledModuleId(7);

fn pools() -> PoolingAllocationConfig {
    pool(4, SLOT)
        .total_tables(2)
        .table_elements(1024)
        .total_stacks(2)
        .total_gc_heaps(1)
        .total_core_instances(1)
}

fn strict<A: TestArch>() {
    everything::<A>(pools(), ARENA);
}

fn fixed<A: TestArch>() {
    everything::<A>(pools().backing(Backing::Fixed), 32 * MIB);
}

fn per_instance<A: TestArch>() {
    everything::<A>(pools().backing(Backing::Elastic(Commit::PerInstance(512))), ARENA);
}

fn batches<A: TestArch>() {
    let pools = pools().decommit_batch_size(2).linear_memory_keep_resident(0).table_keep_resident(0);
    everything::<A>(pools.async_stack_keep_resident(0).max_unused_warm_slots(1), ARENA);
}

/// A machine that is sealed, and whose heap is closed.
fn sealed<A: TestArch>(config: Config, arena: usize, work: impl FnOnce(&Machine<Quiet<A>>)) {
    let machine = Machine::<Quiet<A>>::new(&config, arena);
    machine.allocator.seal();
    heap::forbid();
    assert!(machine.allocator.is_sealed());
    work(&machine);
    heap::allow();
}

fn everything<A: TestArch>(pools: PoolingAllocationConfig, arena: usize) {
    let config = pooled(pools).max_wasm_stack(STACK).async_stack_size(STACK).async_stack_zeroing(true);
    sealed::<A>(config, arena, |machine| {
        // Twice: the second round reuses what the first one left.
        for _ in 0..2 {
            a_memory(machine);
            all_memories(machine);
            all_frames(machine);
            tables(machine);
            stacks(machine);
            gc_heaps(machine);
            counts(machine);
            machine.allocator.purge_module(MODULE);
            reports(machine);
        }
    });
}

fn a_memory<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    let request = MemoryRequest::new(WASM_PAGE).maximum(SLOT).module(MODULE, 0);
    let mut memory = allocator.allocate_memory(request).unwrap();
    machine.assert_ends_at(&memory, WASM_PAGE);
    memory.grow_to(2 * WASM_PAGE).unwrap();
    allocator.arrive(&memory).unwrap();
    allocator.prepare_write(&memory, WASM_PAGE, WASM_PAGE).unwrap();
    allocator.prepare_write(&memory, 2 * WASM_PAGE, 1).unwrap_err();
    machine.assert_ends_at(&memory, 2 * WASM_PAGE);
    memory.grow_to(SLOT + 1).unwrap_err();
    for offset in [-1, 2 * WASM_PAGE as i64, SLOT as i64] {
        let Verdict::Trap(report) = machine.verdict(&memory, offset) else { panic!("no trap at {offset}") };
        print(&report);
    }
    allocator.deallocate_memory(memory);
    print(&allocator.allocate_memory(MemoryRequest::new(0).shared(true)).unwrap_err());
    print(&allocator.allocate_memory(SLOT + 1).unwrap_err());
}

fn all_memories<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    let memories = [(); 4].map(|()| allocator.allocate_memory(PAGE).unwrap());
    let full = allocator.allocate_memory(PAGE).unwrap_err();
    assert_eq!(full, Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 4 });
    print(&full);
    memories.into_iter().for_each(|memory| allocator.deallocate_memory(memory));
}

/// Until frames, or what an instance may touch, are used up.
fn all_frames<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    let mut memories = [(); 3].map(|()| allocator.allocate_memory(0).ok());
    for memory in memories.iter_mut().flatten() {
        for size in (0..=SLOT).step_by(16 * WASM_PAGE) {
            if let Err(error) = memory.grow_to(size) {
                print(&error);
            }
        }
        for offset in (0..memory.size()).step_by(PAGE) {
            let _ = machine.store(memory, offset as i64, 1);
        }
        if let Err(error) = allocator.prepare_write(memory, 0, memory.size()) {
            print(&error);
        }
    }
    memories.into_iter().flatten().for_each(|memory| allocator.deallocate_memory(memory));
}

fn tables<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    let request = TableRequest::new(10).maximum(1000).module(MODULE, 0);
    let mut tables = [(); 2].map(|()| allocator.allocate_table(request).unwrap());
    print(&allocator.allocate_table(request).unwrap_err());
    print(&allocator.allocate_table(5000).unwrap_err());
    for table in &mut tables {
        table.grow_to(1000).unwrap();
        print(&table.grow_to(1001).unwrap_err());
        let last = VirtAddr(table.base().as_ptr() as u64).offset(1000 * 8 - 1);
        machine.store_at(last, 3).unwrap();
    }
    tables.into_iter().for_each(|table| allocator.deallocate_table(table));
}

fn stacks<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    let stacks = [(); 2].map(|()| allocator.allocate_fiber_stack().unwrap());
    print(&allocator.allocate_fiber_stack().unwrap_err());
    for stack in &stacks {
        machine.store_at(VirtAddr(stack.top().0 - 1), 4).unwrap();
        let Verdict::Trap(report) = allocator.fault(VirtAddr(stack.guard().end.0 - 1), FaultAccess::Write)
        else {
            panic!("no guard")
        };
        print(&report);
    }
    stacks.into_iter().for_each(|stack| allocator.deallocate_fiber_stack(stack));
}

fn gc_heaps<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    let mut heap = allocator.allocate_gc_heap(WASM_PAGE).unwrap();
    print(&allocator.allocate_gc_heap(WASM_PAGE).err().unwrap());
    heap.grow_to(2 * WASM_PAGE).unwrap();
    machine.assert_ends_at(heap.memory(), 2 * WASM_PAGE);
    allocator.deallocate_gc_heap(heap);
}

fn counts<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    allocator.increment_core_instance_count().unwrap();
    print(&allocator.increment_core_instance_count().unwrap_err());
    allocator.decrement_core_instance_count();
    allocator.increment_component_instance_count().unwrap();
    allocator.decrement_component_instance_count();
}

fn reports<A: TestArch>(machine: &Machine<Quiet<A>>) {
    let allocator = &machine.allocator;
    print(allocator.plan());
    print(&allocator.metrics());
    if let Some(metrics) = allocator.pooling_allocator_metrics() {
        print(&metrics);
    }
    let _ = allocator.invalidations();
}

fn regions<A: TestArch>() {
    sealed::<A>(pooled(pools()).region_space(1 << 30), ARENA, |machine| {
        let allocator = &machine.allocator;
        for _ in 0..2 {
            let code = allocator.reserve_region(3 * PAGE).unwrap();
            for access in [Some(Access::ReadWrite), Some(Access::Read), Some(Access::ReadExecute), None] {
                // SAFETY: nobody uses the region.
                unsafe { allocator.protect_region(code, 3 * PAGE, access) }.unwrap();
                let _ = allocator.is_code(code);
                let _ = allocator.fault(code, FaultAccess::Execute);
            }
            // SAFETY: nobody uses the region.
            unsafe { allocator.reset_region(code, PAGE) }.unwrap();
            print(&allocator.reserve_region(1 << 30).unwrap_err());
            let large = allocator.reserve_region(64 * MIB).unwrap();
            // SAFETY: nobody uses the region.
            let refused = unsafe { allocator.protect_region(large, 64 * MIB, Some(Access::ReadWrite)) };
            print(&refused.unwrap_err());
            for (start, bytes) in [(code, 3 * PAGE), (large, 64 * MIB)] {
                // SAFETY: nobody uses the region.
                unsafe { allocator.release_region(start, bytes) }.unwrap();
                // SAFETY: nobody uses the region.
                print(&unsafe { allocator.release_region(start, bytes) }.unwrap_err());
            }
        }
    });
}

fn on_demand<A: TestArch>() {
    let config = Config::new().max_wasm_stack(STACK).async_stack_size(STACK).memory_reservation(MIB);
    sealed::<A>(config.memory_reservation_for_growth(MIB).region_space(1 << 30), ARENA, |machine| {
        let allocator = &machine.allocator;
        for _ in 0..2 {
            let mut memory =
                allocator.allocate_memory(MemoryRequest::new(WASM_PAGE).module(MODULE, 0)).unwrap();
            // In place, with a move, and beyond the arena.
            for size in [2 * WASM_PAGE, MIB, 4 * MIB] {
                memory.grow_to(size).unwrap();
                machine.assert_ends_at(&memory, size);
            }
            print(&memory.grow_to(2 * ARENA).unwrap_err());
            let Verdict::Trap(report) = machine.verdict(&memory, -1) else { panic!("no guard") };
            print(&report);
            let mut table = allocator.allocate_table(TableRequest::new(10).module(MODULE, 0)).unwrap();
            table.grow_to(10_000).unwrap();
            let stack = allocator.allocate_fiber_stack().unwrap();
            machine.store_at(VirtAddr(stack.top().0 - 1), 4).unwrap();
            let mut heap = allocator.allocate_gc_heap(WASM_PAGE).unwrap();
            heap.grow_to(2 * WASM_PAGE).unwrap();
            print(&allocator.allocate_memory(1 << 30).unwrap_err());
            reports(machine);
            allocator.deallocate_gc_heap(heap);
            allocator.deallocate_fiber_stack(stack);
            allocator.deallocate_table(table);
            allocator.deallocate_memory(memory);
        }
    });
}

/// Formats, to nowhere: what is said of a failure must not need what failed.
fn print(what: &impl fmt::Display) {
    struct Nowhere;
    impl fmt::Write for Nowhere {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            Ok(())
        }
    }
    write!(Nowhere, "{what}").unwrap();
}
