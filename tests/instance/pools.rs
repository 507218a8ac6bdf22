//! Instances whose memories have slots in several pools.

use allotment::{
    Config, Error, MemoryError, MemoryPoolConfig, ModuleError, PoolKind,
    arch::VirtAddr,
    instance::{Instance, InstanceError, InstanceHandle},
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE, pool, pooled},
    module::{Code, Engine, memory, module},
};

/// Most bytes of a memory in the main pool, which has two slots, and in the other, which has one.
const MOST: [usize; 2] = [MIB, 4 * MIB];

fn config() -> Config {
    let larger = MemoryPoolConfig::new(4 << 30).max_memory_size(MOST[1]).total_memories(1);
    pooled(pool(2, MOST[0]).total_tables(4).total_core_instances(4).memory_pool(larger))
}

/// What compiled code relies on is the same in both, so that size alone decides.
pub(crate) fn by_size<A: TestArch>() {
    let m = Machine::<A>::new(&config(), 16 * MIB);
    let engine = Engine::settled(&m);
    let small = module().memory(1, Some(2)).data(0, 5, b"s").build();
    let begins_large = module().memory(32, None).data(0, 5, b"l").build();
    let may_grow = module().memory(1, Some(40)).data(0, 5, b"g").build();
    let round = || {
        for (code, expected) in [(&small, 0), (&begins_large, 1), (&may_grow, 1)] {
            assert_eq!(engine.instances.validate(code.module()), Ok(()));
            let mut instance = engine.instantiate(code).unwrap();
            assert_eq!(pool_of(&engine, &instance), expected);
            assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(false));
            // The last byte that there is and the one behind it, and both again after growth.
            for delta in [0, 1] {
                instance.memory_grow(memory(0), delta, None).unwrap().expect("there is room");
                let size = instance.memory_size(memory(0)).unwrap() * WASM_PAGE as u64;
                engine.store(&instance, size - 1, 7).unwrap();
                engine.load(&instance, size).expect_err("beyond the end");
            }
            engine.end(instance);
        }
        engine.counts()
    };
    // Zeros of each size are shared from the first round on.
    assert_eq!(round(), round());
}

pub(crate) fn exhausted<A: TestArch>() {
    let m = Machine::<A>::new(&config(), 16 * MIB);
    let engine = Engine::settled(&m);
    let before = engine.counts();
    let code = module().memory(1, Some(2)).data(0, 0, b"x").build();
    let all = || [(); 3].map(|()| engine.instantiate(&code).unwrap());
    let pools = |instances: &[InstanceHandle<'_, A>; 3]| {
        let mut pools = instances.each_ref().map(|instance| pool_of(&engine, instance));
        pools.sort_unstable();
        pools
    };
    let held = all();
    assert_eq!(pools(&held), [0, 0, 1]);
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 3 };
    assert_eq!(engine.instantiate(&code).err(), Some(InstanceError::from(full)));
    // Each its own, wherever it is.
    for (mark, instance) in (1..).zip(&held) {
        engine.store(instance, 9, mark).unwrap();
    }
    for (mark, instance) in (1..).zip(&held) {
        assert_eq!((engine.load(instance, 9), engine.load(instance, 0)), (Ok(mark), Ok(b'x')));
    }
    held.into_iter().for_each(|instance| engine.end(instance));
    // The same slots, of which none shows what was stored there.
    let again = all();
    assert_eq!(pools(&again), [0, 0, 1]);
    for instance in &again {
        assert_eq!((engine.load(instance, 9), engine.load(instance, 0)), (Ok(0), Ok(b'x')));
    }
    again.into_iter().for_each(|instance| engine.end(instance));
    assert_eq!(engine.counts(), before);
}

/// What fits no pool is refused by validation and by allocation alike.
pub(crate) fn refused<A: TestArch>() {
    let m = Machine::<A>::new(&config(), 16 * MIB);
    let engine = Engine::settled(&m);
    let pages = |bytes: usize| (bytes / WASM_PAGE) as u64;
    let largest = module().memory(pages(MOST[1]), None).build();
    let larger = module().memory(pages(MOST[1]) + 1, None).build();
    accepted(&engine, &largest);
    // Zeros of that size are shared from now on.
    let before = engine.counts();
    let (requested, limit) = (MOST[1] + WASM_PAGE, MOST[1]);
    let error = MemoryError::TooLarge { bytes: requested as u64, limit };
    assert_eq!(engine.instances.validate(larger.module()), Err(ModuleError::Memory { index: 0, error }));
    let error = Error::MemoryTooLarge { requested, limit };
    assert_eq!(engine.instantiate(&larger).err(), Some(InstanceError::from(error)));
    accepted(&engine, &largest);
    assert_eq!(engine.counts(), before);
}

fn accepted<A: TestArch>(engine: &Engine<'_, A>, code: &Code) {
    assert_eq!(engine.instances.validate(code.module()), Ok(()));
    let instance = engine.instantiate(code).unwrap();
    engine.end(instance);
}

/// The number of the pool that an instance's memory has its slot in.
fn pool_of<A: TestArch>(engine: &Engine<'_, A>, instance: &Instance<'_, A>) -> usize {
    let VirtAddr(base) = instance.memory_definition(memory(0)).expect("it has a memory").base;
    let mut found = None;
    engine.m.allocator.for_each_slot(|slot| {
        if slot.base == VirtAddr(base) {
            found = Some(slot.memory_pool);
        }
    });
    found.expect("the memory is in a slot")
}
