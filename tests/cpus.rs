//! Several CPUs: nobody is interrupted for daily work, and nobody uses what is
//! stale.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use core::sync::atomic::{AtomicUsize, Ordering};

use allotment::{Error, Invalidations, arch::VirtAddr};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, at, cpus, pool, pooled, together};

harness::tests! {
    fn daily_work_interrupts_nobody() {
        on_every_machine!(daily_work);
    }

    fn a_slot_that_changes_hands_is_forgotten_first() {
        on_every_machine!(changing_hands);
    }

    fn a_slot_that_stays_on_its_cpu_is_not_forgotten_again() {
        on_every_machine!(staying);
    }

    fn a_memory_arrives_with_its_cpu() {
        on_every_machine!(arriving);
    }

    fn a_stale_handle_does_not_arrive() {
        on_every_machine!(stale);
    }

    fn frames_change_hands_after_one_shootdown() {
        on_every_machine!(frames);
    }
}

const ROUNDS: usize = 50;

/// A machine whose every CPU can have a slot, and fill it.
fn roomy<A: TestArch>(slots: usize) -> Machine<A> {
    let config = pooled(pool(slots, MIB)).region_space(1 << 30);
    Machine::new(&config, 4 * MIB + slots * MIB)
}

fn daily_work<A: TestArch>() {
    let m = roomy::<A>(cpus());
    let before = m.allocator.arch().interrupts();
    together(cpus(), |cpu| {
        let mark = u8::try_from(cpu + 1).unwrap();
        for round in 0..ROUNDS {
            let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
            for size in [WASM_PAGE, 2 * WASM_PAGE, 2 * WASM_PAGE + (round % 8 + 1) * PAGE] {
                memory.grow_to(size).unwrap();
                let last = i64::try_from(size - 1).unwrap();
                assert_eq!(m.load(&memory, last), Ok(0), "somebody was here before");
                m.store(&memory, last, mark).unwrap();
                assert_eq!(m.load(&memory, last), Ok(mark));
            }
            m.load(&memory, -1).unwrap_err();
            m.allocator.deallocate_memory(memory);
        }
    });
    assert_eq!(m.allocator.invalidations().everywhere, 0);
    assert_eq!(m.allocator.arch().interrupts(), before, "a CPU was interrupted");
}

/// One slot, whose tenants run on one CPU after the other.
fn changing_hands<A: TestArch>() {
    let m = roomy::<A>(1);
    for round in 0..ROUNDS {
        let cpu = round * 7 % cpus();
        let size = (round % 5 + 1) * WASM_PAGE;
        m.allocator.arch().on_cpu(cpu, || {
            let memory = m.allocator.allocate_memory(size).unwrap();
            for page in (0..size).step_by(PAGE) {
                let page = i64::try_from(page).unwrap();
                assert_eq!(
                    m.load(&memory, page),
                    Ok(0),
                    "CPU {cpu} sees the tenant before, in round {round}"
                );
                if round % 3 != 0 {
                    m.store(&memory, page, 0x77).unwrap();
                }
            }
            m.allocator.deallocate_memory(memory);
        });
    }
    assert_eq!(m.allocator.invalidations().everywhere, 0);
}

fn staying<A: TestArch>() {
    let m = roomy::<A>(1);
    let cycle = || {
        let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        m.store(&memory, 0, 1).unwrap();
        m.allocator.deallocate_memory(memory);
    };
    cycle();
    let Invalidations { local, .. } = m.allocator.invalidations();
    (0..ROUNDS).for_each(|_| cycle());
    // One per release, none to take the slot again.
    assert_eq!(m.allocator.invalidations().local, local + ROUNDS);
    if cpus() > 1 {
        let local = m.allocator.invalidations().local;
        m.allocator.arch().on_cpu(1, cycle);
        // One more, as it has not forgotten yet.
        assert_eq!(m.allocator.invalidations().local, local + 2);
        m.allocator.arch().on_cpu(1, cycle);
        assert_eq!(m.allocator.invalidations().local, local + 3);
    }
}

fn arriving<A: TestArch>() {
    let m = roomy::<A>(2);
    // The other slot makes every CPU cache, and then forget too little.
    let sizes = AtomicUsize::new(WASM_PAGE);
    for round in 0..ROUNDS {
        let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
        let base = VirtAddr(memory.base().as_ptr() as u64);
        let Some(make_accessible) = handle(&memory) else { panic!("not a slot") };
        sizes.store(WASM_PAGE, Ordering::Relaxed);
        for step in 0..4 {
            let cpu = (round + 3 * step) % cpus();
            m.allocator.arch().on_cpu(cpu, || {
                m.allocator.arrive(&memory).unwrap();
                let size = sizes.load(Ordering::Relaxed);
                for page in (0..size).step_by(WASM_PAGE) {
                    let written = if step > 0 && page < size - WASM_PAGE { 9 } else { 0 };
                    assert_eq!(m.load_at(base.offset(page)), Ok(written), "step {step} of round {round}");
                    m.store_at(base.offset(page), 9).unwrap();
                }
                make_accessible.call(size, WASM_PAGE).unwrap();
                sizes.store(size + WASM_PAGE, Ordering::Relaxed);
            });
        }
        m.allocator.arrive(&memory).unwrap();
        m.assert_ends_at(&memory, 5 * WASM_PAGE);
        m.allocator.deallocate_memory(memory);
    }
}

fn handle<'a, A: TestArch>(memory: &allotment::Memory<'a, A>) -> Option<allotment::MakeAccessible<'a, A>> {
    match memory {
        allotment::Memory::Static { make_accessible, .. } => Some(*make_accessible),
        _ => None,
    }
}

fn stale<A: TestArch>() {
    let m = roomy::<A>(1);
    let memory = m.allocator.allocate_memory(PAGE).unwrap();
    let copy = allotment::Memory::Static {
        base: core::ptr::NonNull::slice_from_raw_parts(memory.base(), memory.capacity()),
        size: memory.size(),
        make_accessible: handle(&memory).unwrap(),
    };
    m.allocator.arrive(&copy).unwrap();
    m.allocator.deallocate_memory(memory);
    assert_eq!(m.allocator.arrive(&copy), Err(Error::Stale { slot: 0 }));
    let next = m.allocator.allocate_memory(PAGE).unwrap();
    assert_eq!(m.allocator.arrive(&copy), Err(Error::Stale { slot: 0 }));
    assert_eq!(m.load_at(at(&next, 0)), Ok(0));
    m.allocator.deallocate_memory(next);
}

/// Frames that slots keep go elsewhere: one batch, one shootdown.
fn frames<A: TestArch>() {
    const SLOTS: usize = 4;
    let config = pooled(pool(SLOTS, MIB)).region_space(1 << 30);
    let overhead = Machine::<A>::new(&config, 16 * MIB).allocator.plan().overhead;
    // As many frames as one slot can hold.
    let m = Machine::<A>::new(&config, overhead + MIB + 16 * PAGE);
    let mut kept = [const { None }; SLOTS];
    let quarter = MIB / SLOTS;
    for (nth, place) in kept.iter_mut().enumerate() {
        let memory = m.allocator.allocate_memory(quarter).unwrap();
        m.store(&memory, i64::try_from(nth).unwrap(), 5).unwrap();
        *place = Some(memory);
    }
    kept.into_iter().flatten().for_each(|memory| m.allocator.deallocate_memory(memory));
    assert_eq!(m.allocator.invalidations().everywhere, 0);
    let interrupts = m.allocator.arch().interrupts();

    let memory = m.allocator.allocate_memory(MIB).unwrap();
    assert_eq!(m.allocator.invalidations().everywhere, 1, "three slots gave frames in one batch");
    let sent = m.allocator.arch().interrupts() - interrupts;
    assert!(sent < cpus() as u64, "{sent} interrupts to {} CPUs", cpus());
    for page in (0..MIB).step_by(PAGE) {
        assert_eq!(m.load(&memory, i64::try_from(page).unwrap()), Ok(0), "a frame came with its contents");
    }
    m.allocator.deallocate_memory(memory);
}
