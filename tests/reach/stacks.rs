//! Fiber stacks, as an engine has them from its instance allocator.

use alloc::vec::Vec;

use allotment::{
    Config, Error, PoolKind,
    arch::VirtAddr,
    instance::{InstanceError, Stack},
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, pool, pooled as with_pools},
    module::Engine,
};

const STACK: usize = 16 * PAGE;

fn sized(config: Config) -> Config {
    config.max_wasm_stack(STACK / 2).async_stack_size(STACK).async_stack_zeroing(true)
}

fn stacks(count: usize) -> Config {
    sized(with_pools(pool(1, MIB).total_stacks(count).total_core_instances(1).total_tables(1)))
}

pub(crate) fn either_strategy<A: TestArch>() {
    for config in [stacks(2), sized(Config::new())] {
        let m = Machine::<A>::new(&config, 4 * MIB);
        let engine = Engine::new(&m);
        let before = engine.counts();
        let stack = engine.instances.allocate_fiber_stack().unwrap();
        let (range, guard) = (stack.range(), stack.guard_range());
        assert!(range.end.0 - range.start.0 >= STACK as u64 && range.end.0.is_multiple_of(16));
        assert!(guard.end == range.start && guard.start < guard.end);
        assert!(matches!(stack, Stack::Fiber(_)));
        for inside in [range.start.0, range.end.0 - 1] {
            assert_eq!(m.load_at(VirtAddr(inside)), Ok(0));
            m.store_at(VirtAddr(inside), 1).unwrap();
        }
        for below in [guard.end.0 - 1, guard.start.0] {
            m.load_at(VirtAddr(below)).unwrap_err();
            m.store_at(VirtAddr(below), 1).unwrap_err();
        }
        engine.instances.deallocate_fiber_stack(stack);
        assert_eq!(engine.counts(), before);
        let none = Machine::<A>::new(&config.max_wasm_stack(1).async_stack_size(0), 4 * MIB);
        let error = Engine::new(&none).instances.allocate_fiber_stack().map(|_| ()).unwrap_err();
        assert_eq!(error, InstanceError::Resource(Error::NoStacks));
    }
}

/// Also those in which an instance would be run on another stack than the last.
pub(crate) fn pooled<A: TestArch>() {
    let m = Machine::<A>::new(&stacks(2), 4 * MIB);
    let engine = Engine::new(&m);
    for round in 0..3 {
        let taken: Vec<_> = (0..2).map(|_| engine.instances.allocate_fiber_stack().unwrap()).collect();
        let limit = Error::PoolConcurrencyLimit { kind: PoolKind::Stacks, limit: 2 };
        let error = engine.instances.allocate_fiber_stack().map(|_| ()).unwrap_err();
        assert_eq!(error, InstanceError::Resource(limit), "round {round}");
        for stack in taken {
            let range = stack.range();
            for at in (range.start.0..range.end.0).step_by(PAGE / 2) {
                let at = VirtAddr(at);
                assert_eq!(m.load_at(at), Ok(0), "the last one's byte at {at}");
                m.store_at(at, 0xfe).unwrap();
            }
            engine.instances.deallocate_fiber_stack(stack);
        }
    }
}
