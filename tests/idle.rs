//! Idle work: what tenants left is cleaned ahead of demand, and shown to nobody before.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use core::sync::atomic::{AtomicUsize, Ordering};

use allotment::{
    Backing, Commit, Memory, MemoryImage, PoolingAllocationConfig,
    arch::{Access, VirtAddr},
};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, at, pool, pooled, together};

harness::tests! {
    fn nothing_of_a_former_tenant_is_seen_however_much_was_cleaned() {
        on_every_machine!(seen);
    }

    fn frames_that_were_cleared_ahead_are_taken_first() {
        on_every_machine!(ahead);
    }

    fn slots_are_cleaned_in_place_and_no_page_more_than_the_budget() {
        on_every_machine!(in_place);
    }

    fn what_a_tenant_wrote_is_learned_when_its_slot_is_cleaned() {
        on_every_machine!(learned);
    }

    fn tenants_come_and_go_while_others_clean() {
        on_every_machine!(crowd);
    }
}

const BACKINGS: [Backing; 3] =
    [Backing::Fixed, Backing::Elastic(Commit::Strict), Backing::Elastic(Commit::PerInstance(64))];

fn lazy(memories: usize, bytes: usize) -> PoolingAllocationConfig {
    pool(memories, bytes).clean_when_idle(true).poison(false)
}

/// The byte that an image of this seed has on a page.
fn byte(seed: u8, page: usize) -> u8 {
    if page.is_multiple_of(3) { 0 } else { seed + u8::try_from(page % 64).unwrap() }
}

fn image<A: TestArch>(m: &Machine<A>, seed: u8, pages: usize) -> MemoryImage<'_, A> {
    let fill = |offset: usize, bytes: &mut [u8; PAGE]| bytes.fill(byte(seed, offset / PAGE));
    m.allocator.build_image(0, pages * PAGE, fill).unwrap()
}

fn seen<A: TestArch>() {
    for backing in BACKINGS {
        for (keep, poison) in [(0, false), (MIB, true), (MIB, false)] {
            let pools = lazy(2, 2 * MIB).backing(backing).linear_memory_keep_resident(keep).poison(poison);
            let pools = pools.total_tables(1).table_elements(1024).total_stacks(1);
            let config =
                pooled(pools).max_wasm_stack(PAGE).async_stack_size(4 * PAGE).async_stack_zeroing(true);
            let m = Machine::<A>::new(&config.region_space(1 << 30), 9 * MIB);
            let images = [image(&m, 1, 70), image(&m, 100, 20)];
            for round in 0..20 {
                memory(&m, &images, round);
                memory(&m, &images, round / 3);
                table_and_stack(&m);
                m.allocator.idle_work([0, 5, 0, 40, 1000][round % 5]);
            }
        }
    }
}

/// Looks at all of a memory, and leaves its mark.
fn memory<A: TestArch>(m: &Machine<A>, images: &[MemoryImage<'_, A>; 2], round: usize) {
    let size = [WASM_PAGE, MIB, MIB + PAGE, MIB, MIB - PAGE][round % 5];
    let (memory, seed) = match round % 4 {
        shown @ (0 | 1) if size > WASM_PAGE => {
            let memory = m.allocator.allocate_memory_from(&images[shown], size);
            (memory.unwrap(), Some(([1, 100][shown], [70, 20][shown])))
        }
        _ => (m.allocator.allocate_memory(size).unwrap(), None),
    };
    for page in 0..size / PAGE {
        let expected = seed.filter(|&(_, pages)| page < pages).map_or(0, |(seed, _)| byte(seed, page));
        for offset in [0, 2048, 4095] {
            assert_eq!(m.load(&memory, (page * PAGE + offset) as i64), Ok(expected), "page {page}");
        }
    }
    for page in (round % 3..size / PAGE).step_by(1 + round % 7 * 3).take(48) {
        m.store(&memory, (page * PAGE + [0, 2048, 4095][round % 3]) as i64, 0xee).unwrap();
    }
    m.allocator.deallocate_memory(memory);
}

fn table_and_stack<A: TestArch>(m: &Machine<A>) {
    let look = |first: u64, bytes: usize| {
        for offset in (0..bytes).step_by(PAGE / 2) {
            let address = VirtAddr(first).offset(offset);
            assert_eq!(m.load_at(address), Ok(0), "at {offset:#x}");
            m.store_at(address, 0xee).unwrap();
        }
    };
    let table = m.allocator.allocate_table(1024).unwrap();
    look(table.base().as_ptr() as u64, 2 * PAGE);
    m.allocator.deallocate_table(table);
    let stack = m.allocator.allocate_fiber_stack().unwrap();
    look(stack.top().0 - 4 * PAGE as u64, 4 * PAGE);
    m.allocator.deallocate_fiber_stack(stack);
}

/// Leaves so many pages of a memory that were written.
fn leave<A: TestArch>(m: &Machine<A>, pages: usize) {
    let memory = m.allocator.allocate_memory(pages * PAGE).unwrap();
    write(m, &memory, 0..pages);
    m.allocator.deallocate_memory(memory);
}

fn write<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, pages: impl IntoIterator<Item = usize>) {
    pages.into_iter().for_each(|page| m.store(memory, (page * PAGE + 9) as i64, 0xee).unwrap());
}

fn ahead<A: TestArch>() {
    let config = pooled(lazy(1, MIB)).region_space(1 << 30);
    let overhead = Machine::<A>::new(&config, 4 * MIB).allocator.plan().overhead;
    let m = Machine::<A>::new(&config, overhead + 200 * PAGE);
    let uncleared = || m.allocator.idle_work_left().frames;
    assert!(uncleared() > 150, "frames that were never used are clear");
    while m.allocator.idle_work(30) > 0 {}
    assert_eq!(uncleared(), 0);
    leave_written(&m, 20, 6);
    assert_eq!(uncleared(), 6, "what was written, and no more, is to be cleared");
    assert_eq!(m.allocator.idle_work(2), 2);
    assert_eq!(uncleared(), 4);
    // All but those four, with a table.
    let free = m.allocator.metrics().available_frames;
    leave_written(&m, free - 4 - 1, 0);
    assert_eq!(uncleared(), 4, "one that is not clear was taken, though others are");
    leave_written(&m, free - 1, 0);
    assert_eq!(uncleared(), 0, "the last ones are free, and not clear");
}

/// Has a region of zeros, and leaves the first `written` pages written.
fn leave_written<A: TestArch>(m: &Machine<A>, pages: usize, written: usize) {
    let start = m.allocator.reserve_region(pages * PAGE).unwrap();
    // SAFETY: the region is the test's.
    unsafe { m.allocator.protect_region(start, pages * PAGE, Some(Access::ReadWrite)) }.unwrap();
    for page in 0..pages {
        for offset in [0, 9, 4095] {
            assert_eq!(m.load_at(start.offset(page * PAGE + offset)), Ok(0), "page {page}");
        }
    }
    (0..written).for_each(|page| m.store_at(start.offset(page * PAGE + 9), 0xee).unwrap());
    // SAFETY: nobody uses the region any more.
    unsafe { m.allocator.release_region(start, pages * PAGE) }.unwrap();
}

fn in_place<A: TestArch>() {
    let pools = lazy(3, MIB).backing(Backing::Fixed);
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 8 * MIB);
    assert_eq!(m.allocator.idle_work(0), 0);
    for (pages, budget) in [(16, 5), (100, 30), (100, 100), (200, 17)] {
        leave(&m, pages);
        let before = m.allocator.idle_work_left();
        assert_eq!(before.slots, 1);
        // Slots come first; whatever is left of the budget goes to free frames.
        for done in 0..pages / budget {
            assert_eq!(m.allocator.idle_work(budget), budget);
            let now = m.allocator.idle_work_left();
            assert_eq!(now.frames, before.frames, "after {done} of {pages} pages");
        }
        assert_eq!(m.allocator.idle_work(budget), budget);
        let now = m.allocator.idle_work_left();
        assert_eq!(now.slots, 0);
        assert_eq!(before.frames - now.frames, budget - pages % budget);
    }
    while m.allocator.idle_work(1000) > 0 {}
    let now = m.allocator.idle_work_left();
    assert_eq!((now.slots, now.frames), (0, 0));
    leave(&m, 3);
    assert_eq!(m.allocator.idle_work(1000), 3);
}

fn learned<A: TestArch>() {
    for backing in [Backing::Fixed, Backing::Elastic(Commit::Strict)] {
        let m = Machine::<A>::new(&pooled(lazy(1, MIB).backing(backing)).region_space(1 << 30), 6 * MIB);
        let image = image(&m, 1, 70);
        let written = [3, 4, 5, 40, 41, 42, 43, 69, 100];
        let noted = || {
            let mut noted = 0;
            image.for_each_written_page(|offset| noted += usize::from(written.contains(&(offset / PAGE))));
            noted
        };
        let run = || {
            let memory = m.allocator.allocate_memory_from(&image, MIB).unwrap();
            let faults = |page| m.allocator.arch().store(at(&memory, (page * PAGE) as i64), 1).is_err();
            let faults = written.into_iter().filter(|&page| faults(page)).count();
            write(&m, &memory, written);
            m.allocator.deallocate_memory(memory);
            faults
        };
        run();
        assert_eq!(noted(), 0, "nobody has looked at the slot yet");
        m.allocator.idle_work(4);
        assert_eq!(noted(), 4);
        m.allocator.idle_work(1000);
        assert_eq!(noted(), written.len());
        let faults = run();
        assert!(faults == 0 || !m.allocator.arch().hardware_dirty(), "{faults} faults");
        // Whoever takes it before learns as well.
        let faults = run();
        assert!(faults == 0 || !m.allocator.arch().hardware_dirty(), "{faults} faults");
    }
}

fn crowd<A: TestArch>() {
    const TENANTS: usize = 3;
    const MOST: usize = 40;
    const ROUNDS: usize = if cfg!(miri) { 3 } else { 40 };
    for elastic in [false, true] {
        let backing = if elastic { Backing::Elastic(Commit::Strict) } else { Backing::Fixed };
        let pools = lazy(2 * TENANTS, MIB).backing(backing);
        let pools = pools.total_tables(usize::from(elastic)).table_elements(8 * MIB / 8);
        let config = pooled(pools).region_space(1 << 30);
        let m = Machine::<A>::new(&config, 8 * MIB);
        // Not a frame more than the tenants can have at a time, and zeros take: what
        // free slots keep has to move.
        let filler = elastic.then(|| {
            let surplus = m.allocator.metrics().available_frames - TENANTS * MOST - 5;
            m.allocator.allocate_table(surplus * PAGE / 8).unwrap()
        });
        let gone = AtomicUsize::new(0);
        together(TENANTS + 1, |worker| {
            for round in 0..if worker < TENANTS { ROUNDS } else { 0 } {
                tenant(&m, worker, [MOST, MOST, 16, MOST, 20][(round / 2 + worker) % 5]);
                m.allocator.idle_work(round % 9);
            }
            gone.fetch_add(1, Ordering::Relaxed);
            // The last one does nothing else.
            while worker == TENANTS && gone.load(Ordering::Relaxed) <= TENANTS {
                for budget in 1..9 {
                    assert!(m.allocator.idle_work(budget) <= budget);
                }
            }
        });
        filler.into_iter().for_each(|table| m.allocator.deallocate_table(table));
        while m.allocator.idle_work(1000) > 0 {}
        let left = m.allocator.idle_work_left();
        assert_eq!((m.allocator.metrics().memories, left.slots, left.frames), (0, 0, 0));
    }
}

/// Every page is zero once and then the worker's.
fn tenant<A: TestArch>(m: &Machine<A>, worker: usize, pages: usize) {
    let memory = m.allocator.allocate_memory(pages * PAGE).expect("there are frames for every tenant");
    let mine = u8::try_from(worker).unwrap() + 1;
    for page in 0..pages {
        let offset = (page * PAGE + worker) as i64;
        assert_eq!(m.load(&memory, offset), Ok(0), "somebody was here before");
        m.store(&memory, offset, mine).unwrap();
    }
    for page in 0..pages {
        assert_eq!(m.load(&memory, (page * PAGE + worker) as i64), Ok(mine), "somebody else is here");
    }
    m.allocator.deallocate_memory(memory);
}
