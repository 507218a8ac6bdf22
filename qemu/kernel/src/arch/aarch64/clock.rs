//! Time: the generic timer's counter, the cycle counter, the PL031.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aarch64_cpu::{
    asm::barrier,
    registers::{CNTFRQ_EL0, CNTVCT_EL0, ID_AA64DFR0_EL1, Readable},
};

use crate::ranges::pointer;

/// Where the PL031 is, 0 if there is none.
static RTC: AtomicU64 = AtomicU64::new(0);
/// Whether the cycle counter is there and counts.
static CYCLES: AtomicBool = AtomicBool::new(false);

/// Starts the cycle counter, if the CPU has one.
pub(super) fn init() {
    // PMUVer: 0 is no counters, 15 is counters of another kind.
    let version = ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer);
    if version == 0 || version == 0b1111 {
        return;
    }
    // SAFETY: PMCCFILTR_EL0 = 0 counts at EL1; PMCNTENSET_EL0 bit 31 is the cycle counter; PMCR_EL0.E
    // and LC start it with 64 bits. Nothing else uses the counters.
    unsafe {
        asm!(
            "msr pmccfiltr_el0, xzr",
            "msr pmcntenset_el0, {enable}",
            "mrs {control}, pmcr_el0",
            "orr {control}, {control}, #1",
            "orr {control}, {control}, #(1 << 6)",
            "bic {control}, {control}, #(1 << 3)",
            "msr pmcr_el0, {control}",
            "isb",
            enable = in(reg) 1u64 << 31,
            control = out(reg) _,
            options(nomem, nostack, preserves_flags),
        );
    }
    CYCLES.store(true, Ordering::Relaxed);
}

/// Takes the time of day from the PL031 at `base` from now on.
///
/// # Safety
/// There is one, and the final map has it.
pub(super) unsafe fn init_rtc(base: u64) {
    RTC.store(base, Ordering::Relaxed);
}

/// The counter of the generic timer.
pub(crate) fn ticks() -> u64 {
    barrier::isb(barrier::SY); // counters may be read early (Arm ARM, CNTVCT_EL0)
    CNTVCT_EL0.get()
}

/// Ticks a second.
pub(crate) fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// Seconds since 1970, if there is a clock that knows.
pub(crate) fn wall_clock_seconds() -> Option<u64> {
    let base = RTC.load(Ordering::Relaxed);
    if base == 0 {
        return None;
    }
    let data = pointer::<u32>(base);
    // SAFETY: RTCDR of the PL031 that `init_rtc` was promised; reading it has no effect.
    Some(u64::from(unsafe { data.read_volatile() }))
}

/// [`instructions`] since the kernel's first one, which is the machine's first: by the timer, as the
/// cycle counter starts later. So it is exact to a tick.
pub(crate) fn since_entry() -> u64 {
    ticks() * (1_000_000_000 / frequency().max(1))
}

/// Cycles: under QEMU's `-icount shift=0` one for each instruction. Without a cycle counter, [`ticks`].
#[inline]
pub(crate) fn instructions() -> u64 {
    if !CYCLES.load(Ordering::Relaxed) {
        return ticks();
    }
    let cycles;
    // SAFETY: reads PMCCNTR_EL0, which `init` found and started.
    unsafe { asm!("mrs {}, pmccntr_el0", out(reg) cycles, options(nomem, nostack, preserves_flags)) };
    cycles
}
