//! All vector registers with a pattern in them, across one instruction.

use core::arch::global_asm;

/// What the instruction is: a load of a byte.
pub(crate) const LOAD: u64 = 0;
/// One that does not exist.
pub(crate) const INVALID: u64 = 1;
/// A division by zero.
#[cfg(target_arch = "x86_64")]
pub(crate) const DIVISION: u64 = 2;
/// A store of a byte.
pub(crate) const STORE: u64 = 3;
/// A jump.
pub(crate) const JUMP: u64 = 4;

/// 16 registers of 32 bytes, or 32 of 16.
type Registers = [u8; 512];

/// Asserts that the registers are the same after the instruction, or after what was done about it.
pub(crate) fn trial(kind: u64, address: u64) {
    // Every byte of every register is different from its neighbours.
    let before: Registers = core::array::from_fn(|byte| (byte * 7 + byte / 32 + 1).to_le_bytes()[0]);
    let mut after: Registers = [0; 512];
    // SAFETY: the function loads and stores whole arrays; tests access bytes of their own, and a fault in
    // between is answered.
    unsafe { vectors_trial(&raw const before, &raw mut after, kind, address) };
    for (part, (before, after)) in before.chunks(16).zip(after.chunks(16)).enumerate() {
        assert_eq!(before, after, "16 bytes from byte {} of the registers", part * 16);
    }
}

/// Where a trial goes on after its instruction.
pub(crate) fn end() -> u64 {
    vectors_after as *const () as u64
}

/// Changes every vector register.
pub(crate) fn clobber() {
    // SAFETY: whoever calls this has them saved; this is what is tested.
    unsafe { vectors_clobber() };
}

unsafe extern "C" {
    fn vectors_trial(from: *const Registers, to: *mut Registers, kind: u64, address: u64);
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
    "cmp edx, {INVALID}",
    "je 2f",
    "cmp edx, {DIVISION}",
    "je 3f",
    "cmp edx, {STORE}",
    "je 4f",
    "cmp edx, {JUMP}",
    "je 5f",
    "mov al, byte ptr [rcx]",
    "jmp vectors_after",
    "2: ud2",
    "3: xor eax, eax",
    "xor edx, edx",
    "div eax",
    "5: jmp rcx",
    "4: mov byte ptr [rcx], 1",
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
    INVALID = const INVALID,
    DIVISION = const DIVISION,
    STORE = const STORE,
    JUMP = const JUMP,
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
    "cmp x2, #{INVALID}",
    "b.eq 2f",
    "cmp x2, #{STORE}",
    "b.eq 4f",
    "cmp x2, #{JUMP}",
    "b.eq 5f",
    "ldrb w10, [x3]",
    "b vectors_after",
    "2: udf #0",
    "5: br x3",
    "4: mov w10, #1",
    "strb w10, [x3]",
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
    // As a function may: of q8 to q15 it keeps the lower halves.
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "movi v\\n\\().2d, #0",
    ".endr",
    ".irp n, 8, 9, 10, 11, 12, 13, 14, 15",
    "mov v\\n\\().d[1], xzr",
    ".endr",
    "ret",
    INVALID = const INVALID,
    STORE = const STORE,
    JUMP = const JUMP,
);
