//! Allotment's own share, without Wasmtime: the calls that Wasmtime would make, and faults.

use core::{
    arch::global_asm,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use allotment::{
    FaultAccess,
    wasmtime::{Delivery, GUARD_SIZE, RESERVATION, deliver},
};
use kernel::{
    BootInfo, Frame,
    exception::{Exception, Handled, set_hook},
};

use crate::{
    count::{average, counted, part_of, row},
    group::{Group, group},
};

pub(crate) const GROUPS: &[Group] =
    &[group("machine", true, &["a-share-platform-calls", "d-share-mprotect", "e-share-fault"], machine)];

const MAPPING: usize = GUARD_SIZE + RESERVATION + GUARD_SIZE;
const WASM_PAGE: usize = 0x1_0000;
const PAGE: usize = 0x1000;
const NONE: u32 = 0;
const READ_WRITE: u32 = 3;
const READ_EXECUTE: u32 = 5;

unsafe extern "C" {
    fn wasmtime_mmap_new(size: usize, prot_flags: u32, ret: *mut *mut u8) -> i32;
    fn wasmtime_mprotect(start: *mut u8, size: usize, prot_flags: u32) -> i32;
    fn wasmtime_munmap(start: *mut u8, size: usize) -> i32;
}

fn machine(boot: &'static BootInfo) {
    runtime::start(boot).expect("a platform");
    row("a-share-platform-calls", || average(platform_calls));
    row("d-share-mprotect", growth);
    let share = fault();
    row("e-share-fault", || share);
}

/// What Wasmtime asks of the platform in one cycle with one page.
fn platform_calls() {
    let start = map(MAPPING, NONE);
    // SAFETY: the memory begins after the guard.
    let given = unsafe { wasmtime_mprotect(start.wrapping_add(GUARD_SIZE), WASM_PAGE, READ_WRITE) };
    // SAFETY: nobody uses it.
    let released = unsafe { wasmtime_munmap(start, MAPPING) };
    assert_eq!((given, released), (0, 0));
}

/// What it asks when a memory grows by a wasm page, in a slot that has had those pages.
fn growth() -> u64 {
    const TIMES: usize = 100;
    let grow = |operations: u64| {
        let start = map(MAPPING, NONE);
        let memory = start.wrapping_add(GUARD_SIZE);
        let count = counted(operations, || {
            for page in 0..TIMES {
                let start = memory.wrapping_add(page * WASM_PAGE);
                // SAFETY: the memory begins after the guard.
                let given = unsafe { wasmtime_mprotect(start, WASM_PAGE, READ_WRITE) };
                assert_eq!(given, 0);
            }
        });
        // SAFETY: nobody uses it.
        let released = unsafe { wasmtime_munmap(start, MAPPING) };
        assert_eq!(released, 0);
        count / TIMES as u64
    };
    grow(0);
    grow(TIMES as u64)
}

fn map(bytes: usize, protection: u32) -> *mut u8 {
    let mut start = ptr::null_mut();
    // SAFETY: these are Allotment's, with the contract of Wasmtime's.
    let mapped = unsafe { wasmtime_mmap_new(bytes, protection, &raw mut start) };
    assert_eq!(mapped, 0);
    start
}

/// What faults is taken for the doing of an instruction here.
static WASM_PC: AtomicUsize = AtomicUsize::new(0);

/// From an undefined instruction to the one after: the exception's entry,
/// Allotment's verdict that it is a wasm trap, and the exception's exit.
fn fault() -> u64 {
    let code = map(PAGE, READ_WRITE);
    // SAFETY: nobody has it but we.
    let published = unsafe { wasmtime_mprotect(code, PAGE, READ_EXECUTE) };
    assert_eq!(published, 0);
    WASM_PC.store(code.addr(), Ordering::Relaxed);
    set_hook(divert_and_skip);
    // SAFETY: both only return; the hook skips the undefined instruction.
    let with = part_of("e-share-fault", || average(|| unsafe { bench_undefined() }));
    // SAFETY: as above.
    let without = average(|| unsafe { bench_nothing() });
    runtime::exceptions::init();
    with - without
}

fn divert_and_skip(frame: &mut Frame, _: &Exception) -> Handled {
    let exception = allotment::wasmtime::Exception {
        pc: WASM_PC.load(Ordering::Relaxed),
        fault: Some((0x10, FaultAccess::Read)),
    };
    let Delivery::Divert(_) = deliver(&exception) else { return Handled::No };
    frame.set_pc(bench_nothing as *const () as u64);
    Handled::Resume
}

unsafe extern "C" {
    fn bench_undefined();
    fn bench_nothing();
}

#[cfg(target_arch = "x86_64")]
global_asm!(".global bench_undefined, bench_nothing", "bench_undefined: ud2", "bench_nothing: ret");
#[cfg(target_arch = "aarch64")]
global_asm!(".global bench_undefined, bench_nothing", "bench_undefined: udf #0", "bench_nothing: ret");
