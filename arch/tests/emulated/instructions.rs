//! Operands, barriers, and the encoders that are off by default.

use allotment_arch::{
    Aarch64, Arch, Invalidation, PAGE_SIZE, Pages, VirtAddr, X86_64,
    aarch64::invalidate::{self as arm, Instructions as _, page_operand, range_operand},
    emulated::{Emulated, Instructions, Mmu, Violation},
    x86_64::invalidate::{
        self as x86, Instructions as _, Method, invlpgb_ecx, invlpgb_rax, invpcid_descriptor,
    },
};

use crate::{
    is,
    tables::{Tables, leaf, page},
};

/// A page that CPU 1 has cached and that was taken away from the tables.
fn gone<F: Mmu>(machine: Emulated<F>) -> Tables<F> {
    let machine = Tables::new(machine.with_cpus(2).collect_violations());
    machine.map(page(0));
    machine.warm(0, page(0));
    machine.warm(1, page(0));
    machine.set(page(0), 0);
    machine
}

fn small<F: Mmu>() -> Emulated<F> {
    Emulated::new(64 * PAGE_SIZE)
}

/// Whether a CPU still uses what was taken away.
fn lingers<F: Mmu>(machine: &Tables<F>, cpu: usize) -> bool {
    machine.warm(cpu, page(0));
    machine.take_violations().iter().any(is!(StaleTranslation))
}

/// Runs the right sequence around one TLBI.
fn arm_sequence(machine: &Tables<Aarch64>, tlbi: impl Fn(&Instructions<'_, Aarch64>)) {
    let cpu = machine.instructions();
    cpu.dsb_before();
    tlbi(&cpu);
    cpu.dsb_complete(true);
    cpu.isb();
}

#[test]
fn an_operand_that_is_not_masked_does_nothing() {
    let machine = gone::<Aarch64>(small());
    arm_sequence(&machine, |cpu| cpu.tlbi_page(page(0).0 >> 12, true, true));
    assert!(machine.found(is!(Operand)));
    assert!(lingers(&machine, 1));

    let machine = gone::<Aarch64>(small());
    arm_sequence(&machine, |cpu| cpu.tlbi_page(page_operand(page(0)), true, true));
    assert!(!lingers(&machine, 0) && !lingers(&machine, 1));
    machine.assert_sound();
}

#[test]
fn a_level_hint_limits_what_is_dropped() {
    let hinted = |ttl: u64| {
        let machine = gone::<Aarch64>(small());
        arm_sequence(&machine, |cpu| cpu.tlbi_page(page_operand(page(0)) | ttl << 44, true, true));
        assert!(!machine.found(is!(Operand)));
        lingers(&machine, 1)
    };
    assert!(!hinted(0b0111), "level 3 of 4 KiB");
    assert!(hinted(0b0110), "level 2");
    assert!(hinted(0b1111), "another granule");
}

#[test]
fn a_tlbi_needs_the_barrier_before_it() {
    let machine = gone::<Aarch64>(small());
    machine.publish();
    let cpu = machine.instructions();
    cpu.tlbi_page(page_operand(page(0)), true, true);
    cpu.dsb_complete(true);
    cpu.isb();
    assert!(machine.found(is!(UnorderedInvalidation)));
    assert!(lingers(&machine, 1), "nothing cached the old entry again");
}

#[test]
fn a_tlbi_is_done_at_the_barrier_of_its_domain() {
    let machine = gone::<Aarch64>(small());
    let cpu = machine.instructions();
    cpu.dsb_before();
    cpu.tlbi_page(page_operand(page(0)), true, true);
    assert!(lingers(&machine, 0) && lingers(&machine, 1));
    cpu.dsb_complete(false);
    assert!(lingers(&machine, 1), "dsb nsh waited for other CPUs");
    machine.on(1, || machine.instructions().dsb_complete(true));
    assert!(lingers(&machine, 1), "the barrier of another CPU completed it");
    cpu.dsb_complete(true);
    assert!(!lingers(&machine, 0) && !lingers(&machine, 1));

    let machine = gone::<Aarch64>(small());
    let cpu = machine.instructions();
    cpu.dsb_before();
    cpu.tlbi_page(page_operand(page(0)), true, false);
    cpu.dsb_complete(true);
    assert!(!lingers(&machine, 0));
    assert!(lingers(&machine, 1), "the local form reached another CPU");
}

#[test]
fn ranges_are_decoded_and_must_exist() {
    let ranged = |machine: Emulated<Aarch64>, operand: u64| {
        let machine = gone::<Aarch64>(machine);
        arm_sequence(&machine, |cpu| cpu.tlbi_range(operand, true, true));
        let refused = machine.found(is!(Operand));
        (refused, lingers(&machine, 1))
    };
    let with = || small().with_ranges(true);
    let right = range_operand(page(0), 0, 0);
    assert_eq!(ranged(with(), right), (false, false));
    assert_eq!(ranged(with(), range_operand(VirtAddr(page(0).0 - 0x2000), 0, 0)), (false, true));
    assert_eq!(ranged(with(), range_operand(VirtAddr(page(0).0 - 0x2000), 1, 0)), (false, false));
    assert_eq!(ranged(with(), right & !(0b11 << 46)), (true, true), "no granule");
    assert!(ranged(with(), right | 1 << 50).0, "an identifier");
    assert_eq!(ranged(small(), right), (true, true), "no FEAT_TLBIRANGE");
}

#[test]
fn invpcid_takes_no_other_type_identifier_or_bit() {
    let run = |kind, descriptor| {
        let machine = gone::<X86_64>(small().with_method(Method::Invpcid { pcid: 9 }));
        machine.on(1, || machine.instructions().invpcid(kind, descriptor));
        let refused = machine.found(is!(Operand));
        (refused, lingers(&machine, 1))
    };
    assert_eq!(run(0, invpcid_descriptor(9, page(0))), (false, false));
    assert_eq!(run(1, invpcid_descriptor(9, VirtAddr(0))), (false, false));
    assert_eq!(run(2, [0, 0]), (false, false));
    assert_eq!(run(0, invpcid_descriptor(9, page(1))), (false, true));
    assert_eq!(run(0, invpcid_descriptor(8, page(0))), (false, true), "another identifier");
    assert_eq!(run(4, invpcid_descriptor(9, page(0))), (true, true));
    assert_eq!(run(0, [9 | 1 << 12, page(0).0]), (true, true));
    assert_eq!(run(0, [9, 0x1234_0000_0000_0000]), (true, true), "not canonical");
}

#[test]
fn invlpgb_is_done_at_tlbsync() {
    let machine = gone::<X86_64>(small().with_method(Method::Invlpgb { most: 4 }));
    let cpu = machine.instructions();
    cpu.invlpgb(invlpgb_rax(page(0), true), invlpgb_ecx(1), 0);
    assert!(lingers(&machine, 1));
    cpu.tlbsync();
    assert!(!lingers(&machine, 0) && !lingers(&machine, 1));
    machine.assert_sound();

    let run = |rax, ecx, edx| {
        let machine = gone::<X86_64>(small().with_method(Method::Invlpgb { most: 4 }));
        let cpu = machine.instructions();
        cpu.invlpgb(rax, ecx, edx);
        cpu.tlbsync();
        let refused = machine.found(is!(Operand));
        (refused, lingers(&machine, 1))
    };
    let before = VirtAddr(page(0).0 - 0x3000);
    assert_eq!(run(invlpgb_rax(before, true), invlpgb_ecx(4), 0), (false, false));
    assert_eq!(run(invlpgb_rax(before, true), invlpgb_ecx(3), 0), (false, true));
    assert_eq!(run(invlpgb_rax(before, true), invlpgb_ecx(5), 0), (true, true), "more than it takes");
    assert_eq!(run(invlpgb_rax(page(0), true) | 1 << 8, 0, 0), (true, true), "a reserved bit");
    assert_eq!(run(invlpgb_rax(page(0), true) | 1 << 1, 0, 5 << 16), (false, true), "another identifier");
    assert_eq!(run(0, 0, 0), (false, false));
}

#[test]
fn a_reload_of_cr3_keeps_what_is_global() {
    const GLOBAL: u64 = 1 << 8;
    let machine = Tables::<X86_64>::collecting(1);
    machine.map(page(0));
    machine.set(page(0), machine.get(page(0)) | GLOBAL);
    machine.warm(0, page(0));
    machine.set(page(0), 0);
    machine.invalidate_local(Invalidation::EVERYTHING);
    assert!(lingers(&machine, 0));
    machine.invalidate_local(leaf(page(0)));
    assert!(!lingers(&machine, 0));
}

/// Random runs of pages, all cached, some taken away: what the encoders name
/// is dropped, and what they do not name needs not be.
fn encoders_reach_all<F: Mmu>(
    machine: impl Fn() -> Emulated<F>,
    everywhere: impl Fn(&Tables<F>, Invalidation),
) {
    let rounds = if cfg!(miri) { 20 } else { 1500 };
    let machine = Tables::new(machine().with_cpus(2).with_speculation(1));
    let frames: Vec<_> = (0..100).map(|_| machine.frame()).collect();
    let mut state = 88_172_645_463_325_252u64;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from((state >> 20) % limit).unwrap()
    };
    for round in 0..rounds {
        // Anywhere within a GiB, so that all bits of addresses count.
        let base = page(512 * below(64) + below(512));
        let at = |nth: usize| base.offset(nth * PAGE_SIZE);
        for (nth, &frame) in frames.iter().enumerate() {
            machine.set(at(nth), F::present(frame, allotment_arch::Access::ReadWrite, false));
        }
        machine.publish();
        for nth in 0..frames.len() {
            machine.on(nth % 2, || machine.read(at(nth), &mut [0])).unwrap();
        }
        let (first, count) = (below(36), 1 + below(64));
        let pages = Pages { start: at(first), count };
        pages.iter().for_each(|address| machine.set(address, 0));
        let what = if round % 3 == 0 { Invalidation::tables(pages) } else { Invalidation::leaves(pages) };
        everywhere(&machine, what);
        for nth in 0..frames.len() {
            let there = !(first..first + count).contains(&nth);
            machine.on(nth % 2, || assert_eq!(machine.load(at(nth)).is_some(), there, "page {nth}"));
        }
        (0..frames.len()).for_each(|nth| machine.set(at(nth), 0));
        machine.invalidate_everywhere(Invalidation::EVERYTHING);
    }
    machine.assert_sound();
}

#[test]
fn invlpg_reaches_all() {
    encoders_reach_all::<X86_64>(large, |machine, what| machine.invalidate_everywhere(what));
}

#[test]
fn invpcid_reaches_all() {
    let machine = || large().with_method(Method::Invpcid { pcid: 0xabc });
    encoders_reach_all::<X86_64>(machine, |machine, what| machine.invalidate_everywhere(what));
}

#[test]
fn invlpgb_reaches_all() {
    for most in [1, 7, 64] {
        let method = Method::Invlpgb { most };
        let machine = || large().with_method(method);
        encoders_reach_all::<X86_64>(machine, |machine, what| {
            x86::invalidate(&machine.instructions(), method, what);
        });
    }
}

#[test]
fn tlbi_reaches_all() {
    encoders_reach_all::<Aarch64>(large, |machine, what| machine.invalidate_everywhere(what));
}

#[test]
fn tlbi_ranges_reach_all() {
    encoders_reach_all::<Aarch64>(
        || large().with_ranges(true),
        |machine, what| arm::invalidate(&machine.instructions(), true, what, true),
    );
}

fn large<F: Mmu>() -> Emulated<F> {
    Emulated::new(320 * PAGE_SIZE)
}

#[test]
fn violations_say_what_to_do() {
    let shown = Violation::UnorderedInvalidation { cpu: 3 }.to_string();
    assert!(shown.contains("CPU 3") && shown.contains("dsb ish "), "{shown}");
}
