//! Images: first writes, resets, and whole lives over images of several sizes.

use core::hint::black_box;

use allotment::{Allocator, Backing, Commit, Config, Memory, MemoryImage, arch::PAGE_SIZE};
use kernel::{BootInfo, clock::instructions};

use crate::{
    count::{average, counted, part_of, row},
    curves::{allocator, image, showing, with_faults_answered},
    group::{Group, group},
    pools::{MIB, carve, parts, pool},
};

pub(crate) const GROUPS: &[Group] = &[
    group(
        "images",
        true,
        &[
            "image-first-read",
            "image-first-write",
            "zero-first-write",
            "image-reset-16",
            "image-reset-0",
            "image-reset-table",
            "image-warm-clean",
            "image-64k",
            "image-dirty-page",
            "image-1m",
            "image-64m",
            "image-64m-spread",
        ],
        images,
    ),
    group(
        "clones",
        true,
        &["clone-capture-elastic", "clone-elastic", "clone-capture-fixed", "clone-fixed"],
        clones,
    ),
];

const WASM_PAGE: usize = 0x1_0000;
const TABLE: usize = 2 * MIB;

fn images(boot: &'static BootInfo) {
    let allocator = &allocator(boot, 64 * MIB, 1024 * MIB);
    with_faults_answered(allocator, || {
        first_accesses(allocator);
        resets(allocator);
        lives(allocator);
    });
}

/// Of pages in a granule that has a table of its own by then.
fn first_accesses(allocator: &Allocator) {
    const PAGES: usize = 200;
    let image = image(allocator, TABLE, MIB);
    image.learns(false);
    let memory = showing(allocator, &image, TABLE);
    write(&memory, TABLE - PAGE_SIZE);
    let count = |first: usize, apart: usize, touch: &dyn Fn(usize)| {
        let with = counted(PAGES as u64, || {
            for nth in 0..PAGES {
                touch(first + nth * apart);
            }
        });
        let before = instructions();
        for nth in 0..PAGES {
            black_box(first + nth * apart);
        }
        (with - (instructions() - before)) / PAGES as u64
    };
    // Every second page is data, up to half of it.
    row("image-first-read", || count(0, PAGE_SIZE, &|at| read(&memory, at)));
    let half = PAGES / 2;
    let faults = |first: usize, apart: usize, pages: usize| {
        let faults = || (0..pages).for_each(|nth| write(&memory, first + nth * apart));
        counted(pages as u64, faults) / pages as u64
    };
    row("image-first-write", || faults(0, 2 * PAGE_SIZE, half));
    row("zero-first-write", || faults(MIB, PAGE_SIZE, half));
    allocator.deallocate_memory(memory);
}

fn resets(allocator: &Allocator) {
    let image = image(allocator, 64 * MIB, 64 * MIB);
    let reset = |write_to: &dyn Fn(&Memory<'_>)| {
        let mut count = 0;
        for round in 0..20 {
            let memory = showing(allocator, &image, 64 * MIB);
            write_to(&memory);
            let one = counted(u64::from(round >= 10), || allocator.deallocate_memory(memory));
            count += if round < 10 { 0 } else { one };
        }
        count / 10
    };
    let small = crate::curves::image(allocator, WASM_PAGE, WASM_PAGE);
    let small_reset = |pages: usize| {
        let mut count = 0;
        for round in 0..20 {
            let memory = showing(allocator, &small, WASM_PAGE);
            (0..pages).for_each(|page| write(&memory, page * PAGE_SIZE));
            let one = counted(u64::from(round >= 10), || allocator.deallocate_memory(memory));
            count += if round < 10 { 0 } else { one };
        }
        count / 10
    };
    row("image-reset-16", || small_reset(16));
    row("image-reset-0", || small_reset(0));
    image.expect_writes([0]);
    let one = reset(&|_| {});
    image.expect_writes((0..32).map(|table| table * TABLE));
    let all = reset(&|_| {});
    row("image-reset-table", || (all - one) / 31);
}

fn lives(allocator: &Allocator) {
    let live = |image: &MemoryImage<'_>, bytes: usize, pages: usize, apart: usize| {
        average(|| {
            let memory = showing(allocator, image, bytes);
            (0..pages).for_each(|page| write(&memory, page * apart));
            allocator.deallocate_memory(memory);
        })
    };
    let small = &image(allocator, WASM_PAGE, WASM_PAGE);
    let clean = row("image-warm-clean", || live(small, WASM_PAGE, 0, 0));
    let all = row("image-64k", || live(small, WASM_PAGE, 16, PAGE_SIZE));
    row("image-dirty-page", || (all - clean) / 16);
    row("image-1m", || live(&image(allocator, MIB, MIB), MIB, 16, PAGE_SIZE));
    let large = &image(allocator, 64 * MIB, 64 * MIB);
    row("image-64m", || live(large, 64 * MIB, 16, PAGE_SIZE));
    row("image-64m-spread", || live(large, 64 * MIB, 16, 2 * TABLE));
}

/// Of a memory that shows 16 MiB, of which it has written one.
fn clones(boot: &'static BootInfo) {
    let ways = [
        (Backing::Elastic(Commit::Strict), "clone-capture-elastic", "clone-elastic"),
        (Backing::Fixed, "clone-capture-fixed", "clone-fixed"),
    ];
    // Both at once in the machine's memory.
    for ((backing, captured, cloned), part) in ways.into_iter().zip(parts(boot, &[256 * MIB, 256 * MIB])) {
        let pool = pool(2).max_memory_size(16 * MIB).backing(backing);
        let allocator = &carve(part, &Config::new().region_space(1 << 30).allocation_strategy(pool));
        with_faults_answered(allocator, || {
            let image = image(allocator, 16 * MIB, 16 * MIB);
            let (mut capture, mut clone) = (0, 0);
            for round in 0..20 {
                let memory = showing(allocator, &image, 16 * MIB);
                (0..MIB / PAGE_SIZE).for_each(|page| write(&memory, page * PAGE_SIZE));
                // Before that it learns.
                let operations = u64::from(round >= 10);
                let (mut taken, mut other) = (None, None);
                let take = || taken = Some(allocator.capture_memory(&memory).expect("frames for it"));
                capture += operations * part_of(captured, || counted(operations, take));
                let taken = taken.expect("it was taken");
                let show = || other = Some(allocator.allocate_memory_from(&taken, 16 * MIB).expect("a slot"));
                clone += operations * part_of(cloned, || counted(operations, show));
                allocator.deallocate_memory(other.expect("it was allocated"));
                allocator.deallocate_memory(memory);
            }
            row(captured, || capture / 10);
            row(cloned, || clone / 10);
        });
    }
}

fn write(memory: &Memory<'_>, offset: usize) {
    let place = memory.base().as_ptr().wrapping_add(offset);
    // SAFETY: nobody else has the memory, and the place lies in it.
    unsafe { place.write_volatile(1) };
}

fn read(memory: &Memory<'_>, offset: usize) {
    let place = memory.base().as_ptr().wrapping_add(offset);
    // SAFETY: as above.
    black_box(unsafe { place.read_volatile() });
}
