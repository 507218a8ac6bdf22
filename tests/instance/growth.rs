//! How memories and tables grow, what faults before and after, and how a slot is
//! once more what it was.

use allotment::{
    Backing, Commit, Config, Error,
    instance::{InstanceError, MemoryType, TableElement, Trap},
};

use crate::{
    common::{Fault, MIB, Machine, PAGE, TestArch, WASM_PAGE, pooled},
    module::{Engine, Heard, TestStore, by_either_strategy, bytes, memory, module, table},
    world::few,
};

pub(crate) fn to_the_end_of_the_slot<A: TestArch>() {
    let m = Machine::<A>::new(&pooled(few().max_memory_size(3 * WASM_PAGE)), 8 * MIB);
    let engine = Engine::new(&m);
    let (open, declared) = (module().memory(0, None).build(), module().memory(0, Some(3)).build());
    let limit = 3 * WASM_PAGE;
    let beyond = [
        (open, Error::MemoryTooLarge { requested: 4 * WASM_PAGE, limit }),
        (declared, Error::BeyondMaximum { requested: 4 * WASM_PAGE, maximum: limit }),
    ];
    for (code, error) in beyond {
        let mut store = TestStore::default();
        let mut instance = engine.instantiate(&code).unwrap();
        for pages in 0..3 {
            assert_eq!(instance.memory_size(memory(0)), Ok(pages));
            engine.load(&instance, pages * WASM_PAGE as u64).expect_err("one past the end was readable");
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(pages)));
            engine.store(&instance, (pages + 1) * WASM_PAGE as u64 - 1, 1).unwrap();
        }
        for delta in [1, 2, u64::MAX / WASM_PAGE as u64, u64::MAX] {
            assert_eq!(instance.memory_grow(memory(0), delta, None), Ok(None), "by {delta}");
            assert_eq!(instance.memory_size(memory(0)), Ok(3));
        }
        // The limiter is told why.
        assert_eq!(instance.memory_grow(memory(0), 1, Some(&mut store.ears)), Ok(None));
        assert_eq!(store.ears.take().last(), Some(&Heard::MemoryFailed(error.into())));
        engine.end(instance);
    }
}

pub(crate) fn to_the_end_of_the_table<A: TestArch>() {
    let m = Machine::<A>::new(&pooled(few().table_elements(10)), 8 * MIB);
    let engine = Engine::new(&m);
    let null = TableElement::FuncRef(None);
    for (maximum, most) in [(None, 10), (Some(7), 7)] {
        let code = module().table(0, maximum).build();
        let mut instance = engine.instantiate(&code).unwrap();
        for elements in 0..most {
            assert_eq!(instance.table_get(table(0), elements), Err(Trap::TableOutOfBounds.into()));
            assert_eq!(instance.table_grow(table(0), 1, null, None), Ok(Some(elements)));
            assert_eq!(instance.table_get(table(0), elements), Ok(null));
        }
        for delta in [1, u64::MAX / 8, u64::MAX] {
            assert_eq!(instance.table_grow(table(0), delta, null, None), Ok(None), "by {delta}");
            assert_eq!(instance.table_size(table(0)), Ok(most));
        }
        let mut store = TestStore::default();
        let grown = instance.table_grow(table(0), 1, null, Some(&mut store.ears));
        assert_eq!(grown, Ok(None));
        let requested = usize::try_from(most).unwrap() + 1;
        let error = Error::TableTooLarge { requested, limit: requested - 1 };
        assert_eq!(store.ears.take().last(), Some(&Heard::TableFailed(error.into())));
        engine.end(instance);
    }
}

pub(crate) fn guards<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().memory(1, Some(3)).build();
        for _ in 0..10 {
            let mut instance = engine.instantiate(&code).unwrap();
            assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(false), "guards are relied on");
            for pages in 1..=3 {
                let end = pages * WASM_PAGE as u64;
                assert_eq!(engine.load(&instance, end - 1), Ok(0));
                engine.store(&instance, end - 1, 0xee).unwrap();
                for beyond in [end, end + 4096, (1 << 32) - 1, (1 << 32) + 4095] {
                    let address = engine.address(&instance, memory(0), beyond);
                    assert_eq!(engine.load(&instance, beyond), Err(Fault(address)), "{pages} pages");
                    assert_eq!(engine.store(&instance, beyond, 1), Err(Fault(address)), "{pages} pages");
                }
                let grown = instance.memory_grow(memory(0), 1, None);
                assert_eq!(grown, Ok((pages < 3).then_some(pages)));
            }
            engine.end(instance);
        }
    });
}

pub(crate) fn shrunk<A: TestArch>() {
    let config = pooled(few().total_memories(1).max_memory_size(2 * MIB)).memory_guard_size(0);
    let m = Machine::<A>::new(&config, 8 * MIB);
    let engine = Engine::new(&m);
    let (grows, small) = (module().memory(0, None).build(), module().memory(5, None).build());
    for _ in 0..3 {
        let mut instance = engine.instantiate(&grows).unwrap();
        let base = instance.memory_definition(memory(0)).unwrap().base;
        assert_eq!(instance.memory_grow(memory(0), 20, None), Ok(Some(0)));
        engine.store(&instance, 15 * WASM_PAGE as u64, 0xee).unwrap();
        engine.end(instance);

        let instance = engine.instantiate(&small).unwrap();
        assert_eq!(instance.memory_definition(memory(0)).unwrap().base, base, "the slot is another one");
        engine.load(&instance, 15 * WASM_PAGE as u64).expect_err("what the last user had is accessible");
        engine.load(&instance, 5 * WASM_PAGE as u64).expect_err("one past the end was readable");
        assert_eq!(engine.load(&instance, 5 * WASM_PAGE as u64 - 1), Ok(0));
        engine.end(instance);
    }
}

pub(crate) fn explicit_checks<A: TestArch>() {
    const PAGES: u64 = 3;
    let bytes_of_slot = 3 * WASM_PAGE;
    for (guard, signals) in [(0, true), (0, false), (WASM_PAGE, true), (WASM_PAGE, false)] {
        let config = pooled(few().total_memories(1).max_memory_size(bytes_of_slot))
            .memory_reservation(bytes_of_slot)
            .memory_guard_size(guard)
            .signals_based_traps(signals);
        let m = Machine::<A>::new(&config, 4 * MIB);
        let engine = Engine::new(&m);
        let code = module().memory(1, None).build();
        for _ in 0..3 {
            let mut instance = engine.instantiate(&code).unwrap();
            assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(true), "a slot below 4 GiB");
            for pages in 1..=PAGES {
                let end = pages * WASM_PAGE as u64;
                assert_eq!(bytes(&instance, memory(0), end - 8, 8), [0; 8]);
                assert_eq!(instance.memory_fill(memory(0), end - 8, 0xfe, 8), Ok(()));
                assert_eq!(instance.memory_fill(memory(0), end - 8, 0xfe, 9), Err(trap()));
                let grown = instance.memory_grow(memory(0), 1, None);
                assert_eq!(grown, Ok((pages < PAGES).then_some(pages)));
            }
            engine.end(instance);
        }
    }
}

pub(crate) fn all_pages_there_are<A: TestArch>() {
    // Pages appear when they are touched, so four gibibytes need their tables only.
    let backing = Backing::Elastic(Commit::PerInstance(8));
    let pool = few().total_memories(1).max_memory_size(1 << 32).backing(backing);
    let m = Machine::<A>::new(&pooled(pool), 24 * MIB);
    let engine = Engine::new(&m);
    let code = module().memory(65534, None).build();
    let mut instance = engine.instantiate(&code).unwrap();
    assert_eq!(instance.memory_grow(memory(0), 0, None), Ok(Some(65534)));
    assert_eq!(instance.memory_grow(memory(0), 3, None), Ok(None));
    assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(65534)));
    assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(65535)));
    assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(None));
    assert_eq!(instance.memory_size(memory(0)), Ok(65536));
    engine.store(&instance, (1 << 32) - 1, 0xab).unwrap();
    assert_eq!(bytes(&instance, memory(0), (1 << 32) - 1, 1), [0xab]);
    engine.store(&instance, 1 << 32, 1).expect_err("one past all addresses was writable");
    engine.end(instance);
}

pub(crate) fn a_page_too_many<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().memory(1, None).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let mut failure = |delta| {
            let mut store = TestStore::default();
            assert_eq!(instance.memory_grow(memory(0), delta, Some(&mut store.ears)), Ok(None));
            match store.ears.take()[..] {
                [Heard::Memory { .. }, Heard::MemoryFailed(InstanceError::Resource(error))] => error,
                ref other => panic!("{other:?}"),
            }
        };
        // 65536 pages are what 32 bits can address; whether there are as many is another question.
        let whole = failure(65535);
        assert!(!matches!(whole, Error::BeyondMaximum { .. }), "{whole}");
        let requested = 65537 * WASM_PAGE;
        assert_eq!(failure(65536), Error::BeyondMaximum { requested, maximum: 65536 * WASM_PAGE });
        assert_eq!(instance.memory_size(memory(0)), Ok(1));
        engine.end(instance);
    });
}

pub(crate) fn few_bytes<A: TestArch>() {
    let of = |bytes| MemoryType { page_size_log2: 0, ..MemoryType::new(bytes, Some(bytes)) };
    let m = Machine::<A>::new(&pooled(few().total_memories(1)), 4 * MIB);
    let engine = Engine::new(&m);
    let five = module().memory_type(of(5)).data(0, 0, &[0xee; 5]).build();
    let six = module().memory_type(of(6)).build();
    for _ in 0..3 {
        let mut first = engine.instantiate(&five).unwrap();
        assert_eq!(first.write_memory(memory(0), 5, &[1]), Err(trap()));
        // Whoever does not compare writes to the rest of the page.
        (0..PAGE as u64).for_each(|offset| engine.store(&first, offset, 0xee).unwrap());
        engine.end(first);
        let mut second = engine.instantiate(&six).unwrap();
        assert_eq!(bytes(&second, memory(0), 0, 6), [0; 6]);
        assert!((0..PAGE as u64).all(|offset| engine.load(&second, offset) == Ok(0)));
        assert_eq!(second.write_memory(memory(0), 5, &[1]), Ok(()));
        assert_eq!(second.write_memory(memory(0), 6, &[1]), Err(trap()));
        assert_eq!(second.memory_grow(memory(0), 1, None), Ok(None));
        engine.end(second);
    }
}

/// A GC heap that begins larger than what is reserved for one.
pub(crate) fn large_gc_heap<A: TestArch>() {
    let config = Config::new().gc_heap_reservation(WASM_PAGE).gc_heap_guard_size(WASM_PAGE);
    let m = Machine::<A>::new(&config, 8 * MIB);
    let engine = Engine::new(&m);
    let mut heap = engine.instances.allocate_gc_heap(&MemoryType::new(5, None), None).unwrap();
    m.assert_ends_at(heap.memory(), 5 * WASM_PAGE);
    heap.grow_to(6 * WASM_PAGE).unwrap();
    m.assert_ends_at(heap.memory(), 6 * WASM_PAGE);
    engine.instances.deallocate_gc_heap(heap);
}

fn trap() -> InstanceError {
    Trap::MemoryOutOfBounds.into()
}
