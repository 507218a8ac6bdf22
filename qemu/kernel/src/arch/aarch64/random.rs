//! Random numbers from the CPU (FEAT_RNG).

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64ISAR0_EL1, Readable};

/// A number from the CPU's generator, if it has one and that is able to serve.
pub(crate) fn hardware() -> Option<u64> {
    if ID_AA64ISAR0_EL1.get() >> 60 == 0 {
        return None;
    }
    let number: u64;
    let ready: u64;
    // SAFETY: reads RNDR, which the field RNDR above says is there. Z is set when it could
    // not serve in time (Arm ARM, RNDR).
    unsafe {
        asm!("mrs {}, s3_3_c2_c4_0", "cset {}, ne", out(reg) number, out(reg) ready, options(nomem, nostack));
    }
    (ready != 0).then_some(number)
}
