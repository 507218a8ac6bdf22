//! Images: what memories begin with, shared until it is written, and as it was for the
//! next one.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "images/physical.rs"]
mod physical;

use alloc::vec::Vec;

use allotment::{Backing, Commit, Config, Error, Memory, MemoryImage, PoolingAllocationConfig};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled};

harness::tests! {
    fn a_memory_shows_its_image_over_zeros() {
        on_every_machine!(shows);
    }

    fn what_was_written_is_the_image_again() {
        on_every_machine!(reset);
    }

    fn a_slot_goes_from_image_to_image_and_to_none() {
        on_every_machine!(switch);
    }

    fn memories_grow_beyond_their_image() {
        on_every_machine!(grow);
    }

    fn pages_that_were_long_out_of_reach_are_reset_after_growth() {
        on_every_machine!(regrown);
    }

    fn an_image_outlives_its_handles_as_long_as_memories_show_it() {
        on_every_machine!(lifetime);
    }

    fn a_second_run_takes_no_write_faults() {
        on_every_machine!(learned);
    }

    fn what_is_no_longer_written_is_forgotten() {
        on_every_machine!(aged);
    }

    fn memories_of_one_image_have_any_sizes() {
        on_every_machine!(sizes);
    }

    fn large_images_share_their_tables() {
        on_every_machine!(large);
    }

    fn physical_memory_is_shown_unless_it_is_the_arenas() {
        on_every_machine!(physical::frames);
    }

    fn what_is_mapped_is_shown_unless_it_is_a_memorys() {
        on_every_machine!(physical::mapped);
    }

    fn errors_name_what_is_wrong() {
        on_every_machine!(errors);
    }
}

/// Each backing in turn, with room for what it takes.
fn machines<A: TestArch>(mut test: impl FnMut(&Machine<A>)) {
    let backings =
        [Backing::Fixed, Backing::Elastic(Commit::Strict), Backing::Elastic(Commit::PerInstance(64))];
    for backing in backings {
        for keep in [0, MIB] {
            let pools = few().backing(backing).linear_memory_keep_resident(keep);
            test(&Machine::new(&pooled(pools), 64 * MIB));
        }
    }
}

fn few() -> PoolingAllocationConfig {
    pool(3, 8 * MIB)
}

/// The byte that an image of this seed has at an offset.
fn byte(seed: u8, offset: usize) -> u8 {
    // Some pages are all zeros.
    let low = |value: usize| value.to_le_bytes()[0];
    if (offset / PAGE).is_multiple_of(5) { 0 } else { seed ^ low(offset % 251) ^ low(offset / PAGE) }
}

fn image<A: TestArch>(m: &Machine<A>, seed: u8, offset: usize, len: usize) -> MemoryImage<'_, A> {
    let fill = |at: usize, bytes: &mut [u8; PAGE]| {
        for (nth, place) in bytes.iter_mut().enumerate() {
            *place = byte(seed, at + nth);
        }
    };
    m.allocator.build_image(offset, len, fill).unwrap()
}

/// Offsets of which to look at, one or two in each page.
fn some(size: usize) -> impl Iterator<Item = usize> {
    (0..size).step_by(PAGE).flat_map(|page| [page, page + 4095 - page / PAGE % 7])
}

#[track_caller]
fn assert_shows<A: TestArch>(
    m: &Machine<A>,
    memory: &Memory<'_, A>,
    image: Option<(u8, &MemoryImage<'_, A>)>,
) {
    for offset in some(memory.size()) {
        let expected = match image {
            Some((seed, image)) if (image.offset()..image.offset() + image.len()).contains(&offset) => {
                byte(seed, offset)
            }
            _ => 0,
        };
        assert_eq!(m.load(memory, offset as i64), Ok(expected), "at {offset:#x}");
    }
}

fn shows<A: TestArch>() {
    machines::<A>(|m| {
        for (offset, len, size) in [
            (0, WASM_PAGE, WASM_PAGE),
            (3 * PAGE, 7 * PAGE, 2 * WASM_PAGE),
            (MIB, 2 * MIB, 4 * MIB),
            (2 * MIB - PAGE, 2 * PAGE, 2 * MIB + WASM_PAGE),
            (0, 0, WASM_PAGE),
        ] {
            let image = image(m, 7, offset, len);
            let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
            assert_shows(m, &memory, Some((7, &image)));
            m.store(&memory, (offset + len) as i64 - 1, 1)
                .or_else(|e| if len == 0 { Ok(()) } else { Err(e) })
                .unwrap();
            m.load(&memory, size as i64).expect_err("the memory does not end");
            m.store(&memory, size as i64, 1).expect_err("the memory does not end");
            m.load(&memory, -1).expect_err("the memory has something before it");
            m.allocator.deallocate_memory(memory);
        }
    });
}

fn reset<A: TestArch>() {
    machines::<A>(|m| {
        let image = image(m, 9, PAGE, 40 * PAGE);
        for round in 0..40usize {
            let memory = m.allocator.allocate_memory_from(&image, 4 * WASM_PAGE).unwrap();
            assert_shows(m, &memory, Some((9, &image)));
            for nth in 0..round % 7 {
                let offset = ((round * 13 + nth * 5) % 64 * PAGE + nth) as i64;
                m.store(&memory, offset, 0xee).unwrap();
                assert_eq!(m.load(&memory, offset), Ok(0xee));
            }
            m.allocator.deallocate_memory(memory);
        }
    });
}

fn switch<A: TestArch>() {
    machines::<A>(|m| {
        let a = image(m, 1, 0, WASM_PAGE);
        let b = image(m, 2, 2 * PAGE, 3 * MIB);
        let mut showing: [Option<(u8, &MemoryImage<'_, A>)>; 3] = [None, Some((1, &a)), Some((2, &b))];
        for round in 0..24 {
            showing.rotate_left(1 + round % 2);
            let size = 4 * MIB - round % 3 * WASM_PAGE;
            let memory = match showing[0] {
                Some((_, image)) => m.allocator.allocate_memory_from(image, size),
                None => m.allocator.allocate_memory(size),
            }
            .unwrap();
            assert_shows(m, &memory, showing[0]);
            for page in [0usize, 3, 20, 511, 512, 700] {
                m.store(&memory, (page * PAGE + round) as i64, 0xdd).unwrap();
            }
            m.allocator.deallocate_memory(memory);
        }
    });
}

fn grow<A: TestArch>() {
    machines::<A>(|m| {
        let image = image(m, 5, 0, WASM_PAGE);
        for round in 0..8 {
            let mut memory = m.allocator.allocate_memory_from(&image, 2 * WASM_PAGE).unwrap();
            assert_shows(m, &memory, Some((5, &image)));
            for size in [3 * WASM_PAGE, 4 * WASM_PAGE + PAGE, 2 * MIB, 6 * MIB + WASM_PAGE, 8 * MIB] {
                memory.grow_to(size).unwrap();
                assert_shows(m, &memory, Some((5, &image)));
                m.load(&memory, size as i64).expect_err("the memory does not end");
                for _ in 0..round {
                    m.store(&memory, size as i64 - 1, 0).unwrap();
                }
            }
            m.store(&memory, 0, 0xaa).unwrap();
            m.store(&memory, 3 * MIB as i64, 0xaa).unwrap();
            m.store(&memory, 8 * MIB as i64 - 1, 0xaa).unwrap();
            m.allocator.deallocate_memory(memory);
        }
    });
}

/// Of pages that nobody writes for long a slot forgets that they may be written: also of
/// those that are its own and lie beyond what its users have. Who grows there writes again.
fn regrown<A: TestArch>() {
    machines::<A>(|m| {
        let image = image(m, 11, 0, WASM_PAGE);
        let user = |growth: &[usize]| {
            let mut memory = m.allocator.allocate_memory_from(&image, WASM_PAGE).unwrap();
            growth.iter().for_each(|pages| memory.grow_to(pages * WASM_PAGE).unwrap());
            let wasm_pages = memory.size() / WASM_PAGE;
            assert_shows(m, &memory, Some((11, &image)));
            m.assert_ends_at(&memory, wasm_pages * WASM_PAGE);
            for nth in 0..wasm_pages {
                m.store(&memory, (nth * WASM_PAGE + nth % 16 * PAGE) as i64, 0xee).unwrap();
            }
            m.allocator.deallocate_memory(memory);
        };
        // Within the first granule, and beyond.
        for growth in [&[2, 5][..], &[2, 32, 33, 35]] {
            (0..2).for_each(|_| user(growth));
            (0..40).for_each(|_| user(&[]));
            (0..2).for_each(|_| user(growth));
        }
    });
}

fn lifetime<A: TestArch>() {
    machines::<A>(|m| {
        // The zero tables of this size stay.
        m.allocator.deallocate_memory(m.allocator.allocate_memory(MIB).unwrap());
        let before = m.allocator.metrics();
        for dropped_first in [false, true] {
            let first = image(m, 3, 0, WASM_PAGE);
            let second = first.clone();
            let memory = m.allocator.allocate_memory_from(&first, MIB).unwrap();
            drop(first);
            m.store(&memory, 5000, 1).unwrap();
            if dropped_first {
                drop(second);
                assert_eq!(m.load(&memory, 9000), Ok(byte(3, 9000)));
                m.allocator.deallocate_memory(memory);
            } else {
                m.allocator.deallocate_memory(memory);
                let memory = m.allocator.allocate_memory_from(&second, MIB).unwrap();
                assert_shows(m, &memory, Some((3, &second)));
                m.allocator.deallocate_memory(memory);
                drop(second);
            }
            let after = m.allocator.metrics();
            assert_eq!(
                before.available_frames + before.idle_frames,
                after.available_frames + after.idle_frames
            );
        }
    });
}

fn learned<A: TestArch>() {
    machines::<A>(|m| {
        let image = image(m, 4, 0, MIB);
        let pages = [1usize, 2, 3, 17, 100, 255];
        let run = |first: bool| {
            let memory = m.allocator.allocate_memory_from(&image, MIB).unwrap();
            let mut faults = 0;
            for page in pages {
                let address = common::at(&memory, (page * PAGE) as i64);
                while m.allocator.arch().store(address, 1).is_err() {
                    let verdict = m.allocator.fault(address, allotment::FaultAccess::Write);
                    assert_eq!(verdict, allotment::Verdict::Resume);
                    faults += 1;
                }
            }
            // Where the CPU keeps no marks, setting them is a fault of another kind.
            if m.allocator.arch().hardware_dirty() && !cfg!(target_os = "none") {
                let counted =
                    m.allocator.config().pooling().is_some_and(|pools| {
                        matches!(pools.backing, Backing::Elastic(Commit::PerInstance(_)))
                    });
                // Where writes are counted nothing is made ready: it would use them up.
                let expected = if first || counted { pages.len().. } else { 0.. };
                assert!(expected.contains(&faults) && (first || counted || faults == 0), "{faults} faults");
            }
            m.allocator.deallocate_memory(memory);
        };
        run(true);
        let mut noted = Vec::new();
        image.for_each_written_page(|offset| noted.push(offset / PAGE));
        noted.sort_unstable();
        assert_eq!(noted, pages);
        run(false);
        run(false);
    });
}

fn aged<A: TestArch>() {
    const OFTEN: usize = 3;
    const ONCE: usize = 200;
    let backings = [Backing::Fixed, Backing::Elastic(Commit::Strict)].map(|b| pooled(few().backing(b)));
    for config in backings.into_iter().chain([Config::new()]) {
        let m = Machine::<A>::new(&config, 64 * MIB);
        let image = image(&m, 8, 0, MIB);
        let run = |pages: &[usize]| {
            let memory = m.allocator.allocate_memory_from(&image, MIB).unwrap();
            assert_shows(&m, &memory, Some((8, &image)));
            pages.iter().for_each(|&page| m.store(&memory, (page * PAGE) as i64, 1).unwrap());
            m.allocator.deallocate_memory(memory);
        };
        let written = |page: usize| {
            let mut found = false;
            image.for_each_written_page(|offset| found |= offset == page * PAGE);
            found
        };
        run(&[OFTEN, ONCE]);
        assert!(written(OFTEN) && written(ONCE));
        (0..100).for_each(|_| run(&[OFTEN]));
        assert!(written(OFTEN), "what each run writes is known");
        assert!(!written(ONCE), "what was written once is not, after a while");
    }
}

fn sizes<A: TestArch>() {
    machines::<A>(|m| {
        let image = image(m, 3, 0, 3 * WASM_PAGE);
        // In one granule, and with another before it.
        let larger = self::image(m, 3, 0, 2 * MIB + WASM_PAGE);
        for round in 0..3usize {
            for nth in 3..16 {
                for (image, size) in [(&image, nth * WASM_PAGE), (&larger, 2 * MIB + nth * WASM_PAGE)] {
                    let memory = m.allocator.allocate_memory_from(image, size).unwrap();
                    if round != 1 {
                        assert_shows(m, &memory, Some((3, image)));
                    }
                    m.assert_ends_at(&memory, size);
                    m.allocator.deallocate_memory(memory);
                }
            }
            let mut memory = m.allocator.allocate_memory_from(&image, 3 * WASM_PAGE).unwrap();
            for nth in 4..20 {
                memory.grow_to(nth * WASM_PAGE).unwrap();
                m.assert_ends_at(&memory, nth * WASM_PAGE);
            }
            assert_eq!(m.load(&memory, 7), Ok(byte(3, 7)));
            m.allocator.deallocate_memory(memory);
        }
    });
}

fn large<A: TestArch>() {
    let pools = pool(4, 64 * MIB).backing(Backing::Elastic(Commit::PerInstance(32)));
    let m = Machine::<A>::new(&pooled(pools), 48 * MIB);
    let image = image(&m, 6, 0, 32 * MIB);
    let before = m.allocator.metrics().available_frames;
    let all = [(); 4].map(|()| m.allocator.allocate_memory_from(&image, 64 * MIB).unwrap());
    for memory in &all {
        for offset in (0..32 * MIB).step_by(MIB + 3 * PAGE) {
            assert_eq!(m.load(memory, offset as i64), Ok(byte(6, offset)));
        }
        assert_eq!(m.load(memory, 64 * MIB as i64 - 1), Ok(0));
        for nth in 0..16 {
            m.store(memory, (nth * 4 * MIB + 8) as i64, 0x77).unwrap();
        }
    }
    assert!(before - m.allocator.metrics().available_frames <= 4 * (32 + 32) + 4);
    all.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    let memory = m.allocator.allocate_memory_from(&image, 64 * MIB).unwrap();
    for nth in 0..16 {
        let offset = nth * 4 * MIB + 8;
        let expected = if offset < 32 * MIB { byte(6, offset) } else { 0 };
        assert_eq!(m.load(&memory, offset as i64), Ok(expected));
    }
    m.allocator.deallocate_memory(memory);
}

fn errors<A: TestArch>() {
    let m = Machine::<A>::new(&pooled(few()), 64 * MIB);
    let other = Machine::<A>::new(&pooled(few()), 64 * MIB);
    let build = |offset, len| m.allocator.build_image(offset, len, |_, _| {}).map(drop);
    assert_eq!(build(1, PAGE), Err(Error::ImageMisaligned { value: 1 }));
    assert_eq!(build(0, PAGE + 1), Err(Error::ImageMisaligned { value: PAGE as u64 + 1 }));
    let limit = 512 * MIB;
    let bytes = limit + PAGE;
    assert_eq!(build(0, bytes), Err(Error::ImageTooLarge { bytes, limit }));
    let image = image(&m, 1, 0, WASM_PAGE);
    let refused = |m: &Machine<A>, size: usize| m.allocator.allocate_memory_from(&image, size).map(drop);
    assert_eq!(refused(&other, WASM_PAGE), Err(Error::ForeignImage));
    let beyond = Error::ImageBeyondMemory { end: WASM_PAGE, size: WASM_PAGE - PAGE };
    assert_eq!(refused(&m, WASM_PAGE - PAGE), Err(beyond));
    assert_eq!(m.allocator.metrics().memories, 0);
}
