//! Which pool a memory's slot is from.

use alloc::vec::Vec;

use allotment::{CompiledModuleId, Error, InstanceAllocationStrategy, MemoryRequest, PoolKind};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, at, pooled},
    world::{GIB, POOLS, further, machine, of_pool, pool_of},
};

fn new(bytes: usize) -> MemoryRequest {
    MemoryRequest::new(bytes)
}

pub(crate) fn by_need<A: TestArch>() {
    let m = machine::<A>();
    let small = new(PAGE).maximum(MIB);
    for (request, number, capacity) in [
        // Who says nothing may rely on the main pool's reservation.
        (new(PAGE), 0, 4 * MIB),
        (small, 0, MIB),
        (new(PAGE).maximum(6 * MIB), 0, 4 * MIB),
        (small.reserved(0, 0), 1, MIB),
        (small.reserved(8 * MIB, 2 * MIB), 1, MIB),
        (small.reserved(8 * MIB, 2 * MIB + 1), 2, MIB),
        (small.reserved(8 * MIB + 1, 0), 2, MIB),
        (small.reserved(GIB + 1, 0), 0, MIB),
        (small.maximum(2 * MIB).reserved(0, 0), 1, 2 * MIB),
        (small.maximum(2 * MIB + 1).reserved(0, 0), 2, 2 * MIB + 1),
        (new(2 * MIB + 1).maximum(3 * MIB).reserved(0, 0), 2, 3 * MIB),
        // Without a maximum: as much room as in the main pool.
        (new(PAGE).reserved(0, 0), 2, 8 * MIB),
        (new(5 * MIB).reserved(0, 0), 2, 8 * MIB),
        // More than there is: as much as there is.
        (new(PAGE).maximum(64 * MIB).reserved(0, 0), 2, 8 * MIB),
    ] {
        let memory = m.allocator.allocate_memory(request).unwrap();
        assert_eq!((pool_of(&m, &memory), memory.capacity()), (number, capacity), "{request:?}");
        m.allocator.deallocate_memory(memory);
    }
    // A GC heap is a memory.
    let heap = m.allocator.allocate_gc_heap(small.reserved(0, 0)).unwrap();
    assert_eq!(m.allocator.memory_pool_metrics(1).unwrap().memories, 1);
    m.allocator.deallocate_gc_heap(heap);
    assert_eq!(m.allocator.metrics().memories, 0);
}

pub(crate) fn refused<A: TestArch>() {
    let m = machine::<A>();
    let refused = |request: MemoryRequest| m.allocator.allocate_memory(request).unwrap_err();
    let limit = (4 * GIB, 32 * MIB);
    for requested in [(4 * GIB + 1, 0), (0, 32 * MIB + 1), (usize::MAX, usize::MAX)] {
        let (reservation, guard) = requested;
        let error = refused(new(PAGE).reserved(reservation, guard));
        assert_eq!(error, Error::Reservation { requested, limit });
    }
    assert_eq!(refused(new(5 * MIB)), Error::MemoryTooLarge { requested: 5 * MIB, limit: 4 * MIB });
    for bytes in [8 * MIB + 1, usize::MAX] {
        let error = refused(new(bytes).reserved(0, 0));
        assert_eq!(error, Error::MemoryTooLarge { requested: bytes, limit: 8 * MIB });
    }
    let beyond = new(2 * PAGE).maximum(PAGE).reserved(0, 0);
    assert_eq!(refused(beyond), Error::BeyondMaximum { requested: 2 * PAGE, maximum: PAGE });
    assert_eq!(refused(new(PAGE).shared(true).reserved(0, 0)), Error::SharedMemory);
    assert_eq!(m.allocator.metrics().memories, 0);
    // What is refused by one more byte is given without it.
    for request in [new(4 * MIB), new(8 * MIB).reserved(0, 0), new(PAGE).reserved(4 * GIB, 32 * MIB)] {
        let memory = m.allocator.allocate_memory(request).unwrap();
        m.assert_ends_at(&memory, memory.size());
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn exhausted<A: TestArch>() {
    let m = machine::<A>();
    let request = new(PAGE).maximum(MIB).reserved(0, 0);
    let slots: usize = POOLS.iter().map(|pool| pool[3]).sum();
    let mut held: Vec<_> = (0..slots).map(|_| m.allocator.allocate_memory(request).unwrap()).collect();
    let from: Vec<_> = held.iter().map(|memory| pool_of(&m, memory)).collect();
    assert_eq!(from, [1, 1, 1, 2, 2, 0, 0]);
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: slots };
    assert_eq!(m.allocator.allocate_memory(request).unwrap_err(), full);
    for memory in &held {
        assert_eq!(memory.capacity(), MIB);
        m.assert_ends_at(memory, PAGE);
    }
    // What comes back to a smaller pool is next.
    for nth in [6, 4, 1] {
        let memory = held.swap_remove(nth);
        let (base, number) = (memory.base(), pool_of(&m, &memory));
        m.allocator.deallocate_memory(memory);
        let again = m.allocator.allocate_memory(request).unwrap();
        assert_eq!((again.base(), pool_of(&m, &again)), (base, number));
        assert_eq!(m.load(&again, 0), Ok(0));
        held.push(again);
    }
    held.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    assert_eq!(m.allocator.metrics().memories, 0);
}

pub(crate) fn never_smaller<A: TestArch>() {
    let m = machine::<A>();
    // The middle pool, then the main one; the small one would do for now.
    let request = new(PAGE).maximum(4 * MIB).reserved(0, 0);
    let held: Vec<_> = (0..4).map(|_| m.allocator.allocate_memory(request).unwrap()).collect();
    assert_eq!(held.iter().map(|memory| pool_of(&m, memory)).collect::<Vec<_>>(), [2, 2, 0, 0]);
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 4 };
    assert_eq!(m.allocator.allocate_memory(request).unwrap_err(), full);
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 2 };
    assert_eq!(m.allocator.allocate_memory(PAGE).unwrap_err(), full);
    let small = m.allocator.allocate_memory(request.maximum(2 * MIB)).unwrap();
    assert_eq!(pool_of(&m, &small), 1);
    m.allocator.deallocate_memory(small);
    held.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
}

pub(crate) fn affinity<A: TestArch>() {
    let m = machine::<A>();
    let module = |module: u64, number| of_pool(number).module(CompiledModuleId(module), 0);
    let place = |request: MemoryRequest| {
        let memory = m.allocator.allocate_memory(request).unwrap();
        let base = at(&memory, 0);
        m.allocator.deallocate_memory(memory);
        base
    };
    // Two modules in each pool, at the same time so that neither has the other's slot.
    let held: Vec<_> = (0..3)
        .flat_map(|number| [1, 2].map(|id| (id, number)))
        .map(|(id, number)| (id, number, m.allocator.allocate_memory(module(id, number)).unwrap()))
        .collect();
    let had: Vec<_> = held
        .into_iter()
        .map(|(id, number, memory)| {
            let base = at(&memory, 0);
            m.allocator.deallocate_memory(memory);
            (id, number, base)
        })
        .collect();
    for &(id, number, base) in had.iter().rev().chain(&had) {
        assert_eq!(place(module(id, number)), base, "module {id} in pool {number}");
    }
    // All pools forget a module.
    m.allocator.purge_module(CompiledModuleId(1));
    for &(id, number, base) in had.iter().filter(|had| had.0 == 2) {
        assert_eq!(place(module(id, number)), base, "another module was purged from pool {number}");
    }
    let mut owners = Vec::new();
    m.allocator.for_each_slot(|slot| owners.extend(slot.owner));
    assert!(owners.iter().all(|owner| owner.module == CompiledModuleId(2)), "{owners:?}");
    assert_eq!(owners.len(), 3);
}

pub(crate) fn on_demand<A: TestArch>() {
    let config = pooled(
        further().into_iter().fold(crate::common::small_pool(), |pools, pool| pools.memory_pool(pool)),
    );
    let config = config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    let m = Machine::<A>::new(&config, 16 * MIB);
    assert_eq!(m.allocator.memory_pool_metrics(0), None);
    let memory = m.allocator.allocate_memory(new(PAGE).reserved(4 * GIB, 32 * MIB)).unwrap();
    m.assert_ends_at(&memory, PAGE);
    m.allocator.deallocate_memory(memory);
    let limit = (4 * GIB, 32 * MIB);
    for requested in [(4 * GIB + 1, 0), (0, 32 * MIB + 1)] {
        let error = m.allocator.allocate_memory(new(PAGE).reserved(requested.0, requested.1)).unwrap_err();
        assert_eq!(error, Error::Reservation { requested, limit });
    }
}
