//! Configurations of several pools: what becomes of them, and what is refused.

use alloc::{format, vec::Vec};

use allotment::{
    Backing, Commit, Config, ConfigError, Limit, MemoryPoolConfig, MemorySummary, PoolingAllocationConfig,
    Total,
};

use crate::{
    common::{MIB, Machine, TestArch, pool, pooled, small},
    world::{GIB, POOLS, config, machine},
};

pub(crate) fn plan<A: TestArch>() {
    let m = machine::<A>();
    let plan = m.allocator.plan();
    let pools: Vec<_> = plan.memory_pools.iter().flatten().collect();
    assert_eq!(pools.len(), 2);
    for (pool, [reservation, guard, most, slots]) in [&plan.memories].into_iter().chain(pools).zip(POOLS) {
        assert_eq!((pool.slab.reservation, pool.slab.max_memory_size), (reservation, most));
        assert!(pool.slab.guard_size >= guard && pool.slab.guard_before >= guard);
        assert_eq!((pool.slab.total_memories, pool.limit), (slots, Limit::Asked));
    }
    // Nothing overlaps: each slab begins where another one ends.
    let text = format!("{plan}");
    assert!(text.contains("\npool 1   memories: 3 slots (as asked)"), "{text}");
    assert!(text.contains("\npool 2   memories: 2 slots (as asked)"), "{text}");
    let mut slabs: Vec<_> = [&plan.memories, &plan.tables, &plan.stacks]
        .into_iter()
        .chain(plan.memory_pools.iter().flatten())
        .filter(|pool| pool.slab.total_memories > 0)
        .map(|pool| (pool.first.0 - pool.slab.guard_before as u64, pool.slab.total as u64))
        .collect();
    slabs.sort_unstable();
    assert!(slabs.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{slabs:x?}");
    let text = format!("{}", m.allocator.config());
    assert!(text.contains("memory pool 1: 3 of at most 2 MiB, 8 MiB reserved, 2 MiB of guard"), "{text}");
}

pub(crate) fn none<A: TestArch>() {
    let m = Machine::<A>::new(&small(), 16 * MIB);
    assert_eq!(m.allocator.plan().memory_pools, [None; MemoryPoolConfig::MOST]);
    assert!(!format!("{}{}", m.allocator.plan(), m.allocator.config()).contains("pool 1"));
    assert_eq!(m.allocator.memory_pool_metrics(0).unwrap().free_memories, 4);
    assert_eq!(m.allocator.memory_pool_metrics(1), None);
}

fn with(pools: impl IntoIterator<Item = MemoryPoolConfig>) -> Config {
    pooled(pools.into_iter().fold(pool(2, MIB), PoolingAllocationConfig::memory_pool))
}

pub(crate) fn refused() {
    let one = MemoryPoolConfig::new(64 * MIB).total_memories(1);
    let refused = |pool| with([one, pool]).validate().unwrap_err();
    assert_eq!(with([one; 3]).validate(), Ok(()));
    let many = with([one; 4]).validate().unwrap_err();
    assert_eq!(many, ConfigError::TooManyMemoryPools { count: 4, limit: 3 });
    assert!(format!("{many}").contains("add fewer"), "{many}");
    assert_eq!(
        refused(one.max_memory_size(64 * MIB + 1)),
        ConfigError::MemoryLargerThanReservation {
            max_memory_size: 64 * MIB + 1,
            memory_reservation: 64 * MIB
        }
    );
    let guard = usize::MAX - 4 * MIB;
    assert_eq!(
        refused(one.memory_guard_size(guard)),
        ConfigError::TooLarge { knob: "memory_guard_size", value: guard }
    );
    assert!(matches!(
        refused(one.total_memories(usize::MAX / MIB)),
        ConfigError::PoolTooLarge { knob: "total_memories", .. }
    ));
    // What is there is the window's and the arena's to hold.
    let window = |window| with([one.total_memories(1000)]).resolve(window, GIB as u64, 1);
    assert!(matches!(window(100 << 30), Err(ConfigError::WindowTooSmall { .. })));
    assert!(window(200 << 30).is_ok());
    let arena = |bytes: usize| {
        let pools = pool(2, MIB).backing(Backing::Fixed).memory_pool(one);
        pooled(pools).resolve(1 << 40, bytes as u64, 1)
    };
    assert!(matches!(arena(32 * MIB), Err(ConfigError::ArenaTooSmall { .. })));
    assert!(arena(128 * MIB).is_ok());
    // A module is held by the largest.
    let pages = |minimum_pages| MemorySummary { minimum_pages, page_size_log2: 16, shared: false };
    let pools = pool(2, MIB).memory_pool(one);
    assert!(pools.validate_memory(&pages(1024)).is_ok());
    assert!(pools.validate_memory(&pages(1025)).is_err());
    assert!(pool(2, MIB).validate_memory(&pages(17)).is_err());
}

pub(crate) fn open_counts() {
    let slots = |arena: usize, total: Total| {
        let pools = PoolingAllocationConfig::new().total_tables(0).total_stacks(0).max_memory_size(4 * MIB);
        let pools = pools.memory_pool(MemoryPoolConfig::new(64 * MIB).total_memories(total));
        let resolved = pooled(pools).resolve(1 << 46, arena as u64, 4).unwrap();
        let further = resolved.memory_pools[0].unwrap();
        assert!(resolved.memory_pools[1..].iter().all(Option::is_none));
        (resolved.memories.slab.total_memories, further.slab.total_memories, further.limit)
    };
    assert_eq!(slots(8 * GIB, Total::Auto), (1000, 1000, Limit::Default));
    assert_eq!(slots(8 * GIB, Total::AtMost(30)), (1000, 30, Limit::Asked));
    let mut before = 0;
    for arena in [16, 64, 256, 1024, 4096] {
        let (memories, further, _) = slots(arena * MIB, Total::Auto);
        assert!(further >= before && memories >= further, "{memories} and {further} of {arena} MiB");
        before = further;
    }
    assert_eq!(slots(16 * MIB, Total::Auto).2, Limit::Arena);
    // `Fixed` wherever every slot of every pool fits whole.
    let backing = |arena: usize| config(Backing::Auto).resolve(1 << 46, arena as u64, 1).unwrap().backing;
    let whole: usize = POOLS.iter().map(|pool| pool[2] * pool[3]).sum();
    assert_eq!(backing(2 * whole), Backing::Fixed);
    assert_eq!(backing(whole), Backing::Elastic(Commit::Strict));
}
