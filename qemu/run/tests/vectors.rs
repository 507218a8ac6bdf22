//! Vector registers survive every kind of fault, whatever the handler does
//! with them. Bare metal only.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
mod bare {
    use core::arch::global_asm;

    use kernel::{
        Frame,
        exception::{Exception, Handled, set_hook},
    };

    harness::tests! {
        fn vectors_survive_a_page_fault() {
            survive(0, |exception| matches!(exception, Exception::PageFault { .. }));
        }

        fn vectors_survive_an_invalid_instruction() {
            survive(1, |exception| matches!(exception, Exception::InvalidOpcode));
        }

        #[cfg(target_arch = "x86_64")]
        fn vectors_survive_a_division_error() {
            survive(2, |exception| matches!(exception, Exception::DivideError));
        }
    }

    /// 16 registers of 32 bytes, or 32 of 16.
    type Registers = [u8; 512];

    static SEEN: spin::Mutex<Option<Exception>> = spin::Mutex::new(None);

    fn survive(kind: u64, expected: fn(&Exception) -> bool) {
        set_hook(answer);
        // Every byte of every register is different from its neighbours.
        let before: Registers = core::array::from_fn(|byte| (byte * 7 + byte / 32 + 1).to_le_bytes()[0]);
        let mut after: Registers = [0; 512];
        // SAFETY: the function loads and stores whole arrays, and the fault in
        // between is skipped by `answer`.
        unsafe { vectors_trial(&raw const before, &raw mut after, kind) };
        let seen = SEEN.lock().take().expect("nothing faulted");
        assert!(expected(&seen), "{seen}");
        for (register, (before, after)) in before.chunks(16).zip(after.chunks(16)).enumerate() {
            assert_eq!(before, after, "16 bytes from byte {} of the registers", register * 16);
        }
    }

    /// Clobbers every vector register and goes on after the fault.
    fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
        *SEEN.lock() = Some(*exception);
        // SAFETY: the kernel's stub has saved them; this is what is tested.
        unsafe { vectors_clobber() };
        frame.set_pc(vectors_after as *const () as u64);
        Handled::Resume
    }

    unsafe extern "C" {
        fn vectors_trial(from: *const Registers, to: *mut Registers, kind: u64);
        fn vectors_after();
        fn vectors_clobber();
    }

    #[cfg(target_arch = "x86_64")]
    global_asm!(
        ".global vectors_trial",
        "vectors_trial:",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "vmovdqu ymm\\n, [rdi + 32 * \\n]",
        ".endr",
        "cmp edx, 1",
        "je 2f",
        "ja 3f",
        "mov al, byte ptr [0]",
        "2: ud2",
        "3: xor eax, eax",
        "xor edx, edx",
        "div eax",
        ".global vectors_after",
        "vectors_after:",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "vmovdqu [rsi + 32 * \\n], ymm\\n",
        ".endr",
        "vzeroupper",
        "ret",
        ".global vectors_clobber",
        "vectors_clobber:",
        "vzeroall",
        "ret",
    );

    #[cfg(target_arch = "aarch64")]
    global_asm!(
        ".global vectors_trial",
        "vectors_trial:",
        "stp d8, d9, [sp, #-64]!",
        "stp d10, d11, [sp, #16]",
        "stp d12, d13, [sp, #32]",
        "stp d14, d15, [sp, #48]",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "ldr q\\n, [x0, #16 * \\n]",
        ".endr",
        ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
        "ldr q\\n, [x0, #16 * \\n]",
        ".endr",
        "mov x9, #0",
        "cbnz x2, 2f",
        "ldrb w10, [x9]",
        "2: udf #0",
        ".global vectors_after",
        "vectors_after:",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "str q\\n, [x1, #16 * \\n]",
        ".endr",
        ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
        "str q\\n, [x1, #16 * \\n]",
        ".endr",
        "ldp d10, d11, [sp, #16]",
        "ldp d12, d13, [sp, #32]",
        "ldp d14, d15, [sp, #48]",
        "ldp d8, d9, [sp], #64",
        "ret",
        ".global vectors_clobber",
        "vectors_clobber:",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movi v\\n\\().2d, #0",
        ".endr",
        ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
        "movi v\\n\\().2d, #0",
        ".endr",
        "ret",
    );
}
