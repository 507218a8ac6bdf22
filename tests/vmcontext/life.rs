//! How long a context lasts, and who has it next.

use alloc::{boxed::Box, string::String};
use core::mem::offset_of;

use allotment::{
    arch::VirtAddr,
    instance::{
        ConstExpr, DataIndex, ElemIndex, EntityIndex, FuncIndex, FuncRefIndex, GlobalIndex, Imports,
        InstanceAllocationRequest, InstanceError, StorePtr, TableElement, VMContext, ValRaw, ValType,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, cpus, pool, pooled},
    few,
    links::{word, words},
    module::{Engine, by_either_strategy, memory, module, table},
};

pub(crate) fn not_found<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().functions(1).memory(1, None).table(1, None).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let (m, t, null) = (memory(1), table(1), TableElement::FuncRef(None));
        let missing = |what| Some(InstanceError::NotFound { what, index: 1 });
        assert_eq!(instance.memory_definition(m).err(), missing("memory"));
        assert_eq!(instance.memory_size(m).err(), missing("memory"));
        assert_eq!(instance.memory_grow(m, 0, None).err(), missing("memory"));
        assert_eq!(instance.memory_needs_bounds_checks(m).err(), missing("memory"));
        assert_eq!(instance.shared_memory(m).err(), missing("memory"));
        assert_eq!(instance.memory_fill(m, 0, 0, 0).err(), missing("memory"));
        assert_eq!(instance.memory_copy(m, 0, memory(0), 0, 0).err(), missing("memory"));
        assert_eq!(instance.memory_copy(memory(0), 0, m, 0, 0).err(), missing("memory"));
        assert_eq!(instance.read_memory(m, 0, &mut []).err(), missing("memory"));
        assert_eq!(instance.write_memory(m, 0, &[]).err(), missing("memory"));
        assert_eq!(instance.table_size(t).err(), missing("table"));
        assert_eq!(instance.table_get(t, 0).err(), missing("table"));
        assert_eq!(instance.table_set(t, 0, null).err(), missing("table"));
        assert_eq!(instance.table_fill(t, 0, null, 0).err(), missing("table"));
        assert_eq!(instance.table_copy(t, 0, table(0), 0, 0).err(), missing("table"));
        assert_eq!(instance.table_grow(t, 0, null, None).err(), missing("table"));
        assert_eq!(instance.func_ref(FuncIndex::new(1)).err(), missing("function"));
        let (data, elements) = (DataIndex::new(1), ElemIndex::new(1));
        assert_eq!(instance.data_drop(data).err(), missing("data segment"));
        assert_eq!(instance.memory_init(memory(0), data, 0, 0, 0).err(), missing("data segment"));
        assert_eq!(instance.elem_drop(elements).err(), missing("element segment"));
        assert_eq!(instance.table_init(table(0), elements, 0, 0, 0).err(), missing("element segment"));
        for (index, what) in [
            (EntityIndex::Function(FuncIndex::new(1)), "function"),
            (EntityIndex::Table(t), "table"),
            (EntityIndex::Memory(m), "memory"),
            (EntityIndex::Global(GlobalIndex::new(1)), "global"),
        ] {
            assert_eq!(instance.export(index).err(), missing(what));
        }
        // Their neighbours are there.
        instance.memory_fill(memory(0), 0, 0, 0).unwrap();
        instance.table_fill(table(0), 0, null, 1).unwrap();
        engine.end(instance);
    });
}

pub(crate) fn words_and_states<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().memory(1, None).build();
        for round in 0..3u64 {
            let request = InstanceAllocationRequest {
                runtime_info: &code,
                imports: Imports::none(),
                host_state: Box::new(String::from("state")),
                store: StorePtr::empty(),
            };
            let mut instance = engine.instances.allocate(request).unwrap();
            assert_eq!(instance.embedder(), Ok(0), "the last one's word in round {round}");
            instance.set_embedder(round + 1).unwrap();
            instance.initialize().unwrap();
            assert_eq!(instance.embedder(), Ok(round + 1));
            let at = instance.vmctx().offset(offset_of!(VMContext, embedder));
            assert_eq!(word(engine.m, at), round + 1);
            instance.host_state_mut().unwrap().downcast_mut::<String>().unwrap().push('!');
            assert_eq!(instance.host_state().unwrap().downcast_ref::<String>().unwrap(), "state!");
            assert!(instance.host_state().unwrap().downcast_ref::<u32>().is_none());
            engine.end(instance);
        }
    });
}

/// A large context of one module, then those of others in the same place.
pub(crate) fn next_tenant<A: TestArch>() {
    let config = pooled(pool(1, MIB).total_tables(1).total_core_instances(1));
    let m = Machine::<A>::new(&config, 8 * MIB);
    let engine = Engine::new(&m);
    let mut large = module().functions(3 * PAGE / 32).memory(1, None).table(4, None);
    for _ in 0..20 {
        large = large.global(ValType::I64, ConstExpr::constant(ValRaw::i64(-1)));
    }
    let large = large.passive_data(b"x").passive_elements(&[0]).build();
    let small = module().functions(2).memory(1, None).table(4, None).build();
    for code in [&large, &small, &large, &small, &small] {
        let instance = engine.allocate(code, Imports::none(), None).unwrap();
        let (vmctx, offsets) = (instance.vmctx(), code.module().offsets());
        for number in 0..code.module().num_func_refs {
            let place = vmctx.offset(offsets.func_ref(FuncRefIndex::new(number)));
            assert_eq!(words(&m, place), [0; 4], "reference {number}");
        }
        for number in 0..code.module().globals.len() {
            assert_eq!(instance.global(GlobalIndex::new(number)), Ok(ValRaw(0)));
        }
        // Up to its end, as far as it is accessible.
        let end = offsets.vmctx_size();
        for at in (end.next_multiple_of(8)..instance.vmctx_capacity()).step_by(8) {
            assert_eq!(word(&m, vmctx.offset(at)), 0, "{at} bytes into the context");
        }
        let mut instance = instance;
        instance.initialize().unwrap();
        for number in 0..code.module().functions.len() {
            instance.func_ref(FuncIndex::new(number)).unwrap();
        }
        if code.module().data.len() == 1 {
            // Not dropped, whoever had the bit before.
            instance.memory_init(memory(0), DataIndex::new(0), 0, 0, 1).unwrap();
            instance.table_init(table(0), ElemIndex::new(0), 0, 0, 1).unwrap();
            instance.data_drop(DataIndex::new(0)).unwrap();
            instance.elem_drop(ElemIndex::new(0)).unwrap();
        }
        engine.end(instance);
    }
}

/// An instance that works on one CPU after the other.
pub(crate) fn other_cpus<A: TestArch>() {
    by_either_strategy(pool(1, MIB).total_tables(1).total_core_instances(1), |engine: &Engine<'_, A>| {
        let code = module()
            .functions(4)
            .memory(1, None)
            .table(4, None)
            .elements(0, 0, &[0, 1, 2, 3])
            .global(ValType::I64, ConstExpr::constant(ValRaw::i64(0)))
            .build();
        for round in 0..12 {
            let instance = spin::Mutex::new(engine.instantiate(&code).unwrap());
            for step in 0..4u32 {
                let cpu = (round + 3 * step as usize) % cpus();
                engine.m.allocator.arch().on_cpu(cpu, || {
                    let mut instance = instance.lock();
                    instance.arrive().unwrap();
                    let counter = GlobalIndex::new(0);
                    assert_eq!(instance.global(counter), Ok(ValRaw::i64(step.into())));
                    instance.set_global(counter, ValRaw::i64(i64::from(step) + 1)).unwrap();
                    let pages = instance.memory_grow(memory(0), 1, None).unwrap();
                    assert_eq!(pages, Some(u64::from(step) + 1));
                    instance.memory_fill(memory(0), 0, 0xfe, 3 * 65536 / 2).unwrap();
                    let function = FuncIndex::from_u32(step);
                    let element = instance.table_get(table(0), step.into()).unwrap();
                    assert_eq!(element, TableElement::FuncRef(instance.func_ref(function).ok()));
                });
            }
            engine.end(instance.into_inner());
        }
    });
}

/// What a purge takes from a context no CPU still believes to have.
pub(crate) fn purged<A: TestArch>() {
    let config = pooled(pool(1, MIB).total_tables(1).total_core_instances(1));
    let m = Machine::<A>::new(&config, 8 * MIB);
    let engine = Engine::new(&m);
    for round in 0..8 {
        let code = module().functions(3 * PAGE / 32).memory(1, None).build();
        let instance = spin::Mutex::new(engine.instantiate(&code).unwrap());
        m.allocator.arch().on_cpu(round % cpus(), || {
            let mut instance = instance.lock();
            instance.arrive().unwrap();
            for number in 0..code.module().functions.len() {
                instance.func_ref(FuncIndex::new(number)).unwrap();
            }
            instance.set_embedder(7).unwrap();
        });
        let instance = instance.into_inner();
        let VirtAddr(vmctx) = instance.vmctx();
        engine.end(instance);
        engine.instances.purge_module(code.unique_id().unwrap());
        m.allocator.arch().on_cpu((round + 1) % cpus(), || {
            m.load_at(VirtAddr(vmctx)).unwrap_err();
            m.load_at(VirtAddr(vmctx + PAGE as u64)).unwrap_err();
        });
    }
}
