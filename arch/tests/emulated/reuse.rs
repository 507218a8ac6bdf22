//! Frames and tables that serve anew while a CPU still reaches them.

use core::sync::atomic::Ordering;

use allotment_arch::{
    Aarch64, Access, Arch, Format, PAGE_SIZE, PhysAddr, X86_64,
    aarch64::invalidate::{Instructions, page_operand},
    emulated::{Emulated, Mmu},
};

use crate::{
    for_both_formats, is,
    tables::{Tables, leaf, page, tables},
};

for_both_formats! {
    a_frame_must_not_be_mapped_elsewhere_before_all_forgot_it
    two_readers_may_share_a_frame
    a_table_must_not_be_a_page_before_all_forgot_it
    a_table_must_not_be_another_table_before_all_forgot_it
    a_page_must_not_be_a_table_before_all_forgot_it
    an_audit_finds_reuse_that_no_walk_came_by
}

fn a_frame_must_not_be_mapped_elsewhere_before_all_forgot_it<F: Mmu>() {
    let reuse = |everywhere: bool| {
        let machine = Tables::<F>::collecting(2);
        let frame = machine.map(page(0));
        machine.warm(1, page(0));
        machine.set(page(0), 0);
        if everywhere {
            machine.invalidate_everywhere(leaf(page(0)));
        } else {
            machine.invalidate_local(leaf(page(0)));
        }
        machine.map_to(page(9), frame, Access::ReadWrite, false);
        machine
    };
    assert!(reuse(false).found(is!(ReusedFrame)));
    let by_walk = reuse(false);
    by_walk.warm(0, page(9));
    assert!(by_walk.violations().iter().any(is!(ReusedFrame)), "found by the audit only");
    let right = reuse(true);
    right.warm(0, page(9));
    right.assert_sound();
}

fn two_readers_may_share_a_frame<F: Mmu>() {
    let machine = Tables::<F>::collecting(2);
    let frame = machine.frame();
    machine.map_to(page(0), frame, Access::CopyOnWrite, false);
    machine.warm(1, page(0));
    machine.set(page(0), 0);
    machine.map_to(page(9), frame, Access::CopyOnWrite, false);
    machine.warm(0, page(9));
    machine.assert_sound();
    // But not with a writer.
    machine.map_to(page(10), frame, Access::ReadWrite, false);
    machine.warm(0, page(10));
    assert!(machine.found(is!(ReusedFrame)));
}

fn an_audit_finds_reuse_that_no_walk_came_by<F: Mmu>() {
    let machine = Emulated::new(64 * PAGE_SIZE).with_speculation(0).collect_violations();
    let machine = Tables::<F>::new(machine);
    let frame = machine.map(page(0));
    machine.warm(0, page(0));
    let table = machine.entry(page(0), 1).swap(0, Ordering::AcqRel);
    machine.audit();
    assert_eq!(machine.violations(), []);
    machine.set(page(512), F::present(frame, Access::ReadWrite, false));
    assert!(machine.found(is!(ReusedFrame)));
    machine.set(page(513), F::present(PhysAddr(table & F::FRAME), Access::Read, false));
    assert!(machine.found(is!(ReusedTable)));
}

/// A leaf table with one page, cached by CPU 1, unlinked.
fn unlinked<F: Mmu>(invalidate: bool) -> (Tables<F>, PhysAddr) {
    let machine = Tables::<F>::collecting(2);
    machine.map(page(0));
    machine.map(page(600));
    machine.warm(1, page(0));
    let table = machine.entry(page(0), 1).swap(0, Ordering::AcqRel);
    if invalidate {
        machine.invalidate_everywhere(tables(page(0)));
    } else {
        machine.publish();
    }
    (machine, PhysAddr(table & F::FRAME))
}

fn a_table_must_not_be_a_page_before_all_forgot_it<F: Mmu>() {
    for invalidate in [false, true] {
        let (machine, table) = unlinked::<F>(invalidate);
        machine.map_to(page(601), table, Access::Read, false);
        machine.warm(0, page(601));
        let by_walk = machine.violations().iter().any(is!(ReusedTable));
        assert_eq!(by_walk, !invalidate);
        assert_eq!(machine.found(is!(ReusedTable)), !invalidate);
        assert_eq!(machine.violations().is_empty(), invalidate);
    }
}

fn a_table_must_not_be_another_table_before_all_forgot_it<F: Mmu>() {
    for invalidate in [false, true] {
        let (machine, table) = unlinked::<F>(invalidate);
        machine.entry(page(1024), 1).store(F::table(table), Ordering::Release);
        machine.publish();
        machine.warm(0, page(1024));
        let by_walk = machine.violations().iter().any(is!(ReusedTable));
        assert_eq!(by_walk, !invalidate);
        assert_eq!(machine.found(is!(ReusedTable)), !invalidate);
        assert_eq!(machine.violations().is_empty(), invalidate);
    }
}

fn a_page_must_not_be_a_table_before_all_forgot_it<F: Mmu>() {
    for invalidate in [false, true] {
        let machine = Tables::<F>::collecting(2);
        let frame = machine.map(page(0));
        machine.warm(1, page(0));
        machine.set(page(0), 0);
        if invalidate {
            machine.invalidate_everywhere(leaf(page(0)));
        }
        machine.entry(page(1024), 1).store(F::table(frame), Ordering::Release);
        machine.warm(0, page(1024));
        let by_walk = machine.violations().iter().any(is!(ReusedFrame));
        assert_eq!(by_walk, !invalidate);
        assert_eq!(machine.found(is!(ReusedFrame)), !invalidate);
    }
}

#[test]
fn a_shared_table_may_stay_where_it_is_also_linked() {
    fn case<F: Mmu>() {
        let machine = Tables::<F>::collecting(2);
        let shared = machine.frame();
        let frame = machine.frame();
        machine.slot(shared, 0).store(F::present(frame, Access::CopyOnWrite, false), Ordering::Release);
        for place in [page(0), page(512)] {
            machine.entry(place, 1).store(F::shared_table(shared), Ordering::Release);
            machine.publish();
            machine.warm(0, place);
            machine.warm(1, place);
        }
        // Unlinked at one of them; all that a stale pointer shows is read-only.
        machine.entry(page(0), 1).store(0, Ordering::Release);
        machine.speculate();
        machine.entry(page(1024), 1).store(F::shared_table(shared), Ordering::Release);
        machine.publish();
        machine.warm(0, page(1024));
        machine.assert_sound();
    }
    case::<X86_64>();
    case::<Aarch64>();
}

#[test]
fn a_table_is_reused_before_the_barrier() {
    for barrier in [false, true] {
        let machine = Tables::<Aarch64>::collecting(2);
        machine.map(page(0));
        machine.warm(1, page(0));
        let table = machine.entry(page(0), 1).swap(0, Ordering::AcqRel);
        let cpu = machine.instructions();
        cpu.dsb_before();
        cpu.tlbi_page(page_operand(page(0)), false, true);
        if barrier {
            cpu.dsb_complete(true);
            cpu.isb();
        }
        let frame = PhysAddr(table & Aarch64::FRAME);
        machine.map_to(page(600), frame, Access::Read, false);
        machine.warm(0, page(600));
        assert_eq!(machine.found(is!(ReusedTable)), !barrier);
        assert_eq!(machine.violations().is_empty(), barrier);
    }
}
