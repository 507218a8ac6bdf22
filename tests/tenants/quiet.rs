//! What sharing slots cost other CPUs: nothing, but one round per batch of what is
//! revoked.

use alloc::vec::Vec;

use allotment::{Backing, Commit, Memory, MemoryImage};

use crate::common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, cpus, pool, pooled, together};

const ROUNDS: usize = 30;
const IMAGE: usize = 3 * MIB;

fn build<A: TestArch>(m: &Machine<A>) -> MemoryImage<'_, A> {
    m.allocator.build_image(PAGE, IMAGE - PAGE, |_, bytes| bytes.fill(0x3c)).unwrap()
}

pub(crate) fn daily_work<A: TestArch>() {
    for backing in
        [Backing::Fixed, Backing::Elastic(Commit::Strict), Backing::Elastic(Commit::PerInstance(64))]
    {
        // Where an instance may write so many, what its predecessor wrote is taken from
        // the slot: by batches, for which there is no need here.
        let pools = pool(2 * cpus(), 8 * MIB)
            .backing(backing)
            .linear_memory_keep_resident(usize::MAX)
            .decommit_batch_size(1_000);
        let room = if backing == Backing::Fixed { 2 * cpus() * 8 * MIB } else { cpus() * 9 * MIB };
        let m = Machine::<A>::new(&pooled(pools), room + 8 * MIB);
        let image = build(&m);
        // Zeros of all sizes once, whose tables stay.
        m.allocator.deallocate_memory(live(&m, &image, 0));
        let before = (m.allocator.arch().interrupts(), m.allocator.invalidations().everywhere);
        let rounds = if matches!(backing, Backing::Elastic(Commit::PerInstance(_))) { 1 } else { ROUNDS };
        together(cpus(), |cpu| {
            for round in 0..rounds {
                m.allocator.deallocate_memory(live(&m, &image, cpu + round));
            }
        });
        let after = (m.allocator.arch().interrupts(), m.allocator.invalidations().everywhere);
        assert_eq!(before, after, "interrupts and shootdowns with {backing:?}");
    }
}

/// A memory that was allocated, written and grown.
fn live<'a, A: TestArch>(m: &'a Machine<A>, image: &MemoryImage<'a, A>, nth: usize) -> Memory<'a, A> {
    let mut memory = m.allocator.allocate_memory_from(image, IMAGE + WASM_PAGE).unwrap();
    for page in [0, 1, 2, 40, 600, 700 + nth % 8] {
        let offset = (page * PAGE) as i64;
        let expected = if (1..IMAGE / PAGE).contains(&page) { 0x3c } else { 0 };
        assert_eq!(m.load(&memory, offset), Ok(expected));
        m.store(&memory, offset, 0xdd).unwrap();
    }
    for size in [IMAGE + 2 * WASM_PAGE, 4 * MIB, 6 * MIB] {
        memory.grow_to(size).unwrap();
        let last = size as i64 - 1;
        assert_eq!(m.load(&memory, last), Ok(0));
        m.store(&memory, last, 0xdd).unwrap();
    }
    memory
}

pub(crate) fn revocation<A: TestArch>() {
    const BATCH: usize = 8;
    const ALL: usize = 2 * BATCH;
    let pools = pool(ALL, 4 * MIB).linear_memory_keep_resident(0).decommit_batch_size(BATCH);
    let m = Machine::<A>::new(&pooled(pools), (ALL * 4 + 8) * MIB);
    let image = build(&m);
    let batches = |rounds: usize| {
        let before = (m.allocator.arch().interrupts(), m.allocator.invalidations().everywhere);
        for _ in 0..rounds {
            let mut all = Vec::new();
            for nth in 0..ALL {
                let size = IMAGE + WASM_PAGE;
                let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
                (0..=nth).for_each(|page| m.store(&memory, (page * 11 * PAGE) as i64, 1).unwrap());
                all.push(memory);
            }
            all.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
        }
        let interrupts = m.allocator.arch().interrupts() - before.0;
        let rounds = m.allocator.invalidations().everywhere - before.1;
        (usize::try_from(interrupts).unwrap(), rounds)
    };
    batches(1);
    let (interrupts, rounds) = batches(10);
    // Frames were taken, or this shows nothing.
    assert_eq!(rounds, 10 * ALL / BATCH, "rounds for {} batches", 10 * ALL / BATCH);
    assert!(interrupts <= rounds * (cpus() - 1), "{interrupts} interrupts for {rounds} rounds");
}
