//! Several threads at once on one allocator: each sees only its own bytes, and
//! nobody is refused what is there.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use allotment::{
    Config, FaultAccess, Memory, Verdict,
    arch::{Access, Invalidation, VirtAddr},
};
use common::{MIB, Machine, PAGE, TestArch, pool, pooled, together};

harness::tests! {
    fn tenants_at_the_same_time_see_only_their_own() {
        on_every_machine!(tenants);
    }

    fn handles_that_many_hold_free_a_slot_once() {
        on_every_machine!(shared_handles);
    }

    fn readers_notice_no_change_of_access_that_lets_them_read() {
        on_every_machine!(readers);
    }
}

const WORKERS: usize = 3;
/// An interpreter (Miri) sees a data race in few rounds, but needs long for each.
const ROUNDS: usize = if cfg!(miri) { 3 } else { 100 };
/// How often access changes while others read. On x86_64 every change that takes
/// something away interrupts all other CPUs, emulated ones.
const CHANGES: usize = if cfg!(target_os = "none") { 5 * ROUNDS } else { 200 * ROUNDS };
/// Most bytes of a memory or region.
const MOST: usize = if cfg!(miri) { 4 * PAGE } else { MIB };
/// Most that one worker holds: a memory, or a region with its table.
const MOST_FRAMES: usize = MOST / PAGE + 1;

/// Bytes of arena for any of these machines.
const ROOM: usize = if cfg!(miri) { MIB / 4 } else { 4 * MIB };

fn config(slots: usize) -> Config {
    pooled(pool(slots, MOST)).region_space(1 << 30)
}

fn tenants<A: TestArch>() {
    // More slots than workers and no frame more than the workers can hold
    // together: whatever free slots keep has to move, all the time.
    let config = config(2 * WORKERS);
    let overhead = Machine::<A>::new(&config, ROOM).allocator.plan().overhead;
    let m = Machine::<A>::new(&config, overhead + WORKERS * MOST_FRAMES * PAGE + PAGE);
    let before = m.allocator.metrics();
    assert!(before.available_frames < (WORKERS + 1) * MOST_FRAMES);
    together(WORKERS, |worker| {
        let mut random = 0x9e37_79b9 * (worker + 1);
        for round in 0..ROUNDS {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let size = (random >> 33) % MOST + 1;
            if round % 3 == 2 { region(&m, size, worker) } else { memory(&m, size, worker) }
        }
    });
    let after = m.allocator.metrics();
    assert_eq!((before.memories, before.available_frames), (after.memories, after.available_frames));
}

/// A memory that grows to `size`; every page is zero once and then marked.
fn memory<A: TestArch>(m: &Machine<A>, size: usize, worker: usize) {
    let mut memory = m.allocator.allocate_memory(size.min(16 * PAGE)).expect("there are slots and frames");
    memory.grow_to(size).expect("there are frames for every worker");
    let base = VirtAddr(memory.base().as_ptr() as u64);
    mark(m, base, size, worker);
    m.allocator.deallocate_memory(memory);
}

fn region<A: TestArch>(m: &Machine<A>, size: usize, worker: usize) {
    let start = m.allocator.reserve_region(size).unwrap();
    // SAFETY: the region is this worker's.
    unsafe { m.allocator.protect_region(start, size, Some(Access::ReadWrite)) }
        .expect("there are frames for every worker");
    mark(m, start, size, worker);
    // SAFETY: as above.
    unsafe { m.allocator.release_region(start, size) }.unwrap();
}

fn mark<A: TestArch>(m: &Machine<A>, base: VirtAddr, size: usize, worker: usize) {
    let mine = u8::try_from(worker).unwrap() + 1;
    for page in (0..size).step_by(PAGE) {
        assert_eq!(m.load_at(base.offset(page)), Ok(0), "somebody was here before");
        m.store_at(base.offset(page), mine).unwrap();
    }
    for page in (0..size).step_by(PAGE) {
        assert_eq!(m.load_at(base.offset(page)), Ok(mine), "somebody else is here");
    }
}

fn shared_handles<A: TestArch>() {
    let m = Machine::<A>::new(&config(2), ROOM);
    let before = m.allocator.metrics();
    for _ in 0..ROUNDS {
        let memory = m.allocator.allocate_memory(PAGE).unwrap();
        let address = VirtAddr(memory.base().as_ptr() as u64);
        let Memory::Static { size, make_accessible, .. } = memory else { panic!("not a slot") };
        // Nothing hinders an engine to hold the same slot by two values.
        let copy = || Memory::Static {
            base: NonNull::slice_from_raw_parts(NonNull::dangling(), MOST),
            size,
            make_accessible,
        };
        // Growth and release race; whichever wins, the slot is free afterwards,
        // once, and nothing of it can be accessed.
        together(WORKERS, |worker| {
            if worker == 0 {
                let _ = make_accessible.call(PAGE, 2 * PAGE);
            } else {
                m.allocator.deallocate_memory(copy());
            }
        });
        assert_eq!(m.allocator.metrics().free_memories, 2);
        // Nobody may, but it faults for sure where nothing is cached any more.
        m.allocator.arch().invalidate_local(Invalidation::EVERYTHING);
        m.load_at(address).expect_err("a free slot can be read");
    }
    assert_eq!(m.allocator.metrics().available_frames, before.available_frames);
}

fn readers<A: TestArch>() {
    let m = Machine::<A>::new(&config(1), ROOM);
    let start = m.allocator.reserve_region(PAGE).unwrap();
    let protect = |access| {
        // SAFETY: nobody writes while others read, and reading stays allowed.
        unsafe { m.allocator.protect_region(start, PAGE, Some(access)) }.unwrap();
    };
    protect(Access::ReadWrite);
    m.store_at(start, 7).unwrap();
    let changed_often = AtomicBool::new(false);
    together(WORKERS, |worker| {
        if worker == 0 {
            for round in 0..CHANGES {
                protect([Access::Read, Access::ReadExecute, Access::ReadWrite][round % 3]);
            }
            changed_often.store(true, Ordering::Relaxed);
            return;
        }
        loop {
            assert_eq!(m.load_at(start), Ok(7), "a reader was locked out");
            assert_eq!(m.allocator.fault(start, FaultAccess::Read), Verdict::Resume);
            if changed_often.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    // SAFETY: nobody uses the region.
    unsafe { m.allocator.release_region(start, PAGE) }.unwrap();
    let next = m.allocator.reserve_region(PAGE).unwrap();
    assert_eq!(next, start);
    protect(Access::ReadWrite);
    assert_eq!(m.load_at(start), Ok(0), "the page was not known to be written");
}
