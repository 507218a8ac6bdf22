//! The machine's end and its CPUs' start, by PSCI (DEN 0022).
//!
//! SYSTEM_OFF has no room for a status: QEMU's is 0 however the machine fared, so that the
//! verdict is the console's last line alone.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::Exit;

const SYSTEM_OFF: u64 = 0x8400_0008;
const CPU_ON: u64 = 0xc400_0003;

/// Whether PSCI is called by `smc`; if not, by `hvc`.
static BY_SMC: AtomicBool = AtomicBool::new(false);

/// Which instruction calls PSCI, as the device tree says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduit {
    /// To a hypervisor, or to what plays it.
    Hvc,
    /// To the firmware.
    Smc,
}

/// Calls PSCI this way from now on.
pub(super) fn init(conduit: Conduit) {
    BY_SMC.store(conduit == Conduit::Smc, Ordering::Relaxed);
}

/// Starts the CPU of this affinity at `entry`, with `context` in x0. Returns 0, or PSCI's error code.
pub(super) fn cpu_on(affinity: u64, entry: u64, context: u64) -> i64 {
    call(CPU_ON, [affinity, entry, context])
}

/// Ends the machine.
pub(crate) fn end(_: Exit) -> ! {
    // If that comes back, nothing has changed.
    call(SYSTEM_OFF, [0; 3]);
    loop {
        aarch64_cpu::asm::wfi();
    }
}

/// Calls a function of PSCI.
fn call(function: u64, [first, second, third]: [u64; 3]) -> i64 {
    let result;
    if BY_SMC.load(Ordering::Relaxed) {
        // SAFETY: asks the firmware to stop or start CPUs, which come to code that is made for that.
        unsafe {
            asm!("smc #0", inout("x0") function => result, inout("x1") first => _, inout("x2") second => _,
                inout("x3") third => _, clobber_abi("C"));
        }
    } else {
        // SAFETY: likewise.
        unsafe {
            asm!("hvc #0", inout("x0") function => result, inout("x1") first => _, inout("x2") second => _,
                inout("x3") third => _, clobber_abi("C"));
        }
    }
    result
}
