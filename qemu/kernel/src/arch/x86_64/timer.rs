//! The local APIC's timer: the only interrupt that is ever let in.

use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

use super::apic;
use crate::{Frame, clock, exception, timer};

/// How long the timer is measured against the clock.
const MEASURED: u64 = 1_000_000;

/// Starts the timer on this CPU and lets its interrupt in. There is an APIC on every x86_64.
pub(crate) fn start(period: u64) -> bool {
    // The old interrupt controllers would send vectors that are exceptions'.
    for port in [0x21, 0xa1] {
        // SAFETY: the mask of one of the two controllers; all ones masks everything.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
    apic::enable();
    // The clock first: it measures itself when it is first asked, which takes a while.
    let begin = clock::monotonic_ns();
    apic::count_down(u32::MAX, apic::Count::Once);
    while clock::monotonic_ns() - begin < MEASURED {
        crate::arch::cpu::relax();
    }
    let counted = u64::from(u32::MAX - apic::counted_down());
    let took = clock::monotonic_ns() - begin;
    let count = u128::from(counted) * u128::from(period) / u128::from(took);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    apic::count_down(count, apic::Count::Periodic);
    interrupts::enable();
    true
}

/// Ends it.
pub(crate) fn stop() {
    interrupts::disable();
    apic::count_down(0, apic::Count::Once);
}

/// Called by the stub of the timer's vector; on return it restores what is in the frame.
#[unsafe(no_mangle)]
extern "C" fn timer_entry(frame: &mut Frame) {
    // A fault in a tick then counts as one inside a handler, which it is.
    let interrupted = exception::begin(frame);
    timer::ticked();
    exception::resume(interrupted);
    apic::end_of_interrupt();
}
