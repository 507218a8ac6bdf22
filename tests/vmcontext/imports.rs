//! What instances export, and import from one another.

use alloc::vec::Vec;

use allotment::{
    Config,
    instance::{
        ConstExpr, EntityIndex, FuncIndex, Imports, InstanceError, MemoryType, TableType, VMFunctionImport,
        ValRaw, ValType, cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE},
    few,
    links::{self, function_at, global_at, memory_at, table_at},
    module::{Builder, Code, Engine, body_of, by_either_strategy, bytes, memory, module},
};

fn export_all(builder: Builder) -> Builder {
    builder
        .export("f", function_at(0))
        .export("t", table_at(0))
        .export("m", memory_at(0))
        .export("g", global_at(0))
}

fn middle() -> Code {
    let importing = module()
        .import_function()
        .import_table(TableType::functions(1, None))
        .import_memory(MemoryType::new(1, None))
        .import_global(ValType::I32);
    export_all(importing.memory(1, None)).build()
}

/// One defines, one exports again, one uses.
pub(crate) fn chain<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let builder = module().functions(1).table(1, None).memory(1, None);
        let builder = export_all(builder.global(ValType::I32, ConstExpr::constant(ValRaw::i32(3))));
        let id = builder.id;
        let first = engine.instantiate(&builder.build()).unwrap();
        let (mut given, mut instances) = (exports_of(&first), Vec::new());
        for _ in 0..2 {
            let (f, t, m, g) = given;
            let (f, t, m, g) = ([f], [t], [m], [g]);
            // SAFETY: all of them are `first`'s in the end, which lives longest.
            let imports = unsafe { Imports::new(&f, &t, &m, &g) };
            let instance = engine.instantiate_with(&middle(), imports, None).unwrap();
            let next = exports_of(&instance);
            assert_eq!(next, given, "what is exported again is what was imported");
            given = next;
            instances.push(instance);
        }
        let body = body_of(id, 0);
        let defined =
            VMFunctionImport { wasm_call: body.wasm_call, array_call: body.array_call, vmctx: first.vmctx() };
        assert_eq!(given.0, defined);
        assert_eq!(given.2.vmctx, first.vmctx());

        // The last one's growth and stores are the first one's.
        let last = instances.last_mut().unwrap();
        assert_eq!(last.memory_grow(memory(0), 1, None), Ok(Some(1)));
        last.write_memory(memory(0), WASM_PAGE as u64, b"far").unwrap();
        last.write_memory(memory(1), 0, b"own").unwrap();
        assert_eq!(bytes(&first, memory(0), WASM_PAGE as u64, 3), b"far");
        assert_eq!(bytes(&first, memory(0), 0, 3), [0; 3]);
        for instance in &instances {
            assert_eq!(instance.memory_size(memory(0)), Ok(2));
            assert_eq!(instance.memory_size(memory(1)), Ok(1));
        }
        instances.into_iter().rev().for_each(|instance| engine.end(instance));
        engine.end(first);
    });
}

type Exports = (
    VMFunctionImport,
    allotment::instance::VMTableImport,
    allotment::instance::VMMemoryImport,
    allotment::instance::VMGlobalImport,
);

fn exports_of<A: TestArch>(instance: &allotment::instance::Instance<'_, A>) -> Exports {
    (
        links::function(instance, "f"),
        links::table(instance, "t"),
        links::memory(instance, "m"),
        links::global(instance, "g"),
    )
}

pub(crate) fn names<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module()
            .functions(2)
            .memory(1, None)
            .export("b", memory_at(0))
            .export("", function_at(1))
            .export("a", function_at(0))
            .export("a\u{0}", function_at(0))
            .build();
        let instance = engine.instantiate(&code).unwrap();
        let all: Vec<_> = instance.exports().unwrap().collect();
        let f = |number| EntityIndex::Function(FuncIndex::new(number));
        let expected = [("", f(1)), ("a", f(0)), ("a\u{0}", f(0)), ("b", EntityIndex::Memory(memory(0)))];
        assert_eq!(all, expected);
        assert_eq!(links::function(&instance, "a"), links::function(&instance, "a\u{0}"));
        assert_ne!(links::function(&instance, "a"), links::function(&instance, ""));
        for missing in ["c", "B", " a", "aa"] {
            assert_eq!(instance.lookup(missing), Ok(None), "{missing:?}");
        }
        engine.end(instance);
    });
}

pub(crate) fn wrong_numbers<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let definer = export_all(
            module()
                .functions(1)
                .table(1, None)
                .memory(1, None)
                .global(ValType::I32, ConstExpr::constant(ValRaw::i32(3))),
        );
        let definer = engine.instantiate(&definer.build()).unwrap();
        let (f, t, m, g) = exports_of(&definer);
        let before = engine.counts();
        let (code, f, t, m, g) = (middle(), [f; 2], [t; 2], [m; 2], [g; 2]);
        // SAFETY: `definer` lives until the end.
        let give = |[a, b, c, d]: [usize; 4]| unsafe { Imports::new(&f[..a], &t[..b], &m[..c], &g[..d]) };
        for wrong in 0..4 {
            for given in [0, 2] {
                let imports = give(core::array::from_fn(|nth| if nth == wrong { given } else { 1 }));
                let what = ["functions", "tables", "memories", "globals"][wrong];
                let error = InstanceError::Imports { what, declared: 1, given };
                assert_eq!(engine.instantiate_with(&code, imports, None).map(|_| ()), Err(error));
                assert_eq!(engine.counts(), before, "nothing was made");
            }
        }
        let importer = engine.instantiate_with(&code, give([1; 4]), None).unwrap();
        engine.end(importer);
        engine.end(definer);
    });
}

/// Growth that moves a memory is seen through the definition by all.
pub(crate) fn moving<A: TestArch>() {
    let config = Config::new().memory_reservation(WASM_PAGE).memory_reservation_for_growth(WASM_PAGE);
    let m = Machine::<A>::new(&config, 8 * MIB);
    let engine = Engine::new(&m);
    let code = module().memory(1, None).data(0, 0, b"kept").export("m", memory_at(0)).build();
    let mut definer = engine.instantiate(&code).unwrap();
    let imported = [links::memory(&definer, "m")];
    // SAFETY: `definer` lives until the end.
    let imports = unsafe { Imports::new(&[], &[], &imported, &[]) };
    let code = module().import_memory(MemoryType::new(1, None)).build();
    let mut importer = engine.instantiate_with(&code, imports, None).unwrap();
    let mut moved = 0;
    for pages in 1..12 {
        let before = importer.memory_definition(memory(0)).unwrap();
        let one = if pages % 2 == 0 { &mut importer } else { &mut definer };
        assert_eq!(one.memory_grow(memory(0), 1, None), Ok(Some(pages)));
        let after = importer.memory_definition(memory(0)).unwrap();
        assert_eq!(definer.memory_definition(memory(0)), Ok(after));
        assert_eq!(after.current_length, (pages + 1) * WASM_PAGE as u64);
        moved += usize::from(before.base != after.base);
        for instance in [&definer, &importer] {
            assert_eq!(bytes(instance, memory(0), 0, 4), b"kept");
            engine.load(instance, after.current_length - 1).unwrap();
        }
    }
    assert!(moved > 2, "it moved {moved} times");
    engine.end(importer);
    engine.end(definer);
}
