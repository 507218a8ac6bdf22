//! Each step of `allocate` fails, before it did anything or after all of it.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicUsize, Ordering};

use allotment::{
    Allocator, Config, Error, MemoryInModule,
    instance::{
        InstanceAllocator, InstanceError, MemoryType, OnDemandInstanceAllocator, RuntimeLinearMemory,
        RuntimeMemoryCreator, StackCreator, StackMemory,
    },
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch},
    failing::{Failing, INJECTED, Point, Step},
    world::{
        EACH, all_counts, allocate, assert_pristine, deallocate, each_strategy, module, on_demand, warm_up,
        works,
    },
};

pub(crate) const POINTS: [Point; 6] = [
    Point { step: Step::Index, late: false },
    Point { step: Step::Context, late: false },
    Point { step: Step::Memories, late: false },
    Point { step: Step::Memories, late: true },
    Point { step: Step::Tables, late: false },
    Point { step: Step::Tables, late: true },
];

/// The steps of an instance that lives and dies.
const WHOLE: [Step; 8] = [
    Step::Index,
    Step::Context,
    Step::Memories,
    Step::Tables,
    Step::NoMemories,
    Step::NoTables,
    Step::NoContext,
    Step::NoIndex,
];

pub(crate) fn in_order<A: TestArch>() {
    each_strategy::<A>(|m, engine| {
        let code = module();
        warm_up(&**engine, &code);
        let before = all_counts(m);
        for point in POINTS {
            let failing = Failing::new(m, &**engine, Some(point));
            assert_eq!(allocate(&failing, &code).unwrap_err(), INJECTED, "{point:?}");
            let steps = failing.steps();
            let (forth, back) = match point.step {
                Step::Index => (1, 8),
                // There is nothing yet that holds memories.
                Step::Context => (2, 7),
                // What a step pushed before it failed, both have to take back.
                Step::Memories => (3, 4),
                _ => (4, 4),
            };
            assert_eq!(steps, [&WHOLE[..forth], &WHOLE[back..]].concat(), "{point:?}");
            assert_eq!(all_counts(m), before, "{point:?}");
            works(m, &**engine, &code);
        }
        let whole = Failing::new(m, &**engine, None);
        let handle = allocate(&whole, &code).unwrap();
        deallocate(&whole, handle);
        assert_eq!(whole.steps(), WHOLE);
    });
}

/// How often everything fails together, where an interpreter (Miri) has less time.
const FAILURES: usize = if cfg!(miri) { 12 } else { 1000 };

pub(crate) fn a_thousand<A: TestArch>() {
    each_strategy::<A>(|m, engine| {
        let code = module();
        warm_up(&**engine, &code);
        let before = all_counts(m);
        for round in 0..FAILURES {
            let point = POINTS[round % POINTS.len()];
            let failing = Failing::new(m, &**engine, Some(point));
            assert_eq!(allocate(&failing, &code).unwrap_err(), INJECTED);
            assert_eq!(all_counts(m), before, "after failure {round}, {point:?}");
            if round.is_multiple_of(97) {
                let mut next = allocate(&**engine, &code).unwrap();
                assert_pristine(m, &mut next);
                deallocate(&**engine, next);
            }
        }
        works(m, &**engine, &code);
    });
}

/// Fails at the `nth` call, and is the core's own before and after.
struct Creator<'a, A: TestArch> {
    core: &'a Allocator<A>,
    nth: usize,
    calls: AtomicUsize,
}

const NO_MORE: Error = Error::BeyondCapacity { requested: 5, capacity: 4 };

impl<A: TestArch> Creator<'_, A> {
    fn call(&self) -> Result<(), Error> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.nth { Err(NO_MORE) } else { Ok(()) }
    }
}

impl<A: TestArch> RuntimeMemoryCreator for Creator<'_, A> {
    fn new_memory<'s>(
        &'s self,
        ty: &MemoryType,
        minimum: usize,
        maximum: usize,
        owner: Option<MemoryInModule>,
    ) -> Result<Box<dyn RuntimeLinearMemory + 's>, Error> {
        self.call()?;
        self.core.new_memory(ty, minimum, maximum, owner)
    }
}

impl<A: TestArch> StackCreator for Creator<'_, A> {
    fn new_stack(&self, _: usize, _: bool) -> Result<Box<dyn StackMemory + '_>, Error> {
        Err(NO_MORE)
    }
}

pub(crate) fn creators<A: TestArch>() {
    let config: Config = on_demand();
    let m = Machine::<A>::new(&config.max_wasm_stack(8 * PAGE).async_stack_size(8 * PAGE), 6 * MIB);
    let code = module();
    // The zeros that memories of this size share stay.
    works(&m, &OnDemandInstanceAllocator::new(&m.allocator).unwrap(), &code);
    let before = all_counts(&m);
    for nth in 0..EACH {
        let creator = Creator { core: &m.allocator, nth, calls: AtomicUsize::new(0) };
        let engine = OnDemandInstanceAllocator::new(&m.allocator).unwrap();
        let engine = engine.memory_creator(&creator).stack_creator(&creator);
        assert_eq!(allocate(&engine, &code).unwrap_err(), InstanceError::Resource(NO_MORE));
        assert_eq!(creator.calls.load(Ordering::Relaxed), nth + 1);
        assert_eq!(all_counts(&m), before, "memory {nth}");
        let refused = engine.allocate_fiber_stack().err();
        assert_eq!(refused, Some(InstanceError::Resource(NO_MORE)));
        assert_eq!(all_counts(&m), before, "a stack");
        works(&m, &engine, &code);
        assert_eq!(all_counts(&m), before);
    }
}
