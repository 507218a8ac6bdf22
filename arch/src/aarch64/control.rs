//! System registers, as isolation needs them: values only, so that every target tests it.

use crate::{CpuError, VirtAddr};

/// What the CPU's registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The exception level, 0 to 3.
    pub level: u8,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// MAIR_EL1.
    pub mair: u64,
    /// TCR_EL1.
    pub tcr: u64,
}

/// A field of TCR_EL1: name, lowest bit, bits.
type Field = (&'static str, u32, u32);

const T0SZ: Field = ("T0SZ", 0, 6);
const EPD0: Field = ("EPD0", 7, 1);
const TG0: Field = ("TG0", 14, 2);
const T1SZ: Field = ("T1SZ", 16, 6);
const EPD1: Field = ("EPD1", 23, 1);
const TG1: Field = ("TG1", 30, 2);
/// Size of physical addresses.
const IPS: Field = ("IPS", 32, 3);
/// With it, bits \[9:8\] of an entry are address bits, not shareability.
const DS: Field = ("DS", 59, 1);

/// TnSZ of 16 and 25: addresses of 48 and 39 bits, where a root has all of its 512 entries.
const FOUR_LEVELS: u64 = 16;
const THREE_LEVELS: u64 = 25;

impl Control {
    /// Refuses what would not protect a window at `window`.
    ///
    /// # Errors
    ///
    /// [`CpuError`]: the first field that is wrong.
    pub fn check(self, window: VirtAddr) -> Result<(), CpuError> {
        const WRITE_BACK: u8 = 0xff;
        if self.level != 1 {
            return Err(CpuError::ExceptionLevel { found: self.level });
        }
        if self.sctlr & 1 == 0 {
            return Err(CpuError::MmuOff);
        }
        let found = (self.mair & 0xff) as u8;
        if found != WRITE_BACK {
            return Err(CpuError::MemoryAttribute { found });
        }
        // 4 KiB are spelled 0b10 in TG1 and 0b00 in TG0; EPDn = 1 means no walks (D24.2.184).
        // The half without the window is only looked at.
        let size = if self.levels() == 3 { THREE_LEVELS } else { FOUR_LEVELS };
        for (off, fields) in [(EPD1, [(TG1, 0b10), (T1SZ, size)]), (EPD0, [(TG0, 0b00), (T0SZ, size)])] {
            if self.field(off) == 0 {
                for (field, wanted) in fields {
                    self.require(field, wanted)?;
                }
            }
        }
        self.require(DS, 0)?;
        let half = if window.0 >> 63 == 1 { 24 } else { 8 };
        let (inner, outer) = ((self.tcr >> half & 0b11) as u8, (self.tcr >> (half + 2) & 0b11) as u8);
        // 0b01 and 0b11: write-back, with and without write-allocate.
        if inner & 1 == 0 || outer & 1 == 0 {
            return Err(CpuError::WalkMemory { inner, outer });
        }
        Ok(())
    }

    /// Levels of tables of the halves that are walked, which are alike: [`check`](Self::check) refuses
    /// others.
    #[must_use]
    pub const fn levels(self) -> u8 {
        let size = self.field(if self.field(EPD0) == 1 { T1SZ } else { T0SZ });
        if size == THREE_LEVELS { 3 } else { 4 }
    }

    /// Bits of the physical addresses that entries may hold.
    #[must_use]
    pub const fn physical_bits(self) -> u32 {
        match self.field(IPS) {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            // More than 48 bits need `DS`.
            _ => 48,
        }
    }

    const fn field(self, (_, lowest, bits): Field) -> u64 {
        self.tcr >> lowest & ((1 << bits) - 1)
    }

    const fn require(self, field: Field, wanted: u64) -> Result<(), CpuError> {
        let found = self.field(field);
        if found == wanted { Ok(()) } else { Err(CpuError::Translation { field: field.0, found, wanted }) }
    }
}

#[cfg(test)]
mod tests {
    use super::Control;
    use crate::{CpuError, VirtAddr};

    const UPPER: VirtAddr = VirtAddr(0xffff_9000_0000_0000);
    const LOWER: VirtAddr = VirtAddr(0x5000_0000_0000);

    /// Both halves of 48 bits in 4 KiB, walks write-back and inner-shareable, 48 bits of physical addresses.
    const USUAL: Control =
        Control { level: 1, sctlr: 0x1005, mair: 0x44_04_ff, tcr: 5 << 32 | 0xb510 << 16 | 0x3510 };

    fn with(clear: u64, set: u64) -> Control {
        Control { tcr: USUAL.tcr & !clear | set, ..USUAL }
    }

    #[test]
    fn each_field_that_is_wrong_is_refused_by_name() {
        for window in [UPPER, LOWER] {
            assert_eq!(USUAL.check(window), Ok(()));
            // Without walks of a half its fields say nothing.
            assert_eq!(with(0x3f, 1 << 7).check(window), Ok(()));
            assert_eq!(with(0x3f << 16, 1 << 23).check(window), Ok(()));
            // 39 bits, in both halves, or in the one that is walked.
            assert_eq!(with(0x3f << 16 | 0x3f, 25 << 16 | 25).check(window), Ok(()));
            assert_eq!(with(0x3f, 25 | 1 << 23).check(window), Ok(()));
            for (control, error) in [
                (Control { level: 2, ..USUAL }, CpuError::ExceptionLevel { found: 2 }),
                (Control { sctlr: 0x1004, ..USUAL }, CpuError::MmuOff),
                (Control { mair: 0x44_ff_00, ..USUAL }, CpuError::MemoryAttribute { found: 0 }),
                (with(3 << 30, 1 << 30), CpuError::Translation { field: "TG1", found: 1, wanted: 2 }),
                (with(0x3f << 16, 25 << 16), CpuError::Translation { field: "T1SZ", found: 25, wanted: 16 }),
                (with(0, 1 << 14), CpuError::Translation { field: "TG0", found: 1, wanted: 0 }),
                (with(0x3f, 25), CpuError::Translation { field: "T1SZ", found: 16, wanted: 25 }),
                (with(0x3f, 17), CpuError::Translation { field: "T0SZ", found: 17, wanted: 16 }),
                (with(0, 1 << 59), CpuError::Translation { field: "DS", found: 1, wanted: 0 }),
            ] {
                assert_eq!(control.check(window), Err(error), "{control:x?}");
            }
        }
    }

    #[test]
    fn levels_are_those_of_a_half_that_is_walked() {
        for (control, levels) in [
            (USUAL, 4),
            (with(0x3f << 16 | 0x3f, 25 << 16 | 25), 3),
            (with(0x3f, 25 | 1 << 23), 3),
            (with(0x3f << 16, 25 << 16 | 1 << 7), 3),
            (with(0x3f << 16, 25 << 16 | 1 << 23), 4),
        ] {
            assert_eq!(control.levels(), levels, "{control:x?}");
        }
    }

    #[test]
    fn walks_are_looked_at_in_the_windows_half() {
        let upper = with(0b11 << 24, 0b10 << 24);
        assert_eq!(upper.check(LOWER), Ok(()));
        assert_eq!(upper.check(UPPER), Err(CpuError::WalkMemory { inner: 0b10, outer: 0b01 }));
        let lower = with(0b11 << 10, 0);
        assert_eq!(lower.check(UPPER), Ok(()));
        assert_eq!(lower.check(LOWER), Err(CpuError::WalkMemory { inner: 0b01, outer: 0 }));
    }

    #[test]
    fn physical_addresses_have_as_many_bits_as_it_says() {
        let bits = [32, 36, 40, 42, 44, 48, 48, 48];
        for (ips, bits) in (0..8).zip(bits) {
            assert_eq!(with(7 << 32, ips << 32).physical_bits(), bits);
        }
    }
}
