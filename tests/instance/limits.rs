//! What an allocator refuses: before anything is made, and when nobody asked before.

use allotment::{
    Config, Error, MemoryError, ModuleError, PoolingAllocationConfig,
    instance::{ConstExpr, InstanceError, MemoryType, TableElement, Trap, ValRaw, ValType},
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE, pooled},
    module::{Code, Engine, by_either_strategy, bytes, memory, module, table},
    world::few,
};

pub(crate) fn memories<A: TestArch>() {
    let m = machine::<A>(few().max_memory_size(3 * WASM_PAGE));
    let engine = Engine::settled(&m);
    let two = module().memory(0, None).memory(0, None).build();
    assert_refused(
        &engine,
        &two,
        "the module defines 2 memories, the limit is 1; raise max_memories_per_module",
        InstanceError::TooMany { what: "memories", count: 2, limit: 1 },
    );
    let large = module().memory(4, None).build();
    assert_refused(
        &engine,
        &large,
        "memory 0 of the module fits no slot: a minimum of 0x40000 bytes exceeds the limit of 0x30000 bytes; \
         raise max_memory_size",
        Error::MemoryTooLarge { requested: 4 * WASM_PAGE, limit: 3 * WASM_PAGE }.into(),
    );
    assert_accepted(&engine, &module().memory(3, None).build());
    assert_accepted(&engine, &module().build());
}

pub(crate) fn tables<A: TestArch>() {
    let m = machine::<A>(few().table_elements(10));
    let engine = Engine::settled(&m);
    let two = module().table(0, None).table(0, None).build();
    assert_refused(
        &engine,
        &two,
        "the module defines 2 tables, the limit is 1; raise max_tables_per_module",
        InstanceError::TooMany { what: "tables", count: 2, limit: 1 },
    );
    let large = module().table(11, None).build();
    assert_refused(
        &engine,
        &large,
        "table 0 of the module begins with 11 elements, a slot holds 10; raise table_elements",
        Error::TableTooLarge { requested: 11, limit: 10 }.into(),
    );
    assert_accepted(&engine, &module().table(10, None).build());
}

pub(crate) fn size<A: TestArch>() {
    let mut builder = module().memory(1, None);
    for _ in 0..1000 {
        builder = builder.global(ValType::I64, ConstExpr::constant(ValRaw::i64(7)));
    }
    let code = builder.build();
    let size = code.module().offsets().size();
    {
        let m = machine::<A>(few().max_core_instance_size(size));
        assert_accepted(&Engine::new(&m), &code);
    }
    let m = machine::<A>(few().max_core_instance_size(size - 1));
    let engine = Engine::settled(&m);
    let Err(error) = engine.instances.validate(code.module()) else { panic!("it is too large by a byte") };
    assert!(matches!(error, ModuleError::InstanceTooLarge { limit, .. } if limit == size - 1), "{error}");
    let percent = 16_000 * 100 / size;
    let said = alloc::format!("{error}");
    let wanted = alloc::format!(
        "an instance of the module takes {size} bytes, the limit is {}; raise max_core_instance_size; of them \
         16000 bytes ({percent} %) for defined globals",
        size - 1
    );
    assert_eq!(said, wanted, "it says where the bytes go");
    let refused = engine.instantiate(&code).err();
    assert_eq!(refused, Some(InstanceError::TooLarge { size, limit: size - 1 }));
    assert_accepted(&engine, &module().memory(1, None).build());
}

pub(crate) fn shared<A: TestArch>() {
    let ty = MemoryType { shared: true, ..MemoryType::new(1, Some(2)) };
    let code = module().memory_type(ty).build();
    let m = machine::<A>(few());
    let engine = Engine::settled(&m);
    let refused = ModuleError::Memory { index: 0, error: MemoryError::Shared };
    assert_eq!(engine.instances.validate(code.module()), Err(refused));
    assert_eq!(engine.instantiate(&code).err(), Some(Error::SharedMemory.into()));
    assert_accepted(&engine, &module().memory(1, Some(2)).build());

    for allowed in [false, true] {
        let m = Machine::<A>::new(&Config::new().shared_memory(allowed), 8 * MIB);
        let engine = Engine::settled(&m);
        match engine.instantiate(&code) {
            Ok(instance) if allowed => engine.end(instance),
            Err(error) if !allowed => assert_eq!(error, Error::SharedMemory.into()),
            other => panic!("shared_memory is {allowed}: {other:?}"),
        }
    }
}

pub(crate) fn no_pages<A: TestArch>() {
    let m = machine::<A>(few().max_memory_size(0));
    let engine = Engine::settled(&m);
    let code = module().memory(0, None).build();
    for _ in 0..3 {
        let mut instance = engine.instantiate(&code).unwrap();
        for offset in [0, 1, 4095, 65535, 65536, (1 << 32) - 1] {
            engine.load(&instance, offset).expect_err("a memory of nothing was readable");
            engine.store(&instance, offset, 1).expect_err("a memory of nothing was writable");
        }
        assert_eq!(instance.memory_grow(memory(0), 0, None), Ok(Some(0)));
        assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(None));
        assert_eq!(instance.read_memory(memory(0), 0, &mut [0]), Err(Trap::MemoryOutOfBounds.into()));
        assert_eq!(instance.read_memory(memory(0), 0, &mut []), Ok(()));
        engine.end(instance);
    }
    let page = module().memory(1, None).build();
    let error = MemoryError::TooLarge { bytes: WASM_PAGE as u64, limit: 0 };
    assert_eq!(engine.instances.validate(page.module()), Err(ModuleError::Memory { index: 0, error }));
}

pub(crate) fn no_elements<A: TestArch>() {
    let m = machine::<A>(few().table_elements(0).max_memory_size(0));
    let engine = Engine::settled(&m);
    let code = module().table(0, None).memory(0, None).build();
    for _ in 0..3 {
        let mut instance = engine.instantiate(&code).unwrap();
        let null = TableElement::FuncRef(None);
        assert_eq!(instance.table_size(table(0)), Ok(0));
        assert_eq!(instance.table_get(table(0), 0), Err(Trap::TableOutOfBounds.into()));
        assert_eq!(instance.table_set(table(0), 0, null), Err(Trap::TableOutOfBounds.into()));
        assert_eq!(instance.table_fill(table(0), 0, null, 0), Ok(()));
        assert_eq!(instance.table_grow(table(0), 0, null, None), Ok(Some(0)));
        assert_eq!(instance.table_grow(table(0), 1, null, None), Ok(None));
        engine.end(instance);
    }
}

pub(crate) fn odd_sizes<A: TestArch>() {
    const BYTES: u64 = 761_927;
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let ty = MemoryType { page_size_log2: 0, ..MemoryType::new(BYTES, None) };
        let last = i32::try_from(BYTES - 1).unwrap();
        let code = module().memory_type(ty).data(0, last, b"!").build();
        for _ in 0..3 {
            let mut instance = engine.instantiate(&code).unwrap();
            assert_eq!(instance.memory_size(memory(0)), Ok(BYTES));
            assert_eq!(bytes(&instance, memory(0), BYTES - 2, 2), b"\0!");
            // The rest of the last page is accessible, so code has to compare.
            assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(true));
            let beyond = instance.write_memory(memory(0), BYTES - 1, b"??");
            assert_eq!(beyond, Err(Trap::MemoryOutOfBounds.into()));
            engine.load(&instance, BYTES.next_multiple_of(4096)).expect_err("beyond the last page");
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(BYTES)));
            assert_eq!(instance.write_memory(memory(0), BYTES - 1, b"??"), Ok(()));
            engine.end(instance);
        }
    });
}

fn machine<A: TestArch>(pool: PoolingAllocationConfig) -> Machine<A> {
    Machine::new(&pooled(pool), 8 * MIB)
}

/// Refused by validation with these words, and without it by its allocation, after which all is as
/// before.
fn assert_refused<A: TestArch>(engine: &Engine<'_, A>, code: &Code, words: &str, error: InstanceError) {
    let before = engine.counts();
    let refused = engine.instances.validate(code.module()).expect_err("it does not fit");
    assert_eq!(alloc::format!("{refused}"), words);
    assert_eq!(engine.instantiate(code).err(), Some(error));
    assert_eq!(engine.counts(), before);
}

fn assert_accepted<A: TestArch>(engine: &Engine<'_, A>, code: &Code) {
    assert_eq!(engine.instances.validate(code.module()), Ok(()));
    let instance = engine.instantiate(code).unwrap();
    engine.end(instance);
}
