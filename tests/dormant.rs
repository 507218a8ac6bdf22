//! What instances leave in pools when they end: ready for the next one of the same
//! module, and for anybody else who needs it.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "common/module.rs"]
mod module;

use alloc::{boxed::Box, vec::Vec};

use allotment::{
    Error, PoolKind, PoolingAllocationConfig, PoolingAllocatorMetrics,
    instance::{
        FuncIndex, Imports, InstanceAllocationRequest, InstanceAllocator, InstanceError, Memory, MemoryType,
        PoolingInstanceAllocator, PrimaryMap, StorePtr, Table, TableElement, TableElementType, TableType,
    },
};
use common::{Fault, MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled, together};
use module::{Code, Engine, bytes, memory, module, table};

harness::tests! {
    fn the_next_instance_of_a_module_has_the_slots_of_the_last() {
        on_every_machine!(same_slots);
    }

    fn slots_of_ended_instances_are_unused_and_warm() {
        on_every_machine!(counted);
    }

    fn slots_of_ended_instances_are_anybodys() {
        on_every_machine!(anybodys);
    }

    fn frames_of_ended_instances_are_anybodys() {
        on_every_machine!(frames);
    }

    fn frames_of_idle_contexts_are_the_next_ones() {
        on_every_machine!(contexts);
    }

    fn an_instance_that_grew_leaves_the_next_one_its_minimum() {
        on_every_machine!(grown);
    }

    fn an_instance_on_another_cpu_finds_nothing_stale() {
        on_every_machine!(other_cpu);
    }

    fn what_the_host_writes_on_another_cpu_is_cleared() {
        on_every_machine!(written_elsewhere);
    }

    fn a_module_with_other_memories_has_its_own() {
        on_every_machine!(other_shape);
    }

    fn a_purged_module_may_come_back_in_another_shape() {
        on_every_machine!(purged);
    }

    fn what_a_purge_does_not_find_is_not_taken_for_another_modules() {
        on_every_machine!(purged_meanwhile);
    }

    fn memories_of_another_core_are_taken_back_there() {
        on_every_machine!(foreign);
    }

    fn a_type_that_was_changed_meanwhile_makes_no_slot_larger() {
        on_every_machine!(changed);
    }

    fn a_context_goes_back_to_its_own_slot_only() {
        on_every_machine!(exchanged);
    }

    fn an_allocator_that_is_dropped_leaves_nothing() {
        on_every_machine!(dropped);
    }

    fn instances_and_others_share_slots_on_several_cpus() {
        on_every_machine!(contended);
    }
}

fn few(slots: usize) -> PoolingAllocationConfig {
    pool(slots, MIB).total_tables(slots).table_elements(1000).total_core_instances(slots)
}

fn machine<A: TestArch>(pools: PoolingAllocationConfig) -> Machine<A> {
    Machine::new(&pooled(pools).region_space(1 << 30), 8 * MIB)
}

fn pools_of<A: TestArch>(m: &Machine<A>) -> PoolingAllocatorMetrics {
    m.allocator.pooling_allocator_metrics().expect("there are pools")
}

fn plain() -> Code {
    module().memory(1, Some(4)).table(10, None).build()
}

fn same_slots<A: TestArch>() {
    let m = machine::<A>(few(4));
    let engine = Engine::new(&m);
    let (first, second) = (plain(), plain());
    let base = |code| {
        let instance = engine.instantiate(code).unwrap();
        let base = instance.memory_definition(memory(0)).unwrap().base;
        assert_eq!(bytes(&instance, memory(0), 0, WASM_PAGE), [0; WASM_PAGE]);
        m.store_at(base.offset(WASM_PAGE - 1), 7).unwrap();
        engine.end(instance);
        base
    };
    let bases = [base(&first), base(&second)];
    assert_ne!(bases[0], bases[1]);
    for _ in 0..3 {
        assert_eq!([base(&first), base(&second)], bases);
    }
}

fn counted<A: TestArch>() {
    let m = machine::<A>(few(4).linear_memory_keep_resident(MIB).table_keep_resident(MIB));
    let engine = Engine::new(&m);
    let instance = engine.instantiate(&plain()).unwrap();
    assert_eq!((pools_of(&m).memories, pools_of(&m).unused_warm_memories), (1, 0));
    engine.end(instance);
    let metrics = pools_of(&m);
    assert_eq!((metrics.memories, metrics.tables, metrics.core_instances), (0, 0, 0));
    assert_eq!((metrics.unused_warm_memories, metrics.unused_warm_tables), (1, 1));
    assert_eq!(metrics.unused_memory_bytes_resident, WASM_PAGE);
    assert_eq!(metrics.unused_table_bytes_resident, PAGE);
    assert_eq!(m.allocator.metrics().free_memories, 4);
}

fn anybodys<A: TestArch>() {
    let m = machine::<A>(few(2));
    let engine = Engine::new(&m);
    let code = plain();
    let both = [(); 2].map(|()| engine.instantiate(&code).unwrap());
    both.into_iter().for_each(|instance| engine.end(instance));

    let taken = [(); 2].map(|()| m.allocator.allocate_memory(WASM_PAGE).unwrap());
    let tables = [(); 2].map(|()| m.allocator.allocate_table(10).unwrap());
    let limit = InstanceError::Resource(Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 2 });
    assert_eq!(engine.instantiate(&code).map(|_| ()), Err(limit));
    taken.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    let limit = InstanceError::Resource(Error::PoolConcurrencyLimit { kind: PoolKind::Tables, limit: 2 });
    assert_eq!(engine.instantiate(&code).map(|_| ()), Err(limit));
    tables.into_iter().for_each(|table| m.allocator.deallocate_table(table));

    let both = [(); 2].map(|()| engine.instantiate(&code).unwrap());
    both.into_iter().for_each(|instance| engine.end(instance));
    assert_eq!(pools_of(&m).memories, 0);
}

fn frames<A: TestArch>() {
    const FRAMES: usize = 600;
    let pools = few(4).linear_memory_keep_resident(MIB);
    let overhead = machine::<A>(pools).allocator.plan().overhead;
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), overhead + FRAMES * PAGE);
    let engine = Engine::settled(&m);
    let large = module().memory(12, None).build();
    // What memories of these sizes share stays.
    engine.end(engine.instantiate(&large).unwrap());
    m.allocator.deallocate_memory(m.allocator.allocate_memory(MIB).unwrap());
    let before = m.allocator.metrics().available_frames;
    for _ in 0..3 {
        let both = [(); 2].map(|()| engine.instantiate(&large).unwrap());
        for mut instance in both {
            instance.memory_fill(memory(0), 0, 0xee, 12 * WASM_PAGE as u64).unwrap();
            engine.end(instance);
        }
        let metrics = m.allocator.metrics();
        assert_eq!(metrics.available_frames, before);
        // In the other two slots, with more frames than those have left.
        let left = metrics.available_frames - metrics.idle_frames;
        assert!(left < 2 * MIB / PAGE, "{left} frames are left");
        let others = [(); 2].map(|()| m.allocator.allocate_memory(MIB).unwrap());
        for memory in others {
            for page in (0..MIB).step_by(PAGE) {
                m.store(&memory, page as i64, 0xdd).unwrap();
            }
            m.allocator.deallocate_memory(memory);
        }
    }
}

fn contexts<A: TestArch>() {
    const FRAMES: usize = 300;
    // References to functions take 32 bytes each in a context.
    const FUNCTIONS: usize = 40 * PAGE / 32;
    let pools = few(4).max_memory_size(MIB);
    let overhead = machine::<A>(pools).allocator.plan().overhead;
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), overhead + FRAMES * PAGE);
    let engine = Engine::new(&m);
    let wide = module().functions(FUNCTIONS).build();
    let all = [(); 4].map(|()| engine.instantiate(&wide).unwrap());
    all.into_iter().for_each(|instance| engine.end(instance));
    let idle = m.allocator.metrics().available_frames;
    assert!(idle < 11 * 16, "four contexts of 40 pages left {idle} frames");

    // In its first memory, in a second one, in a table, and in a context.
    let large = module().memory(12, None).build();
    for code in [&large, &wide, &large, &module().memory(11, None).table(1000, None).build()] {
        let held = engine.instantiate(&wide).unwrap();
        let instance = engine.instantiate(code).unwrap_or_else(|error| panic!("{error}"));
        engine.end(instance);
        let all = [(); 3].map(|()| engine.instantiate(&wide).unwrap());
        all.into_iter().for_each(|instance| engine.end(instance));
        engine.end(held);
    }
}

fn grown<A: TestArch>() {
    let m = machine::<A>(few(1));
    let engine = Engine::new(&m);
    let code = plain();
    for _ in 0..3 {
        let mut instance = engine.instantiate(&code).unwrap();
        assert_eq!(engine.load(&instance, WASM_PAGE as u64 - 1), Ok(0));
        let beyond = engine.address(&instance, memory(0), WASM_PAGE as u64);
        assert_eq!(m.load_at(beyond), Err(Fault(beyond)));
        assert_eq!(instance.memory_grow(memory(0), 3, None), Ok(Some(1)));
        engine.store(&instance, 4 * WASM_PAGE as u64 - 1, 9).unwrap();
        assert_eq!(instance.table_size(table(0)), Ok(10));
        let null = instance.table_get(table(0), 0).unwrap();
        assert_eq!(instance.table_grow(table(0), 900, null, None), Ok(Some(10)));
        engine.end(instance);
    }
}

fn other_cpu<A: TestArch>() {
    let m = machine::<A>(few(2));
    let engine = Engine::new(&m);
    let code = plain();
    for round in 0..20 {
        m.allocator.arch().on_cpu(round % common::cpus(), || {
            let mut instance = engine.instantiate(&code).unwrap();
            let pages = 1 + round as u64 % 3;
            instance.memory_grow(memory(0), pages - 1, None).unwrap();
            for page in 0..pages {
                assert_eq!(engine.load(&instance, page * WASM_PAGE as u64), Ok(0));
                engine.store(&instance, page * WASM_PAGE as u64, 0xee).unwrap();
            }
            engine.load(&instance, pages * WASM_PAGE as u64).expect_err("beyond the end");
            engine.end(instance);
        });
    }
}

/// The host's own accesses are safe to make wherever the handle is.
fn written_elsewhere<A: TestArch>() {
    let m = machine::<A>(few(1));
    let engine = Engine::new(&m);
    let code = module().memory(1, None).table(10, None).functions(1).build();
    let last = common::cpus() - 1;
    let null = TableElement::FuncRef(None);
    for _ in 0..3 {
        // Twice, so that the last CPU has in mind what the first instance was.
        for write in [true, false, true] {
            let instance = spin::Mutex::new(engine.instantiate(&code).unwrap());
            m.allocator.arch().on_cpu(last, || {
                let mut instance = instance.lock();
                assert_eq!(bytes(&instance, memory(0), 0, WASM_PAGE), [0; WASM_PAGE]);
                if write {
                    instance.write_memory(memory(0), 5, &[0xee; 3]).unwrap();
                    instance.memory_fill(memory(0), 3 * PAGE as u64, 0xee, PAGE as u64).unwrap();
                    let function = TableElement::FuncRef(instance.func_ref(FuncIndex::from_u32(0)).ok());
                    instance.table_fill(table(0), 0, function, 10).unwrap();
                }
            });
            engine.end(instance.into_inner());
            let mut next = engine.instantiate(&code).unwrap();
            assert_eq!(bytes(&next, memory(0), 0, WASM_PAGE), [0; WASM_PAGE]);
            for index in 0..10 {
                assert_eq!(next.table_get(table(0), index), Ok(null));
            }
            engine.end(next);
        }
    }
}

fn other_shape<A: TestArch>() {
    let m = machine::<A>(few(4).max_memories_per_module(2));
    let engine = Engine::new(&m);
    // One instance slot for all, so that each finds what another one left.
    let shapes = [
        module().memory(1, None).memory(2, None).build(),
        module().memory(3, None).table(5, None).build(),
        module().build(),
        module().memory(1, Some(1)).id(None).build(),
        module().memory(2, Some(2)).table(1000, None).id(None).build(),
    ];
    for code in shapes.iter().chain(shapes.iter().rev()).chain(&shapes) {
        let instance = engine.instantiate(code).unwrap();
        for (index, ty) in code.module().defined_memories() {
            assert_eq!(instance.memories()[index].ty(), ty);
            assert_eq!(instance.memories()[index].size(), ty.minimum);
        }
        assert_eq!(instance.memories().len(), code.module().num_defined_memories());
        assert_eq!(instance.tables().len(), code.module().num_defined_tables());
        engine.end(instance);
        assert_eq!((pools_of(&m).memories, pools_of(&m).tables), (0, 0));
    }
}

fn purged<A: TestArch>() {
    let m = machine::<A>(few(2));
    let engine = Engine::new(&m);
    for round in 1..5 {
        let code = module().memory(round, None).data(0, 0, b"mine").id(Some(42)).build();
        for _ in 0..2 {
            let instance = engine.instantiate(&code).unwrap();
            assert_eq!(instance.memory_size(memory(0)), Ok(round));
            assert_eq!(bytes(&instance, memory(0), 0, 5), *b"mine\0");
            engine.end(instance);
        }
        engine.instances.purge_module(code.unique_id().unwrap());
        assert_eq!(pools_of(&m).memories, 0);
    }
}

/// A purge finds no slot whose instance lives, nor one that another module asked for since.
fn purged_meanwhile<A: TestArch>() {
    let large = module().functions(3 * PAGE / 32).id(None).build();
    for outlived in [true, false] {
        let m = machine::<A>(
            few(2).total_core_instances(1).max_memories_per_module(2).max_core_instance_size(2 * PAGE),
        );
        let engine = Engine::new(&m);
        let references = TableType { element: TableElementType::GcRef, minimum: 10, maximum: None };
        let old = module().memory(1, Some(4)).memory(1, None).table_type(references).id(Some(42)).build();
        let new = module().memory(2, Some(2)).table(20, None).functions(1).id(Some(42)).build();
        let instance = engine.instantiate(&old).unwrap();
        if outlived {
            engine.instances.purge_module(old.unique_id().unwrap());
            engine.end(instance);
        } else {
            engine.end(instance);
            engine.instantiate(&large).expect_err("its context is larger than a slot's");
            engine.instances.purge_module(old.unique_id().unwrap());
        }
        let mut instance = engine.instantiate(&new).unwrap();
        let memories: Vec<_> = instance.memories().values().map(|memory| *memory.ty()).collect();
        assert_eq!(memories, [MemoryType::new(2, Some(2))]);
        let tables: Vec<_> = instance.tables().values().map(|table| *table.ty()).collect();
        assert_eq!(tables, [TableType::functions(20, None)]);
        assert_eq!(instance.memory_size(memory(0)), Ok(2));
        assert_eq!(instance.table_size(table(0)), Ok(20));
        instance.func_ref(FuncIndex::from_u32(0)).unwrap();
        engine.end(instance);
        assert_eq!((pools_of(&m).memories, pools_of(&m).tables), (0, 0));
    }
}

/// The steps of an allocator are anybody's to call, with whatever maps.
fn foreign<A: TestArch>() {
    let [m, other] = [(); 2].map(|()| machine::<A>(few(1)));
    let engine = Engine::new(&m);
    let instance = engine.instantiate(&plain()).unwrap();
    // In slots of the same numbers, that are used as often.
    let ty = TableType::functions(10, None);
    let mut memories: PrimaryMap<_, _> =
        [Memory::new_static(&other.allocator, &MemoryType::new(1, None), None, None).unwrap()]
            .into_iter()
            .collect();
    let mut tables: PrimaryMap<_, _> =
        [Table::new_static(&other.allocator, &ty, None, None).unwrap()].into_iter().collect();
    engine.instances.deallocate_memories(instance.index(), &mut memories);
    engine.instances.deallocate_tables(instance.index(), &mut tables);
    assert_eq!((pools_of(&m).memories, pools_of(&m).tables), (1, 1));
    assert_eq!((pools_of(&other).memories, pools_of(&other).tables), (0, 0));
    assert_eq!(engine.load(&instance, 0), Ok(0));
    engine.end(instance);
}

fn changed<A: TestArch>() {
    let m = machine::<A>(few(2));
    let engine = Engine::new(&m);
    let code = module().memory(1, None).table(10, None).id(None).build();
    let instance = engine.instantiate(&code).unwrap();
    let index = instance.index();
    let (small, functions) = (MemoryType::new(1, None), TableType::functions(10, None));
    let mut memories: PrimaryMap<_, _> =
        [Memory::new_static(&m.allocator, &small, None, None).unwrap()].into_iter().collect();
    let mut tables: PrimaryMap<_, _> =
        [Table::new_static(&m.allocator, &functions, None, None).unwrap()].into_iter().collect();
    // Each slot has 1 MiB and 1000 elements.
    for memory in memories.values_mut() {
        if let Memory::Static { ty, .. } = memory {
            ty.minimum = 20;
        }
    }
    for table in tables.values_mut() {
        if let Table::Static { ty, .. } = table {
            ty.minimum = 2000;
        }
    }
    engine.instances.deallocate_memories(index, &mut memories);
    engine.instances.deallocate_tables(index, &mut tables);
    let mut request = request(&code);
    let error = engine.instances.allocate_memories(index, &mut request, &mut memories).unwrap_err();
    let too_large = Error::MemoryTooLarge { requested: 20 * WASM_PAGE, limit: MIB };
    assert_eq!(error, InstanceError::Resource(too_large));
    let error = engine.instances.allocate_tables(index, &mut request, &mut tables).unwrap_err();
    assert_eq!(error, InstanceError::Resource(Error::TableTooLarge { requested: 2000, limit: 1000 }));
    engine.end(instance);
}

fn exchanged<A: TestArch>() {
    let m = machine::<A>(few(2));
    let [first, second] = [(); 2].map(|()| PoolingInstanceAllocator::new(&m.allocator).unwrap());
    let code = plain();
    let mut instance = second.allocate(request(&code)).unwrap();
    instance.initialize().unwrap();
    let ready = first.allocate_vmctx(instance.index(), &request(&code)).unwrap();
    second.deallocate_vmctx(instance.index(), ready);
    drop(second);
    assert_eq!(instance.memory_size(memory(0)), Ok(1));
    assert_eq!(bytes(&instance, memory(0), 0, 4), [0; 4]);
}

fn request(code: &Code) -> InstanceAllocationRequest<'_> {
    InstanceAllocationRequest {
        runtime_info: code,
        imports: Imports::none(),
        host_state: Box::new(()),
        store: StorePtr::empty(),
    }
}

fn dropped<A: TestArch>() {
    let m = machine::<A>(few(2));
    let before = m.allocator.metrics();
    let code = plain();
    for _ in 0..3 {
        let engine = Engine::new(&m);
        let instance = engine.instantiate(&code).unwrap();
        engine.end(instance);
        drop(engine);
        let after = m.allocator.metrics();
        assert_eq!((after.regions, after.free_memories), (before.regions, before.free_memories));
        assert_eq!(after.available_frames, before.available_frames);
    }
    // One that has an instance left keeps what that needs.
    let left = PoolingInstanceAllocator::new(&m.allocator).unwrap();
    let engine = Engine { m: &m, instances: Box::new(left), images: false };
    let instance = engine.instantiate(&code).unwrap();
    drop(engine);
    assert_eq!(bytes(&instance, memory(0), 0, 4), [0; 4]);
    assert_eq!(instance.memory_size(memory(0)), Ok(1));
}

fn contended<A: TestArch>() {
    let m = machine::<A>(few(4));
    let engine = Engine::settled(&m);
    let codes = [plain(), plain()];
    together(2, |worker| {
        for round in 0..if cfg!(target_os = "none") { 400 } else { 60 } {
            // Never more than four at once: each must have its own.
            let mut instance = engine.instantiate(&codes[(worker + round) % 2]).unwrap();
            assert_eq!(bytes(&instance, memory(0), 0, 64), [0; 64]);
            instance.memory_fill(memory(0), 0, 0xaa, 64).unwrap();
            let other = m.allocator.allocate_memory(WASM_PAGE).unwrap();
            assert_eq!(m.load(&other, 63), Ok(0));
            m.store(&other, 63, 0xbb).unwrap();
            if round % 2 == 0 {
                engine.end(instance);
                m.allocator.deallocate_memory(other);
            } else {
                m.allocator.deallocate_memory(other);
                engine.end(instance);
            }
        }
    });
    let metrics = pools_of(&m);
    assert_eq!((metrics.memories, metrics.tables, metrics.core_instances), (0, 0, 0));
    assert_eq!(m.allocator.metrics().free_memories, 4);
}
