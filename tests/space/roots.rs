//! A second root with the same top-level entries, as a kernel has one for each
//! of its processes.

use core::arch::asm;

use allotment::arch::{Access, Arch, Invalidation, Native, PAGE_SIZE, PhysAddr};

use crate::world::World;

pub(crate) fn two() {
    let w = World::<Native>::new();
    w.mapped(510, 4, 0, Access::ReadWrite);
    w.store(510, 1).unwrap();

    // Copied once: whatever is edited from now on is below.
    let first = w.space.arch().root(w.page(0));
    let second = w.frame(1000);
    // SAFETY: the frame is the test's, and the root does not change meanwhile.
    unsafe { w.space.arch().copy_frame(first, second) };
    let late = World::<Native>::new();
    late.mapped(0, 1, 0, Access::Read);
    assert_eq!(late.load(0), Ok(0));

    switch(&w, second);
    late.load(0).expect_err("the first root is still in use");
    assert_eq!(w.load(510), Ok(1));
    w.store(513, 2).unwrap();
    w.mapped(200_000, 1, 10, Access::ReadWrite);
    w.store(200_000, 3).unwrap();
    // SAFETY: the pages are the test's.
    w.space.settle(unsafe { w.space.hide(w.pages(511, 1)) }.unwrap());
    w.load(511).unwrap_err();

    switch(&w, first);
    assert_eq!(late.load(0), Ok(0));
    assert_eq!((w.load(510), w.load(513), w.load(200_000)), (Ok(1), Ok(2), Ok(3)));
    w.load(511).unwrap_err();
    assert_eq!(w.harvest(0, 300_000).0, [(510, 1), (513, 1), (200_000, 1)]);
}

/// Makes a root the one that addresses of the window are walked from.
fn switch(w: &World<Native>, root: PhysAddr) {
    assert!(root.is_aligned(PAGE_SIZE));
    // SAFETY: the kernel's own entries are the same in both roots.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("mov cr3, {}", in(reg) root.0, options(nostack, preserves_flags));
    }
    // SAFETY: the kernel runs in the lower half, which TTBR0 translates.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("dsb ishst", "msr ttbr1_el1, {}", "isb", in(reg) root.0, options(nostack, preserves_flags));
    }
    w.space.arch().invalidate_everywhere(Invalidation::EVERYTHING);
}
