//! From what a CPU reports to a verdict, and what a report prints.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::{format, string::ToString};

use allotment::{
    CompiledModuleId, FaultAccess, FaultReport, MemoryRequest, Verdict,
    arch::{Access, VirtAddr},
};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, at, pooled, small, small_pool};

harness::tests! {
    fn a_handler_asks_with_what_the_cpu_gave_it() {
        on_every_machine!(handler);
    }

    fn faults_that_no_edit_helps_are_not_ours() {
        on_every_machine!(not_ours);
    }

    fn a_report_prints_as_one_line_and_as_several() {
        on_every_machine!(text);
    }
}

const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
/// A data abort of EL1's own, by a permission; with WnR a write.
const ABORT: u64 = 0x25 << 26 | 0x0f;
const ABORT_OF_WRITE: u64 = ABORT | 1 << 6;
const ABORT_OF_FETCH: u64 = 0x21 << 26 | 0x0f;

/// What a handler of either architecture is told.
fn ask<A: TestArch>(m: &Machine<A>, address: VirtAddr, access: FaultAccess) -> Verdict {
    let (code, esr) = match access {
        FaultAccess::Read => (0, ABORT),
        FaultAccess::Write => (WRITE, ABORT_OF_WRITE),
        FaultAccess::Execute => (FETCH, ABORT_OF_FETCH),
    };
    let verdict = m.allocator.fault_from_error_code(address.0, code);
    assert_eq!(m.allocator.fault_from_error_code(address.0, code | 1), verdict, "whether a page is there");
    assert_eq!(m.allocator.fault_from_esr(esr, address.0), verdict, "on the other architecture");
    assert_eq!(m.allocator.fault(address, access), verdict);
    verdict
}

fn handler<A: TestArch>() {
    let m = Machine::<A>::new(&small(), 16 * MIB);
    let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    let (first, end) = (at(&memory, 0), at(&memory, WASM_PAGE as i64));
    assert_eq!(ask(&m, first, FaultAccess::Read), Verdict::Resume);
    assert_eq!(ask(&m, first, FaultAccess::Write), Verdict::Resume);
    for (address, access) in
        [(first, FaultAccess::Execute), (end, FaultAccess::Read), (end, FaultAccess::Write)]
    {
        let Verdict::Trap(report) = ask(&m, address, access) else { panic!("{access} at {address}") };
        assert_eq!((report.address, report.access), (address, access));
    }
    // What may be read only is told from what may be written.
    let region = m.allocator.reserve_region(PAGE).unwrap();
    // SAFETY: nobody uses the region.
    unsafe { m.allocator.protect_region(region, PAGE, Some(Access::Read)) }.unwrap();
    assert_eq!(ask(&m, region, FaultAccess::Read), Verdict::Resume);
    assert!(matches!(ask(&m, region, FaultAccess::Write), Verdict::Trap(_)));
    assert_eq!(ask(&m, VirtAddr(0), FaultAccess::Read), Verdict::NotOurs);
    // SAFETY: as above.
    unsafe { m.allocator.release_region(region, PAGE) }.unwrap();
    m.allocator.deallocate_memory(memory);
}

/// Each of these would be resumed for ever, as the page is there and may be written.
fn not_ours<A: TestArch>() {
    let m = Machine::<A>::new(&small(), 16 * MIB);
    let memory = m.allocator.allocate_memory(PAGE).unwrap();
    let address = at(&memory, 8).0;
    assert_eq!(m.allocator.fault_from_error_code(address, WRITE | 1), Verdict::Resume);
    assert_eq!(m.allocator.fault_from_esr(ABORT_OF_WRITE, address), Verdict::Resume);
    let (user, reserved, key) = (1 << 2, 1 << 3, 1 << 5);
    for code in [user, user | 1, user | WRITE | 1, reserved | 1, key | 1] {
        assert_eq!(m.allocator.fault_from_error_code(address, code), Verdict::NotOurs, "{code:#x}");
    }
    let (alignment, external) = (0x25 << 26 | 0x21, 0x25 << 26 | 0x10);
    let (lower_level, system_call) = (0x24 << 26 | 0x0f, 0x15 << 26 | 0x0f);
    for esr in [alignment, external, lower_level, system_call, 0] {
        assert_eq!(m.allocator.fault_from_esr(esr, address), Verdict::NotOurs, "{esr:#x}");
    }
    m.allocator.deallocate_memory(memory);
}

fn report<A: TestArch>(m: &Machine<A>, address: VirtAddr) -> FaultReport {
    let Verdict::Trap(report) = m.allocator.fault(address, FaultAccess::Write) else {
        panic!("{address} can be written")
    };
    report
}

fn text<A: TestArch>() {
    let pool = small_pool().total_stacks(1);
    let m = Machine::<A>::new(&pooled(pool).async_stack_size(64 * PAGE).max_wasm_stack(PAGE), 16 * MIB);
    let request = MemoryRequest::new(WASM_PAGE).module(CompiledModuleId(5), 0);
    let memory = m.allocator.allocate_memory(request).unwrap();
    let beyond = report(&m, at(&memory, WASM_PAGE as i64 + 0x10));
    let address = beyond.address;
    assert_eq!(
        beyond.to_string(),
        format!(
            "write at {address}: memory 0, offset 0x10010 of 0x10000 accessible bytes, slot 0 of memories \
             (generation 1), module 5"
        )
    );
    assert_eq!(
        format!("{beyond:#}"),
        format!(
            "write at {address} is not allowed\n  \
               what        memory 0\n  \
               offset      0x10010, of 0x10000 accessible bytes\n  \
               slot        0 of memories, generation 1, in use\n  \
               module      5"
        )
    );
    m.allocator.deallocate_memory(memory);
    let freed = format!("{:#}", report(&m, address));
    assert!(freed.contains("slot        0 of memories, generation 2, free"), "{freed}");

    let stack = m.allocator.allocate_fiber_stack().unwrap();
    let below = stack.guard().end.offset(usize::MAX - 7);
    assert_eq!(
        format!("{:#}", report(&m, below)),
        format!(
            "write at {below} is not allowed\n  \
               what        guard below a fiber stack, which overflowed\n  \
               offset      -0x8, of 0x40000 accessible bytes\n  \
               slot        0 of fiber stacks, generation 1, in use"
        )
    );
    m.allocator.deallocate_fiber_stack(stack);

    let region = m.allocator.reserve_region(PAGE).unwrap();
    assert_eq!(
        format!("{:#}", report(&m, region)),
        format!("write at {region} is not allowed\n  what        region without that access")
    );
    // SAFETY: nobody uses the region.
    unsafe { m.allocator.release_region(region, PAGE) }.unwrap();
    on_demand_text::<A>();
}

fn on_demand_text<A: TestArch>() {
    let m = Machine::<A>::new(&allotment::Config::new(), 16 * MIB);
    let memory =
        m.allocator.allocate_memory(MemoryRequest::new(PAGE).module(CompiledModuleId(9), 2)).unwrap();
    let before = report(&m, at(&memory, -16));
    let text = format!("{before:#}");
    let expected = format!(
        "write at {} is not allowed\n  \
           what        guard before memory 2\n  \
           offset      -0x10, of 0x1000 accessible bytes\n  \
           range       0 on demand, generation ",
        before.address
    );
    assert!(text.starts_with(&expected) && text.ends_with(", in use\n  module      9"), "{text}");
    m.allocator.deallocate_memory(memory);
}
