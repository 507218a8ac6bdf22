//! Threads as CPUs, running freely.

use core::sync::atomic::Ordering;

use allotment_arch::{
    Access, Arch, PAGE_SIZE,
    emulated::{Emulated, Mmu},
};

use crate::{
    for_both_formats,
    tables::{leaf, page},
};

for_both_formats! {
    threads_with_pages_of_their_own_are_silent
}

/// Each thread maps, writes, hides and takes away its pages, while the others'
/// CPUs walk to them.
fn threads_with_pages_of_their_own_are_silent<F: Mmu>() {
    const THREADS: usize = 3;
    const PAGES: usize = 4;
    let rounds = if cfg!(miri) { 5 } else { 500 };
    let setup = crate::tables::Tables::new(Emulated::<F>::new(64 * PAGE_SIZE).with_cpus(THREADS));
    // One table for all, made before.
    setup.entry(page(0), 0);
    let frames: Vec<_> = (0..THREADS * PAGES).map(|_| setup.frame()).collect();
    let slots: Vec<_> = (0..frames.len()).map(|nth| setup.entry(page(nth), 0)).collect();
    let (machine, frames, slots): (&Emulated<F>, _, _) = (&setup, &frames, &slots);
    let work = |cpu: usize| {
        for round in 0..rounds {
            let nth = cpu * PAGES + round % PAGES;
            let at = page(nth);
            slots[nth].store(F::present(frames[nth], Access::ReadWrite, false), Ordering::Release);
            machine.publish();
            machine.write(at.offset(round), &[cpu.to_le_bytes()[0] + 1; 3000]).unwrap();
            let hide = |entry| Some(F::hide(entry));
            let old = slots[nth].fetch_update(Ordering::AcqRel, Ordering::Acquire, hide).unwrap();
            assert_eq!(F::mark_written(old), Some(old), "the write left no mark");
            machine.invalidate_everywhere(leaf(at));
            machine.read(at, &mut [0]).unwrap_err();
            slots[nth].store(F::empty(0), Ordering::Release);
        }
    };
    std::thread::scope(|scope| {
        for cpu in 0..THREADS {
            scope.spawn(move || machine.on(cpu, || work(cpu)));
        }
    });
    setup.assert_sound();
}
