//! The generic timer (virtual, EL1): the only interrupt that is ever let in.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{CNTV_CTL_EL0, CNTV_TVAL_EL0, Writeable};

use super::{clock, gic};
use crate::cpus::{MAX, current};
use crate::timer;

/// The virtual timer's interrupt, each CPU's own (BSA, section on PPIs; QEMU's `virt` as well).
const INTERRUPT: u32 = 27;

/// By CPU, the timer's ticks from one interrupt to the next.
static PERIODS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

/// Starts the timer on this CPU and lets its interrupt in; `false` if nothing could deliver it.
pub(crate) fn start(period: u64) -> bool {
    /// What TVAL holds.
    const MOST: u128 = i32::MAX as u128;
    let ticks = u128::from(period) * u128::from(clock::frequency()) / 1_000_000_000;
    let ticks = u64::try_from(ticks.clamp(1, MOST)).unwrap_or(1);
    if !gic::enable(INTERRUPT) {
        return false;
    }
    PERIODS[current()].store(ticks, Ordering::Relaxed);
    CNTV_TVAL_EL0.set(ticks);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
    // SAFETY: clears PSTATE.I; the handler is in place, and no other interrupt is enabled.
    unsafe { asm!("msr daifclr, #0b0010", options(nostack, preserves_flags)) };
    true
}

/// Ends it.
pub(crate) fn stop() {
    // SAFETY: sets PSTATE.I.
    unsafe { asm!("msr daifset, #0b0010", options(nostack, preserves_flags)) };
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR);
}

/// Answers an interrupt. One that is not the timer's has woken this CPU, which was awake.
pub(super) fn interrupt() {
    gic::take(|interrupt| {
        if interrupt == INTERRUPT {
            CNTV_TVAL_EL0.set(PERIODS[current()].load(Ordering::Relaxed));
            timer::ticked();
        }
    });
}
