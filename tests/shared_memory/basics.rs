//! One CPU, several instances.

use allotment::{
    Config, Error,
    instance::{
        DefinedMemoryIndex, Imports, InstanceError, LimiterError, Memory, MemoryType, Trap,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE, pool, pooled},
    links::{self, memory_at, word, words},
    machine,
    module::{Ears, Engine, Heard, bytes, memory, module},
    shared,
    waiter::Waiter,
};

pub(crate) fn one_definition<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    // One of its own beside it, so that the places differ.
    let code =
        module().memory(1, None).memory_type(shared(1, 4)).data(1, 5, b"seen").export("m", memory_at(1));
    let code = code.build();
    let definer = engine.instantiate(&code).unwrap();
    let memories = [links::memory(&definer, "m")];
    // SAFETY: `definer` lives until the end.
    let imports = unsafe { Imports::new(&[], &[], &memories, &[]) };
    let importing = module().import_memory(shared(1, 4)).build();
    let mut importers = [(); 2].map(|()| engine.instantiate_with(&importing, imports, None).unwrap());

    let shared = definer.shared_memory(memory(1)).unwrap().unwrap();
    let offset = code.module().offsets().memory_address(DefinedMemoryIndex::new(1));
    assert_eq!(word(&m, definer.vmctx().offset(offset)), shared.definition().0);
    for importer in &importers {
        let offset = importing.module().offsets().imported_memory(memory(0));
        assert_eq!(word(&m, importer.vmctx().offset(offset)), shared.definition().0);
        assert_eq!(bytes(importer, memory(0), 5, 4), b"seen");
        let same = importer.shared_memory(memory(0)).unwrap().unwrap();
        assert_eq!((same.base(), same.definition()), (shared.base(), shared.definition()));
        assert_eq!(*same.ty(), self::shared(1, 4));
    }
    importers[0].write_memory(memory(0), 5, b"SEEN").unwrap();
    assert_eq!(bytes(&importers[1], memory(0), 5, 4), b"SEEN");
    assert_eq!(bytes(&definer, memory(1), 5, 4), b"SEEN");
    assert_eq!(bytes(&definer, memory(0), 5, 4), [0; 4]);

    assert_eq!(importers[1].memory_grow(memory(0), 1, None), Ok(Some(1)));
    let [base, length] = words(&m, shared.definition());
    assert_eq!((base, length), (shared.base().as_ptr() as u64, 2 * WASM_PAGE as u64));
    assert_eq!(importers[0].memory_size(memory(0)), Ok(2));
    assert_eq!(definer.memory_size(memory(1)), Ok(2));
    assert_eq!(definer.memory_size(memory(0)), Ok(1));
    drop(shared);
    importers.into_iter().for_each(|importer| engine.end(importer));
    engine.end(definer);
}

pub(crate) fn growth<A: TestArch>() {
    // Also from a reservation that is smaller than its maximum.
    for reservation in [WASM_PAGE, 4 << 30] {
        let config = Config::new().shared_memory(true).memory_reservation(reservation);
        let m = Machine::<A>::new(&config, 8 * MIB);
        let engine = Engine::new(&m);
        let code = module().memory_type(shared(1, 9)).data(0, 0, b"kept").build();
        let mut instance = engine.instantiate(&code).unwrap();
        let clone = instance.shared_memory(memory(0)).unwrap().unwrap();
        let base = clone.base();
        for pages in 1..9 {
            assert_eq!(clone.byte_size() as u64, pages * WASM_PAGE as u64);
            let end = pages * WASM_PAGE as u64;
            engine.store(&instance, end - 1, 1).unwrap();
            if !clone.needs_bounds_checks() {
                engine.store(&instance, end, 1).unwrap_err();
            }
            let grown =
                if pages % 2 == 0 { clone.grow(1, None) } else { instance.memory_grow(memory(0), 1, None) };
            assert_eq!(grown, Ok(Some(pages)));
            assert_eq!(clone.base(), base, "a shared memory never moves");
            assert_eq!(bytes(&instance, memory(0), end - 1, 2), [1, 0]);
        }
        for delta in [1, 2, u64::MAX >> 16, u64::MAX] {
            assert_eq!(clone.grow(delta, None), Ok(None));
            assert_eq!(instance.memory_grow(memory(0), delta, None), Ok(None));
        }
        assert_eq!(clone.grow(0, None), Ok(Some(9)));
        assert_eq!(bytes(&instance, memory(0), 0, 4), b"kept");
        drop(clone);
        engine.end(instance);
    }
}

pub(crate) fn nobodys<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let made = Memory::new_shared(&m.allocator, &shared(1, 3), None, None).unwrap();
    let made = made.as_shared().unwrap().clone();
    let memories = [made.import(), made.import()];
    // SAFETY: `made` lives until the end.
    let imports = unsafe { Imports::new(&[], &[], &memories, &[]) };
    let code = module().import_memory(shared(1, 3)).import_memory(shared(1, 3)).data(1, 0, b"text");
    let code = code.export("m", memory_at(1)).build();
    let mut instance = engine.instantiate_with(&code, imports, None).unwrap();
    assert_eq!(bytes(&instance, memory(0), 0, 4), b"text", "both are the same");
    assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(1)));
    assert_eq!(instance.memory_size(memory(1)), Ok(2));
    assert_eq!(instance.memory_needs_bounds_checks(memory(1)), Ok(made.needs_bounds_checks()));
    instance.memory_copy(memory(0), 2, memory(1), 0, 4).unwrap();
    assert_eq!(bytes(&instance, memory(1), 0, 6), b"tetext");
    assert_eq!(instance.memory_atomic_notify(&Waiter::default(), memory(0), 0, 9), Ok(0));
    // And what is exported again is the same.
    assert_eq!(links::memory(&instance, "m"), made.import());
    engine.end(instance);
    assert_eq!(made.byte_size(), 2 * WASM_PAGE);
}

pub(crate) fn lifetime<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let before = engine.counts();
    let code = module().memory_type(shared(1, 2)).data(0, 0, b"left").build();
    let instance = engine.instantiate(&code).unwrap();
    let clone = instance.shared_memory(memory(0)).unwrap().unwrap();
    let at = engine.address(&instance, memory(0), 3);
    engine.end(instance);
    assert_eq!(m.load_at(at), Ok(b't'), "somebody still has it");
    let other = clone.clone();
    drop(clone);
    assert_eq!(other.grow(1, None), Ok(Some(1)));
    assert_ne!(engine.counts(), before);
    let definition = other.definition();
    drop(other);
    assert_eq!(engine.counts(), before);
    m.load_at(at).unwrap_err();
    m.load_at(definition).unwrap_err();
    // The next one is of zeros.
    let instance = engine.instantiate(&module().memory_type(shared(1, 2)).build()).unwrap();
    assert_eq!(bytes(&instance, memory(0), 0, 4), [0; 4]);
    engine.end(instance);
    assert_eq!(engine.counts(), before);
}

pub(crate) fn refused<A: TestArch>() {
    let pool = pool(2, MIB).total_core_instances(1).total_tables(1);
    let pooled = pooled(pool.max_memories_per_module(2));
    for config in [Config::new(), pooled, pooled.shared_memory(true)] {
        let m = Machine::<A>::new(&config, 8 * MIB);
        let engine = Engine::new(&m);
        let code = module().memory(1, None).memory_type(shared(1, 2)).build();
        engine.instantiate(&code).unwrap_err();
        let before = engine.counts();
        for _ in 0..3 {
            let error = engine.instantiate(&code).map(|_| ()).unwrap_err();
            assert!(matches!(error, InstanceError::Resource(Error::SharedMemory)), "{error}");
            assert_eq!(engine.counts(), before);
        }
        let direct = Memory::new_shared(&m.allocator, &shared(1, 2), None, None).map(|_| ());
        assert_eq!(direct, Err(Error::SharedMemory.into()));
        if engine.pools() {
            engine.instances.validate(code.module()).unwrap_err();
        }
        // Others are made as ever.
        engine.end(engine.instantiate(&module().memory(1, None).build()).unwrap());
    }
}

pub(crate) fn limited<A: TestArch>() {
    let m = machine::<A>();
    let ty = shared(1, 8);
    let (page, maximum) = (WASM_PAGE, Some(8 * WASM_PAGE));
    let mut ears = Ears { memory: 2 * page, ..Ears::default() };
    let made = Memory::new_shared(&m.allocator, &ty, None, Some(&mut ears)).unwrap();
    assert_eq!(ears.take(), [Heard::Memory { current: 0, desired: page, maximum }]);
    let made = made.as_shared().unwrap().clone();
    assert_eq!(made.grow(1, Some(&mut ears)), Ok(Some(1)));
    assert_eq!(made.grow(1, Some(&mut ears)), Ok(None));
    assert_eq!(made.grow(0, Some(&mut ears)), Ok(Some(2)));
    let asked = |current: usize, desired: usize| Heard::Memory { current, desired, maximum };
    assert_eq!(ears.take(), [asked(page, 2 * page), asked(2 * page, 3 * page)]);
    ears.error = Some(LimiterError("enough"));
    assert_eq!(made.grow(1, Some(&mut ears)), Err(InstanceError::Limiter(LimiterError("enough"))));
    ears = Ears::default();
    assert_eq!(made.grow(7, Some(&mut ears)), Ok(None));
    let failed = Error::BeyondMaximum { requested: 9 * page, maximum: 8 * page };
    let told = Heard::MemoryFailed(failed.into());
    assert_eq!(ears.take(), [asked(2 * page, 9 * page), told]);
    assert_eq!(made.byte_size(), 2 * page);
    let mut none = Ears { remaining: 0, ..Ears::default() };
    let denied = Memory::new_shared(&m.allocator, &ty, None, Some(&mut none)).map(|_| ());
    assert_eq!(denied, Err(InstanceError::MemoryDenied { minimum: 1 }));
}

pub(crate) fn not_shared<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let code = module().memory_type(MemoryType::new(1, Some(2))).build();
    let mut instance = engine.instantiate(&code).unwrap();
    assert!(instance.shared_memory(memory(0)).unwrap().is_none());
    let waiter = Waiter::default();
    let trap = Err(InstanceError::Trap(Trap::AtomicWaitNonSharedMemory));
    assert_eq!(instance.memory_atomic_wait32(&waiter, memory(0), 0, 0, None), trap);
    assert_eq!(instance.memory_atomic_wait64(&waiter, memory(0), 0, 0, None), trap);
    let end = WASM_PAGE as u64;
    // Nobody can wait, but the place is looked at.
    assert_eq!(instance.memory_atomic_notify(&waiter, memory(0), end - 4, 1), Ok(0));
    let out = Err(InstanceError::Trap(Trap::MemoryOutOfBounds));
    assert_eq!(instance.memory_atomic_notify(&waiter, memory(0), end, 1), out);
    let odd = Err(InstanceError::Trap(Trap::HeapMisaligned));
    assert_eq!(instance.memory_atomic_notify(&waiter, memory(0), 2, 1), odd);
    assert_eq!(waiter.asked(), []);
    engine.end(instance);
}
