//! Loads, stores, fetches and their faults.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::{boxed::Box, sync::Arc};

use allotment_arch::{
    Aarch64, Access, Arch, Entry, Format, PAGE_SIZE, PhysAddr, Translation, VirtAddr, X86_64,
    emulated::{AccessFault, Emulated, FaultKind, Mmu},
    translate,
};

use crate::{
    for_both_formats,
    tables::{Tables, leaf, page},
};

for_both_formats! {
    rights_are_enforced_and_writes_leave_a_mark
    an_access_goes_on_over_the_end_of_a_page
    a_handler_that_maps_the_page_resumes_the_access
    a_handler_that_helps_nothing_does_not_hang
    the_lock_is_free_while_a_handler_runs
    only_executable_pages_are_fetched_from
}

fn rights_are_enforced_and_writes_leave_a_mark<F: Mmu>() {
    let machine = Tables::<F>::new(Emulated::new(16 * PAGE_SIZE));
    let at = page(3);
    let frame = machine.map(at);
    assert_eq!(machine.load(at), Some(0));
    assert!(matches!(F::decode(machine.get(at)), Entry::Present { written: false, .. }), "reading marked it");
    assert!(machine.store(at.offset(7), 42));
    let written = Entry::Present { frame, access: Access::ReadWrite, written: true };
    assert_eq!(F::decode(machine.get(at)), written);
    assert_eq!(machine.load(at.offset(7)), Some(42));

    machine.set(at, F::present(frame, Access::Read, true));
    machine.invalidate_everywhere(leaf(at));
    assert_eq!(machine.load(at.offset(7)), Some(42));
    let fault = AccessFault { address: at, kind: FaultKind::Write };
    assert_eq!(machine.write(at, &[1]), Err(fault));
    // SAFETY: the tables live as long as the machine.
    let seen = unsafe { translate(&*machine, at.offset(5)) };
    let expected = Translation { physical: frame.offset(5), writable: false, executable: false, bytes: 4096 };
    assert_eq!(seen, Some(expected));

    machine.set(at, F::hidden(frame, true));
    machine.invalidate_everywhere(leaf(at));
    assert_eq!(machine.load(at), None);
    machine.assert_sound();
}

fn an_access_goes_on_over_the_end_of_a_page<F: Mmu>() {
    let machine = Tables::<F>::new(Emulated::new(16 * PAGE_SIZE));
    machine.map(page(0));
    machine.map(page(1));
    let bytes: Vec<u8> = (0..100).collect();
    let at = page(1).0 - 43;
    machine.write(VirtAddr(at), &bytes).unwrap();
    let mut back = [0; 100];
    machine.read(VirtAddr(at), &mut back).unwrap();
    assert_eq!(bytes, back);
    let fault = AccessFault { address: page(2), kind: FaultKind::Read };
    assert_eq!(machine.read(page(1).offset(4000), &mut [0; 4000]), Err(fault));
    machine.assert_sound();
}

fn a_handler_that_maps_the_page_resumes_the_access<F: Mmu>() {
    let machine = Tables::<F>::new(Emulated::new(16 * PAGE_SIZE));
    let mut faults = Vec::new();
    let handler = |fault: AccessFault| {
        faults.push(fault);
        machine.map(VirtAddr(fault.address.0 & !0xfff));
        true
    };
    machine.write_with(page(0).offset(4090), &[7; 10], handler).unwrap();
    let fault = |address| AccessFault { address, kind: FaultKind::Write };
    assert_eq!(faults, [fault(page(0).offset(4090)), fault(page(1))]);
    assert_eq!(machine.load(page(1).offset(3)), Some(7));
}

fn a_handler_that_helps_nothing_does_not_hang<F: Mmu>() {
    let machine = Emulated::<F>::new(16 * PAGE_SIZE);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    machine.set_handler(Box::new(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        true
    }));
    machine.read(page(0), &mut [0]).unwrap_err();
    assert_eq!(calls.load(Ordering::Relaxed), 8);
}

fn the_lock_is_free_while_a_handler_runs<F: Mmu>() {
    let machine = Tables::<F>::new(Emulated::new(16 * PAGE_SIZE).with_cpus(2));
    machine.entry(page(0), 0);
    let frame = machine.frame();
    machine.set(page(1), F::present(frame, Access::Read, false));
    let other: &Emulated<F> = &machine;
    let handler = |_| {
        let use_it = || other.on(1, || other.read(page(1), &mut [0]).unwrap());
        std::thread::scope(|scope| scope.spawn(use_it).join().unwrap());
        false
    };
    machine.read_with(page(0), &mut [0], handler).unwrap_err();
}

fn only_executable_pages_are_fetched_from<F: Mmu>() {
    let machine = Tables::<F>::new(Emulated::new(16 * PAGE_SIZE));
    let frame = machine.map(page(0));
    assert!(machine.store(page(0), 0xc3));
    machine.map_to(page(1), frame, Access::ReadExecute, false);
    assert_eq!(machine.fetch(page(1)), Ok(0xc3));
    let fault = AccessFault { address: page(0), kind: FaultKind::Execute };
    assert_eq!(machine.fetch(page(0)), Err(fault));
}

#[test]
fn without_hardware_dirty_state_a_clean_page_refuses_writes() {
    let machine = Tables::<Aarch64>::new(Emulated::new(16 * PAGE_SIZE).without_hardware_dirty());
    machine.map(page(0));
    assert!(!machine.store(page(0), 1));
    let frame = machine.frame();
    machine.map_to(page(1), frame, Access::ReadWrite, true);
    assert!(machine.store(page(1), 1));
}

#[test]
fn a_handler_that_marks_the_page_stands_in_for_hardware_dirty_state() {
    let machine = Tables::<Aarch64>::new(Emulated::new(16 * PAGE_SIZE).without_hardware_dirty());
    machine.map(page(0));
    machine.warm(0, page(0));
    let handler = |fault: AccessFault| {
        let at = VirtAddr(fault.address.0 & !0xfff);
        let old = machine.get(at);
        let Some(new) = Aarch64::mark_written(old) else { return false };
        machine.entry(at, 0).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).unwrap();
        machine.invalidate_local(leaf(at));
        true
    };
    machine.write_with(page(0).offset(9), &[5], handler).unwrap();
    assert!(matches!(Aarch64::decode(machine.get(page(0))), Entry::Present { written: true, .. }));
    machine.assert_sound();
}

#[test]
fn five_levels_reach_further_than_four() {
    let four = Tables::<X86_64>::new(Emulated::new(16 * PAGE_SIZE));
    let five = Tables::<X86_64>::new(Emulated::new(16 * PAGE_SIZE).with_levels(5));
    let far = VirtAddr(0xff12_3456_7890_0000);
    four.map(far);
    five.map(far);
    assert_eq!(four.load(far), None, "57 bits are not canonical with four levels");
    assert_eq!(five.load(far), Some(0));
    assert_eq!(five.load(VirtAddr(0xfd12_3456_7890_0000)), None, "58 bits are canonical");
    five.assert_sound();
}

#[test]
fn blocks_and_their_limits_are_followed() {
    fn case<F: Mmu>() {
        let machine = Tables::<F>::new(Emulated::new(1100 * PAGE_SIZE));
        let block = PhysAddr(0x4020_0000);
        let entry = F::block(F::present(block, Access::ReadWrite, false));
        machine.entry(page(0), 1).store(entry, Ordering::Release);
        machine.publish();
        assert!(machine.store(page(77).offset(5), 9));
        let marked = F::page(machine.entry(page(0), 1).load(Ordering::Acquire));
        assert!(matches!(F::decode(marked), Entry::Present { written: true, .. }));
        // SAFETY: the emulated machine's memory, which nobody else uses now.
        let byte = unsafe { machine.physical(block.offset(77 * PAGE_SIZE + 5)).read() };
        assert_eq!(byte, 9);
        machine.assert_sound();

        let leaves = machine.frame();
        let shared = machine.frame();
        machine.slot(leaves, 0).store(F::present(shared, Access::ReadWrite, true), Ordering::Release);
        machine.entry(page(512), 1).store(F::shared_table(leaves), Ordering::Release);
        machine.publish();
        assert_eq!(machine.load(page(512)), Some(0));
        assert!(!machine.store(page(512), 1), "a shared table limits nothing");
    }
    case::<X86_64>();
    case::<Aarch64>();
}

#[test]
fn without_the_access_flag_a_page_faults_and_is_not_cached() {
    const ACCESS_FLAG: u64 = 1 << 10;
    let machine = Tables::<Aarch64>::new(Emulated::new(16 * PAGE_SIZE));
    machine.map(page(0));
    machine.set(page(0), machine.get(page(0)) & !ACCESS_FLAG);
    machine.invalidate_everywhere(leaf(page(0)));
    assert_eq!(machine.load(page(0)), None);
    assert_eq!(machine.cached(0), 0);
}

#[test]
fn the_mark_of_a_run_is_in_any_of_its_entries() {
    let mut marked = [false; 16];
    for seed in 0..64 {
        let machine = Tables::<Aarch64>::new(Emulated::new(64 * PAGE_SIZE).with_seed(seed));
        let first = machine.run();
        for nth in 0..16 {
            let frame = first.offset(nth * PAGE_SIZE);
            let entry = Aarch64::present(frame, Access::ReadWrite, false) | Aarch64::RUN_HINT;
            machine.set(page(nth), entry);
        }
        machine.publish();
        assert!(machine.store(page(5), 1));
        for (nth, marked) in marked.iter_mut().enumerate() {
            let entry = Aarch64::decode(machine.get(page(nth)));
            *marked |= matches!(entry, Entry::Present { written: true, .. });
        }
        machine.assert_sound();
    }
    assert!(marked.iter().filter(|&&marked| marked).count() > 8, "{marked:?}");
}
