//! Control registers, as isolation needs them: values only, so that every target tests it.

use crate::CpuError;

/// What the CPU's registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// CR0.
    pub cr0: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// IA32_PAT.
    pub pat: u64,
}

const CR0_WP: u64 = 1 << 16;
const CR4_PCIDE: u64 = 1 << 17;
const EFER_NXE: u64 = 1 << 11;
const WRITE_BACK: u8 = 6;

impl Control {
    /// Refuses what would not protect a window.
    ///
    /// # Errors
    ///
    /// [`CpuError`]: the first bit that is wrong.
    pub const fn check(self) -> Result<(), CpuError> {
        if self.cr0 & CR0_WP == 0 {
            return Err(CpuError::WriteProtectOff);
        }
        if self.efer & EFER_NXE == 0 {
            return Err(CpuError::NoExecuteOff);
        }
        if self.cr4 & CR4_PCIDE != 0 {
            return Err(CpuError::ProcessContexts);
        }
        // Entries of the window name the first of the table's eight types.
        let found = (self.pat & 7) as u8;
        if found == WRITE_BACK { Ok(()) } else { Err(CpuError::MemoryType { found }) }
    }
}

#[cfg(test)]
mod tests {
    use super::Control;
    use crate::CpuError;

    /// As most kernels have them: protection, paging, SSE, no-execute, the reset value of PAT.
    const USUAL: Control = Control { cr0: 0x8001_0033, cr4: 0x6a0, efer: 0xd01, pat: 0x0007_0406_0007_0406 };

    #[test]
    fn each_bit_that_is_wrong_is_refused_by_name() {
        assert_eq!(USUAL.check(), Ok(()));
        // Other types after the first are the kernel's affair.
        assert_eq!(Control { pat: 0x0105_0406, ..USUAL }.check(), Ok(()));
        for (control, error) in [
            (Control { cr0: USUAL.cr0 & !(1 << 16), ..USUAL }, CpuError::WriteProtectOff),
            (Control { efer: USUAL.efer & !(1 << 11), ..USUAL }, CpuError::NoExecuteOff),
            (Control { cr4: USUAL.cr4 | 1 << 17, ..USUAL }, CpuError::ProcessContexts),
            (Control { pat: USUAL.pat & !7, ..USUAL }, CpuError::MemoryType { found: 0 }),
            (Control { pat: 1, ..USUAL }, CpuError::MemoryType { found: 1 }),
        ] {
            assert_eq!(control.check(), Err(error), "{control:x?}");
        }
    }
}
