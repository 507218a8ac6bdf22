//! Code that runs on fiber stacks from the pool, and runs out of them: the
//! exception is answered on another stack, names the slot, and takes nothing
//! else along. Bare metal only, as only there code can change its stack.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod common;
#[cfg(target_os = "none")]
#[path = "common/own_stacks.rs"]
mod own_stacks;

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
#[path = "stacks_live/switch.rs"]
mod switch;

#[cfg(target_os = "none")]
mod bare {
    use core::{
        hint::black_box,
        sync::atomic::{AtomicU64, Ordering},
    };

    use allotment::{
        Allocator, Config, FaultAccess, FaultRegion, FaultReport, FiberStack, PoolKind,
        arch::{Native, VirtAddr},
        instance::{InstanceAllocator, OnDemandInstanceAllocator, Stack},
    };

    use crate::{
        common::{MIB, Machine, PAGE, cpus, on, pool, pooled},
        own_stacks::OwnStacks,
        switch::{Ended, State, call, is_register, run, trial},
    };

    harness::tests! {
        fn a_stack_is_used_to_its_last_byte_and_one_word_more_is_a_fault() {
            to_the_last_byte();
        }

        fn a_stack_on_demand_has_the_same_guard() {
            on_demand();
        }

        fn recursion_without_end_hits_the_guard_and_the_test_goes_on() {
            recursion();
        }

        fn an_overflow_names_its_slot_and_spares_the_neighbours() {
            neighbours();
        }

        fn registers_survive_a_fault_on_a_dead_stack() {
            registers();
        }

        fn every_cpu_survives_an_overflow() {
            on_every_cpu();
        }

        fn an_overflown_stack_is_used_again() {
            again();
        }

        fn code_runs_on_a_stack_of_the_embedders() {
            embedders();
        }
    }

    const STACK: usize = 16 * PAGE;
    const STACKS: usize = 3;

    fn machine() -> Machine<Native> {
        let config = pooled(pool(1, MIB).total_stacks(STACKS));
        Machine::new(&config.max_wasm_stack(STACK / 2).async_stack_size(STACK), 16 * MIB)
    }

    fn bottom(stack: &FiberStack<'_>) -> u64 {
        stack.stack().cast::<u8>().as_ptr().addr() as u64
    }

    /// The slot that a stack is in, by arithmetic.
    fn slot(allocator: &Allocator, stack: &FiberStack<'_>) -> u64 {
        let plan = &allocator.plan().stacks;
        (bottom(stack) - plan.first.0) / plan.slab.stride as u64
    }

    /// What is said of an overflow at the word below `stack`.
    #[track_caller]
    fn assert_overflow(allocator: &Allocator, stack: &FiberStack<'_>, report: &FaultReport) {
        assert_eq!((report.region, report.access), (FaultRegion::StackGuard, FaultAccess::Write), "{report}");
        let found = report.slot.expect("a slot");
        assert_eq!(
            (found.pool, u64::from(found.slot), found.accessible),
            (Some(PoolKind::Stacks), slot(allocator, stack), STACK),
            "{report}"
        );
        assert!(!found.generation.is_multiple_of(2), "{report}");
        assert!(stack.guard().contains(&report.address), "{report}");
        let offset = report.address.0.wrapping_sub(bottom(stack)).cast_signed();
        assert_eq!(report.offset, Some(offset), "{report}");
        assert!((-(PAGE as i64)..0).contains(&offset), "{report}");
    }

    fn to_the_last_byte() {
        let machine = machine();
        let allocator = &machine.allocator;
        let stack = allocator.allocate_fiber_stack().unwrap();
        for _ in 0..3 {
            assert!(matches!(run(allocator, &stack, fill, bottom(&stack)), Ended::Returned));
            // One push more.
            let Ended::Overflowed(report) = run(allocator, &stack, fill, bottom(&stack) - 1) else {
                panic!("nothing stands below the stack")
            };
            assert_overflow(allocator, &stack, &report);
            assert!(report.offset.unwrap() >= -16, "{report}");
        }
        // SAFETY: the stack's own byte, and nobody runs on it.
        let lowest = unsafe { stack.stack().cast::<u8>().read_volatile() };
        assert_eq!(lowest, 0x5a, "the last byte was not used");
        allocator.deallocate_fiber_stack(stack);
    }

    fn on_demand() {
        let config = Config::new().max_wasm_stack(STACK / 2).async_stack_size(STACK);
        let machine = Machine::<Native>::new(&config, 16 * MIB);
        let allocator = &machine.allocator;
        let stacks = [(); 2].map(|()| allocator.allocate_fiber_stack().unwrap());
        for stack in &stacks {
            assert!(matches!(run(allocator, stack, fill, bottom(stack)), Ended::Returned));
            let Ended::Overflowed(report) = run(allocator, stack, fill, bottom(stack) - 1) else {
                panic!("nothing stands below the stack")
            };
            assert_eq!(
                (report.region, report.access),
                (FaultRegion::StackGuard, FaultAccess::Write),
                "{report}"
            );
            assert!((-16..0).contains(&report.offset.unwrap()), "{report}");
            assert!(stack.guard().contains(&report.address), "{report}");
        }
        stacks.into_iter().for_each(|stack| allocator.deallocate_fiber_stack(stack));
    }

    fn embedders() {
        static RAN_AT: AtomicU64 = AtomicU64::new(0);
        extern "C" fn note(with: u64) {
            let local = black_box(with);
            RAN_AT.store((&raw const local).addr() as u64 + with - 7, Ordering::Relaxed);
        }
        let config = Config::new().max_wasm_stack(STACK / 2).async_stack_size(STACK);
        let machine = Machine::<Native>::new(&config, 16 * MIB);
        let creator = OwnStacks::new(&machine);
        let instances = OnDemandInstanceAllocator::new(&machine.allocator).unwrap().stack_creator(&creator);
        for _ in 0..3 {
            let stack = instances.allocate_fiber_stack().unwrap();
            assert!(matches!(stack, Stack::Custom(_)), "{stack:?}");
            call(stack.range().end, note, 7);
            let ran_at = VirtAddr(RAN_AT.load(Ordering::Relaxed));
            assert!(stack.range().contains(&ran_at), "it ran at {ran_at}, not on {stack:?}");
            instances.deallocate_fiber_stack(stack);
            assert_eq!(creator.held(), 0);
        }
    }

    /// Uses the stack down to `limit`.
    extern "C" fn fill(limit: u64) {
        // SAFETY: below is free stack, or a guard that faults.
        unsafe { crate::switch::stack_fill(limit) };
    }

    fn recursion() {
        let machine = machine();
        let allocator = &machine.allocator;
        let stack = allocator.allocate_fiber_stack().unwrap();
        let mut kept = [7; 64];
        for _ in 0..3 {
            assert!(matches!(run(allocator, &stack, recurse, 10), Ended::Returned));
            let Ended::Overflowed(report) = run(allocator, &stack, recurse, u64::MAX) else {
                panic!("no end to the stack")
            };
            assert_overflow(allocator, &stack, &report);
            black_box(&mut kept);
        }
        assert_eq!(kept, [7; 64], "the test's own stack");
        allocator.deallocate_fiber_stack(stack);
    }

    extern "C" fn recurse(depth: u64) {
        fn inner(depth: u64) -> u64 {
            // Something to do after the call, which is therefore no jump.
            if depth == 0 { 0 } else { black_box(inner(black_box(depth) - 1)) + 1 }
        }
        black_box(inner(depth));
    }

    fn neighbours() {
        let machine = machine();
        let allocator = &machine.allocator;
        let stacks = [(); STACKS].map(|()| allocator.allocate_fiber_stack().unwrap());
        for (victim, stack) in stacks.iter().enumerate() {
            for (nth, other) in (1..).zip(&stacks) {
                // SAFETY: nobody runs on it.
                unsafe { other.stack().cast::<u8>().write_bytes(nth, STACK) };
            }
            let Ended::Overflowed(report) = run(allocator, stack, recurse, u64::MAX) else {
                panic!("no end to the stack")
            };
            assert_overflow(allocator, stack, &report);
            for (nth, other) in stacks.iter().enumerate().filter(|&(nth, _)| nth != victim) {
                // SAFETY: nobody runs on it.
                let bytes = unsafe { other.stack().as_ref() };
                assert!(bytes.iter().all(|&byte| usize::from(byte) == nth + 1), "stack {nth} of {victim}");
            }
        }
        stacks.into_iter().for_each(|stack| allocator.deallocate_fiber_stack(stack));
    }

    fn registers() {
        let machine = machine();
        let allocator = &machine.allocator;
        let stack = allocator.allocate_fiber_stack().unwrap();
        // Every byte of every register is different from its neighbours.
        let before =
            State { bytes: core::array::from_fn(|byte| (byte * 7 + byte / 32 + 1).to_le_bytes()[0]) };
        // In bounds, which nobody answers, and then below the last byte.
        for (words, overflows) in [(2, false), (0, true)] {
            let (after, report) = trial(allocator, &stack, &before, words);
            assert_eq!(report.is_some(), overflows);
            if let Some(report) = &report {
                assert_overflow(allocator, &stack, report);
            }
            let words = before.bytes.chunks(8).zip(after.bytes.chunks(8)).enumerate();
            for (word, (before, after)) in words.filter(|&(word, _)| is_register(word)) {
                assert_eq!(before, after, "word {word} of the registers");
            }
        }
        allocator.deallocate_fiber_stack(stack);
    }

    fn on_every_cpu() {
        let machine = machine();
        let allocator = &machine.allocator;
        for cpu in 0..cpus() {
            on(allocator.arch(), cpu, || {
                let stack = allocator.allocate_fiber_stack().unwrap();
                let Ended::Overflowed(report) = run(allocator, &stack, recurse, u64::MAX) else {
                    panic!("no end to the stack")
                };
                assert_overflow(allocator, &stack, &report);
                allocator.deallocate_fiber_stack(stack);
            });
        }
    }

    fn again() {
        let machine = machine();
        let allocator = &machine.allocator;
        let before = allocator.metrics();
        let mut generations = [0; 4];
        for generation in &mut generations {
            let stack = allocator.allocate_fiber_stack().unwrap();
            let Ended::Overflowed(report) = run(allocator, &stack, recurse, u64::MAX) else {
                panic!("no end to the stack")
            };
            assert_overflow(allocator, &stack, &report);
            *generation = report.slot.unwrap().generation;
            allocator.deallocate_fiber_stack(stack);
        }
        assert!(generations.is_sorted_by(|former, next| former < next), "{generations:?}");
        let after = allocator.metrics();
        assert_eq!((after.stacks, after.available_frames), (before.stacks, before.available_frames));
    }
}
