//! aarch64-rt's vectors, and what they leave out: it saves the registers that a function may change, but
//! not those for vectors, which this function and all that it calls may change as well.

use core::arch::naked_asm;

use aarch64_cpu::registers::{ESR_EL1, FAR_EL1, Readable};
use aarch64_rt::{ExceptionHandlers, RegisterStateRef, exception_handlers};

use crate::wasm;

exception_handlers!(Exceptions);

struct Exceptions;

impl ExceptionHandlers for Exceptions {
    /// Saves q0 to q31, FPSR and FPCR around [`handle`], as an exception that is answered comes back to
    /// code that has something in them.
    #[unsafe(naked)]
    extern "C" fn sync_current(state: RegisterStateRef<'_>) {
        naked_asm!(
            "sub sp, sp, #544",
            "stp x29, x30, [sp]",
            "mov x29, sp",
            "mrs x1, fpsr",
            "mrs x2, fpcr",
            "stp x1, x2, [sp, #16]",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "  str q\\n, [sp, #(32 + 16 * \\n)]",
            ".endr",
            "bl {handle}",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "  ldr q\\n, [sp, #(32 + 16 * \\n)]",
            ".endr",
            "ldp x1, x2, [sp, #16]",
            "msr fpsr, x1",
            "msr fpcr, x2",
            "ldp x29, x30, [sp]",
            "add sp, sp, #544",
            "ret",
            handle = sym handle,
        )
    }
}

extern "C" fn handle(mut state: RegisterStateRef<'_>) {
    let (syndrome, address) = (ESR_EL1.get(), FAR_EL1.get());
    // Bit 0 of the saved state: on SP_EL1, hence in a handler.
    let in_thread = state.spsr & 1 == 0;
    let mut pc = state.elr;
    if !in_thread || !wasm::answer(&mut pc, syndrome, address) {
        panic!("exception {syndrome:#x} at {:#x}, address {address:#x}, {state:#x?}", state.elr);
    }
    // SAFETY: all is as it was, but where it goes on, which is as the answer wants it.
    unsafe { state.get_mut() }.elr = pc;
}
