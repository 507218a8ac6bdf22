//! Descriptors as the Arm ARM lays them out (DDI 0487, D8.3):
//!
//! ```text
//!  58..55 54  53  52 51  47.....12 11 10 9 8 7 6 5 4..2  1 0
//!  - - W H UXN PXN C  DBM  frame   nG AF SH  AP  NS Attr  1 1   present
//!  - - W H 0   0   0  0    frame   0  0  0 0 0 0 0  0     0 0   hidden
//! ```
//!
//! `H` (hidden) and `W` (written) are software bits (D8.3.2). A page is
//! writable-clean as read-only with DBM: the CPU clears AP\[2\] on the first
//! write (FEAT_HAFDBS, D8.4.6), and AP\[2\] = 0 then means dirty. Where the CPU
//! does not do that, a writable page starts out dirty.

use crate::{Access, Entry, Format, PhysAddr, Upper};

const VALID: u64 = 1 << 0;
/// With `VALID`: a table above level 0, a page at level 0.
const TABLE_OR_PAGE: u64 = 1 << 1;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const DIRTY_BIT_MODIFIER: u64 = 1 << 51;
const PRIVILEGED_NO_EXECUTE: u64 = 1 << 53;
const USER_NO_EXECUTE: u64 = 1 << 54;
const HIDDEN: u64 = 1 << 55;
const WRITTEN: u64 = 1 << 56;
const FRAME: u64 = 0x0000_ffff_ffff_f000;

/// Limits that a table descriptor puts on everything below (D8.3.1).
const TABLE_PRIVILEGED_NO_EXECUTE: u64 = 1 << 59;
const TABLE_READ_ONLY: u64 = 1 << 62;

/// The aarch64 entry format: stage 1 of EL1, attribute index 0.
#[derive(Clone, Copy, Debug)]
pub struct Aarch64;

impl Format for Aarch64 {
    const NAME: &'static str = "aarch64";
    const WRITTEN: u64 = WRITTEN;
    const PRESENT: u64 = VALID;

    fn present(frame: PhysAddr, access: Access, written: bool) -> u64 {
        let soft = if written { WRITTEN } else { 0 };
        let flags = match access {
            Access::Read => PRIVILEGED_NO_EXECUTE | READ_ONLY | soft,
            Access::ReadWrite if written => PRIVILEGED_NO_EXECUTE | DIRTY_BIT_MODIFIER,
            Access::ReadWrite => PRIVILEGED_NO_EXECUTE | DIRTY_BIT_MODIFIER | READ_ONLY,
            Access::ReadExecute => READ_ONLY | soft,
        };
        (frame.0 & FRAME) | VALID | TABLE_OR_PAGE | INNER_SHAREABLE | ACCESSED | USER_NO_EXECUTE | flags
    }

    fn hidden(frame: PhysAddr, written: bool) -> u64 {
        (frame.0 & FRAME) | HIDDEN | if written { WRITTEN } else { 0 }
    }

    fn decode(entry: u64) -> Entry {
        let frame = PhysAddr(entry & FRAME);
        if entry & VALID != 0 {
            let dirty = entry & READ_ONLY == 0;
            let access = if dirty || entry & DIRTY_BIT_MODIFIER != 0 {
                Access::ReadWrite
            } else if entry & PRIVILEGED_NO_EXECUTE != 0 {
                Access::Read
            } else {
                Access::ReadExecute
            };
            Entry::Present { frame, access, written: dirty || entry & WRITTEN != 0 }
        } else if entry & HIDDEN != 0 {
            Entry::Hidden { frame, written: entry & WRITTEN != 0 }
        } else {
            Entry::Empty
        }
    }

    // A page that was written before it was hidden keeps the software bit.
    fn reveal(hidden: u64) -> u64 {
        let clean = VALID | TABLE_OR_PAGE | INNER_SHAREABLE | ACCESSED | USER_NO_EXECUTE;
        (hidden ^ HIDDEN) | clean | PRIVILEGED_NO_EXECUTE | DIRTY_BIT_MODIFIER | READ_ONLY
    }

    fn hide(present: u64) -> u64 {
        const READ_ONLY_TO_WRITTEN: u32 = WRITTEN.trailing_zeros() - READ_ONLY.trailing_zeros();
        let dirty = (!present & READ_ONLY) << READ_ONLY_TO_WRITTEN;
        (present & (FRAME | WRITTEN)) | HIDDEN | dirty
    }

    fn table(frame: PhysAddr) -> u64 {
        (frame.0 & FRAME) | VALID | TABLE_OR_PAGE
    }

    fn upper(level: u8, entry: u64) -> Upper {
        if entry & VALID == 0 {
            return Upper::NotPresent;
        }
        if level > 0 && entry & TABLE_OR_PAGE != 0 {
            return Upper::Table {
                frame: PhysAddr(entry & FRAME),
                read_only: entry & TABLE_READ_ONLY != 0,
                no_execute: entry & TABLE_PRIVILEGED_NO_EXECUTE != 0,
            };
        }
        let low = (1u64 << (12 + 9 * u32::from(level))) - 1;
        Upper::Leaf {
            frame: PhysAddr(entry & FRAME & !low),
            writable: entry & READ_ONLY == 0 || entry & DIRTY_BIT_MODIFIER != 0,
            executable: entry & PRIVILEGED_NO_EXECUTE == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Aarch64, DIRTY_BIT_MODIFIER, READ_ONLY, VALID};
    use crate::{Access, Entry, Format, PhysAddr, Upper};

    const FRAME_A: PhysAddr = PhysAddr(0x0001_2345_6000);

    #[test]
    fn every_state_reads_back_as_written() {
        for written in [false, true] {
            for access in [Access::Read, Access::ReadWrite, Access::ReadExecute] {
                let entry = Aarch64::present(FRAME_A, access, written);
                assert_eq!(Aarch64::decode(entry), Entry::Present { frame: FRAME_A, access, written });
            }
            let entry = Aarch64::hidden(FRAME_A, written);
            assert_eq!(entry & VALID, 0);
            assert_eq!(Aarch64::decode(entry), Entry::Hidden { frame: FRAME_A, written });
        }
        assert_eq!(Aarch64::decode(0), Entry::Empty);
    }

    #[test]
    fn the_short_ways_lead_where_the_long_ones_do() {
        for written in [false, true] {
            let hidden = Aarch64::hidden(FRAME_A, written);
            let present = Aarch64::present(FRAME_A, Access::ReadWrite, written);
            assert_eq!(Aarch64::decode(Aarch64::reveal(hidden)), Aarch64::decode(present));
            assert_eq!(Aarch64::hide(present), hidden);
            assert_eq!(Aarch64::hide(present & !READ_ONLY), Aarch64::hidden(FRAME_A, true));
            for access in [Access::Read, Access::ReadExecute] {
                assert_eq!(Aarch64::hide(Aarch64::present(FRAME_A, access, written)), hidden);
            }
        }
    }

    #[test]
    fn a_clean_writable_page_becomes_written_when_the_cpu_clears_read_only() {
        let clean = Aarch64::present(FRAME_A, Access::ReadWrite, false);
        assert!(clean & READ_ONLY != 0 && clean & DIRTY_BIT_MODIFIER != 0);
        let dirty = clean & !READ_ONLY;
        let expected = Entry::Present { frame: FRAME_A, access: Access::ReadWrite, written: true };
        assert_eq!(Aarch64::decode(dirty), expected);
    }

    #[test]
    fn only_writable_pages_carry_dbm_and_none_are_executable() {
        for access in [Access::Read, Access::ReadWrite, Access::ReadExecute] {
            for written in [false, true] {
                let entry = Aarch64::present(FRAME_A, access, written);
                let Upper::Leaf { writable, executable, .. } = Aarch64::upper(0, entry) else {
                    panic!("not a leaf")
                };
                assert!(!(writable && executable));
                assert_eq!(writable, access == Access::ReadWrite);
            }
        }
    }

    #[test]
    fn tables_and_blocks_are_told_apart() {
        let plain = Upper::Table { frame: FRAME_A, read_only: false, no_execute: false };
        assert_eq!(Aarch64::upper(2, Aarch64::table(FRAME_A)), plain);
        let block = Aarch64::present(PhysAddr(0x4020_0000), Access::ReadExecute, false) & !0b10;
        let leaf = Upper::Leaf { frame: PhysAddr(0x4020_0000), writable: false, executable: true };
        assert_eq!(Aarch64::upper(1, block), leaf);
    }
}
