//! Counts that follow instances, and edits of nothing.

use allotment::{
    Config, Error,
    arch::{Access, VirtAddr},
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, pooled},
    few,
    module::{Engine, memory, module},
};

pub(crate) fn of_pools<A: TestArch>() {
    let m = Machine::<A>::new(&pooled(few()), 8 * MIB);
    let engine = Engine::new(&m);
    let count = || m.allocator.pooling_allocator_metrics().unwrap();
    let in_use = || [count().core_instances, count().memories as u64, count().tables as u64];
    let warm = || [count().unused_warm_memories, count().unused_warm_tables];
    assert_eq!((in_use(), warm()), ([0; 3], [0; 2]));
    let code = module().memory(1, None).table(10, None).build();
    let bare = module().build();
    let mut first = engine.instantiate(&code).unwrap();
    let second = engine.instantiate(&code).unwrap();
    let nothing = engine.instantiate(&bare).unwrap();
    assert_eq!((in_use(), warm()), ([3, 2, 2], [0; 2]));
    first.memory_fill(memory(0), 0, 1, PAGE as u64).unwrap();
    engine.end(first);
    assert_eq!((in_use(), warm()), ([2, 1, 1], [1; 2]));
    assert!(count().unused_memory_bytes_resident >= PAGE && count().unused_table_bytes_resident >= PAGE);
    engine.end(nothing);
    engine.end(second);
    assert_eq!((in_use(), warm()), ([0; 3], [2; 2]));
    // The same slots again.
    let third = engine.instantiate(&code).unwrap();
    assert_eq!((in_use(), warm()), ([1; 3], [1; 2]));
    engine.end(third);
}

pub(crate) fn on_demand<A: TestArch>() {
    let m = Machine::<A>::new(&Config::new(), 8 * MIB);
    let engine = Engine::new(&m);
    assert!(m.allocator.pooling_allocator_metrics().is_none());
    let before = engine.counts();
    let instance = engine.instantiate(&module().memory(1, None).table(10, None).build()).unwrap();
    assert!(m.allocator.pooling_allocator_metrics().is_none());
    // The memory, the table and the context.
    assert_eq!(m.allocator.metrics().regions, 3);
    engine.end(instance);
    assert_eq!(engine.counts(), before);
}

pub(crate) fn of_nothing<A: TestArch>() {
    let m = Machine::<A>::new(&Config::new(), 8 * MIB);
    let region = m.allocator.reserve_region(2 * PAGE).unwrap();
    let protect = |at: VirtAddr, bytes, access| {
        // SAFETY: nobody relies on what this test does not access.
        unsafe { m.allocator.protect_region(at, bytes, access) }
    };
    protect(region, 0, Some(Access::ReadWrite)).unwrap();
    m.load_at(region).unwrap_err();
    protect(region, PAGE, Some(Access::ReadWrite)).unwrap();
    m.store_at(region, 1).unwrap();
    protect(region, 0, None).unwrap();
    protect(region.offset(PAGE), 0, Some(Access::ReadWrite)).unwrap();
    assert_eq!(m.load_at(region), Ok(1));
    m.load_at(region.offset(PAGE)).unwrap_err();
    // SAFETY: as above.
    unsafe { m.allocator.reset_region(region, 0) }.unwrap();
    assert_eq!(m.load_at(region), Ok(1));
    // What is no region is none of no bytes either.
    let outside = VirtAddr(region.0 - (1 << 40));
    let error = Error::UnknownRange { address: outside, bytes: 0 };
    assert_eq!(protect(outside, 0, Some(Access::ReadWrite)), Err(error));
    // SAFETY: nobody uses it any more.
    unsafe { m.allocator.release_region(region, 2 * PAGE) }.unwrap();
}
