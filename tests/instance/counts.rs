//! As many as there may be, and not one more; what is given back is there again.

use alloc::vec::Vec;

use allotment::{
    Config, Error, PoolKind, PoolingAllocationConfig,
    instance::{InstanceError, MemoryType, TableElement},
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled},
    module::{Code, Engine, bytes, memory, module, table},
    world::few,
};

/// A pool of one of each has room for an instance of one of each.
pub(crate) fn one<A: TestArch>() {
    let m = machine::<A>(pool(1, WASM_PAGE).total_tables(1).total_core_instances(1).table_elements(10));
    let engine = Engine::settled(&m);
    let code = module().memory(1, None).table(10, None).functions(1).elements(0, 9, &[0]).build();
    let before = engine.counts();
    for _ in 0..10 {
        let mut instance = engine.instantiate(&code).unwrap();
        assert_eq!((instance.memories().len(), instance.tables().len()), (1, 1));
        assert_eq!(bytes(&instance, memory(0), 0, WASM_PAGE), [0; WASM_PAGE]);
        let last = instance.table_get(table(0), 9).unwrap();
        assert!(matches!(last, TableElement::FuncRef(Some(_))), "{last:?}");
        assert_eq!(engine.counts()[7], 1);
        engine.end(instance);
        assert_eq!(engine.counts(), before);
    }
}

pub(crate) fn instances<A: TestArch>() {
    let m = machine::<A>(few().total_core_instances(3));
    assert_limit(&m, &module().build(), PoolKind::CoreInstances, 3);
}

/// A count that the embedder has lowered itself is an error later, and no wait.
pub(crate) fn miscounted<A: TestArch>() {
    let m = machine::<A>(few().total_core_instances(1));
    let engine = Engine::new(&m);
    let code = module().build();
    let instance = engine.instantiate(&code).unwrap();
    m.allocator.decrement_core_instance_count();
    let limit = Error::PoolConcurrencyLimit { kind: PoolKind::CoreInstances, limit: 1 };
    assert_eq!(engine.instantiate(&code).map(drop), Err(InstanceError::Resource(limit)));
    engine.end(instance);
    engine.end(engine.instantiate(&code).unwrap());
}

pub(crate) fn memories<A: TestArch>() {
    let m = machine::<A>(few().total_memories(3));
    assert_limit(&m, &module().memory(1, None).build(), PoolKind::Memories, 3);
}

pub(crate) fn tables<A: TestArch>() {
    let m = machine::<A>(few().total_tables(3));
    assert_limit(&m, &module().memory(1, None).table(1, None).build(), PoolKind::Tables, 3);
}

pub(crate) fn several_in_each<A: TestArch>() {
    let most = few().max_memories_per_module(2).max_tables_per_module(2);
    let m = machine::<A>(most.total_memories(6).total_tables(7));
    let code = module().memory(1, None).memory(1, None).table(1, None).table(1, None).build();
    // The fourth finds no memories; each of the three has two.
    assert_limit(&m, &code, PoolKind::Memories, 6);
}

/// Holds as many instances as there may be of `kind`, meets the limit, and finds what it gives back.
fn assert_limit<A: TestArch>(m: &Machine<A>, code: &Code, kind: PoolKind, limit: usize) {
    let engine = Engine::settled(m);
    let before = engine.counts();
    let too_many = InstanceError::Resource(Error::PoolConcurrencyLimit { kind, limit });
    let mut held = Vec::new();
    for _ in 0..3 {
        while let Ok(instance) = engine.instantiate(code) {
            held.push(instance);
        }
        assert_eq!(held.len(), 3);
        let full = engine.counts();
        assert_eq!(engine.instantiate(code).err(), Some(too_many));
        assert_eq!(engine.counts(), full, "the one that failed left something");
        engine.end(held.remove(1));
        held.push(engine.instantiate(code).expect("one was given back"));
        assert_eq!(engine.instantiate(code).err(), Some(too_many));
        held.drain(..).for_each(|instance| engine.end(instance));
        assert_eq!(engine.counts(), before);
    }
    let words = alloc::format!("{too_many}");
    assert!(words.starts_with(&alloc::format!("maximum concurrent limit of {limit} for {kind} reached")));
}

pub(crate) fn stacks<A: TestArch>() {
    let config = pooled(few().total_stacks(2)).max_wasm_stack(PAGE).async_stack_size(4 * PAGE);
    let m = Machine::<A>::new(&config, 8 * MIB);
    let engine = Engine::settled(&m);
    let before = engine.counts();
    let limit = Error::PoolConcurrencyLimit { kind: PoolKind::Stacks, limit: 2 };
    for _ in 0..3 {
        let first = engine.instances.allocate_fiber_stack().unwrap();
        let second = engine.instances.allocate_fiber_stack().unwrap();
        assert_eq!(engine.instances.allocate_fiber_stack().err(), Some(limit.into()));
        for stack in [&first, &second] {
            assert_eq!(stack.range().end.0 - stack.range().start.0, 4 * PAGE as u64);
            assert_eq!(stack.guard_range().end, stack.range().start);
            m.store_at(stack.range().start, 1).unwrap();
            m.store_at(stack.range().start.offset(4 * PAGE - 1), 1).unwrap();
            m.load_at(stack.guard_range().start).expect_err("the guard was readable");
        }
        engine.instances.deallocate_fiber_stack(first);
        let third = engine.instances.allocate_fiber_stack().expect("one was given back");
        assert_eq!(engine.instances.allocate_fiber_stack().err(), Some(limit.into()));
        engine.instances.deallocate_fiber_stack(second);
        engine.instances.deallocate_fiber_stack(third);
        assert_eq!(engine.counts(), before);
    }
}

pub(crate) fn gc_heaps<A: TestArch>() {
    let m = machine::<A>(few().total_gc_heaps(2).total_memories(3));
    let engine = Engine::settled(&m);
    let (before, ty) = (engine.counts(), MemoryType::new(1, None));
    let limited = |kind, limit| Some(Error::PoolConcurrencyLimit { kind, limit }.into());
    let code = module().memory(1, None).build();
    for _ in 0..3 {
        let heaps = [(); 2].map(|()| engine.instances.allocate_gc_heap(&ty, None).unwrap());
        assert_eq!(engine.instances.allocate_gc_heap(&ty, None).err(), limited(PoolKind::GcHeaps, 2));
        // It took no memory with it: the third is there.
        let instance = engine.instantiate(&code).expect("the third slot");
        assert_eq!(engine.instantiate(&code).err(), limited(PoolKind::Memories, 3));
        engine.end(instance);
        heaps.into_iter().for_each(|heap| engine.instances.deallocate_gc_heap(heap));
        // The count of heaps is not spent by one that finds no memory.
        let held = [(); 3].map(|()| engine.instantiate(&code).unwrap());
        for _ in 0..3 {
            assert_eq!(engine.instances.allocate_gc_heap(&ty, None).err(), limited(PoolKind::Memories, 3));
        }
        held.into_iter().for_each(|instance| engine.end(instance));
        assert_eq!(engine.counts(), before);
    }
}

pub(crate) fn batches<A: TestArch>() {
    for batch in [5, 1, 0, 99] {
        let pool = few().decommit_batch_size(batch).linear_memory_keep_resident(0).table_keep_resident(0);
        let m = machine::<A>(pool);
        let engine = Engine::settled(&m);
        let code = module().memory(1, None).table(1, None).build();
        for _ in 0..3 {
            let mut held = [(); 4].map(|()| engine.instantiate(&code).expect("all slots come back"));
            for instance in &mut held {
                assert_eq!(bytes(instance, memory(0), 0, PAGE), [0; PAGE], "batches of {batch}");
                instance.memory_fill(memory(0), 0, 0xee, WASM_PAGE as u64).unwrap();
            }
            engine.instantiate(&code).expect_err("there are four");
            held.into_iter().for_each(|instance| engine.end(instance));
        }
    }
}

pub(crate) fn on_demand<A: TestArch>() {
    let m = Machine::<A>::new(&Config::new(), 8 * MIB);
    let engine = Engine::settled(&m);
    let before = engine.counts();
    let code = module().memory(1, None).memory(1, None).table(1, None).table(1, None).build();
    let held = (0..6).map(|_| engine.instantiate(&code).expect("nobody counts")).collect::<Vec<_>>();
    held.into_iter().for_each(|instance| engine.end(instance));
    assert_eq!(engine.counts(), before);
}

fn machine<A: TestArch>(pool: PoolingAllocationConfig) -> Machine<A> {
    Machine::new(&pooled(pool), 8 * MIB)
}
