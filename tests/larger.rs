//! Translations larger than a page: contiguous runs and blocks, of what is written as a
//! whole each time, and of nothing else.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::vec::Vec;

use allotment::{
    Backing, Commit, FaultAccess, Memory, MemoryImage, PoolingAllocationConfig, Verdict, arch::Format,
};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, at, on, pool, pooled};

harness::tests! {
    fn a_wasm_page_that_is_always_written_becomes_one_run() {
        on_every_machine!(runs);
    }

    fn memories_of_zeros_have_runs_too() {
        on_every_machine!(zeros);
    }

    fn what_is_written_here_and_there_stays_pages() {
        on_every_machine!(sparse);
    }

    fn granules_that_are_always_written_become_blocks() {
        on_every_machine!(blocks);
    }

    fn one_byte_written_has_the_whole_of_it_reset() {
        on_every_machine!(one_byte);
    }

    fn smaller_and_larger_users_take_it_apart() {
        on_every_machine!(sizes);
    }

    fn a_capture_takes_it_apart_and_shows_the_same() {
        on_every_machine!(captured);
    }

    fn declared_writes_count_for_it() {
        on_every_machine!(declared);
    }

    fn it_is_taken_apart_now_and_then() {
        on_every_machine!(taken_apart);
    }

    fn what_nobody_writes_any_more_is_given_up() {
        on_every_machine!(given_up);
    }

    fn late_faults_in_it_are_resumed() {
        on_every_machine!(late_faults);
    }

    fn idle_work_resets_it_in_parts() {
        on_every_machine!(in_parts);
    }

    fn another_cpu_goes_on_with_it() {
        on_every_machine!(moved);
    }
}

/// How often pages are written as a whole until they are translated as one.
const STEADY: usize = 3;

/// How often a slot is taken back until what is larger is taken apart, at most.
const PERIOD: usize = 64;

const GRANULE: usize = 2 * MIB;

/// Slots that own frames which may be adjacent.
fn fixed() -> PoolingAllocationConfig {
    pool(8, 4 * MIB).backing(Backing::Fixed)
}

fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&pooled(fixed()), 48 * MIB)
}

/// How many runs and blocks there are after so many wasm pages, and granules, were written
/// often enough.
fn expected<A: TestArch>(m: &Machine<A>, runs: usize, blocks: usize) -> (usize, usize) {
    if !m.allocator.arch().hardware_dirty() {
        return (0, 0);
    }
    (if A::Format::RUN > 1 { runs } else { 0 }, blocks)
}

fn larger<A: TestArch>(m: &Machine<A>) -> (usize, usize) {
    let (mut runs, mut blocks) = (0, 0);
    m.allocator.for_each_slot(|slot| {
        runs += slot.contiguous_runs;
        blocks += slot.blocks;
    });
    (runs, blocks)
}

/// The byte that the image has at an offset.
fn byte(offset: usize) -> u8 {
    let low = |value: usize| value.to_le_bytes()[0];
    low(offset / PAGE).wrapping_mul(7) ^ low(offset) | 1
}

fn image<A: TestArch>(m: &Machine<A>, len: usize) -> MemoryImage<'_, A> {
    let fill = |at: usize, bytes: &mut [u8; PAGE]| {
        for (nth, place) in bytes.iter_mut().enumerate() {
            *place = byte(at + nth);
        }
    };
    m.allocator.build_image(0, len, fill).unwrap()
}

#[track_caller]
fn assert_fresh<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, image: &MemoryImage<'_, A>) {
    for page in (0..memory.size()).step_by(PAGE) {
        let offset = page + page / PAGE % PAGE;
        let expected = if page < image.len() { byte(offset) } else { 0 };
        assert_eq!(m.load(memory, offset as i64), Ok(expected), "at {offset:#x}");
    }
}

/// Writes a byte of each of the pages.
fn write<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, pages: impl Iterator<Item = usize>) {
    for page in pages {
        m.store(memory, (page * PAGE + page % PAGE) as i64, 0xee).unwrap();
    }
}

/// So many users of `size` bytes, who find the image and write the first pages.
fn users<A: TestArch>(
    m: &Machine<A>,
    image: &MemoryImage<'_, A>,
    (users, size): (usize, usize),
    written: usize,
) {
    for _ in 0..users {
        let memory = m.allocator.allocate_memory_from(image, size).unwrap();
        assert_fresh(m, &memory, image);
        write(m, &memory, 0..written / PAGE);
        m.allocator.deallocate_memory(memory);
    }
}

fn runs<A: TestArch>() {
    let m = &machine::<A>();
    let image = image(m, 3 * WASM_PAGE / 2);
    users(m, &image, (STEADY - 1, 3 * WASM_PAGE), 2 * WASM_PAGE + PAGE);
    assert_eq!(larger(m), (0, 0), "too early");
    users(m, &image, (1, 3 * WASM_PAGE), 2 * WASM_PAGE + PAGE);
    assert_eq!(larger(m), expected(m, 2, 0));
    users(m, &image, (2, 3 * WASM_PAGE), 2 * WASM_PAGE);
    assert_eq!(larger(m), expected(m, 2, 0));
}

fn zeros<A: TestArch>() {
    for pools in [fixed(), fixed().clean_when_idle(true), fixed().poison(true)] {
        let m = &Machine::<A>::new(&pooled(pools), 48 * MIB);
        let user = |size: usize, written: &[usize]| {
            let memory = m.allocator.allocate_memory(size).unwrap();
            for page in 0..size / PAGE {
                assert_eq!(m.load(&memory, (page * PAGE + page) as i64), Ok(0), "page {page}");
            }
            write(m, &memory, written.iter().copied());
            m.assert_ends_at(&memory, size);
            m.allocator.deallocate_memory(memory);
        };
        let all: Vec<usize> = (0..16).collect();
        (0..STEADY).for_each(|_| user(WASM_PAGE, &all));
        assert_eq!(larger(m), expected(m, 1, 0));
        // The end of it is written too, to see that it can be.
        user(WASM_PAGE, &[3, 9]);
        user(WASM_PAGE, &[]);
        assert_eq!(larger(m), expected(m, 1, 0));
        user(WASM_PAGE - 3 * PAGE, &[12]);
        assert_eq!(larger(m), (0, 0));
        user(WASM_PAGE, &[]);
    }
}

fn sparse<A: TestArch>() {
    for backing in [Backing::Fixed, Backing::Elastic(Commit::Strict)] {
        let m = &Machine::<A>::new(&pooled(fixed().backing(backing)), 48 * MIB);
        let image = image(m, WASM_PAGE);
        for _ in 0..2 * STEADY {
            let memory = m.allocator.allocate_memory_from(&image, 2 * WASM_PAGE).unwrap();
            assert_fresh(m, &memory, &image);
            // All but one of sixteen; and with frames of the arena all of them.
            write(m, &memory, 0..15);
            if backing != Backing::Fixed {
                write(m, &memory, 15..32);
            }
            m.allocator.deallocate_memory(memory);
        }
        assert_eq!(larger(m), (0, 0), "{backing}");
    }
}

fn blocks<A: TestArch>() {
    let m = &machine::<A>();
    // Two whole granules, of which the image covers one and a half.
    let image = image(m, GRANULE + MIB);
    users(m, &image, (STEADY - 1, 2 * GRANULE), 2 * GRANULE);
    assert_eq!(larger(m), (0, 0), "too early");
    users(m, &image, (1, 2 * GRANULE), 2 * GRANULE);
    assert_eq!(larger(m), expected(m, 64, 2));
    users(m, &image, (2, 2 * GRANULE), 2 * GRANULE);
    // Nobody writes but one.
    users(m, &image, (2, 2 * GRANULE), 0);
    users(m, &image, (2, 2 * GRANULE), GRANULE);
    users(m, &image, (1, 2 * GRANULE), 0);
    assert_eq!(larger(m), expected(m, 64, 2));
}

fn one_byte<A: TestArch>() {
    let m = &machine::<A>();
    let image = image(m, GRANULE);
    users(m, &image, (STEADY, GRANULE + WASM_PAGE), GRANULE + WASM_PAGE);
    assert_eq!(larger(m), expected(m, 33, 1));
    for page in [0, 1, 15, 16, 300, 511, 512, 513, 527] {
        let memory = m.allocator.allocate_memory_from(&image, GRANULE + WASM_PAGE).unwrap();
        assert_fresh(m, &memory, &image);
        // Two of them: the CPU may note the one and have cached that for the other.
        write(m, &memory, [page, page / 16 * 16 + (page + 5) % 16].into_iter());
        m.allocator.deallocate_memory(memory);
    }
    users(m, &image, (1, GRANULE + WASM_PAGE), 0);
    assert_eq!(larger(m), expected(m, 33, 1));
}

fn sizes<A: TestArch>() {
    let m = &machine::<A>();
    let image = image(m, WASM_PAGE);
    for size in [GRANULE - WASM_PAGE, GRANULE - 3 * PAGE, 3 * WASM_PAGE, 5 * PAGE + WASM_PAGE] {
        users(m, &image, (STEADY, 2 * GRANULE), 2 * GRANULE);
        assert_eq!(larger(m), expected(m, 64, 2), "before {size:#x}");
        let mut memory = m.allocator.allocate_memory_from(&image, size).unwrap();
        assert_eq!(larger(m), (0, 0));
        assert_fresh(m, &memory, &image);
        m.assert_ends_at(&memory, size);
        memory.grow_to(GRANULE).unwrap();
        assert_eq!(m.load(&memory, GRANULE as i64 - 1), Ok(0));
        m.assert_ends_at(&memory, GRANULE);
        m.allocator.deallocate_memory(memory);
    }
}

fn captured<A: TestArch>() {
    let m = &machine::<A>();
    let first = image(m, GRANULE);
    let size = GRANULE + WASM_PAGE;
    users(m, &first, (STEADY, size), size);
    assert_eq!(larger(m), expected(m, 33, 1));
    let memory = m.allocator.allocate_memory_from(&first, size).unwrap();
    let written = [3, 4, 511, 514, 520];
    write(m, &memory, written.into_iter());
    let image = m.allocator.capture_memory(&memory).unwrap();
    assert_eq!(larger(m), (0, 0));
    // What is written from now on is the one's that writes it.
    write(m, &memory, 30..40);
    let other = m.allocator.allocate_memory_from(&image, size).unwrap();
    for page in 0..size / PAGE {
        let offset = page * PAGE + page % PAGE;
        let old = if page < GRANULE / PAGE { byte(offset) } else { 0 };
        let new = if written.contains(&page) { 0xee } else { old };
        assert_eq!(m.load(&other, offset as i64), Ok(new), "at {offset:#x}");
        let mine = if (30..40).contains(&page) { 0xee } else { new };
        assert_eq!(m.load(&memory, offset as i64), Ok(mine), "at {offset:#x} of the captured");
    }
    m.allocator.deallocate_memory(memory);
    m.allocator.deallocate_memory(other);
}

fn declared<A: TestArch>() {
    let m = &machine::<A>();
    let image = image(m, GRANULE);
    let size = GRANULE + WASM_PAGE;
    users(m, &image, (STEADY, size), size);
    for page in [7, 515] {
        let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
        let offset = page * PAGE;
        m.allocator.prepare_write(&memory, offset, 2 * PAGE).unwrap();
        m.allocator.note_written(&memory, offset, 2 * PAGE).unwrap();
        assert_fresh(m, &memory, &image);
        m.allocator.deallocate_memory(memory);
        assert_eq!(larger(m), expected(m, 33, 1));
    }
    users(m, &image, (1, size), 0);
}

fn taken_apart<A: TestArch>() {
    let m = &machine::<A>();
    let image = image(m, WASM_PAGE);
    let size = GRANULE + WASM_PAGE;
    users(m, &image, (STEADY, size), size);
    assert_eq!(larger(m), expected(m, 33, 1));
    for _ in 0..PERIOD {
        let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
        write(m, &memory, [1, 513].into_iter());
        m.allocator.deallocate_memory(memory);
    }
    // To see that one page alone is written: nothing is formed anew.
    assert_eq!(larger(m), (0, 0));
    users(m, &image, (STEADY, size), 2 * PAGE);
    assert_eq!(larger(m), (0, 0));
    users(m, &image, (STEADY, size), size);
    assert_eq!(larger(m), expected(m, 33, 1), "it is steady again");
}

fn given_up<A: TestArch>() {
    let m = &machine::<A>();
    let image = image(m, 3 * WASM_PAGE);
    users(m, &image, (STEADY, 3 * WASM_PAGE), 3 * WASM_PAGE);
    assert_eq!(larger(m), expected(m, 3, 0));
    users(m, &image, (PERIOD / 2, 3 * WASM_PAGE), WASM_PAGE);
    let left = larger(m);
    assert!(left.0 <= expected(m, 1, 0).0, "{left:?}");
    users(m, &image, (STEADY, 3 * WASM_PAGE), 3 * WASM_PAGE);
    users(m, &image, (1, 3 * WASM_PAGE), 0);
}

fn late_faults<A: TestArch>() {
    let m = &machine::<A>();
    let image = image(m, GRANULE);
    let size = GRANULE + WASM_PAGE;
    users(m, &image, (STEADY, size), size);
    let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
    assert_eq!(larger(m), expected(m, 33, 1));
    for offset in [0, GRANULE - 1, GRANULE, size - 1] {
        for access in [FaultAccess::Read, FaultAccess::Write] {
            let verdict = m.allocator.fault(at(&memory, offset as i64), access);
            assert_eq!(verdict, Verdict::Resume, "{access:?} at {offset:#x}");
        }
        let verdict = m.allocator.fault(at(&memory, offset as i64), FaultAccess::Execute);
        assert_ne!(verdict, Verdict::Resume, "at {offset:#x}");
    }
    m.assert_ends_at(&memory, size);
    m.allocator.deallocate_memory(memory);
}

fn in_parts<A: TestArch>() {
    let m = &Machine::<A>::new(&pooled(fixed().clean_when_idle(true)), 48 * MIB);
    let image = image(m, GRANULE);
    let size = GRANULE + 2 * WASM_PAGE;
    for budget in [1, 5, 16, 40, 1000] {
        users(m, &image, (STEADY + 1, size), size);
        // The next users do what idle work does not.
        assert_eq!(larger(m), expected(m, 34, 1), "before {budget}");
        let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
        write(m, &memory, [3, 9, 515, 516, 543].into_iter());
        m.allocator.deallocate_memory(memory);
        let mut rounds = 0;
        while m.allocator.idle_work(budget) > 0 {
            rounds += 1;
            assert!(rounds < 10_000, "it comes to no end");
        }
        assert_eq!(m.allocator.idle_work_left().slots, 0);
        let all = m.allocator.allocate_memory_from(&image, size).unwrap();
        assert_fresh(m, &all, &image);
        m.allocator.deallocate_memory(all);
    }
}

fn moved<A: TestArch>() {
    let m = &machine::<A>();
    let arch = m.allocator.arch();
    let image = image(m, GRANULE);
    let size = GRANULE + WASM_PAGE;
    let mut seen = Vec::new();
    for round in 0..3 * STEADY {
        let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
        assert_fresh(m, &memory, &image);
        let cpu = round % arch.cpus();
        let memory = on(arch, cpu, || {
            m.allocator.arrive(&memory).unwrap();
            assert_fresh(m, &memory, &image);
            let few = if round == 2 * STEADY { 1 } else { size / PAGE };
            write(m, &memory, 0..few);
            memory
        });
        m.allocator.deallocate_memory(memory);
        seen.push(larger(m));
    }
    assert_eq!(seen.last(), Some(&expected(m, 33, 1)));
}
