//! What a hostile or unlucky order of events must not bring about.

use allotment::{
    Error, TableRequest,
    arch::{Access, VirtAddr},
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, cpus, pool, pooled, together},
    world::{ELEMENTS, at, warm},
};

/// Uses `size` bytes from `base` on one CPU after the other, each after it
/// arrived there, and expects zeros and what those before wrote.
fn wander<A: TestArch>(
    m: &Machine<A>,
    round: usize,
    base: VirtAddr,
    size: usize,
    arrive: impl Fn() -> Result<(), Error> + Sync,
) {
    for step in 0..3 {
        m.allocator.arch().on_cpu((round + 3 * step) % cpus(), || {
            arrive().unwrap();
            for page in (0..size).step_by(PAGE) {
                let byte = base.offset(page + 8 * step);
                assert_eq!(m.load_at(byte), Ok(0), "page {page:#x} in step {step} of round {round}");
                m.store_at(byte, 0xfe).unwrap();
                if step > 0 {
                    assert_eq!(m.load_at(base.offset(page)), Ok(0xfe), "step {step} of round {round}");
                }
            }
        });
    }
}

/// A CPU that had a slot before writes without leaving a mark, and beyond the
/// end, unless it forgets first.
pub(crate) fn moving_tables<A: TestArch>() {
    let pools = pool(1, MIB).total_tables(1).table_elements(16 * ELEMENTS);
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 4 * MIB);
    for round in 0..24 {
        let pages = [12, 3, 7][round % 3];
        let table = m.allocator.allocate_table(TableRequest::new(pages * ELEMENTS)).unwrap();
        wander(&m, round, at(table.base(), 0), pages * PAGE, || m.allocator.arrive_table(&table));
        m.allocator.arrive_table(&table).unwrap();
        let beyond = at(table.base(), 0).offset(pages * PAGE);
        m.load_at(beyond).expect_err("a table is longer than it says");
        m.allocator.deallocate_table(table);
    }
}

pub(crate) fn moving_stacks<A: TestArch>() {
    let pools = pool(1, MIB).total_stacks(1);
    let config = pooled(pools).region_space(1 << 30).async_stack_size(8 * PAGE).max_wasm_stack(4 * PAGE);
    let config = config.async_stack_zeroing(true);
    let m = Machine::<A>::new(&config, 4 * MIB);
    for round in 0..24 {
        let stack = m.allocator.allocate_fiber_stack().unwrap();
        let bottom = at(stack.stack().cast(), 0);
        wander(&m, round, bottom, 8 * PAGE, || m.allocator.arrive_fiber_stack(&stack));
        m.allocator.deallocate_fiber_stack(stack);
    }
}

const ROUNDS: usize = 2000;

/// Slots whose frames another CPU takes this moment are free as soon as it is
/// done: they count for who needs one.
pub(crate) fn slots_of_a_batch<A: TestArch>() {
    let pools = pool(3, MIB).linear_memory_keep_resident(0).decommit_batch_size(2);
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 4 * MIB);
    together(2, |worker| {
        for round in 0..ROUNDS {
            let allocate = || {
                let memory = m.allocator.allocate_memory(PAGE);
                memory.unwrap_or_else(|error| panic!("worker {worker} in round {round}: {error}"))
            };
            let memories = [Some(allocate()), (worker == 0).then(allocate)];
            memories.into_iter().flatten().for_each(|memory| m.allocator.deallocate_memory(memory));
        }
    });
    assert_eq!(m.allocator.metrics().free_memories, 3);
}

/// The same of free slots whose frames are needed elsewhere.
pub(crate) fn slots_that_lose_their_frames<A: TestArch>() {
    const PAGES: usize = 32;
    let config = pooled(pool(2, PAGES * PAGE)).region_space(1 << 30);
    let overhead = Machine::<A>::new(&config, 4 * MIB).allocator.plan().overhead;
    // Besides, what memories of both sizes share: zeros, where their tables are, and those.
    let m = Machine::<A>::new(&config, overhead + (2 * PAGES + 2 + 4) * PAGE);
    warm(&m, &[PAGES, 1]);
    let available = m.allocator.metrics().available_frames;
    assert_eq!(available, 2 * PAGES + 2);
    let allocate = |pages: usize, round| {
        let memory = m.allocator.allocate_memory(pages * PAGE);
        memory.unwrap_or_else(|error| panic!("round {round}: {error}"))
    };
    for round in 0..ROUNDS / 10 {
        // Both slots keep frames, and the region needs those of both.
        let both = [PAGES; 2].map(|pages| allocate(pages, round));
        for (memory, page) in both.iter().flat_map(|memory| (0..PAGES).map(move |page| (memory, page))) {
            m.store(memory, (page * PAGE) as i64, 0xfe).unwrap();
        }
        assert_eq!(m.allocator.metrics().idle_frames, 0);
        both.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
        assert_eq!(m.allocator.metrics().idle_frames, 2 * PAGES);
        together(2, |worker| {
            if worker == 0 {
                return region(&m, (PAGES + PAGES / 2) * PAGE, round);
            }
            (0..20).for_each(|_| m.allocator.deallocate_memory(allocate(1, round)));
        });
    }
    assert_eq!(m.allocator.metrics().available_frames, available);
}

fn region<A: TestArch>(m: &Machine<A>, bytes: usize, round: usize) {
    let start = m.allocator.reserve_region(bytes).unwrap();
    // SAFETY: the region is this worker's.
    unsafe { m.allocator.protect_region(start, bytes, Some(Access::ReadWrite)) }
        .unwrap_or_else(|error| panic!("round {round}: {error}"));
    // SAFETY: as above.
    unsafe { m.allocator.release_region(start, bytes) }.unwrap();
}

/// That no more is asked for than there is: the twin of the two above.
pub(crate) fn slots_in_use<A: TestArch>() {
    let pools = pool(2, MIB).linear_memory_keep_resident(0).decommit_batch_size(2);
    let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 4 * MIB);
    let held = [PAGE, PAGE].map(|size| m.allocator.allocate_memory(size).unwrap());
    let refused = m.allocator.allocate_memory(PAGE).map(drop);
    assert!(matches!(refused, Err(Error::PoolConcurrencyLimit { limit: 2, .. })), "{refused:?}");
    held.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    let last = m.allocator.allocate_memory(PAGE).unwrap();
    m.allocator.deallocate_memory(last);
}
