//! What free slots keep, when they give the rest back, and what happens when
//! somebody needs it.

use alloc::vec::Vec;

use allotment::{CompiledModuleId, Error, Memory, MemoryRequest, PoolKind};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, pool, pooled},
    world::{ELEMENTS, available, counts, free as frames, leave, pooling, release, warm},
};

const SLOTS: usize = 7;
const PAGES: usize = 4;

/// The pages that stay with each slot, by what may.
const KEEP: [(usize, usize); 3] = [(0, 0), (PAGE + PAGE / 2, 1), (usize::MAX, PAGES)];

pub(crate) fn batches<A: TestArch>() {
    for batch in [0, 1, 5, 99] {
        for (keep, kept) in KEEP {
            let pools = pool(SLOTS, MIB).linear_memory_keep_resident(keep).decommit_batch_size(batch);
            let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 4 * MIB);
            let before = available(&m);
            for round in 0..3 {
                use_all(&m, before, round);
                // Slots with more than they may keep wait until there are as
                // many as a batch.
                let waiting = if kept == PAGES { 0 } else { SLOTS % batch.max(1) };
                let idle = waiting * PAGES + (SLOTS - waiting) * kept;
                let all = m.allocator.metrics();
                assert_eq!(all.queued_slots, waiting, "batches of {batch}, keeping {keep}");
                assert_eq!(all.idle_frames, idle, "batches of {batch}, keeping {keep}");
                assert_eq!((all.available_frames, all.free_memories, all.memories), (before, SLOTS, 0));
                let resident = (SLOTS - waiting) * kept * PAGE;
                assert_eq!(pooling(&m).unused_memory_bytes_resident, resident);
            }
        }
    }
}

/// All slots are there, hold zeros, and are no more than there are.
fn use_all<A: TestArch>(m: &Machine<A>, before: usize, round: usize) {
    let memories: Vec<_> =
        (0..SLOTS).map(|_| m.allocator.allocate_memory(PAGES * PAGE).expect("all slots are free")).collect();
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: SLOTS };
    assert_eq!(m.allocator.allocate_memory(0).unwrap_err(), full);
    assert_eq!(available(m), before - SLOTS * PAGES);
    for memory in &memories {
        for page in 0..PAGES {
            let byte = (page * PAGE + 5) as i64;
            assert_eq!(m.load(memory, byte), Ok(0), "page {page} in round {round}");
            m.store(memory, byte, 0xfe).unwrap();
        }
        m.assert_ends_at(memory, PAGES * PAGE);
    }
    memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
}

pub(crate) fn order<A: TestArch>() {
    /// Frames, and those of slots at rest: the first three have less than
    /// they may keep.
    const FRAMES: usize = 200;
    const HELD: [(u64, usize); 4] = [(1, 3), (2, 5), (3, 7), (4, 20)];
    const KEEP: usize = 8;
    let pools = pool(8, 2 * MIB).linear_memory_keep_resident(KEEP * PAGE).decommit_batch_size(99);
    let pools = pools.total_tables(4).table_elements(512 * ELEMENTS);
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 4 * MIB);
    let waiting = FRAMES - 15 - 3 * KEEP;
    warm(&m, &[20, FRAMES - 35, FRAMES - 34, waiting + 4, 150, 51, 50, 7, 5, 3]);
    let fillers = leave(&m, FRAMES, 512);
    let of = |module, pages: usize| MemoryRequest::new(pages * PAGE).module(CompiledModuleId(module), 0);
    // A page has its frame once somebody writes it.
    let write = |memory: &Memory<'_, A>| {
        for page in (0..memory.size()).step_by(PAGE) {
            m.store(memory, page as i64 + 3, 0xfe).unwrap();
        }
    };
    for memory in HELD.map(|(module, pages)| m.allocator.allocate_memory(of(module, pages)).unwrap()) {
        write(&memory);
        m.allocator.deallocate_memory(memory);
    }
    let idle_and_queued = || {
        let all = m.allocator.metrics();
        (all.idle_frames, all.queued_slots)
    };
    // What is idle while a memory of so many pages is there.
    let with = |module, pages: usize| {
        let memory = m.allocator.allocate_memory(of(module, pages)).unwrap();
        for page in 0..pages {
            assert_eq!(m.load(&memory, (page * PAGE + 3) as i64), Ok(0), "a page came with its contents");
            m.store(&memory, (page * PAGE) as i64, 0xfe).unwrap();
            assert_eq!(m.load(&memory, (page * PAGE + 3) as i64), Ok(0), "a frame came with its contents");
        }
        assert_eq!(frames(&m), FRAMES - pages);
        let found = idle_and_queued();
        m.allocator.deallocate_memory(memory);
        assert_eq!(frames(&m), FRAMES);
        found
    };
    let free = FRAMES - 35;
    assert_eq!(idle_and_queued(), (35, 1));
    // Without asking anybody.
    assert_eq!(with(10, free), (35, 1));
    assert_eq!(idle_and_queued(), (35 + free, 2));
    // What waits, down to what it may keep.
    assert_eq!(with(11, free + 1), (15 + 2 * KEEP, 0), "the queue was not flushed, or not alone");
    assert_eq!(idle_and_queued(), (15 + 2 * KEEP + free + 1, 1));
    // That again, and four more: the oldest has three, the next one five.
    assert_eq!(with(12, waiting + 4), (7 + 3 * KEEP, 0), "not the least recently used ones");
    let kept = |module| {
        let before = pooling(&m).unused_memory_bytes_resident;
        let memory = m.allocator.allocate_memory(of(module, 0)).unwrap();
        let after = pooling(&m).unused_memory_bytes_resident;
        m.allocator.deallocate_memory(memory);
        (before - after) / PAGE
    };
    assert_eq!([3, 2, 1].map(kept), [7, 0, 0]);

    // More than there is: all is as it was, and can be had.
    let hog = m.allocator.allocate_memory(150 * PAGE).unwrap();
    let now = counts(&m);
    for _ in 0..3 {
        let refused = m.allocator.allocate_memory(51 * PAGE).unwrap_err();
        assert_eq!(refused, Error::OutOfFrames { needed: 51, available: 50 });
        assert_eq!(counts(&m), now);
    }
    let rest = m.allocator.allocate_memory(50 * PAGE).unwrap();
    assert_eq!(frames(&m), 0);
    m.allocator.deallocate_memory(rest);
    m.allocator.deallocate_memory(hog);
    assert_eq!(frames(&m), FRAMES);
    release(&m, fillers);
}
