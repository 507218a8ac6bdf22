//! GC heaps, instances, and what is counted.

use allotment::{Error, FaultRegion, PoolKind};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, at, pool, pooled},
    world::{available, counts, pooling, report},
};

fn full(kind: PoolKind, limit: usize) -> Error {
    Error::PoolConcurrencyLimit { kind, limit }
}

pub(crate) fn gc_heaps<A: TestArch>() {
    let m = Machine::<A>::new(&pooled(pool(3, MIB).total_gc_heaps(2)), 8 * MIB);
    let before = counts(&m);
    for _ in 0..2 {
        let mut first = m.allocator.allocate_gc_heap(WASM_PAGE).unwrap();
        let second = m.allocator.allocate_gc_heap(0).unwrap();
        assert_eq!(m.allocator.allocate_gc_heap(0).unwrap_err(), full(PoolKind::GcHeaps, 2));
        let all = m.allocator.metrics();
        assert_eq!((all.gc_heaps, all.memories, all.free_memories), (2, 2, 1));
        let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        assert_eq!(m.allocator.allocate_memory(0).unwrap_err(), full(PoolKind::Memories, 3));

        assert_eq!((first.size(), first.capacity()), (WASM_PAGE, MIB));
        m.assert_ends_at(first.memory(), WASM_PAGE);
        first.grow_to(3 * WASM_PAGE).unwrap();
        assert_eq!(m.load(first.memory(), 2 * WASM_PAGE as i64), Ok(0));
        m.assert_ends_at(first.memory(), 3 * WASM_PAGE);
        first.grow_to(MIB + 1).unwrap_err();
        assert_eq!(first.size(), 3 * WASM_PAGE);
        let reservation = m.allocator.plan().memories.slab.reservation as i64;
        for offset in [3 * WASM_PAGE as i64, reservation] {
            assert_eq!(report(&m, at(first.memory(), offset)).region, FaultRegion::GcHeap);
        }
        assert_eq!(report(&m, at(&memory, WASM_PAGE as i64)).region, FaultRegion::Memory(None));

        m.allocator.deallocate_gc_heap(first);
        m.allocator.deallocate_gc_heap(second);
        m.allocator.deallocate_memory(memory);
        assert_eq!(counts(&m), before);
        // Who has the slot then is no GC heap.
        let memories = [(); 3].map(|()| m.allocator.allocate_memory(PAGE).unwrap());
        for memory in &memories {
            assert_eq!(report(&m, at(memory, PAGE as i64)).region, FaultRegion::Memory(None));
            assert_eq!(m.load(memory, PAGE as i64 - 1), Ok(0), "a GC heap's byte");
        }
        memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    }
}

pub(crate) fn failed_gc_heaps<A: TestArch>() {
    let m = Machine::<A>::new(&pooled(pool(1, MIB).total_gc_heaps(2)), 4 * MIB);
    let memory = m.allocator.allocate_memory(PAGE).unwrap();
    let before = counts(&m);
    for _ in 0..5 {
        assert_eq!(m.allocator.allocate_gc_heap(PAGE).unwrap_err(), full(PoolKind::Memories, 1));
        assert_eq!(counts(&m), before);
    }
    m.allocator.deallocate_memory(memory);
    let before = counts(&m);
    for _ in 0..5 {
        let refused = m.allocator.allocate_gc_heap(MIB + 1).unwrap_err();
        assert_eq!(refused, Error::MemoryTooLarge { requested: MIB + 1, limit: MIB });
        assert_eq!(counts(&m), before);
    }
    let heap = m.allocator.allocate_gc_heap(MIB).unwrap();
    m.allocator.deallocate_gc_heap(heap);
    assert_eq!(counts(&m), before);
}

pub(crate) fn instances<A: TestArch>() {
    let config = pooled(pool(1, MIB).total_core_instances(3).total_component_instances(2));
    let m = Machine::<A>::new(&config, 4 * MIB);
    for _ in 0..3 {
        (0..3).for_each(|_| m.allocator.increment_core_instance_count().unwrap());
        (0..2).for_each(|_| m.allocator.increment_component_instance_count().unwrap());
        let refused = m.allocator.increment_core_instance_count();
        assert_eq!(refused, Err(full(PoolKind::CoreInstances, 3)));
        let refused = m.allocator.increment_component_instance_count();
        assert_eq!(refused, Err(full(PoolKind::ComponentInstances, 2)));
        let live = pooling(&m);
        assert_eq!((live.core_instances, live.component_instances), (3, 2));
        m.allocator.decrement_core_instance_count();
        m.allocator.increment_core_instance_count().unwrap();
        (0..3).for_each(|_| m.allocator.decrement_core_instance_count());
        (0..2).for_each(|_| m.allocator.decrement_component_instance_count());
        let live = pooling(&m);
        assert_eq!((live.core_instances, live.component_instances), (0, 0));
    }
    // One too many is none less than none.
    m.allocator.decrement_core_instance_count();
    assert_eq!(pooling(&m).core_instances, 0);
}

pub(crate) fn every_metric<A: TestArch>() {
    let pools = pool(4, MIB)
        .total_tables(2)
        .total_stacks(2)
        .linear_memory_keep_resident(3 * PAGE)
        .async_stack_keep_resident(2 * PAGE);
    let config = pooled(pools).async_stack_size(8 * PAGE).max_wasm_stack(PAGE).async_stack_zeroing(true);
    let m = Machine::<A>::new(&config, 8 * MIB);
    let live = |expected: [u64; 6]| {
        let now = pooling(&m);
        let [memories, tables, stacks, heaps] =
            [now.memories, now.tables, now.stacks, now.gc_heaps].map(|count| count as u64);
        let found = [now.core_instances, now.component_instances, memories, tables, stacks, heaps];
        assert_eq!(found, expected, "core, component, memories, tables, stacks, GC heaps");
    };
    let unused = |memories: (u32, usize), tables: (u32, usize), stacks: (u32, usize)| {
        let now = pooling(&m);
        let pages = |bytes: usize| bytes / PAGE;
        assert_eq!((now.unused_warm_memories, pages(now.unused_memory_bytes_resident)), memories, "memories");
        assert_eq!((now.unused_warm_tables, pages(now.unused_table_bytes_resident)), tables, "tables");
        let bytes = now.unused_stack_bytes_resident.expect("stacks are zeroed");
        assert_eq!((now.unused_warm_stacks, pages(bytes)), stacks, "stacks");
    };
    let before = available(&m);
    live([0; 6]);
    unused((0, 0), (0, 0), (0, 0));

    m.allocator.increment_core_instance_count().unwrap();
    m.allocator.increment_component_instance_count().unwrap();
    let memory = m.allocator.allocate_memory(10 * PAGE).unwrap();
    live([1, 1, 1, 0, 0, 0]);
    let table = m.allocator.allocate_table(600).unwrap();
    live([1, 1, 1, 1, 0, 0]);
    let stack = m.allocator.allocate_fiber_stack().unwrap();
    live([1, 1, 1, 1, 1, 0]);
    let heap = m.allocator.allocate_gc_heap(2 * PAGE).unwrap();
    live([1, 1, 2, 1, 1, 1]);
    unused((0, 0), (0, 0), (0, 0));
    assert_eq!(available(&m), before - 10 - 2 - 8 - 2);

    m.allocator.deallocate_memory(memory);
    unused((1, 3), (0, 0), (0, 0));
    m.allocator.deallocate_gc_heap(heap);
    unused((2, 5), (0, 0), (0, 0));
    m.allocator.deallocate_table(table);
    unused((2, 5), (1, 2), (0, 0));
    m.allocator.deallocate_fiber_stack(stack);
    unused((2, 5), (1, 2), (1, 2));
    live([1, 1, 0, 0, 0, 0]);
    let all = m.allocator.metrics();
    assert_eq!((all.available_frames, all.idle_frames, all.queued_slots), (before, 9, 0));

    // Who comes next takes the slot that was used last, with what it kept.
    let first = m.allocator.allocate_memory(0).unwrap();
    unused((1, 3), (1, 2), (1, 2));
    let second = m.allocator.allocate_memory(0).unwrap();
    unused((0, 0), (1, 2), (1, 2));
    m.allocator.deallocate_memory(first);
    m.allocator.deallocate_memory(second);
    unused((2, 5), (1, 2), (1, 2));
    m.allocator.decrement_core_instance_count();
    m.allocator.decrement_component_instance_count();
    live([0; 6]);
}
