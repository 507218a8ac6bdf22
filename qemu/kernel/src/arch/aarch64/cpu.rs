//! Small things that only the CPU can do.

use core::arch::asm;

/// The caller's frame pointer, where its frame record lies.
#[inline(always)]
pub(crate) fn frame_pointer() -> u64 {
    let frame_pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) frame_pointer, options(nomem, nostack, preserves_flags)) };
    frame_pointer
}

/// What a loop does that waits for a device or another CPU. `yield`, and not `core`'s `isb`: with it an
/// emulator that runs all CPUs in turn goes on with the next one.
pub(crate) fn relax() {
    // SAFETY: only a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
}
