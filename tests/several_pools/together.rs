//! What pools have in common: frames, images, resets, counts.

use alloc::vec::Vec;

use allotment::{Backing, Commit, CompiledModuleId, Memory, Metrics};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, cpus, on, pool, pooled},
    world::{POOLS, config, further, machine, of_pool, one_of_each, pool_of, sized},
};

/// Bytes of a memory that begins larger.
const SIZE: usize = 8 * PAGE;

const BACKINGS: [Backing; 4] = [
    Backing::Auto,
    Backing::Fixed,
    Backing::Elastic(Commit::Strict),
    Backing::Elastic(Commit::PerInstance(600)),
];

fn offsets(bytes: usize) -> impl Iterator<Item = i64> {
    (0..i64::try_from(bytes).unwrap()).step_by(PAGE)
}

pub(crate) fn zeros<A: TestArch>() {
    for backing in BACKINGS {
        let m = Machine::<A>::new(&config(backing), 72 * MIB);
        for round in 0..3 {
            for module in [1, 1, 2] {
                let mut memories = one_of_each(&m);
                for (number, memory) in memories.iter_mut().enumerate() {
                    let size = POOLS[number][2] / 2 + (module + round) * PAGE;
                    memory.grow_to(size).unwrap();
                    for offset in offsets(size) {
                        assert_eq!(
                            m.load(memory, offset),
                            Ok(0),
                            "{backing:?}: {offset:#x} in pool {number}"
                        );
                        if offset % 3 == 0 {
                            m.store(memory, offset + 7, 0xee).unwrap();
                        }
                    }
                    m.assert_ends_at(memory, size);
                }
                memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
            }
        }
    }
}

pub(crate) fn image<A: TestArch>() {
    for backing in BACKINGS {
        let m = Machine::<A>::new(&config(backing), 72 * MIB);
        let image = m.allocator.build_image(0, 3 * PAGE, |_, page| page.fill(0x11)).unwrap();
        let show = |number: usize| {
            let request = sized(number, SIZE).module(CompiledModuleId(7), 0);
            let memory = m.allocator.allocate_memory_from(&image, request).unwrap();
            assert_eq!(pool_of(&m, &memory), number);
            memory
        };
        let mut shared = None;
        for round in 0..3 {
            let memories = [0, 1, 2].map(|number| {
                let memory = show(number);
                // One set of tables serves all of one size, whichever pool they are in.
                let frames = m.allocator.metrics().shared_frames;
                assert_eq!(*shared.get_or_insert(frames), frames, "{backing:?}: pool {number} has its own");
                memory
            });
            for (nth, memory) in (0u8..).zip(&memories) {
                for offset in offsets(SIZE) {
                    let shown = if offset < 3 * 4096 { 0x11 } else { 0 };
                    assert_eq!(m.load(memory, offset + 1), Ok(shown), "{backing:?}, round {round}, {nth}");
                    m.store(memory, offset + 1, nth + 1).unwrap();
                }
                m.assert_ends_at(memory, SIZE);
            }
            for (nth, memory) in (0u8..).zip(&memories) {
                assert!(offsets(SIZE).all(|offset| m.load(memory, offset + 1) == Ok(nth + 1)));
            }
            memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
        }
        // Slots of all pools are paired with it; none is when it is gone.
        let frames = image.frames();
        drop(image);
        assert!(m.allocator.metrics().shared_frames + frames <= shared.unwrap(), "{backing:?}");
        for memory in one_of_each(&m) {
            assert_eq!(m.load(&memory, 1), Ok(0), "{backing:?}: an image that is gone");
            m.allocator.deallocate_memory(memory);
        }
    }
}

pub(crate) fn captured<A: TestArch>() {
    let m = machine::<A>();
    for from in [0, 1, 2] {
        let memory = m.allocator.allocate_memory(sized(from, SIZE)).unwrap();
        m.store(&memory, 5, 0x55).unwrap();
        let image = m.allocator.capture_memory(&memory).unwrap();
        m.store(&memory, 5, 0x66).unwrap();
        for to in [0, 1, 2] {
            let clone = m.allocator.allocate_memory_from(&image, sized(to, SIZE)).unwrap();
            assert_eq!(m.load(&clone, 5), Ok(0x55), "pool {from} to {to}");
            m.store(&clone, 5, 0x77).unwrap();
            m.allocator.deallocate_memory(clone);
        }
        assert_eq!(m.load(&memory, 5), Ok(0x66));
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn frames<A: TestArch>() {
    let m = machine::<A>();
    let before = m.allocator.metrics();
    let whole = |number: usize| {
        let mut memory = m.allocator.allocate_memory(of_pool(number)).unwrap();
        for (page, offset) in (1..).zip(offsets(POOLS[number][2])) {
            if let Err(error) = memory.grow_to(page * PAGE) {
                panic!("{error} at {offset:#x} of pool {number}");
            }
            m.store(&memory, offset, 1).unwrap();
        }
        memory
    };
    // All that is written in turn is more than the arena has.
    for number in [2, 1, 0, 2, 0, 1, 2] {
        let memories = [0; 2].map(|_| whole(number));
        memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    }
    let Metrics { memories, available_frames, shared_frames, .. } = m.allocator.metrics();
    assert_eq!((memories, available_frames + shared_frames), (0, before.available_frames));
}

pub(crate) fn idle_work<A: TestArch>() {
    let [small, middle] = further();
    let pools = pool(2, 4 * MIB).clean_when_idle(true).memory_pool(small).memory_pool(middle);
    let m = Machine::<A>::new(&pooled(pools), 24 * MIB);
    for number in [0, 1, 2] {
        let memory = m.allocator.allocate_memory(sized(number, SIZE)).unwrap();
        offsets(SIZE).for_each(|offset| m.store(&memory, offset, 9).unwrap());
        m.allocator.deallocate_memory(memory);
    }
    assert_eq!(m.allocator.idle_work_left().slots, 3);
    let mut done = 0;
    while m.allocator.idle_work_left().slots > 0 {
        done += m.allocator.idle_work(5);
    }
    assert!(done >= 3 * 8, "{done} pages");
    for number in [0, 1, 2] {
        let memory = m.allocator.allocate_memory(sized(number, SIZE)).unwrap();
        assert!(offsets(SIZE).all(|offset| m.load(&memory, offset) == Ok(0)));
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn arrive<A: TestArch>() {
    let m = machine::<A>();
    for round in 0..4u8 {
        let memories = one_of_each(&m);
        for (turn, cpu) in (0..).zip((0..cpus()).chain(0..cpus())) {
            on(m.allocator.arch(), cpu, || {
                for memory in &memories {
                    m.allocator.arrive(memory).unwrap();
                    let before = if turn == 0 { 0 } else { round + turn };
                    assert_eq!(m.load(memory, 3), Ok(before));
                    m.store(memory, 3, round + turn + 1).unwrap();
                    m.allocator.prepare_write(memory, 0, PAGE).unwrap();
                    m.allocator.note_written(memory, 0, PAGE).unwrap();
                }
            });
        }
        memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    }
}

pub(crate) fn counts<A: TestArch>() {
    let m = machine::<A>();
    let of = |number: usize| m.allocator.memory_pool_metrics(number).unwrap();
    let check = |used: [usize; 3], warm: [usize; 3]| {
        for number in [0, 1, 2] {
            let (pool, slots) = (of(number), POOLS[number][3]);
            assert_eq!((pool.memories, pool.free_memories), (used[number], slots - used[number]));
            assert_eq!(pool.unused_warm_memories, warm[number], "pool {number}");
            assert_eq!(pool.unused_memory_bytes_resident, warm[number] * PAGE, "pool {number}");
        }
        let (metrics, pooling) = (m.allocator.metrics(), m.allocator.pooling_allocator_metrics().unwrap());
        let (used, warm) = (used.iter().sum::<usize>(), warm.iter().sum::<usize>());
        let slots = POOLS.iter().map(|pool| pool[3]).sum::<usize>();
        assert_eq!((metrics.memories, metrics.free_memories), (used, slots - used));
        assert_eq!((pooling.memories, pooling.unused_warm_memories as usize), (used, warm));
        assert_eq!(pooling.unused_memory_bytes_resident, warm * PAGE);
    };
    check([0; 3], [0; 3]);
    let take = |number: usize| m.allocator.allocate_memory(of_pool(number)).unwrap();
    let give = |memory: Memory<'_, A>| m.allocator.deallocate_memory(memory);
    let (first, second): (Vec<_>, Vec<_>) = ([0, 1, 2].map(take).into(), [1, 1].map(take).into());
    check([1, 3, 1], [0; 3]);
    second.into_iter().for_each(give);
    check([1, 1, 1], [0, 2, 0]);
    first.into_iter().for_each(give);
    check([0; 3], [1, 3, 1]);
    assert_eq!(m.allocator.memory_pool_metrics(3), None);
}
