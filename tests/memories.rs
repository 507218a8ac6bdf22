//! What a memory promises: zeros, an end that faults, growth, and nothing of
//! its previous tenant.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::{format, string::ToString};

use allotment::{
    CompiledModuleId, Error, FaultAccess, FaultRegion, Memory, MemoryRequest, PoolKind, Verdict,
};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled, small};

harness::tests! {
    fn a_new_memory_is_zero_and_ends_where_it_says() {
        on_every_machine!(zero_and_bounded);
    }

    fn growth_adds_zeros_and_keeps_contents() {
        on_every_machine!(growth);
    }

    fn a_reused_slot_shows_nothing_of_its_previous_tenant() {
        on_every_machine!(reuse);
    }

    fn growth_beyond_the_slot_or_the_arena_changes_nothing() {
        on_every_machine!(growth_limits);
    }

    fn the_last_slot_is_followed_by_a_clear_error() {
        on_every_machine!(slot_limit);
    }

    fn every_kind_of_address_is_classified() {
        on_every_machine!(classification);
    }

    fn ten_thousand_tenants_leave_the_counts_as_they_were() {
        on_every_machine!(many_tenants);
    }

    fn frames_of_free_slots_go_where_they_are_needed() {
        on_every_machine!(reclaim);
    }

    fn a_handle_outlives_its_memory_without_harm() {
        on_every_machine!(stale_handle);
    }

    fn a_gap_below_what_is_made_accessible_is_refused() {
        on_every_machine!(gap);
    }

    fn a_small_memory_in_a_warm_slot_holds_up_nobody() {
        on_every_machine!(pinned);
    }

    fn zeros_are_shared_and_counted_once() {
        on_every_machine!(shared_zeros);
    }

    fn odd_sizes_are_rounded_or_refused() {
        on_every_machine!(odd_sizes);
    }
}

fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&small(), 16 * MIB)
}

fn zero_and_bounded<A: TestArch>() {
    let m = machine::<A>();
    for size in [1, PAGE, WASM_PAGE, 3 * WASM_PAGE] {
        let memory = m.allocator.allocate_memory(size).unwrap();
        let end = size.next_multiple_of(PAGE);
        for offset in (0..end).step_by(PAGE / 2) {
            assert_eq!(m.load(&memory, offset as i64), Ok(0));
        }
        m.assert_ends_at(&memory, end);
        m.load(&memory, -1).expect_err("the guard before was readable");
        m.store(&memory, 0, 7).unwrap();
        m.allocator.deallocate_memory(memory);
    }
    let empty = m.allocator.allocate_memory(0).unwrap();
    m.load(&empty, 0).expect_err("an empty memory was readable");
    m.allocator.deallocate_memory(empty);
}

fn growth<A: TestArch>() {
    let m = machine::<A>();
    let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    m.store(&memory, 5, 55).unwrap();
    for pages in [2, 3, 32, 33, 64] {
        let before = memory.size();
        memory.grow_to(pages * WASM_PAGE).unwrap();
        assert_eq!(memory.size(), pages * WASM_PAGE);
        assert_eq!(m.load(&memory, before as i64), Ok(0));
        m.assert_ends_at(&memory, pages * WASM_PAGE);
        assert_eq!(m.load(&memory, 5), Ok(55));
    }
    memory.grow_to(1).unwrap();
    assert_eq!(memory.size(), 64 * WASM_PAGE, "a smaller size changed something");
    m.allocator.deallocate_memory(memory);
}

fn reuse<A: TestArch>() {
    let m = machine::<A>();
    for round in 0..3 {
        let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        for offset in (0..WASM_PAGE).step_by(512) {
            assert_eq!(m.load(&memory, offset as i64), Ok(0), "round {round} at {offset:#x}");
        }
        memory.grow_to(20 * WASM_PAGE).unwrap();
        for page in 0..20 {
            let offset = (page * WASM_PAGE + 9 * PAGE + 3) as i64;
            assert_eq!(m.load(&memory, offset), Ok(0), "round {round}, page {page}");
            m.store(&memory, offset, 0xfe).unwrap();
        }
        m.store(&memory, 0, 0xfe).unwrap();
        m.allocator.deallocate_memory(memory);
        // The next tenant is smaller: what the last one grew is gone for it.
        let smaller = m.allocator.allocate_memory(5 * WASM_PAGE).unwrap();
        m.load(&smaller, 15 * WASM_PAGE as i64)
            .expect_err("the growth of the previous tenant is still there");
        m.assert_ends_at(&smaller, 5 * WASM_PAGE);
        m.allocator.deallocate_memory(smaller);
    }
}

fn growth_limits<A: TestArch>() {
    let m = machine::<A>();
    let before = m.allocator.metrics();
    let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    let limit = 4 * MIB;
    let refused = memory.grow_to(limit + 1).unwrap_err();
    assert_eq!(refused, Error::MemoryTooLarge { requested: limit + 1, limit });
    m.assert_ends_at(&memory, WASM_PAGE);
    memory.grow_to(limit).unwrap();

    // The arena is smaller than four whole slots.
    let mut others: [Option<Memory<'_, A>>; 3] = [const { None }; 3];
    let mut out_of_frames = None;
    for place in &mut others {
        match m.allocator.allocate_memory(limit) {
            Ok(memory) => *place = Some(memory),
            Err(error) => out_of_frames = Some(error),
        }
    }
    let Some(Error::OutOfFrames { needed, available }) = out_of_frames else {
        panic!("the arena was never exhausted: {out_of_frames:?}");
    };
    assert!(needed > available, "{needed} frames refused although {available} are free");
    for memory in others.into_iter().flatten().chain([memory]) {
        m.allocator.deallocate_memory(memory);
    }
    let after = m.allocator.metrics();
    // But for what memories of that size share from now on.
    let frames = after.available_frames + after.shared_frames;
    assert_eq!((before.memories, before.available_frames), (after.memories, frames));
}

fn slot_limit<A: TestArch>() {
    let m = machine::<A>();
    let memories = [(); 4].map(|()| m.allocator.allocate_memory(WASM_PAGE).unwrap());
    let full = m.allocator.allocate_memory(0).unwrap_err();
    assert_eq!(full, Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 4 });
    for (number, memory) in (1..).zip(&memories) {
        m.store(memory, 0, number).unwrap();
    }
    for (number, memory) in (1..).zip(&memories) {
        assert_eq!(m.load(memory, 0), Ok(number), "two slots share a page");
    }
    for memory in memories {
        m.allocator.deallocate_memory(memory);
    }
    let again = m.allocator.allocate_memory(4 * MIB + 1).unwrap_err();
    assert_eq!(again, Error::MemoryTooLarge { requested: 4 * MIB + 1, limit: 4 * MIB });
    assert_eq!(m.allocator.metrics().free_memories, 4);
}

fn classification<A: TestArch>() {
    let m = machine::<A>();
    let request = MemoryRequest::new(WASM_PAGE).module(CompiledModuleId(77), 3);
    let memory = m.allocator.allocate_memory(request).unwrap();
    let plan = m.allocator.plan();
    let slab = plan.memories.slab;
    let (reservation, stride) = (slab.reservation as i64, slab.stride as i64);
    assert_eq!(m.verdict(&memory, 0), Verdict::Resume, "an accessible page is a spurious fault");
    let Verdict::Trap(report) = m.verdict(&memory, WASM_PAGE as i64) else { panic!("one past the end") };
    assert_eq!((report.region, report.offset), (FaultRegion::Memory(Some(3)), Some(WASM_PAGE as i64)));
    let slot = report.slot.unwrap();
    assert_eq!((slot.pool, slot.slot, slot.generation), (Some(PoolKind::Memories), 0, 1));
    assert_eq!(slot.accessible, WASM_PAGE);
    assert_eq!(report.module, Some(CompiledModuleId(77)));
    assert_eq!(
        report.to_string(),
        format!(
            "read at {}: memory 3, offset 0x10000 of 0x10000 accessible bytes, slot 0 of memories \
             (generation 1), module 77",
            report.address
        )
    );
    let Verdict::Trap(report) = m.verdict(&memory, reservation) else { panic!("the guard") };
    assert_eq!((report.region, report.offset), (FaultRegion::GuardAfter(Some(3)), Some(reservation)));
    let Verdict::Trap(report) = m.verdict(&memory, stride - 1) else { panic!("the guard's last byte") };
    assert_eq!(report.region, FaultRegion::GuardAfter(Some(3)));
    let Verdict::Trap(report) = m.verdict(&memory, stride) else { panic!("the next slot") };
    assert_eq!((report.region, report.offset), (FaultRegion::Memory(None), Some(0)));
    assert_eq!(report.slot.map(|slot| (slot.slot, slot.generation, slot.accessible)), Some((1, 0, 0)));
    let Verdict::Trap(report) = m.verdict(&memory, -1) else { panic!("the guard before") };
    assert_eq!((report.region, report.offset), (FaultRegion::GuardBefore(Some(3)), Some(-1)));
    assert_eq!(m.allocator.fault(plan.window.end, FaultAccess::Read), Verdict::NotOurs);
    m.allocator.deallocate_memory(memory);
}

fn many_tenants<A: TestArch>() {
    let m = machine::<A>();
    let before = m.allocator.metrics();
    for round in 0..10_000 {
        let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        let offset = (round * 4099 % WASM_PAGE) as i64;
        assert_eq!(m.load(&memory, offset), Ok(0), "round {round}");
        m.store(&memory, offset, 1).unwrap();
        m.allocator.deallocate_memory(memory);
    }
    let after = m.allocator.metrics();
    assert_eq!((before.memories, before.available_frames), (after.memories, after.available_frames));
}

fn reclaim<A: TestArch>() {
    // Room for one slot's contents, not for two.
    let config = pooled(pool(2, 4 * MIB));
    let m = Machine::<A>::new(&config, 7 * MIB);
    let first = m.allocator.allocate_memory(4 * MIB).unwrap();
    let second = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    write_all(&m, &first, 9);
    m.allocator.deallocate_memory(first);
    assert!(m.allocator.metrics().idle_frames >= 4 * MIB / PAGE, "the free slot keeps its frames");
    let mut second = second;
    second.grow_to(4 * MIB).expect("the frames of the free slot are taken");
    for offset in (0..4 * MIB).step_by(PAGE) {
        assert_eq!(m.load(&second, offset as i64), Ok(0), "a frame came with its previous contents");
    }
    m.allocator.deallocate_memory(second);
}

/// Makes each page the memory's own.
fn write_all<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, byte: u8) {
    for offset in (0..memory.size()).step_by(PAGE) {
        m.store(memory, offset as i64, byte).unwrap();
    }
}

fn stale_handle<A: TestArch>() {
    let m = machine::<A>();
    let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    let Memory::Static { make_accessible, .. } = memory else { panic!("not a slot") };
    m.allocator.deallocate_memory(memory);
    let stale = make_accessible.call(0, WASM_PAGE).unwrap_err();
    assert_eq!(stale, Error::Stale { slot: 0 });
    let next = m.allocator.allocate_memory(0).unwrap();
    assert_eq!(make_accessible.call(0, WASM_PAGE), Err(Error::Stale { slot: 0 }));
    m.load(&next, 0).expect_err("a stale handle gave access to the next tenant");
    m.allocator.deallocate_memory(next);
}

fn gap<A: TestArch>() {
    let m = machine::<A>();
    let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    let Memory::Static { make_accessible, .. } = memory else { panic!("not a slot") };
    let refused = make_accessible.call(2 * WASM_PAGE, PAGE).unwrap_err();
    assert_eq!(refused, Error::NotAPrefix { offset: 2 * WASM_PAGE, accessible: WASM_PAGE });
    m.assert_ends_at(&memory, WASM_PAGE);
    make_accessible.call(WASM_PAGE, PAGE).unwrap();
    m.assert_ends_at(&memory, WASM_PAGE + PAGE);
    m.allocator.deallocate_memory(memory);
}

fn pinned<A: TestArch>() {
    // Room for one slot's contents and little more.
    let config = pooled(pool(2, 4 * MIB));
    let m = Machine::<A>::new(&config, 5 * MIB);
    // What memories of these sizes share stays.
    for size in [4 * MIB, PAGE] {
        m.allocator.deallocate_memory(m.allocator.allocate_memory(size).unwrap());
    }
    let before = m.allocator.metrics();
    let large = m.allocator.allocate_memory(4 * MIB).unwrap();
    write_all(&m, &large, 0xfe);
    m.allocator.deallocate_memory(large);
    // The slot that is warm comes out first, and stays in use.
    let small = m.allocator.allocate_memory(PAGE).unwrap();
    m.store(&small, 0, 1).unwrap();
    let metrics = m.allocator.metrics();
    assert_eq!(metrics.available_frames, before.available_frames - 1, "one page uses one frame");
    let mut other = m.allocator.allocate_memory(PAGE).unwrap();
    other.grow_to(4 * MIB).expect("what the small memory does not use can be had");
    for offset in (0..4 * MIB).step_by(PAGE) {
        assert_eq!(m.load(&other, offset as i64), Ok(0), "a frame came with its previous contents");
    }
    m.store(&other, 4 * MIB as i64 - 1, 2).unwrap();
    assert_eq!(m.load(&small, 0), Ok(1), "the small memory lost its page");
    // More than there is: nothing that is in use is taken for it.
    let mut small = small;
    small.grow_to(4 * MIB).unwrap_err();
    let left = m.allocator.metrics().available_frames;
    assert_eq!(left, before.available_frames - 1 - 4 * MIB / PAGE);
    m.assert_ends_at(&small, PAGE);
    m.assert_ends_at(&other, 4 * MIB);
    m.allocator.deallocate_memory(other);
    // Growing where frames were taken away is growing as ever.
    small.grow_to(4 * MIB).unwrap();
    for offset in (PAGE..4 * MIB).step_by(PAGE) {
        assert_eq!(m.load(&small, offset as i64), Ok(0));
    }
    m.allocator.deallocate_memory(small);
    assert_eq!(m.allocator.metrics().available_frames, before.available_frames);
}

fn shared_zeros<A: TestArch>() {
    let m = machine::<A>();
    let all = m.allocator.metrics().available_frames;
    // A frame of zeros, a directory of tables, and a table for each number of pages that
    // ends a memory; whole tables have one.
    let smaller = 2 * MIB + 2 * WASM_PAGE;
    for (size, shared) in [(2 * WASM_PAGE, 3), (2 * WASM_PAGE, 3), (4 * MIB, 4), (smaller, 4)] {
        let memories = [(); 2].map(|()| m.allocator.allocate_memory(size).unwrap());
        assert_eq!(m.allocator.metrics().shared_frames, shared, "{size:#x}");
        write_all(&m, &memories[0], 1);
        for offset in (0..size).step_by(PAGE) {
            assert_eq!(m.load(&memories[1], offset as i64), Ok(0), "{size:#x}");
        }
        memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
        let metrics = m.allocator.metrics();
        assert_eq!((metrics.shared_frames, metrics.available_frames), (shared, all - shared));
    }
    let before = m.allocator.metrics();
    let fill = |at: usize, bytes: &mut [u8; PAGE]| bytes.fill(u8::from(at > 0));
    let image = m.allocator.build_image(0, 3 * PAGE, fill).unwrap();
    let memory = m.allocator.allocate_memory_from(&image, 3 * WASM_PAGE).unwrap();
    // A record, a table, one up to that size, and two pages: the first is zeros.
    assert_eq!(m.allocator.metrics().shared_frames, before.shared_frames + 5);
    m.allocator.deallocate_memory(memory);
    assert_eq!(m.allocator.metrics().available_frames, before.available_frames - 5);
    drop(image);
    let after = m.allocator.metrics();
    assert_eq!(after.shared_frames, before.shared_frames);
    assert_eq!(after.available_frames, before.available_frames);
}

fn odd_sizes<A: TestArch>() {
    let m = machine::<A>();
    let limit = 4 * MIB;
    let mut memory = m.allocator.allocate_memory(1).unwrap();
    let Memory::Static { make_accessible, .. } = memory else { panic!("not a slot") };
    for (offset, len) in [(0, usize::MAX), (usize::MAX, 1), (usize::MAX, usize::MAX), (1, limit), (limit, 1)]
    {
        let refused = make_accessible.call(offset, len).unwrap_err();
        assert_eq!(refused, Error::MemoryTooLarge { requested: offset.saturating_add(len), limit });
    }
    for size in [usize::MAX, usize::MAX - PAGE, limit + 1] {
        memory.grow_to(size).unwrap_err();
        m.allocator.allocate_memory(size).map(drop).unwrap_err();
        m.assert_ends_at(&memory, PAGE);
    }
    for size in [PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 7] {
        memory.grow_to(size).unwrap();
        m.assert_ends_at(&memory, size.next_multiple_of(PAGE));
    }
    make_accessible.call(limit, 0).unwrap_err();
    make_accessible.call(3, 0).unwrap();
    m.assert_ends_at(&memory, 4 * PAGE);
    m.allocator.deallocate_memory(memory);
    assert_eq!(m.allocator.metrics().free_memories, 4, "a refused allocation kept its slot");
}
