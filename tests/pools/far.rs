//! Memories that grow beyond their premapped tables.

use allotment::{Backing, Commit, Error, Memory, PoolingAllocationConfig};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, at, pool, pooled},
    world::{ELEMENTS, available, counts, free, leave, release, warm},
};

const GIB: usize = 1 << 30;
/// What a leaf table serves.
const SPAN: usize = 2 * MIB;
/// Pages of a table that fills the arena.
const FILLER: usize = 512;

fn machine<A: TestArch>(pools: PoolingAllocationConfig, arena: usize) -> Machine<A> {
    let pools = pools.total_tables(8).table_elements(FILLER * ELEMENTS).premapped_tables(1);
    Machine::new(&pooled(pools).region_space(1 << 30), arena)
}

fn strict<A: TestArch>(arena: usize) -> Machine<A> {
    machine(pool(3, 8 * MIB), arena)
}

/// Three of 3 GiB, each of which may touch so many pages.
fn sparse<A: TestArch>(touched: usize) -> Machine<A> {
    machine(pool(3, 3 * GIB).backing(Backing::Elastic(Commit::PerInstance(touched))), 12 * MIB)
}

/// Where a memory begins, in bytes from the border between two directories.
fn within<A: TestArch>(memory: &Memory<'_, A>) -> usize {
    usize::try_from(at(memory, 0).0 % GIB as u64).unwrap()
}

/// Leaf tables beyond the first, and directories of their own, for a memory of
/// so many bytes.
fn tables<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, size: usize) -> usize {
    size.div_ceil(SPAN).saturating_sub(1) + directories(m, memory, size)
}

/// The latter alone. Where the root's entries are for directories, all are there from the carve on.
fn directories<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, size: usize) -> usize {
    if m.allocator.arch().levels() == 3 { 0 } else { (within(memory) + size.max(1) - 1) / GIB }
}

pub(crate) fn two_mebibytes<A: TestArch>() {
    const SIZES: [usize; 7] =
        [PAGE, SPAN - PAGE, SPAN, SPAN + PAGE, 2 * SPAN + PAGE, 3 * SPAN - PAGE, 4 * SPAN];
    let m = strict::<A>(11 * MIB);
    let neighbours = [(); 2].map(|()| m.allocator.allocate_memory(PAGE).unwrap());
    for (mark, memory) in (1..).zip(&neighbours) {
        m.store(memory, 0, mark).unwrap();
    }
    let before = counts(&m);
    for round in 0..3 {
        let mut memory = m.allocator.allocate_memory(PAGE).unwrap();
        for (nth, size) in SIZES.into_iter().enumerate() {
            memory.grow_to(size).unwrap();
            assert_eq!(available(&m), before[5] - size / PAGE - tables(&m, &memory, size), "{size:#x} bytes");
            assert_eq!(m.load(&memory, size as i64 - 1), Ok(0), "{size:#x} bytes, round {round}");
            m.assert_ends_at(&memory, size);
            for size in &SIZES[..nth] {
                assert_eq!(m.load(&memory, *size as i64 - 1), Ok(0x5a), "what was written at {size:#x}");
            }
        }
        m.allocator.deallocate_memory(memory);
        assert_eq!(counts(&m), before, "tables or frames did not come back");
        // At once as large, and nothing of the other one there.
        let memory = m.allocator.allocate_memory(4 * SPAN).unwrap();
        for page in (0..4 * SPAN).step_by(PAGE) {
            assert_eq!(m.load(&memory, (page + PAGE - 1) as i64), Ok(0), "page at {page:#x}");
        }
        m.allocator.deallocate_memory(memory);
        assert_eq!(counts(&m), before);
    }
    for (mark, memory) in (1..).zip(neighbours) {
        assert_eq!(m.load(&memory, 0), Ok(mark));
        m.load(&memory, PAGE as i64).expect_err("a neighbour grew");
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn one_gibibyte<A: TestArch>() {
    let m = sparse::<A>(8);
    let neighbour = m.allocator.allocate_memory(PAGE).unwrap();
    m.store(&neighbour, 0, 9).unwrap();
    let before = counts(&m);
    for round in 0..2 {
        let mut memory = m.allocator.allocate_memory(PAGE).unwrap();
        // Where the next directory begins, which is not where the slot does.
        let border = GIB - within(&memory);
        assert!(border > SPAN && border < GIB, "the slot begins with a directory");
        let kept = directories(&m, &memory, 3 * GIB);
        let sizes = [PAGE, SPAN, SPAN + PAGE, border, border + PAGE, border + GIB, 3 * GIB - PAGE, 3 * GIB];
        for (mark, size) in (1..).zip(sizes) {
            memory.grow_to(size).unwrap();
            // The slot keeps its directories for whoever is next in it.
            let had = if round == 0 { directories(&m, &memory, size) } else { kept };
            let taken = 8 + tables(&m, &memory, size) - directories(&m, &memory, size) + had;
            assert_eq!(available(&m), before[5] - taken, "{size:#x} bytes");
            let last = size as i64 - 1;
            assert_eq!(m.load(&memory, last), Ok(0), "{size:#x} bytes, round {round}");
            m.store(&memory, last, mark).unwrap();
            m.load(&memory, last + 1).expect_err("one past the end was readable");
            for (before, size) in (1..=mark).zip(sizes) {
                assert_eq!(m.load(&memory, size as i64 - 1), Ok(before), "at {size:#x}");
            }
        }
        // All that it may touch is touched.
        assert_eq!(m.load(&memory, 5 * MIB as i64), Ok(0), "reading takes no page");
        m.store(&memory, 5 * MIB as i64, 1).unwrap_err();
        m.allocator.deallocate_memory(memory);
        let after = [before[0], before[1], before[2], before[3], before[4], before[5] - kept];
        assert_eq!(counts(&m), after, "tables or frames did not come back");
        let memory = m.allocator.allocate_memory(3 * GIB).unwrap();
        for size in sizes {
            assert_eq!(m.load(&memory, size as i64 - 1), Ok(0), "at {size:#x}");
        }
        m.allocator.deallocate_memory(memory);
        assert_eq!(counts(&m), after);
    }
    assert_eq!(m.load(&neighbour, 0), Ok(9));
    m.load(&neighbour, PAGE as i64).expect_err("a neighbour grew");
    m.allocator.deallocate_memory(neighbour);
}

/// Asserts that so many frames were missing, of those that the slot did not keep
/// itself.
fn assert_short(refused: Result<(), Error>, missing: usize) {
    let Err(Error::OutOfFrames { needed, available }) = refused else { panic!("{refused:?}") };
    assert_eq!(needed.checked_sub(available), Some(missing), "{needed} needed, {available} available");
}

/// Grows from `from` to `to`, for which `needed` frames are, with ever more of
/// them.
fn grow_with_few<A: TestArch>(m: &Machine<A>, from: usize, to: usize, needed: usize) {
    // What memories of both sizes share is nobody's need.
    warm(m, &[from / PAGE, to / PAGE]);
    // Nor are directories, which the slot keeps from its first user on.
    let mut first = m.allocator.allocate_memory(from).unwrap();
    first.grow_to(to).unwrap();
    m.allocator.deallocate_memory(first);
    let before = counts(m);
    for frames in 0..=needed {
        let mut memory = m.allocator.allocate_memory(from).unwrap();
        m.store(&memory, from as i64 - 1, 0x21).unwrap();
        let fillers = leave(m, frames, FILLER);
        let now = counts(m);
        let grown = memory.grow_to(to);
        if frames < needed {
            assert_short(grown, needed - frames);
            assert_eq!(counts(m), now, "with {frames} frames");
            assert_eq!(memory.size(), from);
            m.load(&memory, from as i64).expect_err("a failed growth gave access");
        } else {
            assert_eq!(grown, Ok(()));
            assert_eq!(free(m), 0);
        }
        assert_eq!(m.load(&memory, from as i64 - 1), Ok(0x21));
        release(m, fillers);
        memory.grow_to(to).unwrap();
        m.load(&memory, to as i64).unwrap_err();
        assert_eq!(m.load(&memory, from as i64 - 1), Ok(0x21));
        m.allocator.deallocate_memory(memory);
        assert_eq!(counts(m), before);
    }
}

pub(crate) fn exhausted_growth<A: TestArch>() {
    let m = strict::<A>(11 * MIB);
    // Within the premapped table, and across the ends of one and of two.
    grow_with_few(&m, SPAN - 3 * PAGE, SPAN, 3);
    grow_with_few(&m, SPAN - PAGE, SPAN + 3 * PAGE, 4 + 1);
    grow_with_few(&m, 2 * SPAN - PAGE, 2 * SPAN + PAGE, 2 + 1);
    let m = sparse::<A>(2);
    // All take the one slot that is left, since slots begin in different places.
    let others = [(); 2].map(|()| m.allocator.allocate_memory(0).unwrap());
    let memory = m.allocator.allocate_memory(PAGE).unwrap();
    let border = GIB - within(&memory);
    m.allocator.deallocate_memory(memory);
    grow_with_few(&m, SPAN, 3 * SPAN, 2);
    grow_with_few(&m, border, border + PAGE, 1);
    grow_with_few(&m, border - PAGE, border + SPAN + PAGE, 2);
    others.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
}

/// Allocates so many bytes, for which `needed` frames are, with ever more.
fn allocate_with_few<A: TestArch>(m: &Machine<A>, size: usize, needed: usize) {
    let mut kept = 0;
    // As above, also for a slot that shares from a former user on.
    warm(m, &[size / PAGE]);
    let before = counts(m);
    for frames in (0..=needed).filter(|frames| needed < 20 || *frames < 3 || needed - frames < 4) {
        let fillers = leave(m, frames, FILLER);
        let now = counts(m);
        match m.allocator.allocate_memory(size) {
            Ok(memory) => {
                assert_eq!((frames, free(m)), (needed, 0));
                assert_eq!(m.load(&memory, size as i64 - 1), Ok(0));
                kept = directories(m, &memory, size);
                m.allocator.deallocate_memory(memory);
            }
            Err(error) => {
                assert!(frames < needed, "{error}");
                // It may ask for what an instance may touch before it asks for tables.
                let Error::OutOfFrames { needed: asked, available } = error else { panic!("{error}") };
                assert!(asked > available && asked - available <= needed - frames, "{error}");
            }
        }
        // Its slot keeps its directories.
        let less = |mut counts: [usize; 6]| {
            counts[5] -= kept;
            counts
        };
        assert_eq!(counts(m), less(now), "with {frames} frames");
        release(m, fillers);
        assert_eq!(counts(m), less(before));
    }
}

pub(crate) fn exhausted_allocation<A: TestArch>() {
    let m = strict::<A>(11 * MIB);
    allocate_with_few(&m, 5 * PAGE, 5);
    allocate_with_few(&m, SPAN + 2 * PAGE, 514 + 1);
    let m = sparse::<A>(3);
    allocate_with_few(&m, SPAN, 3);
    allocate_with_few(&m, 2 * SPAN + PAGE, 3 + 2);
    let directory = usize::from(m.allocator.arch().levels() > 3);
    allocate_with_few(&m, GIB + PAGE, 3 + 512 + directory);
}
