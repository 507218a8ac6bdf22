//! Images and zeros that memories with a range of their own share until they
//! write them.

use alloc::{vec, vec::Vec};

use allotment::{
    Config, Error, FaultAccess, Memory, MemoryImage, MemoryRequest, Verdict,
    arch::{Access, translate},
};

use crate::{
    base,
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, cpus, on, together},
    share_zeros, small,
};

fn low(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

/// The byte that an image of this seed has at an offset.
pub(crate) fn byte(seed: u8, offset: usize) -> u8 {
    // Some pages are all zeros.
    if (offset / PAGE).is_multiple_of(5) {
        return 0;
    }
    seed ^ low(offset % 251) ^ low(offset / PAGE)
}

pub(crate) fn image<A: TestArch>(m: &Machine<A>, seed: u8, offset: usize, len: usize) -> MemoryImage<'_, A> {
    let fill = |at: usize, bytes: &mut [u8; PAGE]| {
        for (nth, place) in bytes.iter_mut().enumerate() {
            *place = byte(seed, at + nth);
        }
    };
    m.allocator.build_image(offset, len, fill).unwrap()
}

fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&config(), 24 * MIB)
}

/// Room for 6 MiB before a memory moves.
fn config() -> Config {
    small().memory_reservation(6 * MIB)
}

/// One or two bytes of each page.
fn some(size: usize) -> impl Iterator<Item = usize> {
    (0..size).step_by(PAGE).flat_map(|page| [page, page + 4095 - page / PAGE % 7])
}

#[track_caller]
fn assert_shows<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, seed: u8, image: &MemoryImage<'_, A>) {
    for offset in some(memory.size()) {
        let covered = (image.offset()..image.offset() + image.len()).contains(&offset);
        let expected = if covered { byte(seed, offset) } else { 0 };
        // Reads of what nobody wrote do not fault.
        let loaded = m.allocator.arch().load(base(memory).offset(offset));
        assert_eq!(loaded, Ok(expected), "at {offset:#x}");
    }
}

/// Bytes that regions have frames for.
fn resident<A: TestArch>(m: &Machine<A>) -> usize {
    let mut resident = 0;
    m.allocator.for_each_region(|region| resident += region.resident);
    resident
}

/// Frames for so many pages, tables included.
fn frames_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE) + bytes.div_ceil(2 * MIB)
}

pub(crate) fn shows<A: TestArch>() {
    let m = machine::<A>();
    for (offset, len, size) in [
        (0, WASM_PAGE, WASM_PAGE),
        (3 * PAGE, 7 * PAGE, 2 * WASM_PAGE),
        (MIB, 2 * MIB, 4 * MIB),
        (2 * MIB - PAGE, 2 * PAGE, 2 * MIB + WASM_PAGE),
        (0, 4 * MIB, 4 * MIB),
        (0, 0, WASM_PAGE),
        (0, 0, 0),
    ] {
        let image = image(&m, 7, offset, len);
        // Tables that show as much stay with the image, and with the zeros.
        m.allocator.deallocate_memory(m.allocator.allocate_memory_from(&image, size).unwrap());
        let before = m.allocator.metrics();
        let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
        assert_eq!(resident(&m), 0, "something was copied before it was written");
        let left = m.allocator.metrics().available_frames;
        assert_eq!(before.available_frames - left, frames_of(size), "what first writes may take");
        assert_shows(&m, &memory, 7, &image);
        if size > 0 {
            m.assert_ends_at(&memory, size);
            assert_eq!(resident(&m), PAGE, "one page was written");
        }
        m.load(&memory, size as i64).expect_err("the memory does not end");
        m.load(&memory, -1).expect_err("the memory has something before it");
        let Verdict::Trap(_) = m.allocator.fault(base(&memory), FaultAccess::Execute) else {
            panic!("a memory can be executed")
        };
        m.allocator.deallocate_memory(memory);
        assert_eq!(m.allocator.metrics(), before);
    }
    let image = image(&m, 7, 0, 2 * PAGE);
    let beyond = Error::ImageBeyondMemory { end: 2 * PAGE, size: PAGE };
    assert_eq!(m.allocator.allocate_memory_from(&image, PAGE).map(drop), Err(beyond));
}

pub(crate) fn reset<A: TestArch>() {
    let m = machine::<A>();
    let image = image(&m, 9, PAGE, 40 * PAGE);
    image.learns(false);
    for round in 0..30usize {
        let memory = m.allocator.allocate_memory_from(&image, 4 * WASM_PAGE).unwrap();
        assert_shows(&m, &memory, 9, &image);
        for nth in 0..round % 7 {
            let offset = ((round * 13 + nth * 5) % 64 * PAGE + nth) as i64;
            m.store(&memory, offset, 0xee).unwrap();
            assert_eq!(m.load(&memory, offset), Ok(0xee));
        }
        m.allocator.deallocate_memory(memory);
        // The frames that were the image's copies are zeros for whoever has them next.
        let next = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        assert!(some(WASM_PAGE).all(|offset| m.load(&next, offset as i64) == Ok(0)), "in round {round}");
        m.allocator.deallocate_memory(next);
    }
}

pub(crate) fn threads<A: TestArch>() {
    let m = Machine::<A>::new(&config().shared_memory(true), 24 * MIB);
    let image = image(&m, 3, PAGE, 20 * PAGE);
    let before = m.allocator.metrics();
    let request = MemoryRequest::new(2 * WASM_PAGE).maximum(MIB).shared(true);
    for _ in 0..2 {
        let memory = m.allocator.allocate_memory_from(&image, request).unwrap();
        assert_eq!(resident(&m), 2 * WASM_PAGE, "threads must not meet a first write");
        assert_shows(&m, &memory, 3, &image);
        m.store(&memory, PAGE as i64, 0xee).unwrap();
        m.allocator.deallocate_memory(memory);
    }
    let next = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    assert!(some(WASM_PAGE).all(|offset| m.load(&next, offset as i64) == Ok(0)));
    m.allocator.deallocate_memory(next);
    assert_eq!(m.allocator.metrics(), before);
}

pub(crate) fn lifetime<A: TestArch>() {
    let m = machine::<A>();
    share_zeros(&m, &[MIB, 8 * MIB]);
    let before = m.allocator.metrics();
    // Two handles and two memories go, in any order; one of the memories moved.
    for order in 0..24 {
        let first = image(&m, 3, 0, WASM_PAGE);
        let one = m.allocator.allocate_memory_from(&first, MIB).unwrap();
        let mut two = m.allocator.allocate_memory_from(&first, MIB).unwrap();
        m.store(&one, 5000, 1).unwrap();
        m.store(&two, 9001, 2).unwrap();
        two.grow_to(7 * MIB).unwrap();
        let second = first.clone();
        let (mut handles, mut memories) = ([Some(first), Some(second)], [Some(one), Some(two)]);
        let mut left = vec![0, 1, 2, 3];
        for step in [order / 6, order / 2 % 3, order % 2, 0] {
            match left.remove(step) {
                at @ (0 | 1) => drop(handles[at].take()),
                at => m.allocator.deallocate_memory(memories[at - 2].take().unwrap()),
            }
            for (memory, written) in memories.iter().zip([5000, 9001]) {
                let Some(memory) = memory else { continue };
                for offset in some(WASM_PAGE).filter(|&offset| offset != written) {
                    assert_eq!(m.load(memory, offset as i64), Ok(byte(3, offset)));
                }
            }
        }
        assert_eq!(m.allocator.metrics(), before, "in order {order}");
    }
}

pub(crate) fn promised<A: TestArch>() {
    let m = machine::<A>();
    const SIZE: usize = 2 * MIB + 20 * PAGE;
    let image = image(&m, 5, 0, MIB);
    m.allocator.deallocate_memory(m.allocator.allocate_memory_from(&image, SIZE).unwrap());
    let hog = m.allocator.reserve_region(32 * MIB).unwrap();
    for spare in [0, 1] {
        // All but what the memory needs, and one too few.
        let tables = m.allocator.metrics().available_frames.div_ceil(513);
        let left = frames_of(SIZE) - 1 + spare;
        let pages = m.allocator.metrics().available_frames - left;
        let pages = pages - tables.min(pages.div_ceil(513));
        // SAFETY: nobody uses the region.
        unsafe { m.allocator.protect_region(hog, pages * PAGE, Some(Access::Read)) }.unwrap();
        let before = m.allocator.metrics();
        assert_eq!(before.available_frames, left);
        let memory = m.allocator.allocate_memory_from(&image, SIZE);
        if spare == 0 {
            let refused = Error::OutOfFrames { needed: left + 1, available: left };
            assert_eq!(memory.map(drop), Err(refused));
        } else {
            let memory = memory.unwrap();
            assert_eq!(m.allocator.metrics().available_frames, 0);
            for page in (0..SIZE).step_by(PAGE).rev() {
                m.store(&memory, page as i64 + 1, 0x11).expect("it was promised");
            }
            assert_eq!(m.load(&memory, MIB as i64 - 1), Ok(byte(5, MIB - 1)));
            m.allocator.deallocate_memory(memory);
        }
        assert_eq!(m.allocator.metrics(), before);
        // SAFETY: nobody uses the region.
        unsafe { m.allocator.release_region(hog, 32 * MIB) }.unwrap();
        let again = m.allocator.reserve_region(32 * MIB).unwrap();
        assert_eq!(again, hog);
    }
    // SAFETY: nobody uses the region.
    unsafe { m.allocator.release_region(hog, 32 * MIB) }.unwrap();
}

pub(crate) fn many_sizes<A: TestArch>() {
    let m = machine::<A>();
    let image = image(&m, 2, 0, WASM_PAGE);
    let before = m.allocator.metrics();
    for round in 0..2 {
        for pages in 16..40 {
            let memory = m.allocator.allocate_memory_from(&image, pages * PAGE).unwrap();
            assert_shows(&m, &memory, 2, &image);
            m.assert_ends_at(&memory, pages * PAGE);
            m.allocator.deallocate_memory(memory);
        }
        // A few tables are kept for whoever has that size next, and no more.
        let kept = before.available_frames - m.allocator.metrics().available_frames;
        assert!(kept > 0 && kept <= 8, "{kept} after round {round}");
    }
}

pub(crate) fn host_writes<A: TestArch>() {
    let m = machine::<A>();
    let image = image(&m, 8, 0, MIB);
    image.learns(false);
    let mut memory = m.allocator.allocate_memory_from(&image, 3 * MIB).unwrap();
    memory.grow_to(5 * MIB).unwrap();
    let (at, len) = (2 * MIB - 3 * PAGE + 5, 2 * MIB + 6 * PAGE);
    let not_prepared = Error::NotPrepared { offset: 7 * PAGE };
    assert_eq!(m.allocator.note_written(&memory, 7 * PAGE, 1), Err(not_prepared));
    for (offset, len) in [(at, len), (7 * PAGE, PAGE), (0, 0)] {
        m.allocator.prepare_write(&memory, offset, len).unwrap();
        for offset in (offset..offset + len).step_by(PAGE) {
            assert_eq!(m.load(&memory, offset as i64), Ok(if offset < MIB { byte(8, offset) } else { 0 }));
            // As a device writes: past the entries, which get no mark.
            // SAFETY: the tables are the allocator's, and stay during the call.
            let frame = unsafe { translate(m.allocator.arch(), base(&memory).offset(offset)) }.unwrap();
            let byte = m.allocator.arch().physical(frame.physical);
            // SAFETY: the page is the memory's own by now.
            unsafe { byte.write(0x99) };
        }
        m.allocator.note_written(&memory, offset, len).unwrap();
        for offset in (offset..offset + len).step_by(PAGE) {
            assert_eq!(m.load(&memory, offset as i64), Ok(0x99));
        }
    }
    m.allocator.prepare_write(&memory, 100, 1).unwrap();
    m.allocator
        .arch()
        .store(base(&memory).offset(100), 1)
        .or_else(|fault| {
            // Where the CPU keeps no marks, setting one is a fault, of another kind.
            assert!(!m.allocator.arch().hardware_dirty(), "{fault:?}");
            m.store(&memory, 100, 1)
        })
        .unwrap();
    m.allocator.deallocate_memory(memory);
    for _ in 0..2 {
        let next = m.allocator.allocate_memory(5 * MIB).unwrap();
        for page in (0..5 * MIB).step_by(PAGE) {
            m.store(&next, page as i64, 0).unwrap();
            assert_eq!(m.load(&next, (page + at % PAGE) as i64), Ok(0), "a device's byte");
        }
        m.allocator.deallocate_memory(next);
    }
}

pub(crate) fn learned<A: TestArch>() {
    let m = machine::<A>();
    let image = image(&m, 4, 0, MIB);
    let pages = [1usize, 2, 3, 17, 100, 255, 300, 700];
    let run = |first: bool| {
        let memory = m.allocator.allocate_memory_from(&image, 3 * MIB).unwrap();
        assert_eq!(resident(&m), if first { 0 } else { pages.len() * PAGE });
        assert_shows(&m, &memory, 4, &image);
        let mut faults = 0;
        for page in pages {
            let address = base(&memory).offset(page * PAGE);
            while m.allocator.arch().store(address, 1).is_err() {
                assert_eq!(m.allocator.fault(address, FaultAccess::Write), Verdict::Resume);
                faults += 1;
            }
        }
        // On bare metal the kernel has answered them before.
        if m.allocator.arch().hardware_dirty() && !cfg!(target_os = "none") {
            assert!(if first { faults >= pages.len() } else { faults == 0 }, "{faults} faults");
        }
        m.allocator.deallocate_memory(memory);
    };
    run(true);
    let mut noted = Vec::new();
    image.for_each_written_page(|offset| noted.push(offset / PAGE));
    noted.sort_unstable();
    assert_eq!(noted, pages);
    run(false);
    // A page beyond a smaller memory's end is of no use there.
    let memory = m.allocator.allocate_memory_from(&image, MIB).unwrap();
    assert_eq!(resident(&m), (pages.len() - 2) * PAGE);
    m.assert_ends_at(&memory, MIB);
    m.allocator.deallocate_memory(memory);
    image.forget_writes();
    run(true);
}

pub(crate) fn arrives<A: TestArch>() {
    let m = machine::<A>();
    let image = image(&m, 6, 0, MIB);
    for round in 0..4 {
        let mut memory = m.allocator.allocate_memory_from(&image, 2 * MIB).unwrap();
        let mut seen = [0u8; 3];
        for step in 0..3 * cpus() {
            let memory = &mut memory;
            let seen = &mut seen;
            let (m, cpu) = (&m, (step + round) % cpus());
            on(m.allocator.arch(), cpu, move || {
                m.allocator.arrive(memory).unwrap();
                for (nth, offset) in [PAGE, 3 * PAGE + 5, 2 * MIB - 1].into_iter().enumerate() {
                    let first = if offset < MIB { byte(6, offset) } else { 0 };
                    let expected = if seen[nth] == 0 { first } else { seen[nth] };
                    assert_eq!(m.load(memory, offset as i64), Ok(expected), "CPU {cpu} in step {step}");
                    if step % 3 == nth {
                        seen[nth] = low(step) + 1;
                        m.store(memory, offset as i64, seen[nth]).unwrap();
                    }
                }
                if step == 2 * cpus() {
                    memory.grow_to(7 * MIB).unwrap();
                }
            });
        }
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn at_once<A: TestArch>() {
    const ROUNDS: usize = if cfg!(miri) { 2 } else { 30 };
    let m = machine::<A>();
    let image = image(&m, 1, 0, MIB);
    share_zeros(&m, &[3 * MIB]);
    m.allocator.deallocate_memory(m.allocator.allocate_memory_from(&image, MIB).unwrap());
    let before = m.allocator.metrics();
    together(cpus().min(4), |worker| {
        for round in 0..ROUNDS {
            let size = if worker % 2 == 0 { MIB } else { 3 * MIB };
            let memory = m.allocator.allocate_memory_from(&image, size).unwrap();
            for nth in 0..24 {
                let offset = (nth * 37 + round * 11 + worker) * PAGE % size + nth;
                m.store(&memory, offset as i64, low(worker) + 1).unwrap();
                assert_eq!(m.load(&memory, offset as i64), Ok(low(worker) + 1));
                let next = (offset + 1) % size;
                let expected = if next < MIB { byte(1, next) } else { 0 };
                assert_eq!(m.load(&memory, next as i64), Ok(expected));
            }
            m.allocator.deallocate_memory(memory);
        }
    });
    assert_eq!(m.allocator.metrics(), before);
}
