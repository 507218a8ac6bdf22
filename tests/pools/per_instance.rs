//! Instances that may touch so many pages, whatever is accessible.

use alloc::string::ToString;
use core::sync::atomic::{AtomicUsize, Ordering};

use allotment::{Backing, Commit, Config, Error, FaultAccess, FaultRegion, Memory, Verdict};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, at, cpus, pool, pooled, together},
    world::{ELEMENTS, available, counts, leave, release, report},
};

fn config(pages: usize) -> Config {
    let pools = pool(2, MIB).total_tables(4).table_elements(512 * ELEMENTS);
    pooled(pools.backing(Backing::Elastic(Commit::PerInstance(pages)))).region_space(1 << 30)
}

fn machine<A: TestArch>(pages: usize) -> Machine<A> {
    Machine::new(&config(pages), 4 * MIB)
}

fn page(nth: usize) -> i64 {
    (nth * PAGE) as i64
}

/// Asserts that no further page can be touched.
fn assert_exhausted<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, untouched: i64) {
    assert_eq!(m.load(memory, untouched), Ok(0), "reading takes no page");
    m.store(memory, untouched, 1).expect_err("a page too many was given");
    let Verdict::Trap(report) = m.allocator.fault(at(memory, untouched), FaultAccess::Write) else {
        panic!("a page too many was given")
    };
    assert_eq!((report.region, report.offset), (FaultRegion::Uncommitted(None), Some(untouched)));
    assert!(report.to_string().contains("no page left to touch in memory, offset"), "{report}");
}

pub(crate) fn touches<A: TestArch>() {
    let m = machine::<A>(3);
    let before = available(&m);
    let mut memory = m.allocator.allocate_memory(16 * PAGE).unwrap();
    assert_eq!(available(&m), before - 3, "the promise is charged, and nothing else");
    // A store, and a load that a store follows. Loads take nothing.
    (0..16).for_each(|nth| assert_eq!(m.load(&memory, page(nth) + 5), Ok(0)));
    m.store(&memory, page(2), 7).unwrap();
    assert_eq!((m.load(&memory, page(2)), m.load(&memory, page(2) + 1)), (Ok(7), Ok(0)));
    m.store(&memory, page(11) + 5, 8).unwrap();
    memory.grow_to(32 * PAGE).unwrap();
    m.store(&memory, page(31), 9).unwrap();
    assert_eq!(available(&m), before - 3, "a touch was charged again");
    for untouched in [0, 1, 10, 12, 30] {
        assert_exhausted(&m, &memory, page(untouched));
    }
    let beyond = report(&m, at(&memory, page(32)));
    assert_eq!(beyond.region, FaultRegion::Memory(None));
    let found = [page(2), page(11) + 5, page(31)].map(|byte| m.load(&memory, byte).unwrap());
    assert_eq!(found, [7, 8, 9]);
    m.allocator.deallocate_memory(memory);
    assert_eq!(available(&m), before);
}

pub(crate) fn charged<A: TestArch>() {
    let m = machine::<A>(3);
    // What memories of these sizes share stays.
    for size in [PAGE, 9 * PAGE] {
        m.allocator.deallocate_memory(m.allocator.allocate_memory(size).unwrap());
    }
    let before = counts(&m);
    let first = m.allocator.allocate_memory(PAGE).unwrap();
    let fillers = leave(&m, 2, 512);
    let now = counts(&m);
    let refused = m.allocator.allocate_memory(PAGE).unwrap_err();
    assert_eq!(refused, Error::OutOfFrames { needed: 3, available: 2 });
    // One of nothing asks when it is something.
    let mut nothing = m.allocator.allocate_memory(0).unwrap();
    assert_eq!(nothing.grow_to(PAGE), Err(Error::OutOfFrames { needed: 3, available: 2 }));
    m.allocator.deallocate_memory(nothing);
    assert_eq!(counts(&m), now);
    // What was promised before is there when the arena has nothing.
    let mut first = first;
    first.grow_to(9 * PAGE).unwrap();
    for nth in [8, 0, 4] {
        m.store(&first, page(nth), 1).unwrap();
    }
    release(&m, fillers);
    let second = m.allocator.allocate_memory(PAGE).unwrap();
    m.allocator.deallocate_memory(second);
    m.allocator.deallocate_memory(first);
    assert_eq!(counts(&m), before);
}

/// Whatever pages those before it touched.
pub(crate) fn whole_promise<A: TestArch>() {
    let m = machine::<A>(3);
    let before = available(&m);
    for round in 0..6 {
        let memory = m.allocator.allocate_memory(32 * PAGE).unwrap();
        assert_eq!(available(&m), before - 3);
        let touched = [0, 1, 2].map(|nth| (round * 7 + nth * 5) % 32);
        for (left, nth) in (0..3).rev().zip(touched) {
            assert_eq!(m.load(&memory, page(nth)), Ok(0), "round {round}, with {left} pages left");
            m.store(&memory, page(nth), 0xfe).unwrap();
        }
        let untouched = (0..32).filter(|nth| !touched.contains(nth));
        untouched.for_each(|nth| assert_exhausted(&m, &memory, page(nth)));
        m.allocator.deallocate_memory(memory);
        assert_eq!(available(&m), before, "round {round}");
    }
    // Nor does it matter how large they were.
    for pages in [3, 40, 1, 200, 0, 17] {
        let memory = m.allocator.allocate_memory(pages * PAGE).unwrap();
        for nth in pages.saturating_sub(3)..pages {
            assert_eq!(m.load(&memory, page(nth)), Ok(0), "page {nth} of {pages}");
            m.store(&memory, page(nth), 0xfe).unwrap();
        }
        m.allocator.deallocate_memory(memory);
        assert_eq!(available(&m), before);
    }
}

pub(crate) fn prepared<A: TestArch>() {
    let m = machine::<A>(4);
    let before = available(&m);
    let memory = m.allocator.allocate_memory(16 * PAGE).unwrap();
    let prepare = |offset, len| m.allocator.prepare_write(&memory, offset, len);
    let refused = prepare(PAGE, 4 * PAGE + 1);
    assert_eq!(refused, Err(Error::CommitmentExceeded { needed: 5, available: 4 }));
    for (offset, len) in [(16 * PAGE, 1), (0, 16 * PAGE + 1), (usize::MAX, 2), (1, usize::MAX)] {
        let refused = prepare(offset, len);
        assert_eq!(refused, Err(Error::OutOfBounds { offset, len, accessible: 16 * PAGE }));
    }
    let raw = |nth| m.allocator.arch().load(at(&memory, page(nth)));
    let raw_store = |nth| m.allocator.arch().store(at(&memory, page(nth)), 0);
    for nth in 0..16 {
        raw_store(nth).expect_err("a refused range was given");
    }
    prepare(16 * PAGE, 0).unwrap();
    prepare(3, 0).unwrap();
    // The last byte of a page and the first of the next.
    prepare(2 * PAGE - 1, 2).unwrap();
    assert_eq!((raw(1), raw(2)), (Ok(0), Ok(0)));
    raw_store(3).unwrap_err();
    prepare(PAGE, 2 * PAGE).expect("nothing more is needed");
    m.store(&memory, page(9), 9).unwrap();
    let refused = prepare(8 * PAGE, 3 * PAGE);
    assert_eq!(refused, Err(Error::CommitmentExceeded { needed: 2, available: 1 }));
    prepare(8 * PAGE, 2 * PAGE).unwrap();
    assert_eq!((raw(8), raw(9)), (Ok(0), Ok(9)));
    assert_exhausted(&m, &memory, page(10));
    assert_eq!(available(&m), before - 4);
    m.store(&memory, page(8), 1).unwrap();
    m.allocator.deallocate_memory(memory);
    assert_eq!(available(&m), before);

    // Where all pages have their frames there is nothing to prepare.
    let m = Machine::<A>::new(&pooled(pool(1, MIB)).region_space(1 << 30), 4 * MIB);
    let memory = m.allocator.allocate_memory(PAGE).unwrap();
    m.allocator.prepare_write(&memory, 0, PAGE).unwrap();
    let refused = m.allocator.prepare_write(&memory, 0, PAGE + 1);
    assert_eq!(refused, Err(Error::OutOfBounds { offset: 0, len: PAGE + 1, accessible: PAGE }));
    m.allocator.deallocate_memory(memory);
}

pub(crate) fn together_on_one_page<A: TestArch>() {
    const PAGES: usize = 100;
    let mark = |cpu: usize| u8::try_from(1 + cpu).unwrap();
    // Not one more: who is late with the last page waits for who has its frame. Before
    // that all of them have the shared page cached, which none may go on to write or read.
    let m = machine::<A>(PAGES);
    let before = available(&m);
    for round in 0..4 {
        let memory = m.allocator.allocate_memory(PAGES * PAGE).unwrap();
        let ready = AtomicUsize::new(0);
        together(cpus(), |cpu| {
            m.allocator.arrive(&memory).unwrap();
            for nth in 0..PAGES {
                assert_eq!(m.load(&memory, page(nth) + cpu as i64), Ok(0), "page {nth} in round {round}");
            }
            ready.fetch_add(1, Ordering::Relaxed);
            while ready.load(Ordering::Relaxed) < cpus() {
                core::hint::spin_loop();
            }
            for nth in 0..PAGES {
                let (byte, mark) = (page(nth) + cpu as i64, mark(cpu));
                if (nth + cpu).is_multiple_of(7) {
                    m.allocator.prepare_write(&memory, nth * PAGE, PAGE).unwrap();
                }
                m.store(&memory, byte, mark).unwrap();
                // It may cache the shared page still, beside the one that it wrote to.
                if (nth + cpu).is_multiple_of(3) {
                    m.allocator.arrive(&memory).unwrap();
                    assert_eq!(m.load(&memory, byte), Ok(mark), "page {nth} in round {round}");
                }
            }
        });
        // This CPU was not there when they wrote.
        m.allocator.arrive(&memory).unwrap();
        for nth in 0..PAGES {
            for cpu in 0..cpus() {
                let found = m.load(&memory, page(nth) + cpu as i64);
                assert_eq!(found, Ok(mark(cpu)), "a CPU wrote to another frame of page {nth}");
            }
        }
        // Each page took one of the promise.
        let mut memory = memory;
        memory.grow_to((PAGES + 1) * PAGE).unwrap();
        assert_exhausted(&m, &memory, page(PAGES));
        m.allocator.deallocate_memory(memory);
        assert_eq!(available(&m), before, "a frame was lost or doubled");
    }
}
