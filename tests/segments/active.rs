//! Segments that are copied when the instance is initialised.

use allotment::{
    Config,
    instance::{
        ConstExpr, ConstOp, GlobalIndex, Imports, InstanceError, MemoryType, SegmentMode, TableElement, Trap,
        ValRaw, ValType, cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE},
    in_every_way,
    links::{self, global_at, memory_at, table_at},
    module::{Engine, bytes, memory, module, table},
};

/// The first byte beyond a memory of one page.
const WASM_END: i32 = 65536;

const OUT: InstanceError = InstanceError::Trap(Trap::MemoryOutOfBounds);

pub(crate) fn order<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module()
            .memory(1, None)
            .data(0, 10, b"aaaaaa")
            .data(0, 12, b"bb")
            .passive_data(b"zzzzzz")
            .data(0, 13, b"cc")
            .data(0, 4094, b"over a page")
            .data(0, WASM_END - 1, b"!")
            .data(0, WASM_END, b"")
            .build();
        let instance = engine.instantiate(&code).unwrap();
        assert_eq!(bytes(&instance, memory(0), 8, 10), b"\0\0aabcca\0\0");
        assert_eq!(bytes(&instance, memory(0), 4094, 11), b"over a page");
        assert_eq!(engine.load(&instance, WASM_PAGE as u64 - 1), Ok(b'!'));
        engine.end(instance);
    });
}

pub(crate) fn places<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let host = module().global(ValType::I32, ConstExpr::constant(ValRaw::i32(0x100)));
        let host = engine.instantiate(&host.export("g", global_at(0)).build()).unwrap();
        let globals = [links::global(&host, "g")];
        // SAFETY: `host` lives until the end.
        let imports = unsafe { Imports::new(&[], &[], &[], &globals) };
        let global = ConstOp::GlobalGet(GlobalIndex::new(0));
        let at = |ops: &[ConstOp]| SegmentMode::Active(memory(0), ConstExpr::new(ops));
        let eight = ConstOp::Const(ValRaw::i32(8));
        let code = module()
            .import_global(ValType::I32)
            .memory(1, None)
            .global(ValType::I32, ConstExpr::new([global, eight, ConstOp::I32Mul]))
            .data_segment(at(&[global]), b"one")
            .data_segment(at(&[ConstOp::GlobalGet(GlobalIndex::new(1))]), b"two")
            .data_segment(at(&[global, eight, ConstOp::I32Sub]), b"three")
            .build();
        let instance = engine.instantiate_with(&code, imports, None).unwrap();
        assert_eq!(bytes(&instance, memory(0), 0x100, 4), b"one\0");
        assert_eq!(bytes(&instance, memory(0), 0x800, 4), b"two\0");
        assert_eq!(bytes(&instance, memory(0), 0xf8, 6), b"three\0");
        engine.end(instance);
        engine.end(host);
    });
}

pub(crate) fn negative<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        for offset in [-1, -4, i32::MIN] {
            let code = module().memory(1, None).data(0, offset, b"x").build();
            assert_eq!(engine.instantiate(&code).map(|_| ()), Err(OUT));
            // Its context stays ready.
            let before = engine.counts();
            assert_eq!(engine.instantiate(&code).map(|_| ()), Err(OUT));
            assert_eq!(engine.counts(), before);
            // Not even nothing.
            let code = module().memory(1, None).data(0, offset, b"").build();
            assert_eq!(engine.instantiate(&code).map(|_| ()), Err(OUT));
            let code = module().functions(1).table(1, None).elements(0, offset, &[0]).build();
            let out = Err(InstanceError::Trap(Trap::TableOutOfBounds));
            assert_eq!(engine.instantiate(&code).map(|_| ()), out);
        }
        let code = module().memory(1, None).data(0, 0, b"x").build();
        engine.end(engine.instantiate(&code).unwrap());
    });
}

/// Those before it are seen in what others lent.
pub(crate) fn traps<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let lender = module().memory(1, None).table(4, None);
        let lender = lender.export("m", memory_at(0)).export("t", table_at(0)).build();
        let mut lender = engine.instantiate(&lender).unwrap();
        let (memories, tables) = ([links::memory(&lender, "m")], [links::table(&lender, "t")]);
        // SAFETY: `lender` lives until the end.
        let imports = unsafe { Imports::new(&[], &tables, &memories, &[]) };
        let importing = || {
            let importing = module().import_memory(MemoryType::new(1, None));
            importing.import_table(allotment::instance::TableType::functions(4, None)).functions(2)
        };
        let last = WASM_END - 2;
        let code = importing().data(0, 0, b"in").data(0, last, b"out").data(0, 4, b"never").build();
        assert_eq!(engine.instantiate_with(&code, imports, None).map(|_| ()), Err(OUT));
        assert_eq!(bytes(&lender, memory(0), 0, 8), b"in\0\0\0\0\0\0");
        assert_eq!(bytes(&lender, memory(0), last as u64, 2), [0; 2], "not a part of it either");

        let code = importing().elements(0, 1, &[1]).elements(0, 3, &[0, 1]).elements(0, 0, &[0]);
        // Kept, for its function stands in another's table.
        let mut user = engine.allocate(&code.build(), imports, None).unwrap();
        let out = Err(InstanceError::Trap(Trap::TableOutOfBounds));
        assert_eq!(user.initialize(), out);
        let f = TableElement::FuncRef(user.func_ref(allotment::instance::FuncIndex::new(1)).ok());
        let null = TableElement::FuncRef(None);
        for (at, element) in [null, f, null, null].into_iter().enumerate() {
            assert_eq!(lender.table_get(table(0), at as u64), Ok(element));
        }
        engine.end(user);
        engine.end(lender);
    });
}

pub(crate) fn elements_first<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let both = module().functions(1).memory(1, None).table(1, None);
        let code = both.data(0, -1, b"x").elements(0, 1, &[0]).build();
        let out = Err(InstanceError::Trap(Trap::TableOutOfBounds));
        assert_eq!(engine.instantiate(&code).map(|_| ()), out, "the elements' trap is the first");
    });
}

pub(crate) fn missing_bytes<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        for range in [0..6, 5..6, 6..6, usize::MAX..usize::MAX] {
            let mut builder = module().memory(1, None).data(0, 0, b"12345");
            builder.info.data.values_mut().for_each(|segment| segment.data = range.clone());
            assert_eq!(engine.instantiate(&builder.build()).map(|_| ()), Err(OUT), "{range:?}");
            let mut builder = module().memory(1, None).passive_data(b"12345");
            builder.info.data.values_mut().for_each(|segment| segment.data = range.clone());
            let mut instance = engine.instantiate(&builder.build()).unwrap();
            let segment = allotment::instance::DataIndex::new(0);
            assert_eq!(instance.memory_init(memory(0), segment, 0, 0, 1), Err(OUT), "{range:?}");
            engine.end(instance);
        }
    });
}

pub(crate) fn imported<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let lender = module().memory(1, Some(4)).data(0, 0, b"first").export("m", memory_at(0)).build();
        let mut lender = engine.instantiate(&lender).unwrap();
        // Beyond what the type says, in what it grew.
        assert_eq!(lender.memory_grow(memory(0), 1, None), Ok(Some(1)));
        let memories = [links::memory(&lender, "m")];
        // SAFETY: `lender` lives until the end.
        let imports = unsafe { Imports::new(&[], &[], &memories, &[]) };
        let code = module()
            .import_memory(MemoryType::new(1, Some(4)))
            .memory(1, None)
            .data(0, 1, b"a")
            .data(1, 1, b"b")
            .data(0, WASM_END, b"c")
            .build();
        let user = engine.instantiate_with(&code, imports, None).unwrap();
        assert_eq!(bytes(&lender, memory(0), 0, 5), b"farst");
        assert_eq!(bytes(&lender, memory(0), WASM_PAGE as u64, 2), b"c\0");
        assert_eq!(bytes(&user, memory(1), 0, 3), b"\0b\0");
        engine.end(user);
        assert_eq!(bytes(&lender, memory(0), 0, 5), b"farst");
        engine.end(lender);
    });
}

/// Places have as many bits as the memory's addresses.
pub(crate) fn memory64<A: TestArch>() {
    let m = Machine::<A>::new(&Config::new(), 8 * MIB);
    let engine = Engine::new(&m);
    let wide = MemoryType { memory64: true, ..MemoryType::new(1, None) };
    let at = |offset| SegmentMode::Active(memory(0), ConstExpr::constant(ValRaw::i64(offset)));
    let code = module().memory_type(wide).data_segment(at(0x123), b"x").build();
    let instance = engine.instantiate(&code).unwrap();
    assert_eq!(bytes(&instance, memory(0), 0x123, 1), b"x");
    engine.end(instance);
    for far in [1 << 32, (1 << 32) + 0x123, -1, i64::MIN] {
        let code = module().memory_type(wide).data_segment(at(far), b"x").build();
        assert_eq!(engine.instantiate(&code).map(|_| ()), Err(OUT), "{far:#x}");
    }
}
