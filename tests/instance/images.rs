//! What instances begin with: segments of data and of elements, also by turns with
//! instances that have none.

use alloc::{sync::Arc, vec, vec::Vec};

use allotment::{
    Config,
    instance::{DataIndex, EntityIndex, Export, FuncIndex, Imports, Instance, MemoryType, TableElement},
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pooled},
    module::{Code, Engine, by_either_strategy, bytes, memory, module, table},
    world::few,
};

pub(crate) fn data<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        // Across a page of 4 KiB, across one of 64 KiB, the last bytes, nothing, and one over another.
        let code = module()
            .memory(2, None)
            .data(0, 4094, b"a page")
            .data(0, 65534, b"wasm's")
            .data(0, 131_066, b"at end")
            .data(0, 131_072, b"")
            .data(0, 4095, b"-")
            .build();
        for _ in 0..3 {
            let instance = engine.instantiate(&code).unwrap();
            let mut expected = vec![0; 2 * WASM_PAGE];
            for (at, part) in [(4094, b"a-page"), (65534, b"wasm's"), (131_066, b"at end")] {
                expected[at..at + part.len()].copy_from_slice(part);
            }
            assert!(bytes(&instance, memory(0), 0, 2 * WASM_PAGE) == expected);
            assert_eq!(engine.load(&instance, 65536), Ok(b's'));
            engine.end(instance);
        }
    });
}

pub(crate) fn elements<A: TestArch>() {
    for lazy in [true, false] {
        for config in [pooled(few()), Config::new()] {
            let m = Machine::<A>::new(&config.table_lazy_init(lazy), 4 * MIB);
            let engine = Engine::new(&m);
            let code = module()
                .table(20, None)
                .functions(4)
                .elements(0, 2, &[0, 1, 2])
                .elements(0, 4, &[3])
                .elements(0, 10, &[0])
                .build();
            for _ in 0..3 {
                let mut instance = engine.instantiate(&code).unwrap();
                for index in 0..20 {
                    let function = match index {
                        2 | 10 => Some(0),
                        3 => Some(1),
                        4 => Some(3),
                        _ => None,
                    };
                    assert_eq!(element(&mut instance, index), function, "element {index}, lazy: {lazy}");
                }
                let null = TableElement::FuncRef(None);
                assert_eq!(instance.table_grow(table(0), 2, null, None), Ok(Some(20)));
                assert_eq!((element(&mut instance, 21), element(&mut instance, 10)), (None, Some(0)));
                engine.end(instance);
            }
        }
    }
}

/// Which of the first four functions an element is.
fn element<A: TestArch>(instance: &mut Instance<'_, A>, index: u64) -> Option<u32> {
    let element = instance.table_get(table(0), index).unwrap();
    let TableElement::FuncRef(Some(reference)) = element else {
        assert_eq!(element, TableElement::FuncRef(None));
        return None;
    };
    let is = |function: &u32| instance.func_ref(FuncIndex::from_u32(*function)) == Ok(reference);
    Some((0..4).find(is).expect("it is one of them"))
}

/// Whoever made the module lets go of it; its instance needs it still.
pub(crate) fn after_the_module<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().memory(1, None).passive_data(b"kept").data(0, 8, b"too").build();
        let watch = Arc::downgrade(&code);
        let mut instance = engine.instantiate(&code).unwrap();
        drop(code);
        // As an engine does that has dropped a module.
        let id = watch.upgrade().unwrap().unique_id().unwrap();
        engine.instances.purge_module(id);
        assert_eq!(instance.memory_init(memory(0), DataIndex::from_u32(0), 0, 0, 4), Ok(()));
        assert_eq!(bytes(&instance, memory(0), 0, 12), *b"kept\0\0\0\0too\0");
        engine.end(instance);
        assert_eq!(watch.strong_count(), 0, "somebody keeps the module");
    });
}

/// A slot whose instances begin by turns with data, with nothing, and with other data.
pub(crate) fn by_turns<A: TestArch>() {
    by_either_strategy(few().total_memories(1), |engine: &Engine<'_, A>| {
        let image = |byte: u8, at: usize, len: usize| {
            let code = module().memory(1, None).data(0, i32::try_from(at).unwrap(), &vec![byte; len]).build();
            let mut expected = vec![0; WASM_PAGE];
            expected[at..at + len].fill(byte);
            (code, expected)
        };
        let none = (module().memory(1, None).build(), vec![0; WASM_PAGE]);
        let (small, large) = (image(1, 10, 100), image(2, 50, 3 * PAGE));
        let far = image(3, WASM_PAGE - PAGE, PAGE);
        let turns: [&(Code, Vec<u8>); 10] =
            [&small, &none, &small, &large, &small, &far, &none, &none, &large, &none];
        for (turn, (code, expected)) in turns.into_iter().enumerate() {
            let mut instance = engine.instantiate(code).unwrap();
            assert!(bytes(&instance, memory(0), 0, WASM_PAGE) == *expected, "turn {turn}");
            // An image is this instance's own to write to.
            instance.memory_fill(memory(0), 0, 0xee, WASM_PAGE as u64).unwrap();
            assert_eq!(engine.load(&instance, 60), Ok(0xee));
            engine.end(instance);
        }
    });
}

/// The data of a module that imports one memory and defines another goes to the right one.
pub(crate) fn beside_an_import<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let exporter = module().memory(1, None).export("m", EntityIndex::Memory(memory(0))).build();
        let importer = module()
            .import_memory(MemoryType::new(1, None))
            .memory(2, None)
            .data(0, 0, b"theirs")
            .data(1, 65536, b"ours")
            .build();
        for _ in 0..3 {
            let theirs = engine.instantiate(&exporter).unwrap();
            let Ok(Some(Export::Memory { import, .. })) = theirs.lookup("m") else {
                panic!("it is exported")
            };
            // SAFETY: it lives until the other one is gone.
            let imports = unsafe { Imports::new(&[], &[], core::slice::from_ref(&import), &[]) };
            let ours = engine.instantiate_with(&importer, imports, None).unwrap();
            assert_eq!(ours.memories().len(), 1, "only one is its own");
            let bases = [0, 1].map(|number| ours.memory_definition(memory(number)).unwrap().base);
            assert_eq!(bases[0], theirs.memory_definition(memory(0)).unwrap().base);
            assert_ne!(bases[0], bases[1]);
            assert_eq!(bytes(&theirs, memory(0), 0, 6), b"theirs");
            assert_eq!(bytes(&ours, memory(0), 0, 6), b"theirs");
            assert_eq!(bytes(&ours, memory(1), 65536, 4), b"ours");
            assert_eq!(bytes(&ours, memory(1), 0, 6), [0; 6]);
            engine.end(ours);
            engine.end(theirs);
        }
    });
}
