//! What captures cost, and what happens when that is not there.

use alloc::vec::Vec;

use allotment::{
    Backing, Commit, Error, MemoryImage,
    arch::{Access, VirtAddr},
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pool, pooled},
    world::{BACKINGS, Shown, available, clone_of, few, low_byte, machines, unshared},
};

/// Three captures of one memory, and one of a clone of the last, with so few writes between.
pub(crate) fn nested<A: TestArch>() {
    machines::<A>(|m| {
        let mut shown = Shown::zeros(MIB);
        let mut memory = m.allocator.allocate_memory(MIB).unwrap();
        let mut images: Vec<(MemoryImage<'_, A>, Shown)> = Vec::new();
        let mut costs = Vec::new();
        for level in 0..4usize {
            // All there is at first, then a page more.
            for page in (0..256usize).filter(|page| level == 0 || *page == level) {
                shown.write(m, &memory, page, 100 + low_byte(level));
            }
            let before = available(m);
            let image = m.allocator.capture_memory(&memory).unwrap();
            costs.push(before - available(m));
            assert_eq!(image.frames(), 256);
            shown.assert(m, &memory);
            if level == 2 {
                m.allocator.deallocate_memory(memory);
                memory = clone_of(m, &image, &shown, MIB).0;
            }
            images.push((image, shown.clone()));
        }
        // A record and a table, a tail where the slot has none of its own, a promise or a copy
        // for what is written next: by no means all pages.
        assert!(costs[1..].iter().all(|&cost| cost <= 6), "{costs:?}");
        // Those at first are paid for by a copy or a promise.
        assert!((256..=262).contains(&costs[0]) || costs[0] <= 6, "{costs:?}");
        m.allocator.deallocate_memory(memory);
        // From the first on, whose frames are the others' too.
        while !images.is_empty() {
            drop(images.remove(0));
            for (image, shown) in &images {
                let (clone, cloned) = clone_of(m, image, shown, MIB);
                cloned.assert(m, &clone);
                m.allocator.deallocate_memory(clone);
            }
        }
    });
}

/// A slot that grew piece by piece keeps frames behind what its next user has; and that one
/// is captured.
pub(crate) fn left_behind<A: TestArch>() {
    for backing in BACKINGS {
        let pools = few().backing(backing).linear_memory_keep_resident(6 * MIB);
        let m = Machine::<A>::new(&pooled(pools), 64 * MIB);
        for _ in 0..2 {
            let before = unshared(&m);
            let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
            let mut shown = Shown::zeros(WASM_PAGE);
            for size in 2..=5 {
                shown.grow(&mut memory, size * MIB);
                shown.write(&m, &memory, size * MIB / PAGE - 1, 5);
            }
            m.allocator.deallocate_memory(memory);
            let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
            let mut shown = Shown::zeros(WASM_PAGE);
            shown.write(&m, &memory, 2, 8);
            let image = m.allocator.capture_memory(&memory).unwrap();
            shown.grow(&mut memory, 5 * MIB);
            shown.assert(&m, &memory);
            m.allocator.deallocate_memory(memory);
            drop(image);
            assert_eq!(unshared(&m), before, "{backing:?}: frames are lost");
        }
        let before = available(&m);
        let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        (2..=5).for_each(|size| memory.grow_to(size * MIB).unwrap());
        m.allocator.deallocate_memory(memory);
        let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        drop(m.allocator.capture_memory(&memory).unwrap());
        m.allocator.deallocate_memory(memory);
        assert_eq!(available(&m), before);
    }
}

/// With ever more frames left, until there are enough.
pub(crate) fn failing<A: TestArch>() {
    for backing in BACKINGS {
        let m = Machine::<A>::new(&pooled(pool(3, 3 * MIB).backing(backing)), 32 * MIB);
        // The zeros that all share stay.
        m.allocator.deallocate_memory(m.allocator.allocate_memory(3 * MIB).unwrap());
        for (size, pages) in [(WASM_PAGE, 3..7), (3 * MIB, 500..520)] {
            let mut memory = m.allocator.allocate_memory(size).unwrap();
            let mut shown = Shown::zeros(size);
            pages.for_each(|page| shown.write(&m, &memory, page, 6));
            let (mut failed, mut left) = (0, 0);
            loop {
                let filler = leave(&m, left);
                let before = m.allocator.metrics();
                let captured = m.allocator.capture_memory(&memory);
                let failing = captured.is_err();
                if let Err(error) = captured {
                    let Error::OutOfFrames { needed, available } = error else { panic!("{error}") };
                    assert!(needed > available && available <= left, "{error} of {left}");
                    assert_eq!(m.allocator.metrics(), before);
                    failed += 1;
                }
                shown.assert(&m, &memory);
                // Also what is promised is there still.
                shown.write(&m, &memory, left % (size / PAGE), 7);
                release(&m, filler);
                if !failing {
                    break;
                }
                left += 1 + left / 4;
            }
            assert!(failed > 1, "there were enough frames");
            shown.grow(&mut memory, 3 * MIB);
            shown.assert(&m, &memory);
            m.allocator.deallocate_memory(memory);
        }
    }
}

const REGION: usize = 64 * MIB;

/// Takes frames, and tables to have them in, until no more than so many are left.
fn leave<A: TestArch>(m: &Machine<A>, frames: usize) -> VirtAddr {
    let region = m.allocator.reserve_region(REGION).unwrap();
    let mut pages = 0;
    while let Some(more) = available(m).checked_sub(frames).filter(|&more| more > 0) {
        pages += (more - more / 256).max(1) - usize::from(more > 8) * 4;
        // SAFETY: nobody uses the region; only access is given.
        let taken = unsafe { m.allocator.protect_region(region, pages * PAGE, Some(Access::ReadWrite)) };
        if taken.is_err() {
            break;
        }
    }
    region
}

fn release<A: TestArch>(m: &Machine<A>, region: VirtAddr) {
    // SAFETY: nobody uses it.
    unsafe { m.allocator.release_region(region, REGION) }.unwrap();
}

/// After a capture all pages can be written again, though nothing is left.
pub(crate) fn promised<A: TestArch>() {
    for (commit, pages) in [(Commit::Strict, 256), (Commit::PerInstance(40), 40)] {
        let m = Machine::<A>::new(&pooled(pool(2, MIB).backing(Backing::Elastic(commit))), 16 * MIB);
        let memory = m.allocator.allocate_memory(MIB).unwrap();
        let mut shown = Shown::zeros(MIB);
        (0..40).for_each(|page| shown.write(&m, &memory, page, 1));
        let image = m.allocator.capture_memory(&memory).unwrap();
        let captured = shown.clone();
        let filler = leave(&m, 0);
        for page in 0..pages {
            shown.write(&m, &memory, 255 - page, 2);
        }
        shown.assert(&m, &memory);
        if pages < 256 {
            m.store(&memory, 0, 1).expect_err("it has written as many as it may");
        }
        release(&m, filler);
        let (clone, cloned) = clone_of(&m, &image, &captured, MIB);
        cloned.assert(&m, &clone);
        m.allocator.deallocate_memory(clone);
        m.allocator.deallocate_memory(memory);
    }
}
