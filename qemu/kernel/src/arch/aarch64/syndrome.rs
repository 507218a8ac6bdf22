//! What ESR_EL1 says about an exception, in the words that both architectures share.
//!
//! Classes and status codes: Arm ARM, "ESR_EL1, Exception Syndrome Register (EL1)".

use super::exception::Frame;
use crate::exception::{Access, Exception};

/// The row of the vector table within each group of four.
const SYNCHRONOUS: u64 = 0;

/// Decodes the exception that came by entry `vector` of the table.
#[inline]
pub(super) fn decode(frame: &Frame, vector: u64) -> Exception {
    if vector % 4 != SYNCHRONOUS {
        let name = match vector % 4 {
            1 => "interrupt (IRQ)",
            2 => "fast interrupt (FIQ)",
            _ => "system error (SError)",
        };
        return Exception::Other { class: frame.class(), code: frame.syndrome(), name };
    }
    match frame.class() {
        0x24 | 0x25 => abort(frame, data_access(frame.syndrome())),
        0x20 | 0x21 => abort(frame, Access::Execute),
        0x00 => Exception::InvalidOpcode,
        0x3c => Exception::Breakpoint,
        _ => other(frame),
    }
}

/// What a data abort's access was for.
#[inline]
pub(super) fn data_access(syndrome: u64) -> Access {
    // WnR: a write. Cache maintenance says so too (CM), which needs no write permission but
    // asks for one when it faults.
    if syndrome & 1 << 6 != 0 { Access::Write } else { Access::Read }
}

/// An instruction or data abort.
#[inline]
fn abort(frame: &Frame, access: Access) -> Exception {
    match refused(frame.syndrome()) {
        Some(present) => Exception::PageFault { addr: frame.fault_address(), access, present },
        None => other_abort(frame),
    }
}

/// By an abort's fault status code (ISS bits 5 to 0), whether a page is there, if it is translation that
/// refused the access.
#[inline]
pub(super) fn refused(syndrome: u64) -> Option<bool> {
    match syndrome & 0x3f {
        // Translation faults of levels 0 to 3 and -1.
        0x04..=0x07 | 0x2b => Some(false),
        // Access flag and permission faults.
        0x08..=0x0f => Some(true),
        _ => None,
    }
}

#[cold]
fn other_abort(frame: &Frame) -> Exception {
    let name = match frame.syndrome() & 0x3f {
        0x00..=0x03 | 0x29 => "address size fault",
        0x10 => "external abort: no memory or device at this address",
        0x13..=0x17 => "external abort on a page table walk",
        0x18 | 0x1b..=0x1f => "memory error that parity or ECC found",
        0x21 => "alignment fault",
        0x30 => "TLB conflict: two translations of one address",
        _ => "memory abort of a kind not known here",
    };
    Exception::Other { class: frame.class(), code: frame.syndrome(), name }
}

#[cold]
fn other(frame: &Frame) -> Exception {
    let name = match frame.class() {
        0x01 => "trapped wfi or wfe",
        0x07 => "trapped vector or floating-point instruction",
        0x0d => "branch target exception",
        0x0e => "illegal execution state",
        0x15 => "svc: there are no system calls here",
        0x16 => "hvc: there is no hypervisor",
        0x17 => "smc: there is no firmware",
        0x18 => "trapped system register",
        0x19 => "trapped SVE instruction: only q0 to q31 are in use here",
        0x1c => "pointer authentication failure",
        0x1d => "trapped SME instruction: only q0 to q31 are in use here",
        0x22 => "alignment fault of the program counter",
        0x26 => "alignment fault of the stack pointer",
        0x2c => "floating-point exception",
        0x2f => "system error (SError)",
        0x30 | 0x31 => "hardware breakpoint",
        0x32 | 0x33 => "software step",
        0x34 | 0x35 => "watchpoint",
        _ => "exception of a class not known here",
    };
    Exception::Other { class: frame.class(), code: frame.syndrome(), name }
}
