//! Several CPUs at once: each instance is somebody's alone, and one is refused only
//! when there are as many as there may be.

use allotment::{
    Error, PoolKind,
    instance::{self, InstanceError, MemoryIndex, cranelift_entity::EntityRef},
};

use crate::{
    common::{MIB, Machine, TestArch, cpus, together},
    failing::{Failing, INJECTED, Point, Step},
    world::{
        EACH, INSTANCES, allocate, assert_pristine, code, counts, deallocate, description, pools, warm_up,
        works,
    },
};

const ROUNDS: usize = if cfg!(miri) { 3 } else { 60 };

pub(crate) fn to_the_limit<A: TestArch>() {
    let m = Machine::<A>::new(&pools(), 6 * MIB);
    let engine = instance::build(&m.allocator).unwrap();
    let usual = code(description(), 1, b"hello".to_vec());
    warm_up(&*engine, &usual);
    let before = counts(&m);
    together(cpus().min(INSTANCES + 1), |worker| {
        for round in 0..ROUNDS {
            let point = Point { step: Step::Tables, late: true };
            let failing = Failing::new(&m, &*engine, (round % 3 == worker % 3).then_some(point));
            match allocate(&failing, &usual) {
                Ok(mut handle) => {
                    assert_pristine(&m, &mut handle);
                    let byte = [u8::try_from(worker).unwrap() + 1];
                    for memory in (0..EACH).map(MemoryIndex::new) {
                        handle.write_memory(memory, 65_000, &byte).unwrap();
                    }
                    for memory in (0..EACH).map(MemoryIndex::new) {
                        let mut found = [0];
                        handle.read_memory(memory, 65_000, &mut found).unwrap();
                        assert_eq!(found, byte, "another CPU's");
                    }
                    deallocate(&failing, handle);
                }
                Err(INJECTED) => {}
                Err(error) => {
                    let kind = PoolKind::CoreInstances;
                    let limit = Error::PoolConcurrencyLimit { kind, limit: INSTANCES };
                    assert_eq!(error, InstanceError::Resource(limit));
                }
            }
        }
    });
    assert_eq!(counts(&m), before);
    // As many at once as there may be are never refused.
    together(cpus().min(INSTANCES), |_| {
        for _ in 0..ROUNDS {
            deallocate(&*engine, allocate(&*engine, &usual).expect("there is one for each"));
        }
    });
    let all = [(); INSTANCES].map(|()| allocate(&*engine, &usual).unwrap());
    let limit = Error::PoolConcurrencyLimit { kind: PoolKind::CoreInstances, limit: INSTANCES };
    assert_eq!(allocate(&*engine, &usual).unwrap_err(), InstanceError::Resource(limit));
    all.into_iter().for_each(|handle| deallocate(&*engine, handle));
    assert_eq!(counts(&m), before);
    works(&m, &*engine, &usual);
}
