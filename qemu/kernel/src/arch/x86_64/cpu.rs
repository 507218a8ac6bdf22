//! Bits of the CPU itself.

use core::arch::asm;

/// The caller's frame pointer: where its frame record is.
#[inline(always)]
pub(crate) fn frame_pointer() -> u64 {
    let pointer;
    // SAFETY: only copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// What a waiting loop does.
#[inline]
pub(crate) fn relax() {
    core::hint::spin_loop();
}
