//! The limiter: what it is asked, and what becomes of its answers.

use alloc::{boxed::Box, sync::Arc, vec};

use allotment::{
    Config, Error,
    instance::{
        ConstExpr, Imports, Instance, InstanceAllocationRequest, InstanceError, LimiterError, MemoryType,
        StorePtr, TableElement, ValRaw, ValType,
    },
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE, pooled},
    module::{Ears, Engine, Heard, TestStore, by_either_strategy, memory, module, table},
    world::few,
};

const NULL: TableElement = TableElement::FuncRef(None);

/// Asked before memories and tables are made and grow, with the sizes before and after.
pub(crate) fn asked<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let mut store = TestStore::default();
        let code = module().memory(1, Some(10)).table(2, None).build();
        let mut instance = engine.instantiate_in(&mut store, &code).unwrap();
        let made = [
            Heard::Memory { current: 0, desired: WASM_PAGE, maximum: Some(10 * WASM_PAGE) },
            Heard::Table { current: 0, desired: 2, maximum: None },
        ];
        assert_eq!(store.ears.take(), made);

        let ears = &mut store.ears;
        assert_eq!(instance.memory_grow(memory(0), 3, Some(ears)), Ok(Some(1)));
        assert_eq!(instance.table_grow(table(0), 5, NULL, Some(ears)), Ok(Some(2)));
        let grew = [
            Heard::Memory { current: WASM_PAGE, desired: 4 * WASM_PAGE, maximum: Some(10 * WASM_PAGE) },
            Heard::Table { current: 2, desired: 7, maximum: None },
        ];
        assert_eq!(ears.take(), grew);

        // Nothing grows by nothing: nobody is asked.
        assert_eq!(instance.memory_grow(memory(0), 0, Some(ears)), Ok(Some(4)));
        assert_eq!(instance.table_grow(table(0), 0, NULL, Some(ears)), Ok(Some(7)));
        assert_eq!(ears.take(), []);
        engine.end(instance);
    });
}

pub(crate) fn limits<A: TestArch>() {
    let only_memory = Ears { memory: 10 * WASM_PAGE, ..Ears::default() };
    let only_table = Ears { table: 10, ..Ears::default() };
    let both = Ears { memory: 10 * WASM_PAGE, table: 10, ..Ears::default() };
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        for (ears, memory_is_limited, table_is_limited) in
            [(&only_memory, true, false), (&only_table, false, true), (&both, true, true)]
        {
            let mut ears = Ears { heard: vec![], ..*ears };
            let code = module().memory(0, None).table(0, None).build();
            let mut instance = engine.instantiate(&code).unwrap();
            let mut grow_memory = |delta| instance.memory_grow(memory(0), delta, Some(&mut ears));
            for (delta, before) in [(3, 0), (5, 3), (2, 8)] {
                assert_eq!(grow_memory(delta), Ok(Some(before)));
            }
            assert_eq!(grow_memory(1), Ok((!memory_is_limited).then_some(10)));
            let mut grow_table = |delta| instance.table_grow(table(0), delta, NULL, Some(&mut ears));
            for (delta, before) in [(3, 0), (5, 3), (2, 8)] {
                assert_eq!(grow_table(delta), Ok(Some(before)));
            }
            assert_eq!(grow_table(1), Ok((!table_is_limited).then_some(10)));
            // What it refused it is not told of as a failure.
            let failures = ears.take().into_iter();
            let failures =
                failures.filter(|heard| matches!(heard, Heard::MemoryFailed(_) | Heard::TableFailed(_)));
            assert_eq!(failures.count(), 0);
            engine.end(instance);
        }
    });
}

/// Refused from the start, a memory or table is not made, and the instance neither.
pub(crate) fn initial<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let memory =
            (module().memory(11, None).build(), "memory minimum size of 11 pages exceeds memory limits");
        let table =
            (module().table(11, None).build(), "table minimum size of 11 elements exceeds table limits");
        // What memories of that size share stays.
        engine.end(engine.instantiate(&memory.0).unwrap());
        let before = engine.counts();
        for (code, words) in [memory, table] {
            let ears = Ears { memory: 10 * WASM_PAGE, table: 10, ..Ears::default() };
            let mut store = TestStore { ears, ..TestStore::default() };
            let error = engine.instantiate_in(&mut store, &code).expect_err("it is too large");
            assert!(
                matches!(error, InstanceError::MemoryDenied { .. } | InstanceError::TableDenied { .. }),
                "{error:?}"
            );
            assert_eq!(alloc::format!("{error}"), words);
            assert_eq!(engine.counts(), before);
            store.ears.memory += WASM_PAGE;
            store.ears.table += 1;
            engine.end(engine.instantiate_in(&mut store, &code).expect("one more is allowed"));
        }
    });
}

/// The second memory is refused: the first one's slot is free again.
pub(crate) fn second<A: TestArch>() {
    let pool = few().total_memories(2).max_memories_per_module(2);
    let m = Machine::<A>::new(&pooled(pool), 4 * MIB);
    let engine = Engine::settled(&m);
    let code = module().memory(1, None).memory(2, None).build();
    // What memories of these sizes share stays.
    engine.end(engine.instantiate(&code).unwrap());
    let before = engine.counts();
    for _ in 0..3 {
        let mut store =
            TestStore { ears: Ears { memory: WASM_PAGE, ..Ears::default() }, ..TestStore::default() };
        let refused = engine.instantiate_in(&mut store, &code).err();
        assert_eq!(refused, Some(InstanceError::MemoryDenied { minimum: 2 }));
        assert_eq!(store.ears.take().len(), 2, "the first was allowed");
        assert_eq!(engine.counts(), before);
        engine.end(engine.instantiate_in(&mut TestStore::default(), &code).expect("both slots are free"));
    }
}

/// One budget for all memories, and one for all tables, of a store.
pub(crate) fn together<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let ears = Ears { remaining: 3, ..Ears::default() };
        let mut store = TestStore { ears, ..TestStore::default() };
        let code = module().memory(1, None).build();
        let mut first = engine.instantiate_in(&mut store, &code).unwrap();
        let mut second = engine.instantiate_in(&mut store, &code).unwrap();
        assert_eq!(first.memory_grow(memory(0), 1, Some(&mut store.ears)), Ok(Some(1)));
        assert_eq!(second.memory_grow(memory(0), 1, Some(&mut store.ears)), Ok(None));
        let third = engine.instantiate_in(&mut store, &code).err();
        assert_eq!(third, Some(InstanceError::MemoryDenied { minimum: 1 }));
        store.ears.remaining = 1;
        assert_eq!(second.memory_grow(memory(0), 1, Some(&mut store.ears)), Ok(Some(1)));
        engine.end(first);
        engine.end(second);
    });
}

/// An error of the limiter ends the program, where a refusal is -1.
pub(crate) fn ends<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let error = LimiterError("enough");
        let ended = InstanceError::Limiter(error);
        let code = module().memory(1, Some(2)).table(1, Some(2)).build();
        let mut store = TestStore::default();
        let mut instance = engine.instantiate_in(&mut store, &code).unwrap();
        let sizes = |instance: &mut Instance<'_, A>| {
            (instance.memory_size(memory(0)).unwrap(), instance.table_size(table(0)).unwrap())
        };

        // When it is asked.
        store.ears = Ears { remaining: 0, error: Some(error), ..Ears::default() };
        assert_eq!(instance.memory_grow(memory(0), 1, Some(&mut store.ears)), Err(ended));
        assert_eq!(instance.table_grow(table(0), 1, NULL, Some(&mut store.ears)), Err(ended));
        assert_eq!(sizes(&mut instance), (1, 1));
        let before = engine.counts();
        assert_eq!(engine.instantiate_in(&mut store, &code).err(), Some(ended));
        assert_eq!(engine.counts(), before);

        // When it is told: growth beyond the maximum becomes a trap.
        store.ears = Ears { failure: Some(error), ..Ears::default() };
        assert_eq!(instance.memory_grow(memory(0), 2, Some(&mut store.ears)), Err(ended));
        assert_eq!(instance.table_grow(table(0), 2, NULL, Some(&mut store.ears)), Err(ended));
        assert_eq!(sizes(&mut instance), (1, 1));
        // Growth that succeeds is none of that.
        assert_eq!(instance.memory_grow(memory(0), 1, Some(&mut store.ears)), Ok(Some(1)));
        assert_eq!(instance.table_grow(table(0), 1, NULL, Some(&mut store.ears)), Ok(Some(1)));
        assert_eq!(sizes(&mut instance), (2, 2));
        engine.end(instance);
        assert_eq!(alloc::format!("{ended}"), "enough");
    });
}

/// Growth that is allowed and fails is told, with the reason.
pub(crate) fn told<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().memory(1, None).table(1, Some(3)).build();
        let mut store = TestStore::default();
        let mut instance = engine.instantiate(&code).unwrap();
        // More than a slot holds, and more than the arena has.
        assert_eq!(instance.memory_grow(memory(0), 1000, Some(&mut store.ears)), Ok(None));
        let Some(&Heard::MemoryFailed(InstanceError::Resource(error))) = store.ears.heard.last() else {
            panic!("{:?}", store.ears.heard)
        };
        match error {
            Error::MemoryTooLarge { requested, limit } if engine.pools() => {
                assert_eq!((requested, limit), (1001 * WASM_PAGE, MIB));
            }
            Error::OutOfFrames { .. } if !engine.pools() => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(store.ears.take().len(), 2, "asked, then told");
        assert_eq!(instance.table_grow(table(0), 3, NULL, Some(&mut store.ears)), Ok(None));
        let told = Heard::TableFailed(Error::TableTooLarge { requested: 4, limit: 3 }.into());
        assert_eq!(store.ears.take().last(), Some(&told));
        // It also hears of sizes that no number can say.
        assert_eq!(instance.memory_grow(memory(0), u64::MAX, Some(&mut store.ears)), Ok(None));
        let most = usize::MAX;
        assert_eq!(store.ears.heard[0], Heard::Memory { current: WASM_PAGE, desired: most, maximum: None });
        engine.end(instance);
    });
}

/// Refused half-way, an instance with a reference in a global leaves nothing: its host state is
/// dropped, once.
pub(crate) fn half_way<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let reference = ConstExpr::constant(ValRaw::i32(42));
        let code = module().global(ValType::GcRef, reference).memory(1, None).table(1, None).build();
        let before = engine.counts();
        for allowed in 0..3 {
            let host = Arc::new(());
            let ears = Ears { remaining: allowed, ..Ears::default() };
            let mut store = TestStore { ears, ..TestStore::default() };
            let made = engine.instances.allocate(InstanceAllocationRequest {
                runtime_info: &code,
                imports: Imports::none(),
                host_state: Box::new(Arc::clone(&host)),
                store: StorePtr::new(&mut store),
            });
            assert_eq!(made.is_ok(), allowed == 2, "{made:?}");
            if let Ok(mut instance) = made {
                assert_eq!((Arc::strong_count(&host), Arc::strong_count(&code)), (2, 2));
                instance.initialize().unwrap();
                engine.end(instance);
            }
            assert_eq!((Arc::strong_count(&host), Arc::strong_count(&code)), (1, 1));
            assert_eq!(engine.counts(), before);
        }
    });
}

pub(crate) fn gc_heaps<A: TestArch>() {
    for config in [pooled(few()), Config::new()] {
        let m = Machine::<A>::new(&config, 4 * MIB);
        let engine = Engine::settled(&m);
        let before = engine.counts();
        let mut ears = Ears { memory: WASM_PAGE, ..Ears::default() };
        let (one, two) = (MemoryType::new(1, None), MemoryType::new(2, None));
        let refused = engine.instances.allocate_gc_heap(&two, Some(&mut ears)).err();
        assert_eq!(refused, Some(InstanceError::MemoryDenied { minimum: 2 }));
        assert_eq!(engine.counts(), before);
        let heap = engine.instances.allocate_gc_heap(&one, Some(&mut ears)).unwrap();
        assert_eq!(heap.size(), WASM_PAGE);
        engine.instances.deallocate_gc_heap(heap);
        assert_eq!(engine.counts(), before);
    }
}

/// A panic in the limiter reaches whoever grew the memory, which is as before.
#[cfg(not(target_os = "none"))]
pub(crate) fn panics<A: TestArch>() {
    // Without the message that `panic!` prints.
    use core::panic::AssertUnwindSafe;
    use std::panic::{catch_unwind, resume_unwind};

    use allotment::instance::ResourceLimiter;

    struct Panics;

    impl ResourceLimiter for Panics {
        fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
            resume_unwind(Box::new("of the memory's limiter"))
        }

        fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
            resume_unwind(Box::new("of the table's limiter"))
        }
    }

    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().memory(1, None).table(1, None).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let grow = AssertUnwindSafe(|| instance.memory_grow(memory(0), 1, Some(&mut Panics)));
        let panic = catch_unwind(grow).expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"of the memory's limiter"));
        let grow = AssertUnwindSafe(|| instance.table_grow(table(0), 1, NULL, Some(&mut Panics)));
        let panic = catch_unwind(grow).expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"of the table's limiter"));
        assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(1)));
        assert_eq!(instance.table_grow(table(0), 1, NULL, None), Ok(Some(1)));
        engine.end(instance);
        allocation_panics(engine, &code);
    });
}

/// Nothing is left of an instance whose second part the limiter panics at.
#[cfg(not(target_os = "none"))]
fn allocation_panics<A: TestArch>(engine: &Engine<'_, A>, code: &crate::module::Code) {
    use core::panic::AssertUnwindSafe;
    use std::panic::{catch_unwind, resume_unwind};

    use allotment::instance::{ResourceLimiter, Store};

    /// Lets memories be, and no table.
    struct PanicsAtTables;

    impl ResourceLimiter for PanicsAtTables {
        fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
            Ok(true)
        }

        fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
            resume_unwind(Box::new("of the table's limiter"))
        }
    }

    impl Store for PanicsAtTables {
        fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
            Some(self)
        }
    }

    let before = engine.counts();
    for _ in 0..3 {
        let mut store = PanicsAtTables;
        let store = StorePtr::new(&mut store);
        let (imports, host_state) = (Imports::none(), Box::new(()));
        let request = InstanceAllocationRequest { runtime_info: code, imports, host_state, store };
        let panic = catch_unwind(AssertUnwindSafe(|| engine.instances.allocate(request)));
        assert_eq!(panic.expect_err("it panics").downcast_ref(), Some(&"of the table's limiter"));
        assert_eq!(engine.counts(), before);
    }
}
