//! What a CPU says about a page that it could not access.
//!
//! ```text
//!   x86_64    error code of #PF     [4] fetch  [2] user  [1] write  [0] present
//!   aarch64   ESR_EL1               EC [31:26]   WnR [6]   status [5:0]
//! ```
//!
//! Both are decoded on every target. What is no fault of the kernel's own on a page that lacks a
//! translation or a right decodes to `None`: tables that are edited make none of those succeed.

use core::fmt;

/// What the faulting instruction tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultAccess {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl FaultAccess {
    /// From the error code that x86_64 pushes for `#PF`: of the crate `x86_64`,
    /// `PageFaultErrorCode::bits`.
    ///
    /// `None` if user mode did it, a reserved bit is set in an entry, or a protection key,
    /// a shadow stack or an enclave is in the way: who tried again would fault for ever.
    #[must_use]
    pub const fn from_error_code(code: u64) -> Option<Self> {
        const PRESENT: u64 = 1 << 0;
        const WRITE: u64 = 1 << 1;
        const FETCH: u64 = 1 << 4;
        match code & !PRESENT {
            0 => Some(Self::Read),
            WRITE => Some(Self::Write),
            FETCH => Some(Self::Execute),
            _ => None,
        }
    }

    /// From aarch64's ESR_EL1.
    ///
    /// `None` unless it is a data or instruction abort of EL1's own that translation, the
    /// access flag or a permission caused: not for an alignment fault, an external abort, or
    /// anything of EL0's.
    #[must_use]
    pub const fn from_esr(esr: u64) -> Option<Self> {
        const WRITE: u64 = 1 << 6;
        // Translation faults of levels 0 to 3 and -1; access flag and permission faults.
        if !matches!(esr & 0x3f, 0x04..=0x0f | 0x2b) {
            return None;
        }
        match esr >> 26 & 0x3f {
            0x21 => Some(Self::Execute),
            // Cache maintenance counts as a write, and is asked about as one.
            0x25 if esr & WRITE != 0 => Some(Self::Write),
            0x25 => Some(Self::Read),
            _ => None,
        }
    }
}

impl fmt::Display for FaultAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::FaultAccess::{self, Execute, Read, Write};

    #[test]
    fn error_codes_of_the_kernel_say_what_was_tried() {
        for (code, access) in [(0, Read), (1, Read), (2, Write), (3, Write), (0x10, Execute), (0x11, Execute)]
        {
            assert_eq!(FaultAccess::from_error_code(code), Some(access), "{code:#x}");
        }
    }

    #[test]
    fn error_codes_that_no_edit_helps_are_nobodys() {
        // User mode, reserved bit, protection key, shadow stack, HLAT, enclave, RMP; a fetch that writes.
        for code in [1 << 2, 1 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 15, 1 << 31, 0x12, u64::MAX] {
            assert_eq!(FaultAccess::from_error_code(code), None, "{code:#x}");
            assert_eq!(FaultAccess::from_error_code(code | 1), None, "{code:#x}");
        }
    }

    #[test]
    fn syndromes_of_el1_say_what_was_tried() {
        for status in (0x04..=0x0f).chain([0x2b]) {
            let data = 0x25 << 26 | 1 << 25 | status;
            assert_eq!(FaultAccess::from_esr(data), Some(Read), "{status:#x}");
            assert_eq!(FaultAccess::from_esr(data | 1 << 6), Some(Write), "{status:#x}");
            assert_eq!(FaultAccess::from_esr(0x21 << 26 | 1 << 25 | status), Some(Execute), "{status:#x}");
        }
    }

    #[test]
    fn syndromes_that_no_edit_helps_are_nobodys() {
        // Address size, external abort, alignment, TLB conflict.
        for status in [0x00, 0x03, 0x10, 0x14, 0x18, 0x21, 0x29, 0x30, 0x3f] {
            assert_eq!(FaultAccess::from_esr(0x25 << 26 | status), None, "{status:#x}");
            assert_eq!(FaultAccess::from_esr(0x21 << 26 | status), None, "{status:#x}");
        }
        // Undefined instruction, system call, EL0's aborts, alignment of the program counter.
        for class in [0x00, 0x15, 0x20, 0x24, 0x22] {
            assert_eq!(FaultAccess::from_esr(class << 26 | 0x07), None, "{class:#x}");
        }
    }
}
