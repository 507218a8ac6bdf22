//! Counts, tables and backing for windows and arenas from nothing to more than
//! any machine has.

use allotment::{
    Backing, BackingReason, Commit, Config, ConfigError, Limit, PoolingAllocationConfig, Resolved,
    ResolvedPool, Total, arch::TABLE_SPAN,
};

use super::{GIB, MIB, MOST, memories_only, pooled};

const TIB: u64 = 1 << 40;
/// A half of the address space with 4 and with 5 levels of tables.
const WINDOWS: [u64; 2] = [1 << 47, 1 << 56];

const ARENAS: [u64; 12] =
    [0, 4096, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30, 8 << 30, 64 << 30, 1 << 40, u64::MAX];

pub(crate) fn on_demand() {
    let resolved = Config::new().resolve(1 << 40, 1 << 28, 4).unwrap();
    for pool in pools(&resolved) {
        assert_eq!(pool.slab.total_memories, 0);
    }
    assert_eq!(resolved.backing_reason, BackingReason::OnDemand);
    let error = ConfigError::WindowTooSmall { needed: 64 << 30, available: (64 << 30) - 1 };
    assert_eq!(Config::new().resolve((64 << 30) - 1, 1 << 28, 1), Err(error));
    Config::new().resolve(64 << 30, 1 << 28, 1).unwrap();
    assert_eq!(Config::new().region_space(1).resolve(1 << 40, 1 << 28, 1).unwrap().region_space, GIB);
}

pub(crate) fn exact() {
    let pool = memories_only().total_memories(10).max_memory_size(64 * MIB).premapped_tables(32);
    let config = pooled(pool);
    let needed = (64 << 30) + (32 << 20) + 10 * (4 * GIB + 32 * MIB) as u64;
    let error = ConfigError::WindowTooSmall { needed, available: needed - 1 };
    assert_eq!(config.resolve(needed - 1, 1 << 30, 1), Err(error));
    let resolved = config.resolve(needed, 1 << 30, 1).unwrap();
    assert_eq!((count(&resolved.memories), resolved.memories.limit), (10, Limit::Asked));
    assert_eq!(resolved.memories.slab.premapped_tables, 32);

    // 32 tables of each of 10 slots.
    let tables = 320 * 4096;
    let error = ConfigError::ArenaTooSmall { needed: tables, available: tables - 1 };
    assert_eq!(config.resolve(1 << 47, tables - 1, 1), Err(error));
    assert_eq!(count(&config.resolve(1 << 47, tables, 1).unwrap().memories), 10);
    // And their frames, if they are theirs.
    let fixed = config.allocation_strategy(pool.backing(Backing::Fixed));
    let frames = tables + 10 * 64 * MIB as u64;
    let error = ConfigError::ArenaTooSmall { needed: frames, available: frames - 1 };
    assert_eq!(fixed.resolve(1 << 47, frames - 1, 1), Err(error));
    assert_eq!(count(&fixed.resolve(1 << 47, frames, 1).unwrap().memories), 10);

    // What takes nothing is what was asked for.
    let counts =
        pool.total_core_instances(MOST).total_component_instances(Total::AtMost(3)).total_gc_heaps(99);
    let resolved = pooled(counts).resolve(1 << 47, 1 << 30, 1).unwrap();
    assert_eq!((resolved.core_instances.count, resolved.core_instances.limit), (MOST, Limit::Asked));
    assert_eq!(resolved.component_instances.count, 3);
    assert_eq!((resolved.gc_heaps.count, resolved.gc_heaps.limit), (99, Limit::Asked));
    // Otherwise no more heaps than slots that they lie in.
    let resolved = pooled(pool).resolve(1 << 47, 1 << 30, 1).unwrap();
    assert_eq!((resolved.gc_heaps.count, resolved.gc_heaps.limit), (10, Limit::Memories));
    assert_eq!((resolved.core_instances.count, resolved.core_instances.limit), (1000, Limit::Default));
    // And no stacks of nothing.
    let resolved = pooled(pool.total_stacks(5)).async_stack_size(0).resolve(1 << 47, 1 << 30, 1).unwrap();
    assert_eq!(count(&resolved.stacks), 0);
}

pub(crate) fn open() {
    let config = pooled(PoolingAllocationConfig::new());
    // A usual machine.
    let resolved = config.resolve(1 << 46, 8 << 30, 4).unwrap();
    for pool in pools(&resolved) {
        assert_eq!((count(&pool), pool.limit), (1000, Limit::Default));
    }
    // A window for some: one slot more does not fit.
    let window = TIB;
    let resolved = config.resolve(window, 8 << 30, 4).unwrap();
    assert_eq!(resolved.memories.limit, Limit::Window);
    let used = |resolved: &Resolved| {
        resolved.region_space as u64 + pools(resolved).map(|pool| pool.slab.total as u64).iter().sum::<u64>()
    };
    let strides: u64 = pools(&resolved).map(|pool| pool.slab.stride as u64).iter().sum();
    assert!(used(&resolved) <= window && used(&resolved) + strides > window, "{resolved:?}");
    assert!(count(&resolved.memories) > 200);
    // An arena for some.
    let resolved = config.resolve(1 << 47, 16 << 20, 4).unwrap();
    assert_eq!(resolved.memories.limit, Limit::Arena);
    assert!((10..100).contains(&count(&resolved.memories)), "{resolved:?}");
    // Nothing fits nothing, and that is no error.
    let resolved = config.resolve(1 << 47, 0, 4).unwrap();
    assert_eq!((count(&resolved.memories), resolved.memories.limit), (0, Limit::Arena));
    // At most so many; the others go on without.
    let few = PoolingAllocationConfig::new().total_memories(Total::AtMost(5));
    let resolved = pooled(few).resolve(1 << 46, 8 << 30, 4).unwrap();
    assert_eq!((count(&resolved.memories), resolved.memories.limit), (5, Limit::Asked));
    assert_eq!(count(&resolved.tables), 1000);
    // More than 1000, where there is room.
    let many = PoolingAllocationConfig::new().total_memories(Total::AtMost(20_000));
    let resolved = pooled(many).resolve(1 << 47, 64 << 30, 4).unwrap();
    assert_eq!((count(&resolved.memories), count(&resolved.tables)), (20_000, 1000));
    let all = PoolingAllocationConfig::new().total_memories(Total::AtMost(MOST));
    let resolved = pooled(all).resolve(1 << 47, 64 << 30, 4).unwrap();
    assert_eq!(resolved.memories.limit, Limit::Window);
    assert!((30_000..33_000).contains(&count(&resolved.memories)));
}

pub(crate) fn monotone() {
    in_every_direction();
    page_by_page();
}

/// Where rounding down could make more of less.
fn page_by_page() {
    let config = pooled(PoolingAllocationConfig::new());
    let mut before = 0;
    for arena in (1 << 20..16 << 20).step_by(3 * 4096) {
        let slots = count(&config.resolve(1 << 47, arena, 4).unwrap().memories);
        assert!(slots >= before, "{before} slots in a smaller arena than {arena:#x}, now {slots}");
        before = slots;
    }
}

fn in_every_direction() {
    let pool = PoolingAllocationConfig::new;
    let windows = [36, 37, 39, 40, 41, 42, 46, 47, 56, 63].map(|bits| 1u64 << bits);
    let configs = [
        pooled(pool()),
        pooled(pool().max_memory_size(4 * MIB)),
        pooled(pool().max_memory_size(0)).memory_guard_size(0).memory_reservation(0),
        pooled(pool().premapped_tables(3)),
        pooled(pool().premapped_tables(0)),
        pooled(pool().backing(Backing::Fixed).max_memory_size(MIB)),
        pooled(pool().total_memories(Total::AtMost(100_000)).total_stacks(Total::AtMost(3))),
        pooled(pool().total_tables(2).total_stacks(0)),
    ];
    for config in configs {
        for (w, window) in windows.into_iter().enumerate() {
            for (a, arena) in ARENAS.into_iter().enumerate() {
                let Ok(resolved) = config.resolve(window, arena, 4) else { continue };
                assert_fits(&config, &resolved, window, arena);
                let smaller = [(w.max(1) - 1, a), (w, a.max(1) - 1)];
                for (w, a) in smaller {
                    let Ok(smaller) = config.resolve(windows[w], ARENAS[a], 4) else { continue };
                    for (small, large) in pools(&smaller).iter().zip(&pools(&resolved)) {
                        assert!(count(small) <= count(large), "{config}\n{smaller:?}\n{resolved:?}");
                    }
                }
            }
        }
    }
}

/// In the window, not more than asked, and a 16th of the arena for tables and
/// records: at least the tables can be counted here.
fn assert_fits(config: &Config, resolved: &Resolved, window: u64, arena: u64) {
    let pooling = config.pooling().unwrap();
    let mut space = resolved.region_space as u128;
    let mut tables = 0;
    let totals = [pooling.total_memories, pooling.total_tables, pooling.total_stacks];
    for (pool, total) in pools(resolved).iter().zip(totals) {
        assert!(count(pool) <= total.most());
        space += pool.slab.total as u128;
        if !matches!(total, Total::Exactly(_)) {
            tables += (count(pool) * pool.slab.premapped_tables) as u64 * 4096;
        }
    }
    assert!(space <= u128::from(window), "{resolved:?}");
    if !matches!(resolved.backing, Backing::Fixed) {
        assert!(tables <= arena / 16, "{resolved:?}");
    }
}

pub(crate) fn backing() {
    let pool = memories_only().total_memories(10).max_memory_size(64 * MIB);
    let of = |pool, arena| pooled(pool).resolve(WINDOWS[0], arena, 1).unwrap();
    // 640 MiB and their tables.
    let BackingReason::ArenaTooSmall { needed, available } = of(pool, 640 << 20).backing_reason else {
        panic!("10 slots of 64 MiB and a quarter to spare in 640 MiB");
    };
    assert_eq!(available, 640 << 20);
    assert!((640 << 20..650 << 20).contains(&needed), "{needed}");
    // Just enough, with a quarter to spare. The arena's own records grow with it.
    let (mut fits, mut too_small) = (2u64 << 30, 640u64 << 20);
    while fits - too_small > 4096 {
        let middle = (fits + too_small) / 2;
        match of(pool, middle).backing_reason {
            BackingReason::ArenaHoldsAll { needed, available } => {
                assert!(needed <= available - available / 4);
                fits = middle;
            }
            reason => {
                assert!(matches!(reason, BackingReason::ArenaTooSmall { .. }), "{reason}");
                too_small = middle;
            }
        }
    }
    assert!((853 << 20..870 << 20).contains(&fits), "{fits}");
    let (fixed, elastic) = (of(pool, fits), of(pool, too_small));
    assert_eq!((fixed.backing, elastic.backing), (Backing::Fixed, Backing::Elastic(Commit::Strict)));
    // All tables are there, if all frames are, whatever else is asked.
    assert_eq!(fixed.memories.slab.premapped_tables, 32);
    let few = of(pool.premapped_tables(1), fits);
    assert_eq!((few.backing, few.memories.slab.premapped_tables), (Backing::Fixed, 32));
    // Tables and stacks own theirs as well.
    let stacks = pool.total_stacks(1000);
    assert_eq!(of(stacks, fits).backing, Backing::Elastic(Commit::Strict));
    assert_eq!(of(stacks, 4 << 30).backing, Backing::Fixed);
    // What is asked for is what there is.
    for asked in [Backing::Fixed, Backing::Elastic(Commit::Strict), Backing::Elastic(Commit::PerInstance(4))]
    {
        let resolved = of(pool.backing(asked), 8 << 30);
        assert_eq!((resolved.backing, resolved.backing_reason), (asked, BackingReason::Asked));
    }
    // With frames of their own, open counts leave a quarter too.
    let open = memories_only().max_memory_size(64 * MIB).backing(Backing::Fixed);
    let slots = count(&of(open, 1 << 30).memories);
    assert!((10..=12).contains(&slots), "{slots}");
}

pub(crate) fn premapped() {
    let of = |pool: PoolingAllocationConfig, arena| {
        pooled(pool.total_memories(16)).resolve(WINDOWS[1], arena, 1).unwrap().memories.slab
    };
    let usual = memories_only();
    // A 64th of 1 GiB is 4096 tables, for 16 slots.
    assert_eq!(of(usual, 1 << 30).premapped_tables, 256);
    assert_eq!(of(usual, 1 << 40).premapped_tables, 2048, "no more than max_memory_size needs");
    assert_eq!(of(usual, 1 << 20).premapped_tables, 1, "one at least");
    assert_eq!(of(usual.max_memory_size(0), 1 << 20).premapped_tables, 0, "none for nothing");
    assert_eq!(of(usual.max_memory_size(TABLE_SPAN + 1), 1 << 30).premapped_tables, 2);
    assert_eq!(of(usual.premapped_tables(3), 1 << 30).premapped_tables, 3);
    assert_eq!(of(usual.premapped_tables(0), 1 << 30).premapped_tables, 1);
    assert_eq!(of(usual.premapped_tables(MOST), 1 << 30).premapped_tables, 2048);
}

fn pools(resolved: &Resolved) -> [ResolvedPool; 3] {
    [resolved.memories, resolved.tables, resolved.stacks]
}

fn count(pool: &ResolvedPool) -> usize {
    pool.slab.total_memories
}
