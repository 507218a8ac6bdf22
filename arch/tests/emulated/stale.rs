//! Invalidations that were left out, too small, or of the wrong CPUs.

use core::sync::atomic::Ordering;

use allotment_arch::{
    Aarch64, Access, Arch, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr, X86_64,
    emulated::{Emulated, Mmu, Violation},
};

use crate::{
    for_both_formats, is,
    tables::{Tables, leaf, page, tables},
};

for_both_formats! {
    a_hidden_page_without_invalidation_is_found
    an_invalidation_of_another_page_is_too_small
    a_local_invalidation_reaches_no_other_cpu
    speculation_caches_what_no_cpu_accessed
    a_write_through_a_page_that_lost_its_right_is_found
    a_cleared_mark_without_invalidation_is_found
    a_leaf_invalidation_keeps_pointers_to_tables
    a_violation_panics_where_it_happens
    nothing_needs_nothing
    speculation_marks_nothing_as_written
    invalidations_and_interrupts_are_counted
}

fn hidden<F: Mmu>(cpus: usize) -> Tables<F> {
    let machine = Tables::<F>::collecting(cpus);
    machine.map(page(0));
    machine.map(page(1));
    (0..cpus).for_each(|cpu| machine.warm(cpu, page(0)));
    machine.set(page(0), F::hide(machine.get(page(0))));
    machine
}

fn a_hidden_page_without_invalidation_is_found<F: Mmu>() {
    let machine = hidden::<F>(1);
    machine.publish();
    machine.warm(0, page(0));
    assert!(machine.found(is!(StaleTranslation)));

    let machine = hidden::<F>(1);
    machine.invalidate_everywhere(leaf(page(0)));
    machine.warm(0, page(0));
    machine.assert_sound();
}

fn an_invalidation_of_another_page_is_too_small<F: Mmu>() {
    let machine = hidden::<F>(1);
    machine.invalidate_everywhere(leaf(page(1)));
    machine.warm(0, page(0));
    assert!(machine.found(is!(StaleTranslation)));

    let machine = hidden::<F>(1);
    machine.invalidate_everywhere(Invalidation::leaves(Pages { start: page(0), count: 2 }));
    machine.warm(0, page(0));
    machine.assert_sound();
}

fn a_local_invalidation_reaches_no_other_cpu<F: Mmu>() {
    let machine = hidden::<F>(3);
    machine.on(1, || machine.invalidate_local(leaf(page(0))));
    machine.warm(1, page(0));
    machine.assert_sound();
    machine.warm(2, page(0));
    assert!(machine.found(|found| matches!(found, Violation::StaleTranslation { cpu: 2, .. })));

    let machine = hidden::<F>(3);
    machine.on(1, || machine.invalidate_everywhere(leaf(page(0))));
    (0..3).for_each(|cpu| machine.warm(cpu, page(0)));
    machine.assert_sound();
}

fn speculation_caches_what_no_cpu_accessed<F: Mmu>() {
    let machine = Tables::<F>::collecting(2);
    machine.map(page(0));
    (0..16).for_each(|_| machine.speculate());
    machine.set(page(0), 0);
    // The CPU that invalidates is not the one that speculated.
    machine.on(1, || machine.invalidate_local(leaf(page(0))));
    machine.warm(0, page(0));
    assert!(machine.found(is!(StaleTranslation)));

    let machine = Tables::<F>::new(Emulated::new(64 * PAGE_SIZE).with_cpus(2).with_speculation(0));
    machine.map(page(0));
    (0..16).for_each(|_| machine.speculate());
    assert_eq!(machine.cached(0) + machine.cached(1), 0);
}

fn a_write_through_a_page_that_lost_its_right_is_found<F: Mmu>() {
    let protect = |invalidate: bool| {
        let machine = Tables::<F>::collecting(1);
        let frame = machine.map(page(0));
        machine.store(page(0), 1);
        machine.warm(0, page(0));
        machine.set(page(0), F::present(frame, Access::Read, true));
        if invalidate {
            machine.invalidate_everywhere(leaf(page(0)));
        }
        (0..32).for_each(|_| machine.write(page(0), &[2]).unwrap_or(()));
        machine
    };
    assert!(protect(false).found(is!(StaleTranslation)));
    protect(true).assert_sound();
}

fn a_cleared_mark_without_invalidation_is_found<F: Mmu>() {
    let clean = |invalidate: bool| {
        let machine = Tables::<F>::collecting(1);
        machine.map(page(0));
        machine.store(page(0), 1);
        machine.warm(0, page(0));
        machine.set(page(0), F::mark_clean(machine.get(page(0))));
        if invalidate {
            machine.invalidate_everywhere(leaf(page(0)));
        }
        machine.store(page(0), 2);
        (machine.get(page(0)), machine)
    };
    assert!(clean(false).1.found(is!(LostDirtyBit)));
    let (entry, machine) = clean(true);
    machine.assert_sound();
    assert_eq!(F::mark_written(entry), Some(entry));
}

fn a_leaf_invalidation_keeps_pointers_to_tables<F: Mmu>() {
    // The page moves with its table, which a pointer still leads around.
    let unlink = |what: Invalidation| {
        let machine = Tables::<F>::collecting(1);
        machine.map(page(0));
        machine.warm(0, page(0));
        machine.entry(page(0), 1).store(0, Ordering::Release);
        machine.invalidate_everywhere(what);
        machine.warm(0, page(0));
        machine
    };
    unlink(tables(page(0))).assert_sound();
    let kept = unlink(leaf(page(0))).found(is!(StaleTranslation));
    // `invlpg` drops all pointers, whatever it was asked for.
    assert_eq!(kept, F::NAME == "aarch64");
}

fn a_violation_panics_where_it_happens<F: Mmu>() {
    let machine = Tables::<F>::new(Emulated::new(64 * PAGE_SIZE));
    machine.map(page(0));
    machine.warm(0, page(0));
    machine.set(page(0), 0);
    let stale = core::panic::AssertUnwindSafe(|| machine.warm(0, page(0)));
    let message = std::panic::catch_unwind(stale).unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert!(message.contains("stale translation: CPU 0 did a read at 0xffff900000400000"), "{message}");
}

fn speculation_marks_nothing_as_written<F: Mmu>() {
    const ACCESSED: u64 = 1 << 5;
    let machine = Tables::<F>::collecting(2);
    machine.map(page(0));
    let x86_64 = F::NAME == "x86_64";
    let unused = machine.get(page(0)) & if x86_64 { !ACCESSED } else { !0 };
    machine.set(page(0), unused);
    (0..32).for_each(|_| machine.speculate());
    assert!(machine.cached(0) + machine.cached(1) > 0);
    assert_eq!(machine.get(page(0)), unused | if x86_64 { ACCESSED } else { 0 });
}

fn nothing_needs_nothing<F: Mmu>() {
    let machine = Tables::<F>::collecting(2);
    machine.invalidate_everywhere(Invalidation::NOTHING);
    machine.invalidate_local(Invalidation::NOTHING);
    assert_eq!(machine.invalidations(), Default::default());
    assert_eq!(machine.interrupts(), 0);
}

fn invalidations_and_interrupts_are_counted<F: Mmu>() {
    let machine = Tables::<F>::collecting(4);
    machine.invalidate_local(leaf(page(0)));
    machine.invalidate_everywhere(Invalidation::EVERYTHING);
    machine.invalidate_everywhere(leaf(page(3)));
    let counted = machine.invalidations();
    assert_eq!((counted.local, counted.everywhere), (1, 2));
    assert_eq!(machine.interrupts(), if F::NAME == "x86_64" { 6 } else { 0 });
}

#[test]
fn a_fault_drops_a_translation_with_fewer_rights_on_x86_64_only() {
    fn upgraded<F: Mmu>(seed: u64) -> (Tables<F>, Vec<bool>) {
        let machine = Emulated::new(64 * PAGE_SIZE).with_seed(seed).with_speculation(0);
        let machine = Tables::<F>::new(machine);
        let frame = machine.frame();
        machine.map_to(page(0), frame, Access::Read, false);
        machine.warm(0, page(0));
        machine.set(page(0), F::present(frame, Access::ReadWrite, false));
        machine.publish();
        let stores = (0..40).map(|_| machine.store(page(0), 1)).collect();
        (machine, stores)
    }
    let mut most = 0;
    for seed in 0..16 {
        // At most one fault, the spurious one.
        let (machine, stores) = upgraded::<X86_64>(seed);
        assert!(stores[1..].iter().all(|&done| done));
        machine.assert_sound();
        // Faults until it is invalidated, or until a walk happens to come first.
        let (machine, stores) = upgraded::<Aarch64>(seed);
        assert!(stores.contains(&true), "no translation is ever evicted");
        most = most.max(stores.iter().filter(|&&done| !done).count());
        machine.invalidate_local(leaf(page(0)));
        assert!((0..40).all(|_| machine.store(page(0), 1)));
        machine.assert_sound();
    }
    assert!(most > 8, "{most} faults in a row are too few to notice a missing invalidation");
}

#[test]
fn a_new_frame_needs_a_break_on_aarch64() {
    let replace = |breaks: bool| {
        let machine = Tables::<Aarch64>::collecting(2);
        machine.map(page(0));
        machine.warm(1, page(0));
        let frame = machine.frame();
        if breaks {
            machine.set(page(0), 0);
            machine.invalidate_everywhere(leaf(page(0)));
            machine.set(page(0), Aarch64::present(frame, Access::ReadWrite, false));
            machine.publish();
        } else {
            machine.set(page(0), Aarch64::present(frame, Access::ReadWrite, false));
            machine.invalidate_everywhere(leaf(page(0)));
        }
        machine.warm(0, page(0));
        machine
    };
    assert!(replace(false).found(is!(BreakBeforeMake)));
    replace(true).assert_sound();
}

#[test]
fn another_size_needs_a_break_on_aarch64() {
    let merge = |breaks: bool| {
        let machine = Tables::<Aarch64>::new(Emulated::new(1100 * PAGE_SIZE).collect_violations());
        machine.map(page(0));
        machine.warm(0, page(0));
        let block = PhysAddr(0x4020_0000);
        let block = Aarch64::block(Aarch64::present(block, Access::ReadWrite, false));
        if breaks {
            machine.entry(page(0), 1).store(0, Ordering::Release);
            machine.invalidate_everywhere(tables(page(0)));
        }
        machine.entry(page(0), 1).store(block, Ordering::Release);
        machine.publish();
        machine
    };
    assert!(merge(false).found(is!(BreakBeforeMake)));
    merge(true).assert_sound();
}

#[test]
fn a_translation_alone_shows_a_missing_break() {
    let large = || {
        let machine = Emulated::new(1100 * PAGE_SIZE).with_speculation(0).collect_violations();
        Tables::<Aarch64>::new(machine)
    };
    let first = PhysAddr(0x4020_0000);
    let block = Aarch64::block(Aarch64::present(first, Access::ReadWrite, false));
    let break_at = |level: u8| move |found: &Violation| matches!(found, Violation::BreakBeforeMake { level: of, .. } if *of == level);

    let machine = large();
    machine.entry(page(0), 1).store(block, Ordering::Release);
    machine.warm(0, page(0));
    machine.entry(page(0), 1).store(Aarch64::table(first), Ordering::Release);
    machine.publish();
    assert!(machine.found(break_at(1)), "a block, and a table in its place");

    let machine = large();
    machine.map(page(0));
    machine.warm(0, page(0));
    // The pointer to the table goes, the translation stays.
    machine.invalidate_everywhere(tables(page(1)));
    assert_eq!(machine.cached(0), 1);
    machine.entry(page(0), 1).store(block, Ordering::Release);
    machine.publish();
    assert!(machine.found(break_at(0)), "a page, and a block over it");
}

#[test]
fn a_new_frame_needs_no_break_on_x86_64() {
    let machine = Tables::<X86_64>::collecting(2);
    machine.map(page(0));
    machine.warm(1, page(0));
    let frame = machine.frame();
    machine.set(page(0), X86_64::present(frame, Access::ReadWrite, false));
    machine.invalidate_everywhere(leaf(page(0)));
    machine.warm(1, page(0));
    machine.assert_sound();
}
