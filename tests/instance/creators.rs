//! Memories and stacks that the embedder makes itself.

use alloc::boxed::Box;
use core::{
    ops::Range,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use allotment::{
    Allocator, Config, Error, MemoryInModule,
    arch::VirtAddr,
    instance::{
        InstanceAllocator, InstanceError, MemoryType, OnDemandInstanceAllocator, PoolingInstanceAllocator,
        RuntimeLinearMemory, RuntimeMemoryCreator, Stack,
    },
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled},
    module::{Engine, bytes, memory, module},
    own_stacks::OwnStacks,
};

/// Makes memories as the allocator would, and counts them and their bytes.
struct Counting<'a, A: TestArch> {
    allocator: &'a Allocator<A>,
    made: AtomicUsize,
    bytes: AtomicUsize,
    fails: bool,
}

impl<A: TestArch> Counting<'_, A> {
    fn numbers(&self) -> (usize, usize) {
        (self.made.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl<A: TestArch> RuntimeMemoryCreator for Counting<'_, A> {
    fn new_memory<'s>(
        &'s self,
        ty: &MemoryType,
        minimum: usize,
        maximum: usize,
        owner: Option<MemoryInModule>,
    ) -> Result<Box<dyn RuntimeLinearMemory + 's>, Error> {
        if self.fails {
            return Err(Error::OutOfFrames { needed: minimum / PAGE, available: 0 });
        }
        let memory = self.allocator.new_memory(ty, minimum, maximum, owner)?;
        self.made.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(minimum, Ordering::Relaxed);
        Ok(Box::new(Counted { memory, bytes: &self.bytes }))
    }
}

struct Counted<'s> {
    memory: Box<dyn RuntimeLinearMemory + 's>,
    bytes: &'s AtomicUsize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.memory.byte_size(), Ordering::Relaxed);
    }
}

// SAFETY: the memory within is one.
unsafe impl RuntimeLinearMemory for Counted<'_> {
    fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }

    fn byte_size(&self) -> usize {
        self.memory.byte_size()
    }

    fn byte_capacity(&self) -> usize {
        self.memory.byte_capacity()
    }

    fn grow_to(&mut self, new_size: usize) -> Result<(), Error> {
        let before = self.memory.byte_size();
        self.memory.grow_to(new_size)?;
        self.bytes.fetch_add(new_size - before, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) fn memories<A: TestArch>() {
    let m = Machine::<A>::new(&Config::new(), 8 * MIB);
    let before = m.allocator.metrics();
    let new = |fails| Counting { allocator: &m.allocator, made: 0.into(), bytes: 0.into(), fails };
    let creator = new(false);
    let engine = engine(&m, |instances| instances.memory_creator(&creator));
    let code = module().memory(1, Some(4)).data(0, 0, b"made elsewhere").build();
    for round in 1..=3 {
        let mut instance = engine.instantiate(&code).unwrap();
        assert_eq!(creator.numbers(), (round, WASM_PAGE));
        assert_eq!(bytes(&instance, memory(0), 0, 14), b"made elsewhere");
        assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(true), "it did not say otherwise");
        assert_eq!(instance.memory_grow(memory(0), 3, None), Ok(Some(1)));
        assert_eq!(creator.numbers(), (round, 4 * WASM_PAGE));
        assert_eq!(bytes(&instance, memory(0), 3 * WASM_PAGE as u64, WASM_PAGE), [0; WASM_PAGE]);
        // The type forbids it: nobody asks the memory.
        assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(None));
        assert_eq!(creator.numbers(), (round, 4 * WASM_PAGE));
        engine.end(instance);
        assert_eq!(creator.numbers(), (round, 0));
    }
    drop(engine);

    let creator = new(true);
    let engine = self::engine(&m, |instances| instances.memory_creator(&creator));
    let error = Error::OutOfFrames { needed: WASM_PAGE / PAGE, available: 0 };
    assert_eq!(engine.instantiate(&code).err(), Some(error.into()));
    engine.end(engine.instantiate(&module().table(1, None).build()).expect("tables are not its business"));
    drop(engine);
    assert_eq!(m.allocator.metrics(), before);
}

pub(crate) fn stacks<A: TestArch>() {
    let config = Config::new().max_wasm_stack(PAGE).async_stack_size(4 * PAGE);
    let m = Machine::<A>::new(&config, 4 * MIB);
    let before = m.allocator.metrics();
    let creator = OwnStacks::new(&m);
    let engine = engine(&m, |instances| instances.stack_creator(&creator));
    for _ in 0..3 {
        let stack = engine.instances.allocate_fiber_stack().unwrap();
        assert!(matches!(stack, Stack::Custom(_)), "{stack:?}");
        assert_eq!(creator.held(), 1);
        let Range { start, end } = stack.range();
        assert_eq!((end.0 - start.0, end.0 % 16), (4 * PAGE as u64, 0));
        m.store_at(VirtAddr(end.0 - 1), 1).unwrap();
        m.store_at(start, 1).unwrap();
        m.store_at(VirtAddr(start.0 - 1), 1).expect_err("its guard was writable");
        assert_eq!(stack.guard_range().end, start);
        engine.instances.deallocate_fiber_stack(stack);
        assert_eq!(creator.held(), 0);
    }
    drop(engine);
    assert_eq!(m.allocator.metrics(), before);
}

/// Without stacks in the configuration the creator is not asked either.
pub(crate) fn no_stacks<A: TestArch>() {
    let m = Machine::<A>::new(&Config::new().async_stack_size(0), 4 * MIB);
    let creator = OwnStacks::new(&m);
    let engine = engine(&m, |instances| instances.stack_creator(&creator));
    assert_eq!(engine.instances.allocate_fiber_stack().err(), Some(InstanceError::from(Error::NoStacks)));
}

pub(crate) fn not_for_pools<A: TestArch>() {
    let m = Machine::<A>::new(&pooled(pool(1, MIB)), 4 * MIB);
    let refused = OnDemandInstanceAllocator::new(&m.allocator).err();
    assert_eq!(refused, Some(InstanceError::Strategy { wanted: "on demand" }));
    let m = Machine::<A>::new(&Config::new(), 4 * MIB);
    let refused = PoolingInstanceAllocator::new(&m.allocator).err();
    assert_eq!(refused, Some(InstanceError::Strategy { wanted: "pools" }));
}

fn engine<'a, A: TestArch>(
    m: &'a Machine<A>,
    with: impl FnOnce(OnDemandInstanceAllocator<'a, A>) -> OnDemandInstanceAllocator<'a, A>,
) -> Engine<'a, A> {
    let instances = OnDemandInstanceAllocator::new(&m.allocator).unwrap();
    let instances: Box<dyn InstanceAllocator<'a, A> + 'a> = Box::new(with(instances));
    Engine { m, instances, images: false }
}
