//! Guards, and what a fault is told about.

use alloc::string::ToString;

use allotment::{CompiledModuleId, FaultAccess, FaultRegion, FaultReport, Memory, MemoryRequest, Verdict};

use crate::{
    base,
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE},
    machine, small,
};

fn report<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, offset: i64) -> FaultReport {
    let Verdict::Trap(report) = m.verdict(memory, offset) else { panic!("no trap at {offset:#x}") };
    report
}

fn part<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, offset: i64) -> FaultRegion {
    let report = report(m, memory, offset);
    assert_eq!(report.offset, Some(offset));
    report.region
}

pub(crate) fn guards<A: TestArch>() {
    // Less than a granule, no multiple of one, and several.
    for guard in [1, WASM_PAGE, 3 * MIB, 4 * MIB] {
        for before in [true, false] {
            let config = small().memory_guard_size(guard).guard_before_linear_memory(before);
            let m = Machine::<A>::new(&config, 16 * MIB);
            let first = m.allocator.allocate_memory(MIB).unwrap();
            let second = m.allocator.allocate_memory(MIB).unwrap();
            let (guard, mib) = (i64::try_from(guard).unwrap(), i64::try_from(MIB).unwrap());
            let apart = base(&second).0.cast_signed() - base(&first).0.cast_signed();
            let guards = if before { 2 } else { 1 };
            assert!(apart >= mib + guards * guard, "{apart:#x} for {guards} guards of {guard:#x}");
            for memory in [&first, &second] {
                m.assert_ends_at(memory, MIB);
                for offset in [mib, mib + guard - 1] {
                    m.load(memory, offset).expect_err("the guard after was readable");
                    m.store(memory, offset, 1).expect_err("the guard after was writable");
                    assert_eq!(part(&m, memory, offset), FaultRegion::GuardAfter(None));
                }
                for offset in [-1, -guard] {
                    m.load(memory, offset).expect_err("there was something before");
                    if before {
                        assert_eq!(part(&m, memory, offset), FaultRegion::GuardBefore(None));
                    }
                }
            }
            m.allocator.deallocate_memory(first);
            m.allocator.deallocate_memory(second);
        }
    }
}

pub(crate) fn no_guards<A: TestArch>() {
    let config = small().memory_reservation(2 * MIB).memory_guard_size(0).guard_before_linear_memory(false);
    let m = Machine::<A>::new(&config, 16 * MIB);
    let first = m.allocator.allocate_memory(2 * MIB).unwrap();
    let second = m.allocator.allocate_memory(PAGE).unwrap();
    assert_eq!(base(&second).0 - base(&first).0, 2 * MIB as u64);
    m.store(&second, 0, 8).unwrap();
    let end = 2 * MIB as i64;
    assert_eq!(m.load(&first, end), Ok(8), "the neighbour's first byte");
    m.store(&first, end - 1, 9).unwrap();
    m.allocator.deallocate_memory(first);
    assert_eq!(m.load(&second, 0), Ok(8), "the neighbour went with it");
    assert_eq!(part(&m, &second, end - 1), FaultRegion::Memory(None));
    m.assert_ends_at(&second, PAGE);
    m.allocator.deallocate_memory(second);
}

pub(crate) fn reports<A: TestArch>() {
    let m = machine::<A>();
    let module = CompiledModuleId(7);
    let request = MemoryRequest::new(2 * PAGE).module(module, 3);
    let mut memory = m.allocator.allocate_memory(request).unwrap();
    let check = |report: FaultReport, region, offset, accessible| {
        let slot = report.slot.expect("a range");
        assert_eq!((slot.pool, slot.generation % 2, slot.accessible), (None, 1, accessible));
        assert_eq!((report.region, report.offset, report.module), (region, Some(offset), Some(module)));
    };
    let inside = FaultRegion::Memory(Some(3));
    check(report(&m, &memory, 2 * PAGE as i64), inside, 2 * PAGE as i64, 2 * PAGE);
    let said = report(&m, &memory, -16).to_string();
    assert!(said.contains("guard before memory 3") && said.contains("offset -0x10"), "{said}");
    assert!(said.contains("module 7") && said.contains("on demand"), "{said}");
    // Moved, it is the same memory with more, and another generation or record.
    memory.grow_to(3 * MIB).unwrap();
    let after = FaultRegion::GuardAfter(Some(3));
    check(report(&m, &memory, 4 * MIB as i64), after, 4 * MIB as i64, 3 * MIB);
    // What is accessible can be fetched by mistake, and is reported as well.
    assert_eq!(m.allocator.fault(base(&memory), FaultAccess::Write), Verdict::Resume);
    let Verdict::Trap(fetch) = m.allocator.fault(base(&memory), FaultAccess::Execute) else { panic!() };
    check(fetch, inside, 0, 3 * MIB);
    let first = base(&memory);
    m.allocator.deallocate_memory(memory);
    let Verdict::Trap(nobodys) = m.allocator.fault(first, FaultAccess::Read) else { panic!("no trap") };
    assert_eq!(nobodys.region, FaultRegion::Region);

    // One that no module defines.
    let memory = m.allocator.allocate_memory(0).unwrap();
    let said = report(&m, &memory, 0).to_string();
    assert!(said.contains(": memory, offset 0x0 of 0x0 accessible bytes, range "), "{said}");
    // Code has no report of this kind.
    let region = m.allocator.reserve_region(PAGE).unwrap();
    let Verdict::Trap(code) = m.allocator.fault(region, FaultAccess::Execute) else { panic!("no trap") };
    assert_eq!(code.region, FaultRegion::Region);
    // And what is a memory's is no region to be protected or released.
    // SAFETY: both calls are refused.
    unsafe { m.allocator.protect_region(base(&memory), PAGE, None) }.expect_err("a memory is no region");
    // SAFETY: as above.
    unsafe { m.allocator.release_region(base(&memory), MIB) }.expect_err("a memory is no region");
    // SAFETY: nobody uses it.
    unsafe { m.allocator.release_region(region, PAGE) }.unwrap();
    m.allocator.deallocate_memory(memory);
}
