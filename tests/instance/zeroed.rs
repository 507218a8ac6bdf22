//! What an instance wrote, the next one in its slots does not see.

use alloc::vec::Vec;

use allotment::{
    Error, PoolKind,
    instance::{
        ConstExpr, DataIndex, FuncIndex, GlobalIndex, Instance, InstanceError, SegmentMode, TableElement,
        TableElementType, TableType, Trap, ValRaw, ValType,
    },
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pooled},
    module::{Code, Engine, by_either_strategy, bytes, memory, module, table},
    world::few,
};

pub(crate) fn memories<A: TestArch>() {
    by_either_strategy(few().total_memories(1), |engine: &Engine<'_, A>| {
        // By turns the same module and another one.
        let (first, second) = (module().memory(3, None).build(), module().memory(3, None).build());
        for code in [&first, &first, &second, &first] {
            let mut instance = engine.instantiate(code).unwrap();
            assert_zeros(&all_bytes(&instance));
            instance.memory_fill(memory(0), 0, 0xfe, 3 * WASM_PAGE as u64).unwrap();
            // What it grew by, too.
            instance.memory_grow(memory(0), 1, None).unwrap();
            instance.memory_fill(memory(0), 3 * WASM_PAGE as u64, 0xfe, WASM_PAGE as u64).unwrap();
            engine.end(instance);
        }
        let mut instance = engine.instantiate(&first).unwrap();
        instance.memory_grow(memory(0), 1, None).unwrap();
        assert_zeros(&bytes(&instance, memory(0), 0, 4 * WASM_PAGE));
        engine.end(instance);
    });
}

pub(crate) fn tables<A: TestArch>() {
    by_either_strategy(few().total_tables(1), |engine: &Engine<'_, A>| {
        let functions = module().table(1000, None).functions(1).build();
        let references = TableType { element: TableElementType::GcRef, minimum: 2000, maximum: None };
        let references = module().table_type(references).build();
        for _ in 0..3 {
            let mut instance = engine.instantiate(&functions).unwrap();
            for index in 0..1000 {
                assert_eq!(instance.table_get(table(0), index), Ok(TableElement::FuncRef(None)));
            }
            let function = TableElement::FuncRef(Some(instance.func_ref(FuncIndex::from_u32(0)).unwrap()));
            instance.table_fill(table(0), 0, function, 1000).unwrap();
            assert_eq!(instance.table_get(table(0), 999), Ok(function));
            engine.end(instance);

            let mut instance = engine.instantiate(&references).unwrap();
            for index in 0..2000 {
                assert_eq!(instance.table_get(table(0), index), Ok(TableElement::GcRef(0)));
            }
            instance.table_fill(table(0), 0, TableElement::GcRef(u32::MAX), 2000).unwrap();
            engine.end(instance);
        }
    });
}

/// An instance that fails when it is initialised has written before.
pub(crate) fn after_a_failure<A: TestArch>() {
    by_either_strategy(few().total_memories(1).total_tables(1), |engine: &Engine<'_, A>| {
        let image = [0xee; 2 * PAGE];
        let fails = module().memory(1, None).data(0, 0, &image).data(0, 65535, &image).build();
        let beyond = SegmentMode::Active(table(0), ConstExpr::constant(ValRaw::i32(10)));
        let fails_earlier = module()
            .memory(1, None)
            .data(0, 0, &image)
            .table(10, None)
            .functions(1)
            .elements(0, 0, &[0; 10])
            .element_segment(beyond, &[0])
            .build();
        let empty = module().memory(1, None).table(10, None).build();
        let before = engine.counts();
        for (code, trap) in [(&fails, Trap::MemoryOutOfBounds), (&fails_earlier, Trap::TableOutOfBounds)] {
            for _ in 0..3 {
                assert_eq!(engine.instantiate(code).err(), Some(trap.into()));
                assert_eq!(engine.counts(), before);
                assert_empty(engine, &empty);
            }
        }
    });
}

/// An instance whose second memory is not to be had has the first one already.
pub(crate) fn after_half_an_allocation<A: TestArch>() {
    let pool = few().total_memories(2).max_memories_per_module(2);
    let m = Machine::<A>::new(&pooled(pool), 4 * MIB);
    let engine = Engine::settled(&m);
    let held = engine.instantiate(&module().memory(1, None).build()).unwrap();
    let writes = module().memory(1, None).data(0, 0, &[0xee; PAGE]).build();
    let two = module().memory(1, None).memory(1, None).build();
    let empty = module().memory(1, None).table(10, None).build();
    let limit = InstanceError::Resource(Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 2 });
    let before = engine.counts();
    for _ in 0..3 {
        engine.end(engine.instantiate(&writes).unwrap());
        assert_eq!(engine.instantiate(&two).err(), Some(limit));
        assert_eq!(engine.counts(), before);
        assert_empty(&engine, &empty);
    }
    engine.end(held);
}

/// The rest of an instance: globals, and which segments it dropped.
pub(crate) fn the_rest<A: TestArch>() {
    by_either_strategy(few().total_core_instances(1), |engine: &Engine<'_, A>| {
        let zero = ConstExpr::constant(ValRaw::i64(0));
        let code = module().memory(1, None).global(ValType::I64, zero.clone()).passive_data(b"again").build();
        let other = module().global(ValType::I64, zero.clone()).global(ValType::I64, zero).build();
        let (global, segment) = (GlobalIndex::from_u32, DataIndex::from_u32(0));
        for _ in 0..3 {
            let mut instance = engine.instantiate(&code).unwrap();
            assert_eq!(instance.global(global(0)), Ok(ValRaw::i64(0)));
            assert_eq!(instance.embedder(), Ok(0));
            instance.memory_init(memory(0), segment, 0, 0, 5).expect("the last user dropped it, not this");
            instance.data_drop(segment).unwrap();
            instance.memory_init(memory(0), segment, 0, 0, 5).expect_err("it is dropped");
            instance.set_global(global(0), ValRaw(u128::MAX)).unwrap();
            instance.set_embedder(7).unwrap();
            engine.end(instance);

            let instance = engine.instantiate(&other).unwrap();
            for number in 0..2 {
                assert_eq!(instance.global(global(number)), Ok(ValRaw::i64(0)));
            }
            engine.end(instance);
        }
    });
}

fn assert_empty<A: TestArch>(engine: &Engine<'_, A>, code: &Code) {
    let mut instance = engine.instantiate(code).unwrap();
    assert_zeros(&all_bytes(&instance));
    for index in 0..10 {
        assert_eq!(instance.table_get(table(0), index), Ok(TableElement::FuncRef(None)));
    }
    engine.end(instance);
}

fn all_bytes<A: TestArch>(instance: &Instance<'_, A>) -> Vec<u8> {
    let length = instance.memory_definition(memory(0)).unwrap().current_length;
    bytes(instance, memory(0), 0, usize::try_from(length).unwrap())
}

fn assert_zeros(bytes: &[u8]) {
    let at = bytes.iter().position(|&byte| byte != 0);
    assert_eq!(at, None, "the first byte that is not zero");
}
