//! Whatever runs out, at whichever step, nothing has changed.

use alloc::vec::Vec;

use allotment::{
    Config, Error, Memory, Metrics,
    arch::{Access, VirtAddr},
};

use crate::{
    base,
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE},
    small,
};

/// Holds frames, so that others have too few.
struct Ballast<'a, A: TestArch> {
    machine: &'a Machine<A>,
    start: VirtAddr,
}

impl<'a, A: TestArch> Ballast<'a, A> {
    /// Leaves exactly `frames`.
    fn leaving(machine: &'a Machine<A>, frames: usize) -> Self {
        let start = machine.allocator.reserve_region(2 * MIB).unwrap();
        let ballast = Self { machine, start };
        // The first page comes with a table; one arena has no more than a table's.
        for page in 0.. {
            if machine.allocator.metrics().available_frames <= frames {
                break;
            }
            // SAFETY: nobody uses the region.
            unsafe { machine.allocator.protect_region(start.offset(page * PAGE), PAGE, Some(Access::Read)) }
                .unwrap();
        }
        ballast
    }
}

impl<A: TestArch> Drop for Ballast<'_, A> {
    fn drop(&mut self) {
        // SAFETY: nobody uses the region.
        unsafe { self.machine.allocator.release_region(self.start, 2 * MIB) }.unwrap();
    }
}

/// Asserts that a refused step has changed nothing.
fn step<A: TestArch>(m: &Machine<A>, work: impl FnOnce() -> Result<(), Error>) -> bool {
    let before: Metrics = m.allocator.metrics();
    match work() {
        Ok(()) => true,
        Err(Error::OutOfFrames { needed, available }) => {
            assert!(needed > available);
            assert_eq!(available, before.available_frames);
            assert_eq!(m.allocator.metrics(), before, "a refused step changed the counts");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn frames<A: TestArch>() {
    // Made with 3 pages, 9 in place, 17 by a move. With tables that is 18.
    const STEPS: [usize; 3] = [3, 9, 17];
    let config: Config = small().memory_reservation(9 * PAGE).memory_reservation_for_growth(PAGE);
    let m = Machine::<A>::new(&config, 2 * MIB);
    let untouched = m.allocator.metrics();
    let mut steps_seen = [0; 4];
    for frames in 0..=STEPS[2] + 1 {
        let ballast = Ballast::leaving(&m, frames);
        let before = m.allocator.metrics();
        assert_eq!(before.available_frames, frames);
        let mut done = 0;
        let mut memory = None;
        if step(&m, || m.allocator.allocate_memory(STEPS[0] * PAGE).map(|made| memory = Some(made))) {
            let mut memory = memory.unwrap();
            done = 1;
            m.store(&memory, 0, 5).unwrap();
            for pages in &STEPS[1..] {
                let (at, size, capacity) = (base(&memory), memory.size(), memory.capacity());
                if !step(&m, || memory.grow_to(pages * PAGE)) {
                    assert_eq!((base(&memory), memory.size(), memory.capacity()), (at, size, capacity));
                    m.assert_ends_at(&memory, size);
                    break;
                }
                done += 1;
                m.assert_ends_at(&memory, pages * PAGE);
            }
            assert_eq!(m.load(&memory, 0), Ok(5));
            m.allocator.deallocate_memory(memory);
        }
        // A table, and the pages.
        assert_eq!(done, STEPS.iter().filter(|&&pages| pages < frames).count(), "with {frames} frames");
        steps_seen[done] += 1;
        assert_eq!(m.allocator.metrics(), before);
        drop(ballast);
        assert_eq!(m.allocator.metrics(), untouched);
    }
    assert!(steps_seen.iter().all(|&times| times > 0), "every step failed once, and none: {steps_seen:?}");
}

pub(crate) fn address_space<A: TestArch>() {
    let m = Machine::<A>::new(&small(), 16 * MIB);
    let untouched = m.allocator.metrics();
    assert_eq!(untouched.largest_free_region, 1 << 30);
    let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    m.store(&memory, 0, 5).unwrap();
    // All that is left but 4 MiB: a memory has 2 MiB, and 2 MiB of guard before.
    let rest = m.allocator.metrics().largest_free_region - 4 * MIB - 2 * MIB;
    let hog = m.allocator.reserve_region(rest).unwrap();
    assert_eq!(m.allocator.metrics().largest_free_region, 4 * MIB);
    let before = m.allocator.metrics();
    // One that moves needs more than that: 3 MiB, a guard after, and one before.
    let refused = Error::OutOfAddressSpace { requested: 3 * MIB };
    assert_eq!(memory.grow_to(2 * MIB), Err(refused));
    assert_eq!(m.allocator.metrics(), before);
    m.assert_ends_at(&memory, WASM_PAGE);
    let second = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    assert_eq!(m.allocator.metrics().largest_free_region, 0);
    let full = m.allocator.metrics();
    let refused = Error::OutOfAddressSpace { requested: MIB };
    assert_eq!(m.allocator.allocate_memory(WASM_PAGE).map(drop), Err(refused));
    assert_eq!(m.allocator.metrics(), full);
    memory.grow_to(MIB).expect("in place needs no address space");
    // SAFETY: nobody uses it.
    unsafe { m.allocator.release_region(hog, rest) }.unwrap();
    memory.grow_to(2 * MIB).expect("there is room now");
    assert_eq!(m.load(&memory, 0), Ok(5));
    m.allocator.deallocate_memory(second);
    m.allocator.deallocate_memory(memory);
    assert_eq!(m.allocator.metrics(), untouched);
}

pub(crate) fn records<A: TestArch>() {
    // A granule each, so that there is address space for more.
    let config = small().memory_guard_size(0).guard_before_linear_memory(false);
    let m = Machine::<A>::new(&config, 16 * MIB);
    let untouched = m.allocator.metrics();
    let mut memories: Vec<Memory<'_, A>> = Vec::new();
    let limit = loop {
        match m.allocator.allocate_memory(0) {
            Ok(memory) => memories.push(memory),
            Err(Error::OutOfRegions { limit }) => break limit,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(memories.len(), limit);
    let full = m.allocator.metrics();
    assert!(full.regions == limit && full.largest_free_region > 2 * MIB);
    let mut last = memories.pop().unwrap();
    last.grow_to(MIB).expect("in place needs no record");
    m.store(&last, 0, 5).unwrap();
    let full = m.allocator.metrics();
    assert_eq!(last.grow_to(MIB + 1), Err(Error::OutOfRegions { limit }));
    assert_eq!(m.allocator.metrics(), full);
    m.assert_ends_at(&last, MIB);
    m.allocator.deallocate_memory(memories.pop().unwrap());
    last.grow_to(MIB + 1).expect("there is a record now");
    assert_eq!(m.load(&last, 0), Ok(5));
    m.allocator.deallocate_memory(last);
    memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    assert_eq!(m.allocator.metrics(), untouched);
}
