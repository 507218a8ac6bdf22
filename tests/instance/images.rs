//! What instances begin with: segments of data and of elements, also by turns with
//! instances that have none.

use alloc::{sync::Arc, vec, vec::Vec};

use allotment::{
    Backing, Commit, CompiledModuleId, Config,
    instance::{
        DataIndex, EntityIndex, Export, FuncIndex, Imports, Instance, MemoryType, TableElement, Trap,
    },
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pooled},
    module::{Code, Engine, bytes, memory, module, table, with_and_without_images},
    world::few,
};

pub(crate) fn data<A: TestArch>() {
    with_and_without_images(few(), |engine: &Engine<'_, A>| {
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
    with_and_without_images(few(), |engine: &Engine<'_, A>| {
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
    with_and_without_images(few().total_memories(1), |engine: &Engine<'_, A>| {
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
    with_and_without_images(few(), |engine: &Engine<'_, A>| {
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

/// Instances that show images take no copies, and what fails of them leaves nothing.
pub(crate) fn shared_by_instances<A: TestArch>() {
    // The host's own first writes: see `with_and_without_images`.
    if cfg!(target_os = "none") {
        return;
    }
    for backing in [Backing::Fixed, Backing::Elastic(Commit::Strict)] {
        let m = Machine::<A>::new(&pooled(few().backing(backing)), 24 * MIB);
        let engine = Engine::new(&m);
        let prepare = |code: &Code| engine.instances.prepare_images(&**code);
        let code = module().memory(2, None).data(0, 5000, b"shown").id(Some(7)).build();
        assert_eq!((prepare(&code), prepare(&code)), (Ok(true), Ok(true)));
        for _ in 0..3 {
            let mut first = engine.instantiate(&code).unwrap();
            let second = engine.instantiate(&code).unwrap();
            first.write_memory(memory(0), 5000, b"drown").unwrap();
            assert_eq!(bytes(&first, memory(0), 4999, 7), b"\0drown\0");
            assert_eq!(bytes(&second, memory(0), 4999, 7), b"\0shown\0");
            engine.end(first);
            engine.end(second);
        }
        // Its elements trap: its data was there before it was looked at.
        let trapping = module().memory(2, None).data(0, 5000, b"secret").table(1, None).functions(1);
        let trapping = trapping.elements(0, 1, &[0]).build();
        assert_eq!(prepare(&trapping), Ok(true));
        let plain = module().memory(2, None).build();
        for _ in 0..3 {
            assert_eq!(engine.instantiate(&trapping).map(|_| ()), Err(Trap::TableOutOfBounds.into()));
            for (code, expected) in [(&plain, &[0; 6]), (&code, b"shown\0")] {
                let instance = engine.instantiate(code).unwrap();
                assert_eq!(bytes(&instance, memory(0), 5000, 6), expected);
                engine.end(instance);
            }
        }
        // Another module of that number, once the first is gone; whose instance lives still.
        let old = engine.instantiate(&code).unwrap();
        engine.instances.purge_module(CompiledModuleId(7));
        let other = module().memory(2, None).data(0, 5000, b"other").id(Some(7)).build();
        assert_eq!(prepare(&other), Ok(true));
        let new = engine.instantiate(&other).unwrap();
        assert_eq!(bytes(&new, memory(0), 5000, 5), b"other");
        assert_eq!(bytes(&old, memory(0), 5000, 5), b"shown");
        engine.end(old);
        engine.end(new);
        let new = engine.instantiate(&other).unwrap();
        assert_eq!(bytes(&new, memory(0), 5000, 5), b"other");
        engine.end(new);
    }
}

/// Which modules have images is as the configuration says.
pub(crate) fn which_modules<A: TestArch>() {
    let prepared = |config: Config, code: &Code| {
        let m = Machine::<A>::new(&config, 8 * MIB);
        Engine::new(&m).instances.prepare_images(&**code)
    };
    let with_data = || module().memory(2, None).data(0, 0, b"a").data(0, 131_071, b"b");
    let (data, nameless) = (with_data().build(), with_data().id(None).build());
    let far = module().memory(1, None).data(0, 65536, b"x").build();
    let pools = pooled(few());
    assert_eq!(prepared(pools, &data), Ok(true));
    assert_eq!(prepared(pools, &nameless), Ok(false));
    assert_eq!(prepared(pools, &far), Ok(false));
    assert_eq!(prepared(pools.memory_init_cow(false), &data), Ok(false));
    assert_eq!(prepared(pools.memory_guaranteed_dense_image_size(WASM_PAGE), &data), Ok(false));
    assert_eq!(prepared(Config::new(), &data), Ok(false));
}
