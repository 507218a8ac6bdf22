//! Carving: what fits is planned, what does not is refused by name and size.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use allotment::{
    Allocator, CarveError, Config, ConfigError,
    arch::{PhysAddr, VirtAddr},
};
use common::{MIB, Machine, TestArch, small};

harness::tests! {
    fn the_plan_says_where_everything_is() {
        on_every_machine!(plan);
    }

    fn an_arena_too_small_names_both_sizes() {
        on_every_machine!(arena_too_small);
    }

    fn a_window_too_small_names_both_sizes() {
        on_every_machine!(window_too_small);
    }

    fn a_window_in_use_is_refused() {
        on_every_machine!(window_in_use);
    }

    fn ranges_that_make_no_sense_are_refused() {
        on_every_machine!(ranges);
    }

    fn contradictory_sizes_are_refused() {
        on_every_machine!(contradiction);
    }
}

fn plan<A: TestArch>() {
    let m = Machine::<A>::new(&small(), 16 * MIB);
    let plan = m.allocator.plan();
    assert_eq!(plan.total_memories, 4);
    assert_eq!(plan.max_memory_size, 4 * MIB);
    assert!(plan.first_memory >= plan.window.start);
    assert!(plan.first_memory.offset(4 * plan.stride) <= plan.window.end);
    let arena = (plan.arena.end.0 - plan.arena.start.0) as usize;
    assert_eq!(plan.overhead + plan.frames * 4096, arena, "every byte of the arena is accounted for");
    assert_eq!(m.allocator.metrics().available_frames, plan.frames);
}

fn arena_too_small<A: TestArch>() {
    let config = Config::new().total_memories(100).max_memory_size(64 * MIB);
    let Err(CarveError::ArenaTooSmall { needed, available }) = Machine::<A>::try_new(&config, 4 * MIB) else {
        panic!("100 slots of 64 MiB need 12 MiB of leaf tables");
    };
    assert_eq!(available, 4 * MIB as u64);
    assert!(needed > 100 * 32 * 4096, "{needed}");
    // With just as much as was asked for it works.
    let m = Machine::<A>::new(&config, needed.next_multiple_of(MIB as u64) as usize);
    assert!(m.allocator.metrics().available_frames > 0);
}

fn window_too_small<A: TestArch>() {
    let (arch, window, arena) = A::machine(16 * MIB);
    let half = VirtAddr(window.start.0 + (64 << 30));
    // SAFETY: the machine is this test's.
    let refused = unsafe { Allocator::new(arch, window.start..half, arena, &small()) }.map(drop).unwrap_err();
    let CarveError::WindowTooSmall { needed, available } = refused else { panic!("{refused}") };
    assert_eq!(available, 64 << 30);
    assert!(needed > available);
}

fn window_in_use<A: TestArch>() {
    let (arch, window, arena) = A::machine(16 * MIB);
    let root = arch.physical(arch.root(window.start)).cast::<u64>();
    let top = allotment::arch::index(window.start, arch.levels() - 1);
    let entry = <A::Format as allotment::arch::Format>::table(arena.start);
    // SAFETY: the root is a table of 512 entries.
    let entry_place = unsafe { root.add(top) };
    // SAFETY: nothing uses that entry yet.
    unsafe { entry_place.write(entry) };
    // SAFETY: the machine is this test's.
    let refused = unsafe { Allocator::new(arch, window.clone(), arena, &small()) }.map(drop).unwrap_err();
    assert_eq!(refused, CarveError::WindowInUse { address: window.start });
}

fn ranges<A: TestArch>() {
    let refuse = |edit: fn(&mut core::ops::Range<VirtAddr>, &mut core::ops::Range<PhysAddr>)| {
        let (arch, mut window, mut arena) = A::machine(16 * MIB);
        edit(&mut window, &mut arena);
        // SAFETY: the machine is this test's.
        unsafe { Allocator::new(arch, window, arena, &small()) }.map(drop).unwrap_err()
    };
    let error = refuse(|window, _| window.start.0 += 4096);
    assert!(matches!(error, CarveError::Misaligned { what: "window", alignment: 0x20_0000, .. }));
    let error = refuse(|_, arena| arena.start.0 += 1);
    assert!(matches!(error, CarveError::Misaligned { what: "arena", alignment: 4096, .. }));
    let error = refuse(|window, _| window.start = VirtAddr(0x0000_8000_0000_0000));
    assert!(matches!(error, CarveError::WindowNotCanonical { .. }));
    let error = refuse(|window, _| window.end = window.start);
    assert!(matches!(error, CarveError::WindowNotCanonical { .. }));
    let error = refuse(|_, arena| arena.end = arena.start);
    assert!(matches!(error, CarveError::ArenaTooSmall { available: 0, .. }));
}

fn contradiction<A: TestArch>() {
    let config = Config::new().memory_reservation(MIB).max_memory_size(2 * MIB);
    let refused = Machine::<A>::try_new(&config, 16 * MIB).map(drop).unwrap_err();
    let contradiction =
        ConfigError::MemoryLargerThanReservation { max_memory_size: 2 * MIB, memory_reservation: MIB };
    assert_eq!(refused, CarveError::Config(contradiction));
}
