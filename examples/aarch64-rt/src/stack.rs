//! Two stacks: the thread's, and the one that exceptions get.
//!
//! The CPU takes an exception on SP_EL1. What runs on SP_EL0 meanwhile keeps a stack of its own: it may be
//! full, and its pointer is in a register that a handler can change.

use core::{arch::asm, ops::Range};

use aarch64_rt::Stack;

/// Wasm may use 512 KiB of it, unless Wasmtime is told otherwise; the rest is for the host.
const PAGES: usize = 256;

#[repr(C)]
struct Guarded {
    guard: Stack<1>,
    stack: Stack<PAGES>,
}

static mut THREAD: Guarded = Guarded { guard: Stack::new(), stack: Stack::new() };

/// The page below the thread's stack, which is not mapped.
pub(crate) fn guard() -> Range<usize> {
    let guard = &raw mut THREAD;
    // SAFETY: only the address is taken.
    let guard = unsafe { &raw mut (*guard).guard };
    guard.addr()..guard.wrapping_add(1).addr()
}

/// Goes on with `main` on the thread's stack. Exceptions have what is left of the one in use.
pub(crate) fn switch(main: extern "C" fn() -> !) -> ! {
    let end = (&raw mut THREAD).wrapping_add(1).addr();
    // SAFETY: nothing returns to the old stack, and nobody else has the new one.
    unsafe {
        asm!(
            "msr spsel, #0",
            "mov sp, {end}",
            "br {main}",
            end = in(reg) end,
            main = in(reg) main,
            options(noreturn),
        )
    }
}
