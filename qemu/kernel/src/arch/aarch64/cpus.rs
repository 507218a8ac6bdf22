//! CPUs 1 and up: their start by PSCI, their waiting.

use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{MAIR_EL1, MPIDR_EL1, Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1};
use heapless::Vec;
use spin::Once;

use super::{clock, exception, gic, power};
use crate::cpus::MAX;
use crate::ranges::pointer;
use crate::{Frame, cpus, stack};

const KIB: u64 = 1024;

/// What each CPU but the first runs on.
pub(crate) const STACKS: [(&str, u64); 3] =
    [("main", 1024 * KIB), ("exception", 64 * KIB), ("nested exception", 64 * KIB)];

/// The affinity fields of MPIDR_EL1, by which PSCI and the device tree know a CPU.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// CPUs beside this one, by affinity.
pub(super) type Others = Vec<u64, { MAX - 1 }>;

static OTHERS: Once<Others> = Once::new();

/// What a CPU finds, before it has caches: one line of them.
#[repr(C, align(64))]
struct Handoff {
    sctlr: AtomicU64,
    tcr: AtomicU64,
    mair: AtomicU64,
    ttbr0: AtomicU64,
    ttbr1: AtomicU64,
    main: AtomicU64,
    exception: AtomicU64,
    own: AtomicU64,
}

const _: () = assert!(size_of::<Handoff>() == 64);

static HANDOFFS: [Handoff; MAX] = [const {
    Handoff {
        sctlr: AtomicU64::new(0),
        tcr: AtomicU64::new(0),
        mair: AtomicU64::new(0),
        ttbr0: AtomicU64::new(0),
        ttbr1: AtomicU64::new(0),
        main: AtomicU64::new(0),
        exception: AtomicU64::new(0),
        own: AtomicU64::new(0),
    }
}; MAX];

global_asm!(
    include_str!("cpus.s"),
    SCTLR = const offset_of!(Handoff, sctlr),
    TCR = const offset_of!(Handoff, tcr),
    MAIR = const offset_of!(Handoff, mair),
    TTBR0 = const offset_of!(Handoff, ttbr0),
    TTBR1 = const offset_of!(Handoff, ttbr1),
    MAIN = const offset_of!(Handoff, main),
    EXCEPTION = const offset_of!(Handoff, exception),
    OWN = const offset_of!(Handoff, own),
);

unsafe extern "C" {
    /// Where CPUs start.
    fn cpus_start();
}

/// What a CPU knows of itself. Its TPIDR_EL1 points there.
#[repr(C)]
pub(super) struct Own {
    number: usize,
    /// What the exception that is being answered has interrupted.
    interrupted: AtomicPtr<Frame>,
    /// Where the stack starts on which exceptions inside handlers are reported.
    pub(super) nested: AtomicPtr<u8>,
}

/// `boot.s` makes the pointer to the first, which is complete before there is any Rust.
#[unsafe(no_mangle)]
static CPUS_OWN: [Own; MAX] = {
    let mut own = [const {
        Own { number: 0, interrupted: AtomicPtr::new(null_mut()), nested: AtomicPtr::new(null_mut()) }
    }; MAX];
    let mut number = 0;
    while number < MAX {
        own[number].number = number;
        number += 1;
    }
    own[0].nested = AtomicPtr::new(exception::FIRST_NESTED_TOP);
    own
};

/// This CPU's own.
#[inline]
fn own() -> &'static Own {
    let own: *const Own;
    // SAFETY: reads a register. To read it again is cheaper than to keep it across calls: not `pure`.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) own, options(nomem, nostack, preserves_flags)) };
    // SAFETY: boot code has put the address of one of `CPUS_OWN` there.
    unsafe { &*own }
}

/// The CPU that this runs on.
#[inline]
pub(crate) fn current() -> usize {
    let number = own().number;
    // SAFETY: `CPUS_OWN` has no others.
    unsafe { core::hint::assert_unchecked(number < MAX) };
    number
}

/// What the exception that this CPU is answering has interrupted, null if there is none.
#[inline]
pub(crate) fn interrupted() -> *mut Frame {
    own().interrupted.load(Ordering::Relaxed)
}

/// Sets what [`interrupted`] says.
#[inline]
pub(crate) fn set_interrupted(frame: *mut Frame) {
    own().interrupted.store(frame, Ordering::Relaxed);
}

/// Has [`interrupted`] say null.
#[inline]
pub(crate) fn clear_interrupted() {
    set_interrupted(null_mut());
}

/// Whether the device tree's CPU with this `reg` is another than this one.
pub(super) fn is_other(reg: u64) -> bool {
    reg != MPIDR_EL1.get() & AFFINITY
}

/// Notes which CPUs there are beside this one.
pub(super) fn init(others: Others) {
    OTHERS.call_once(|| others);
}

/// Starts CPUs `1..cpus`, which come to [`cpus::run`] in time.
///
/// # Panics
/// If the firmware refuses.
pub(crate) fn start(cpus: usize) {
    gic::start();
    let others = OTHERS.get().map_or(&[][..], |others| others);
    for (cpu, affinity) in (1..cpus).zip(others) {
        let handoff = &HANDOFFS[cpu];
        let [main, exception, nested] = stack::tops_of(cpu);
        CPUS_OWN[cpu].nested.store(pointer(nested), Ordering::Relaxed);
        for (place, value) in [
            (&handoff.sctlr, SCTLR_EL1.get()),
            (&handoff.tcr, TCR_EL1.get()),
            (&handoff.mair, MAIR_EL1.get()),
            (&handoff.ttbr0, TTBR0_EL1.get()),
            (&handoff.ttbr1, TTBR1_EL1.get()),
            (&handoff.main, main),
            (&handoff.exception, exception),
            (&handoff.own, (&raw const CPUS_OWN[cpu]).addr() as u64),
        ] {
            place.store(value, Ordering::Relaxed);
        }
        let address = (&raw const *handoff).addr() as u64;
        // SAFETY: writes a line of the caches back, which the CPU reads without them.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
        barrier::dsb(barrier::SY);
        let refusal = power::cpu_on(*affinity, cpus_start as *const () as u64, address);
        assert!(
            refusal == 0,
            "PSCI does not start CPU {cpu} ({affinity:#x}): error {refusal}; start the machine with one (-smp 1)"
        );
    }
}

/// Where `cpus.s` ends, on the CPU's own stack.
#[unsafe(no_mangle)]
extern "C" fn cpus_entry() -> ! {
    let cpu = current();
    clock::init();
    exception::init();
    gic::start_cpu(cpu);
    cpus::run(cpu)
}

/// Waits, more or less until somebody sets the value and calls [`wake`].
pub(crate) fn wait(_: &AtomicBool) {
    // An interrupt that came since the caller has looked is still pending.
    gic::wait(current());
}

/// Ends the waiting of `cpu`.
pub(crate) fn wake(cpu: usize) {
    gic::wake(cpu);
}
