//! Fiber stacks.

use alloc::string::ToString;

use allotment::{
    Config, Error, FaultRegion, FiberStack, InstanceAllocationStrategy, PoolKind, arch::VirtAddr,
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, pool, pooled},
    world::{at, available, counts, pooling, report},
};

fn config(stacks: usize, bytes: usize) -> Config {
    pooled(pool(1, 2 * MIB).total_stacks(stacks))
        .async_stack_size(bytes)
        .max_wasm_stack(bytes.clamp(1, 512 << 10))
        .region_space(1 << 30)
}

fn bottom<A: TestArch>(stack: &FiberStack<'_, A>) -> VirtAddr {
    at(stack.stack().cast(), 0)
}

/// Fills a stack, a byte a page.
fn fill<A: TestArch>(m: &Machine<A>, stack: &FiberStack<'_, A>) {
    for offset in (0..stack.stack().len()).step_by(PAGE) {
        m.store_at(bottom(stack).offset(offset + 17), 0xee).unwrap();
    }
}

fn is_zero<A: TestArch>(m: &Machine<A>, stack: &FiberStack<'_, A>) -> bool {
    let mut offsets = (0..stack.stack().len()).step_by(PAGE);
    offsets.all(|offset| m.load_at(bottom(stack).offset(offset + 17)) == Ok(0))
}

pub(crate) fn ranges<A: TestArch>() {
    for bytes in [PAGE, 3 * PAGE, 12_345, 2 * MIB, 2 * MIB + PAGE, 5 * MIB - 7] {
        let m = Machine::<A>::new(&config(2, bytes), 14 * MIB);
        let before = counts(&m);
        for _ in 0..2 {
            let stacks = [(); 2].map(|()| m.allocator.allocate_fiber_stack().unwrap());
            for stack in &stacks {
                let len = stack.stack().len();
                assert_eq!(len, bytes.next_multiple_of(PAGE));
                assert_eq!(stack.top(), bottom(stack).offset(len));
                for offset in (0..len).step_by(PAGE).chain([len - 1]) {
                    m.store_at(bottom(stack).offset(offset), 0x11).unwrap();
                    assert_eq!(m.load_at(bottom(stack).offset(offset)), Ok(0x11));
                }
                m.store_at(stack.top(), 1).expect_err("the byte above was writable");
                m.store_at(VirtAddr(bottom(stack).0 - 1), 1).expect_err("the byte below was writable");
            }
            stacks.into_iter().for_each(|stack| m.allocator.deallocate_fiber_stack(stack));
        }
        assert_eq!(counts(&m), before, "stacks of {bytes} bytes");
    }
}

pub(crate) fn guards<A: TestArch>() {
    let m = Machine::<A>::new(&config(3, 5 * PAGE), 8 * MIB);
    let stacks = [(); 3].map(|()| m.allocator.allocate_fiber_stack().unwrap());
    let names_guard = |address: VirtAddr, slot: u32, offset: i64| {
        let report = report(&m, address);
        assert_eq!((report.region, report.offset), (FaultRegion::StackGuard, Some(offset)), "{report}");
        let found = report.slot.unwrap();
        assert_eq!((found.pool, found.slot), (Some(PoolKind::Stacks), slot));
    };
    let check = |guard: core::ops::Range<VirtAddr>, slot| {
        let bytes = (guard.end.0 - guard.start.0) as i64;
        assert!(bytes >= PAGE as i64);
        names_guard(VirtAddr(guard.end.0 - 1), slot, -1);
        names_guard(VirtAddr(guard.end.0 - PAGE as u64), slot, -(PAGE as i64));
        names_guard(guard.start, slot, -bytes);
    };
    for (slot, stack) in (0..).zip(&stacks) {
        check(stack.guard(), slot);
    }
    let text = report(&m, VirtAddr(bottom(&stacks[1]).0 - 1)).to_string();
    assert!(text.contains("guard below a fiber stack, which overflowed, offset -0x1, slot 1 of"), "{text}");
    // Above the last one is nobody's guard.
    assert_eq!(report(&m, stacks[2].top()).region, FaultRegion::Stack);
    // It is the same whoever else is there.
    let [first, second, third] = stacks;
    let (one, two) = (first.guard(), second.guard());
    m.allocator.deallocate_fiber_stack(first);
    m.allocator.deallocate_fiber_stack(third);
    check(one, 0);
    check(two, 1);
    m.allocator.deallocate_fiber_stack(second);
}

pub(crate) fn limits<A: TestArch>() {
    let m = Machine::<A>::new(&config(2, PAGE), 4 * MIB);
    for _ in 0..3 {
        let stacks = [(); 2].map(|()| m.allocator.allocate_fiber_stack().unwrap());
        let full = Error::PoolConcurrencyLimit { kind: PoolKind::Stacks, limit: 2 };
        assert_eq!(m.allocator.allocate_fiber_stack().unwrap_err(), full);
        assert_eq!(m.allocator.metrics().stacks, 2);
        stacks.into_iter().for_each(|stack| m.allocator.deallocate_fiber_stack(stack));
    }
    let m = Machine::<A>::new(&config(2, 0), 4 * MIB);
    assert_eq!(m.allocator.allocate_fiber_stack().unwrap_err(), Error::NoStacks);
    let m = Machine::<A>::new(&config(0, PAGE), 4 * MIB);
    let full = Error::PoolConcurrencyLimit { kind: PoolKind::Stacks, limit: 0 };
    assert_eq!(m.allocator.allocate_fiber_stack().unwrap_err(), full);
}

pub(crate) fn zeroed<A: TestArch>() {
    const PAGES: usize = 6;
    for (keep, kept, warm) in [(0, 0, 1), (PAGE, 1, 1), (PAGE + 1, 1, 1), (usize::MAX, PAGES, 1)] {
        let pools = pool(1, 2 * MIB).total_stacks(1).async_stack_keep_resident(keep);
        let config = pooled(pools).async_stack_size(PAGES * PAGE).max_wasm_stack(PAGE);
        let m = Machine::<A>::new(&config.async_stack_zeroing(true), 4 * MIB);
        let before = available(&m);
        for round in 0..3 {
            let stack = m.allocator.allocate_fiber_stack().unwrap();
            assert!(is_zero(&m, &stack), "a stack with bytes of round {round}, keeping {keep}");
            fill(&m, &stack);
            assert_eq!(available(&m), before - PAGES);
            m.allocator.deallocate_fiber_stack(stack);
            let (all, unused) = (m.allocator.metrics(), pooling(&m));
            assert_eq!((all.available_frames, all.idle_frames, all.queued_slots), (before, kept, 0));
            assert_eq!(unused.unused_stack_bytes_resident, Some(kept * PAGE));
            assert_eq!(unused.unused_warm_stacks, warm);
        }
    }
}

pub(crate) fn not_zeroed<A: TestArch>() {
    // As many frames as the memory needs, and not without the stack's.
    let m = Machine::<A>::new(&config(1, MIB), 3 * MIB);
    let before = available(&m);
    let stack = m.allocator.allocate_fiber_stack().unwrap();
    fill(&m, &stack);
    m.allocator.deallocate_fiber_stack(stack);
    assert_eq!(pooling(&m).unused_stack_bytes_resident, None);
    assert_eq!(m.allocator.metrics().idle_frames, MIB / PAGE, "its frames stay");
    let again = m.allocator.allocate_fiber_stack().unwrap();
    fill(&m, &again);
    m.allocator.deallocate_fiber_stack(again);

    let pages = before.min(2 * MIB / PAGE);
    assert!(before - MIB / PAGE < pages, "the memory does without the stack's frames");
    let memory = m.allocator.allocate_memory(pages * PAGE).unwrap();
    for byte in (0..pages * PAGE).step_by(PAGE) {
        m.store(&memory, byte as i64, 1).expect("it is promised its frame");
        assert_eq!(m.load(&memory, byte as i64 + 17), Ok(0), "a frame came with a stack's contents");
    }
    m.allocator.deallocate_memory(memory);
    assert_eq!(available(&m), before);
}

/// Also where the CPU keeps no dirty state: who runs on a stack could not answer.
pub(crate) fn no_write_faults<A: TestArch>() {
    const PAGES: usize = 4;
    for (zeroing, poison) in [(false, false), (true, false), (true, true)] {
        let pools = pool(1, 2 * MIB).total_stacks(1).poison(poison);
        let pooled = pooled(pools).async_stack_size(PAGES * PAGE).max_wasm_stack(PAGE);
        for config in [pooled, pooled.allocation_strategy(InstanceAllocationStrategy::OnDemand)] {
            let m = Machine::<A>::new(&config.async_stack_zeroing(zeroing), 4 * MIB);
            for round in 0..3 {
                let stack = m.allocator.allocate_fiber_stack().unwrap();
                for page in 1..=PAGES {
                    let address = VirtAddr(stack.top().0 - (page * PAGE) as u64);
                    // Past the allocator, which would answer the fault.
                    let stored = m.allocator.arch().store(address, 7);
                    assert_eq!(stored, Ok(()), "page {page}, round {round}, {config}");
                }
                assert!(m.allocator.arch().store(VirtAddr(stack.guard().end.0 - 1), 7).is_err());
                m.allocator.deallocate_fiber_stack(stack);
            }
        }
    }
}
