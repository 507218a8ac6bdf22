//! Where frames come from, and when: backings that give each page its own.

use allotment::{Backing, BackingReason, Commit, Error};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled},
    world::{ELEMENTS, available, counts, leave, pooling, release},
};

pub(crate) fn fixed<A: TestArch>() {
    let pools = pool(2, 3 * MIB).total_tables(1).table_elements(3 * ELEMENTS).backing(Backing::Fixed);
    let config = pooled(pools).region_space(1 << 30);
    let m = Machine::<A>::new(&config, 12 * MIB);
    let plan = m.allocator.plan();
    assert_eq!((plan.backing, plan.backing_reason), (Backing::Fixed, BackingReason::Asked));
    assert_eq!(plan.own_frames, 2 * 3 * MIB / PAGE + 3);
    assert_eq!(available(&m), plan.frames);

    // Not one is left for others: that is nothing to the slots.
    let region = m.allocator.reserve_region(16 * MIB).unwrap();
    let access = Some(allotment::arch::Access::ReadWrite);
    let mut taken = 0;
    for bytes in [16 * MIB, MIB, WASM_PAGE, PAGE] {
        while taken + bytes <= 16 * MIB {
            // SAFETY: nobody relies on the region.
            let more = unsafe { m.allocator.protect_region(region.offset(taken), bytes, access) };
            if more.is_err() {
                break;
            }
            taken += bytes;
        }
    }
    let left = available(&m);
    assert!(left <= 1, "{left} frames are free");
    for round in 0..3 {
        let mut memories = [(); 2].map(|()| m.allocator.allocate_memory(WASM_PAGE).unwrap());
        for memory in &mut memories {
            memory.grow_to(3 * MIB).expect("a slot owns its frames");
            for page in (0..3 * MIB).step_by(PAGE) {
                assert_eq!(m.load(memory, page as i64 + 9), Ok(0), "{page:#x} in round {round}");
                m.store(memory, page as i64 + 9, 0xfe).unwrap();
            }
            m.assert_ends_at(memory, 3 * MIB);
        }
        let mut table = m.allocator.allocate_table(1).unwrap();
        table.grow_to(3 * ELEMENTS).unwrap();
        m.allocator.deallocate_table(table);
        assert_eq!(available(&m), left, "the arena paid for a slot");
        memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
        // Idle slots have nothing that others could get.
        let all = m.allocator.metrics();
        assert_eq!((all.available_frames, all.idle_frames, all.queued_slots), (left, 0, 0));
        assert_eq!(pooling(&m).unused_memory_bytes_resident, 2 * 3 * MIB);
        // SAFETY: nobody relies on the region.
        let more = unsafe { m.allocator.protect_region(region.offset(taken), MIB, access) };
        assert!(matches!(more, Err(Error::OutOfFrames { .. })), "a slot's frames were given away: {more:?}");
    }
    // SAFETY: nobody uses the region.
    unsafe { m.allocator.release_region(region, 16 * MIB) }.unwrap();
    assert_eq!(available(&m), m.allocator.plan().frames);
}

pub(crate) fn fixed_keeps<A: TestArch>() {
    let pools = pool(2, MIB).backing(Backing::Fixed).linear_memory_keep_resident(0);
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 8 * MIB);
    for _ in 0..5 {
        let memory = m.allocator.allocate_memory(3 * PAGE).unwrap();
        assert_eq!(m.load(&memory, 7), Ok(0));
        m.store(&memory, 7, 0xfe).unwrap();
        m.allocator.deallocate_memory(memory);
    }
    assert_eq!(m.allocator.invalidations().everywhere, 0, "frames that stay were waited for");
    assert_eq!(m.allocator.metrics().queued_slots, 0);
}

pub(crate) fn strict<A: TestArch>() {
    let pools = pool(2, MIB).total_tables(4).table_elements(512 * ELEMENTS);
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 4 * MIB);
    let plan = m.allocator.plan();
    assert_eq!((plan.backing, plan.own_frames), (Backing::Elastic(Commit::Strict), 0));
    assert_eq!(available(&m), plan.frames);
    let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    assert_eq!(available(&m), plan.frames - 16);
    memory.grow_to(2 * WASM_PAGE).unwrap();
    assert_eq!(available(&m), plan.frames - 32);
    let fillers = leave(&m, 15, 512);
    let now = counts(&m);
    let refused = memory.grow_to(3 * WASM_PAGE);
    assert_eq!(refused, Err(Error::OutOfFrames { needed: 16, available: 15 }));
    let refused = m.allocator.allocate_memory(WASM_PAGE).unwrap_err();
    assert_eq!(refused, Error::OutOfFrames { needed: 16, available: 15 });
    assert_eq!(counts(&m), now);
    m.assert_ends_at(&memory, 2 * WASM_PAGE);
    // What is promised is there.
    for page in (0..2 * WASM_PAGE).step_by(PAGE) {
        m.store(&memory, page as i64, 1).unwrap();
    }
    release(&m, fillers);
    memory.grow_to(3 * WASM_PAGE).unwrap();
    m.allocator.deallocate_memory(memory);
    assert_eq!(available(&m), plan.frames);
}

pub(crate) fn auto<A: TestArch>() {
    let config = pooled(pool(2, MIB).backing(Backing::Auto)).region_space(1 << 30);
    // Both slots whole, and a quarter of the arena besides.
    let m = Machine::<A>::new(&config, 4 * MIB);
    let plan = m.allocator.plan();
    assert_eq!(plan.backing, Backing::Fixed);
    let BackingReason::ArenaHoldsAll { needed, available: arena } = plan.backing_reason else {
        panic!("{}", plan.backing_reason);
    };
    assert_eq!(arena, 4 * MIB as u64);
    assert!(needed >= 2 * MIB as u64 && needed <= arena - arena / 4, "{needed:#x}");
    assert_eq!(plan.own_frames, 2 * MIB / PAGE);

    let m = Machine::<A>::new(&config, 2 * MIB + MIB / 2);
    let plan = m.allocator.plan();
    assert_eq!((plan.backing, plan.own_frames), (Backing::Elastic(Commit::Strict), 0));
    let BackingReason::ArenaTooSmall { needed, available: arena } = plan.backing_reason else {
        panic!("{}", plan.backing_reason);
    };
    assert!(arena == (2 * MIB + MIB / 2) as u64 && needed > arena - arena / 4, "{needed:#x}");
}
