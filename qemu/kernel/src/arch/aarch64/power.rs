//! The machine's end, by PSCI (DEN 0022).
//!
//! SYSTEM_OFF has no room for a status: QEMU's is 0 however the machine fared, so that the
//! verdict is the console's last line alone.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::Exit;

const SYSTEM_OFF: u64 = 0x8400_0008;

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

/// Ends the machine.
pub(crate) fn end(_: Exit) -> ! {
    if BY_SMC.load(Ordering::Relaxed) {
        // SAFETY: asks the firmware to switch the machine off; if that comes back, nothing has changed.
        unsafe { asm!("smc #0", inout("x0") SYSTEM_OFF => _, clobber_abi("C")) };
    } else {
        // SAFETY: likewise.
        unsafe { asm!("hvc #0", inout("x0") SYSTEM_OFF => _, clobber_abi("C")) };
    }
    loop {
        aarch64_cpu::asm::wfi();
    }
}
