//! What is carved, and what it costs.

use alloc::vec::Vec;

use allotment::{Backing, Commit, Config, Plan};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, pool, pooled},
    world::available,
};

fn plan<A: TestArch>(config: &Config, arena: usize) -> Plan {
    Machine::<A>::new(config, arena).allocator.plan().clone()
}

pub(crate) fn adds_up<A: TestArch>() {
    let usual = pool(4, 3 * MIB).total_tables(3).total_stacks(2);
    let per_instance = Backing::Elastic(Commit::PerInstance(9));
    for pools in [pool(0, MIB), usual, usual.backing(Backing::Fixed), usual.backing(per_instance)] {
        let config = pooled(pools).async_stack_size(5 * PAGE).max_wasm_stack(PAGE).region_space(1 << 30);
        let plan = plan::<A>(&config, 24 * MIB);
        let pages = |bytes: usize| bytes / PAGE;
        let arena = plan.arena.end.0 - plan.arena.start.0;
        let frames = (plan.frames + plan.own_frames) * PAGE;
        assert_eq!((plan.footprint.idle_allocator + frames) as u64, arena, "{plan}");
        assert_eq!(plan.footprint.idle_allocator, plan.overhead);
        let slots = [plan.memories.slab, plan.tables.slab, plan.stacks.slab];
        let whole: usize = slots.iter().map(|slab| slab.total_memories * pages(slab.max_memory_size)).sum();
        assert_eq!(plan.own_frames, if plan.backing == Backing::Fixed { whole } else { 0 });
        let of_slots = plan.footprint.idle_slot * plan.memories.slab.total_memories;
        assert!(of_slots + plan.footprint.upper_tables <= plan.footprint.idle_allocator, "{plan}");
    }
}

pub(crate) fn costs<A: TestArch>() {
    /// What an idle slot may cost beyond its premapped tables.
    const MOST: usize = 8 << 10;
    // With three levels each GiB of a slot has its directory from the carve on.
    let most = if A::machine(MIB).0.levels() == 3 { MOST + 4 * PAGE } else { MOST };
    let slots = |count| pooled(pool(count, 1 << 32).premapped_tables(1)).region_space(1 << 30);
    let (few, many) = (plan::<A>(&slots(50), 4 * MIB), plan::<A>(&slots(100), 4 * MIB));
    assert!(many.memories.slab.stride > 1 << 32);
    let each = (many.overhead - few.overhead) / 50;
    assert!(each <= most + PAGE, "a further slot takes {each} bytes");
    let own = many.footprint.idle_slot - PAGE;
    let above = many.footprint.upper_tables / 100;
    assert!(own + above <= most, "an idle slot takes {own} bytes, and {above} above");
    assert!(own > 0 && each >= own + PAGE, "the footprint leaves {own} of {each} bytes out");

    let m = Machine::<A>::new(&slots(2), 4 * MIB);
    let before = available(&m);
    let nothing = m.allocator.allocate_memory(0).unwrap();
    assert_eq!(available(&m), before, "an empty memory takes frames");
    let mut memory = m.allocator.allocate_memory(1).unwrap();
    assert_eq!(m.allocator.plan().footprint.touched_page, PAGE);
    for pages in 1..20 {
        memory.grow_to(pages * PAGE).unwrap();
        m.store(&memory, (pages * PAGE) as i64 - 1, 1).unwrap();
        assert_eq!(available(&m), before - pages);
    }
    m.allocator.deallocate_memory(memory);
    m.allocator.deallocate_memory(nothing);
    assert_eq!(available(&m), before);
}

#[cfg_attr(target_os = "none", allow(dead_code, reason = "a machine of the host has more memory"))]
pub(crate) fn many_slots<A: TestArch>() {
    const SLOTS: usize = 10_000;
    let config = pooled(pool(SLOTS, 2 * MIB).max_unused_warm_slots(u32::MAX))
        .memory_reservation(2 * MIB)
        .memory_guard_size(0)
        .region_space(1 << 30);
    let m = Machine::<A>::new(&config, 52 * MIB);
    let before = available(&m);
    for round in 0..2 {
        let memories: Vec<_> = (0..SLOTS)
            .map(|nth| {
                let memory = m.allocator.allocate_memory(if nth % 10 == 3 { PAGE } else { 0 }).unwrap();
                if memory.size() > 0 {
                    assert_eq!(m.load(&memory, 5), Ok(0), "slot {nth} in round {round}");
                    m.store(&memory, 5, 1).unwrap();
                }
                memory
            })
            .collect();
        m.allocator.allocate_memory(0).unwrap_err();
        let all = m.allocator.metrics();
        assert_eq!((all.memories, all.free_memories), (SLOTS, 0));
        assert_eq!(all.available_frames, before - SLOTS / 10);
        let mut bases: Vec<_> = memories.iter().map(allotment::Memory::base).collect();
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), SLOTS, "two memories have one slot");
        memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
        let all = m.allocator.metrics();
        assert_eq!((all.memories, all.free_memories, all.available_frames), (0, SLOTS, before));
        // Those that lost theirs to nobody keep them, whoever comes next.
        assert!(all.idle_frames >= SLOTS / 10 && all.idle_frames <= SLOTS / 10 * (round + 1));
    }
}
