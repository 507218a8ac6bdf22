//! Entries that must not be, wherever they are.

use core::sync::atomic::Ordering;

use allotment_arch::{
    Aarch64, Access, Arch, Format, PAGE_SIZE, PhysAddr, VirtAddr, X86_64,
    emulated::{Emulated, Mmu, Violation},
};

use crate::{
    for_both_formats, is,
    tables::{Tables, leaf, page},
};

for_both_formats! {
    what_lies_outside_the_window_must_not_change
    rules_for_entries_hold_inside_the_window_only
}

/// What one leaf entry is found to be, by a walk and by the audit alike.
fn found_in<F: Mmu>(entry: impl Fn(PhysAddr) -> u64, like: impl Fn(&Violation) -> bool) -> bool {
    let put = || {
        let machine = Tables::<F>::collecting(1);
        let frame = machine.frame();
        machine.set(page(0), entry(frame));
        machine
    };
    let by_walk = put();
    by_walk.read(page(0), &mut [0]).unwrap_or(());
    let by_walk = by_walk.violations().iter().any(&like);
    let by_audit = put().found(&like);
    assert_eq!(by_walk, by_audit, "a walk and the audit differ");
    by_audit
}

/// Neither of all that a format writes is found to be wrong.
fn every_encoding_is_right<F: Mmu>() {
    for access in [Access::Read, Access::ReadWrite, Access::ReadExecute, Access::CopyOnWrite] {
        for written in [false, true] {
            let present = |frame| F::present(frame, access, written);
            assert!(!found_in::<F>(present, |_| true), "{access:?}");
            assert!(!found_in::<F>(|frame| F::hide(present(frame)), |_| true), "{access:?}");
        }
    }
    for state in 0..16 {
        assert!(!found_in::<F>(|_| F::empty(state), |_| true));
    }
}

#[test]
fn x86_64_entries() {
    const WRITABLE: u64 = 1 << 1;
    const DIRTY: u64 = 1 << 6;
    const NO_EXECUTE: u64 = 1 << 63;
    every_encoding_is_right::<X86_64>();
    let page = |access| move |frame| X86_64::present(frame, access, false);
    let read = page(Access::Read);
    let execute = page(Access::ReadExecute);
    assert!(found_in::<X86_64>(|frame| execute(frame) | WRITABLE, is!(WritableAndExecutable)));
    assert!(found_in::<X86_64>(|frame| read(frame) | DIRTY, is!(DirtyReadOnly)));
    assert!(found_in::<X86_64>(|frame| read(frame) | 1 << 46, is!(ReservedBits)));
    assert!(found_in::<X86_64>(|frame| read(frame) | 1 << 7, is!(ReservedBits)), "PAT");
    assert!(found_in::<X86_64>(|frame| frame.0, is!(UsableAddress)));
    assert!(found_in::<X86_64>(|frame| read(frame) & !1 & !NO_EXECUTE, is!(UsableAddress)));
}

#[test]
fn aarch64_entries() {
    const VALID: u64 = 1 << 0;
    const PXN: u64 = 1 << 53;
    every_encoding_is_right::<Aarch64>();
    let page = |access| move |frame| Aarch64::present(frame, access, false);
    let (read, write) = (page(Access::Read), page(Access::ReadWrite));
    assert!(found_in::<Aarch64>(|frame| write(frame) & !PXN, is!(WritableAndExecutable)), "DBM");
    let written = |frame| Aarch64::present(frame, Access::ReadWrite, true);
    assert!(found_in::<Aarch64>(|frame| written(frame) & !PXN, is!(WritableAndExecutable)));
    assert!(found_in::<Aarch64>(|frame| read(frame) | 1 << 48, is!(ReservedBits)));
    assert!(found_in::<Aarch64>(|frame| read(frame) | 1 << 2, is!(ReservedBits)), "device memory");
    assert!(found_in::<Aarch64>(|frame| read(frame) & !0b10, is!(ReservedBits)), "a block in a leaf table");
    assert!(!found_in::<Aarch64>(|frame| read(frame) & !VALID, |_| true));
}

#[test]
fn blocks_and_tables_above() {
    fn found<F: Mmu>(level: u8, entry: u64) -> bool {
        let machine = Tables::<F>::collecting(1);
        machine.entry(page(0), level).store(entry, Ordering::Release);
        machine.read(page(0), &mut [0]).unwrap_err();
        let by_walk = machine.violations().iter().any(is!(ReservedBits));
        assert_eq!(by_walk, machine.found(is!(ReservedBits)));
        by_walk
    }
    let frame = PhysAddr(0x4000_4000);
    let x86 = X86_64::block(X86_64::present(frame, Access::Read, false));
    assert!(found::<X86_64>(1, x86), "a misaligned block");
    assert!(found::<X86_64>(3, X86_64::table(frame) | 1 << 7), "a block of 512 GiB");
    assert!(found::<X86_64>(2, X86_64::table(frame) | 1 << 50));
    let arm = Aarch64::block(Aarch64::present(frame, Access::Read, false));
    assert!(found::<Aarch64>(1, arm), "a misaligned block");
    assert!(found::<Aarch64>(3, arm), "a block of 512 GiB");
    assert!(found::<Aarch64>(2, Aarch64::table(frame) | 1 << 49));
}

#[test]
fn a_contiguous_run_is_all_or_nothing() {
    let run = |spoil: &dyn Fn(&Tables<Aarch64>, PhysAddr)| {
        let machine = Tables::<Aarch64>::collecting(2);
        let first = machine.run();
        for nth in 0..16 {
            let entry = Aarch64::present(first.offset(nth * PAGE_SIZE), Access::ReadWrite, false);
            machine.set(page(nth), entry | Aarch64::RUN_HINT);
        }
        spoil(&machine, first);
        machine.publish();
        machine
    };
    let right = run(&|_, _| ());
    (0..16).for_each(|nth| right.warm(1, page(nth)));
    assert!(right.store(page(5), 1));
    right.assert_sound();

    let spoiled = |at: usize, entry: &dyn Fn(u64) -> u64| {
        let machine = run(&|machine, _| machine.set(page(at), entry(machine.get(page(at)))));
        (0..16).filter(|&nth| nth != at).for_each(|nth| machine.warm(0, page(nth)));
        let by_walk = machine.violations().iter().any(is!(InconsistentRun));
        assert!(machine.found(is!(InconsistentRun)));
        by_walk
    };
    assert!(spoiled(3, &|entry| entry & !Aarch64::RUN_HINT), "no hint");
    assert!(spoiled(3, &|entry| entry + 4096), "another frame");
    assert!(spoiled(3, &|entry| entry & !(1 << 51)), "other rights");
    assert!(!spoiled(3, &|_| 0), "one that is filled in later");

    // What is not there yet is covered all the same.
    let hole = run(&|machine, _| machine.set(page(3), 0));
    (0..16).for_each(|nth| hole.warm(0, page(nth)));
    (0..32).for_each(|_| hole.read(page(3), &mut [0]).unwrap_or(()));
    assert!(hole.violations().iter().any(is!(StaleTranslation)));
}

#[test]
fn a_run_is_taken_away_as_a_whole() {
    for whole in [false, true] {
        let machine = Tables::<Aarch64>::collecting(2);
        let first = machine.run();
        for nth in 0..16 {
            let entry = Aarch64::present(first.offset(nth * PAGE_SIZE), Access::Read, false);
            machine.set(page(nth), entry | Aarch64::RUN_HINT);
        }
        machine.publish();
        (0..16).for_each(|nth| machine.warm(1, page(nth)));
        // The hint of the others has to go first, with a break.
        let taken = if whole { 0..16 } else { 7..8 };
        taken.for_each(|nth| {
            machine.set(page(nth), 0);
            machine.invalidate_everywhere(leaf(page(nth)));
        });
        (0..16).for_each(|nth| {
            machine.on(1, || (0..8).for_each(|_| machine.read(page(nth), &mut [0]).unwrap_or(())))
        });
        assert_eq!(machine.violations().iter().any(is!(StaleTranslation)), !whole);
        assert_eq!(machine.found(is!(InconsistentRun)), !whole);
    }
}

/// A foreign page below the window's top-level entry, and one above.
const FOREIGN: [VirtAddr; 2] = [VirtAddr(0xffff_8880_0000_0000), VirtAddr(0xffff_ffff_8000_0000)];

fn guarded<F: Mmu>() -> Tables<F> {
    let mut machine = Emulated::<F>::new(64 * PAGE_SIZE).with_cpus(2).collect_violations();
    FOREIGN.into_iter().for_each(|address| machine.map_foreign(address, 3));
    machine.map_foreign(VirtAddr(0x40_0000), 1);
    let machine = Tables::new(machine);
    machine.guard_window(VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000));
    machine
}

fn what_lies_outside_the_window_must_not_change<F: Mmu>() {
    let machine = guarded::<F>();
    // Using what is mapped there is not an edit, and neither is one inside.
    assert!(machine.store(FOREIGN[0], 1));
    assert!(machine.store(VirtAddr(0x40_0000), 1));
    machine.map(page(0));
    machine.warm(1, page(0));
    machine.assert_sound();
    for address in [FOREIGN[0], FOREIGN[1], VirtAddr(0x40_0000)] {
        for level in 0..4 {
            let machine = guarded::<F>();
            let entry = machine.entry(address, level);
            entry.store(entry.load(Ordering::Relaxed) ^ 1 << 54, Ordering::Release);
            assert!(machine.found(is!(OutsideWindow)), "{address} at level {level}");
        }
    }
    let machine = guarded::<F>();
    let new = F::table(machine.frame());
    machine.entry(VirtAddr(0xffff_f000_0000_0000), 3).store(new, Ordering::Release);
    assert!(machine.found(is!(OutsideWindow)), "a new top-level entry");
}

fn rules_for_entries_hold_inside_the_window_only<F: Mmu>() {
    let mut machine = Emulated::<F>::new(64 * PAGE_SIZE).collect_violations();
    machine.map_foreign(FOREIGN[0], 1);
    let machine = Tables::new(machine);
    let bad = F::present(machine.frame(), Access::ReadWrite, false) & !(0b1 << 63 | 0b1 << 53);
    machine.set(FOREIGN[0], bad);
    machine.guard_window(VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000));
    machine.warm(0, FOREIGN[0]);
    machine.assert_sound();
    machine.set(page(0), bad);
    assert!(machine.found(is!(WritableAndExecutable)));
}
