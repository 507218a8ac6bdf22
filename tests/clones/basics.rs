//! What clones and originals show.

use allotment::{Config, Error, Memory};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE},
    world::{Shown, available, clone_of, low_byte, machines, unshared},
};

/// Memories of each kind in turn: small ones with frames of their own, grown ones, such
/// that share zeros and such that show an image already.
fn each_kind<A: TestArch>(m: &Machine<A>, mut test: impl FnMut(Memory<'_, A>, Shown)) {
    let allocate = |size: usize| (m.allocator.allocate_memory(size).unwrap(), Shown::zeros(size));
    for (size, pages) in [
        (WASM_PAGE, &[0usize, 3, 15][..]),
        (WASM_PAGE, &[]),
        (0, &[]),
        (MIB, &[0, 1, 17, 255]),
        (5 * MIB, &[0, 511, 512, 1100, 1279]),
    ] {
        let (memory, mut shown) = allocate(size);
        pages.iter().for_each(|&page| shown.write(m, &memory, page, low_byte(page) | 1));
        test(memory, shown);
    }
    for sizes in [&[2 * WASM_PAGE, MIB, 2 * MIB + WASM_PAGE][..], &[4 * MIB], &[3 * MIB, 6 * MIB]] {
        let (mut memory, mut shown) = allocate(WASM_PAGE);
        shown.write(m, &memory, 4, 44);
        for &size in sizes {
            shown.grow(&mut memory, size);
            shown.write(m, &memory, size / PAGE - 1, 55);
        }
        test(memory, shown);
    }
    let fill = |at: usize, bytes: &mut [u8; PAGE]| {
        let page = at / PAGE;
        if !page.is_multiple_of(3) {
            bytes[page * 7 % PAGE] = low_byte(page);
        }
    };
    let image = m.allocator.build_image(PAGE, 2 * MIB, fill).unwrap();
    let memory = m.allocator.allocate_memory_from(&image, 3 * MIB).unwrap();
    let mut shown = Shown::zeros(3 * MIB);
    (1..513).filter(|page| page % 3 > 0).for_each(|page| shown.0[page] = low_byte(page));
    [0, 1, 3, 200, 600].into_iter().for_each(|page| shown.write(m, &memory, page, 99));
    test(memory, shown);
}

pub(crate) fn show<A: TestArch>() {
    machines::<A>(|m| {
        each_kind(m, |memory, shown| {
            let size = memory.size();
            let image = m.allocator.capture_memory(&memory).unwrap();
            assert_eq!((image.offset(), image.len()), (0, size));
            shown.assert(m, &memory);
            for size in [size, size, (size + WASM_PAGE).min(6 * MIB)] {
                let (clone, shown) = clone_of(m, &image, &shown, size);
                shown.assert(m, &clone);
                m.allocator.deallocate_memory(clone);
            }
            shown.assert(m, &memory);
            m.allocator.deallocate_memory(memory);
        });
    });
}

pub(crate) fn apart<A: TestArch>() {
    machines::<A>(|m| {
        each_kind(m, |mut memory, mut shown| {
            let size = memory.size();
            let image = m.allocator.capture_memory(&memory).unwrap();
            let captured = shown.clone();
            let mut clones = [(); 2].map(|()| clone_of(m, &image, &captured, size));
            for page in (0..size / PAGE).step_by(37).chain((size > 0).then_some(0)) {
                shown.write(m, &memory, page, 101);
                for ((clone, shown), byte) in clones.iter_mut().zip([102, 103]) {
                    if (page + usize::from(byte)) % 2 == 0 {
                        shown.write(m, clone, page, byte);
                    }
                }
            }
            shown.grow(&mut memory, (size + MIB).min(6 * MIB));
            let (last, _) = clones.split_first_mut().unwrap();
            last.1.grow(&mut last.0, 6 * MIB);
            last.1.write(m, &last.0, 6 * MIB / PAGE - 1, 104);
            shown.assert(m, &memory);
            clones.iter().for_each(|(clone, shown)| shown.assert(m, clone));
            let (fresh, captured) = clone_of(m, &image, &captured, size);
            captured.assert(m, &fresh);
            m.allocator.deallocate_memory(memory);
            m.allocator.deallocate_memory(fresh);
            for (clone, shown) in clones {
                shown.assert(m, &clone);
                m.allocator.deallocate_memory(clone);
            }
        });
    });
}

pub(crate) fn orders<A: TestArch>() {
    machines::<A>(|m| {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            each_kind(m, |memory, shown| {
                let image = m.allocator.capture_memory(&memory).unwrap();
                let size = memory.size();
                let (clone, mut cloned) = clone_of(m, &image, &shown, size);
                if size > 0 {
                    cloned.write(m, &clone, 0, 77);
                }
                let (mut memory, mut image, mut clone) = (Some(memory), Some(image), Some(clone));
                for end in order {
                    match end {
                        0 => {
                            memory.take().into_iter().for_each(|memory| m.allocator.deallocate_memory(memory))
                        }
                        1 => clone.take().into_iter().for_each(|clone| m.allocator.deallocate_memory(clone)),
                        _ => drop(image.take()),
                    }
                    memory.iter().for_each(|memory| shown.assert(m, memory));
                    clone.iter().for_each(|clone| cloned.assert(m, clone));
                }
                // Whoever has the slots next sees nothing of it.
                let next = [(); 4].map(|()| m.allocator.allocate_memory(size).unwrap());
                next.iter().for_each(|next| Shown::zeros(size).assert(m, next));
                next.into_iter().for_each(|next| m.allocator.deallocate_memory(next));
            });
        }
    });
}

/// The slot that was captured shows the image to whoever asks for it next, and zeros
/// to others.
pub(crate) fn reused<A: TestArch>() {
    machines::<A>(|m| {
        each_kind(m, |memory, shown| {
            let size = memory.size();
            let image = m.allocator.capture_memory(&memory).unwrap();
            let captured = shown.clone();
            let (mut memory, mut shown) = (memory, shown);
            for round in 0..4usize {
                for page in (round..size / PAGE).step_by(61) {
                    shown.write(m, &memory, page, 200 + low_byte(round));
                }
                shown.grow(&mut memory, (size + round * WASM_PAGE).min(6 * MIB));
                m.allocator.deallocate_memory(memory);
                if round == 2 {
                    let zeros = m.allocator.allocate_memory(size).unwrap();
                    Shown::zeros(size).assert(m, &zeros);
                    m.allocator.deallocate_memory(zeros);
                }
                (memory, shown) = clone_of(m, &image, &captured, size);
                shown.assert(m, &memory);
            }
            m.allocator.deallocate_memory(memory);
        });
    });
}

pub(crate) fn odd_sizes<A: TestArch>() {
    machines::<A>(|m| {
        for size in [1, PAGE - 1, PAGE + 1, MIB + 5] {
            let memory = m.allocator.allocate_memory(size).unwrap();
            let mut shown = Shown::zeros(size);
            shown.write(m, &memory, 0, 9);
            let image = m.allocator.capture_memory(&memory).unwrap();
            assert_eq!(image.len(), size.next_multiple_of(PAGE));
            let (clone, cloned) = clone_of(m, &image, &shown, size);
            cloned.assert(m, &clone);
            let beyond = Error::ImageBeyondMemory { end: image.len(), size: image.len() - PAGE };
            let smaller = m.allocator.allocate_memory_from(&image, image.len() - PAGE);
            assert_eq!(smaller.map(|_| ()), Err(beyond));
            m.allocator.deallocate_memory(clone);
            m.allocator.deallocate_memory(memory);
        }
        let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        let Memory::Static { make_accessible, base, size } = memory else { panic!("it is in a slot") };
        let copy = Memory::Static { make_accessible, base, size };
        m.allocator.deallocate_memory(copy);
        let stale = Memory::Static { make_accessible, base, size };
        assert!(matches!(m.allocator.capture_memory(&stale), Err(Error::Stale { .. })));
    });
}

pub(crate) fn on_demand<A: TestArch>() {
    let m = Machine::<A>::new(&Config::new(), 16 * MIB);
    let before = unshared(&m);
    for size in [0, PAGE + 1, 3 * MIB] {
        let memory = m.allocator.allocate_memory(size).unwrap();
        let mut shown = Shown::zeros(size);
        (0..size.div_ceil(PAGE)).step_by(5).for_each(|page| shown.write(&m, &memory, page, 3));
        let image = m.allocator.capture_memory(&memory).unwrap();
        assert_eq!(image.len(), size.next_multiple_of(PAGE));
        assert_eq!(image.frames(), size.div_ceil(PAGE).div_ceil(5));
        let captured = shown.clone();
        if size > 0 {
            shown.write(&m, &memory, 0, 4);
        }
        shown.assert(&m, &memory);
        m.allocator.deallocate_memory(memory);
        // What a clone does not write it goes on sharing, also with those of its own.
        let (memory, mut shown) = clone_of(&m, &image, &captured, size);
        if size > 0 {
            shown.write(&m, &memory, 1, 5);
        }
        let before = available(&m);
        let nested = m.allocator.capture_memory(&memory).unwrap();
        let copied = usize::from(size > 0);
        let tables = size.div_ceil(2 * MIB);
        assert_eq!(before - available(&m), 1 + tables + copied, "{size} bytes");
        m.allocator.deallocate_memory(memory);
        drop(image);
        let (memory, shown) = clone_of(&m, &nested, &shown, size);
        shown.assert(&m, &memory);
        m.allocator.deallocate_memory(memory);
    }
    assert_eq!(unshared(&m), before, "but for the zeros that all share");
}
