//! Descriptors as the Arm ARM lays them out (DDI 0487, D8.3):
//!
//! ```text
//!  62..59 58 57 56 55 54  53  52  51  47.....12 11 10 9 8 7 6 5 4..2  1 0
//!    -    -  C  W  -  UXN PXN Ct DBM    frame   nG AF SH  AP  NS Attr  1 1   present page
//!    0    0  C  W  H  0   0   0  DBM    frame   0  0  0 0 AP  0  0     0 0   hidden
//!  state  0  0  0  0  0   0   0   0       0     0  0  0 0 0 0 0  0     0 0   empty
//! ```
//!
//! `H` (hidden), `W` (written) and `C` (shared, copied on write) are software
//! bits (D8.3.2). A page is writable-clean as read-only with DBM: the CPU clears
//! AP\[2\] on the first write (FEAT_HAFDBS, D8.4.6), and AP\[2\] = 0 then means
//! dirty. Where the CPU does not do that, the first write faults and the handler
//! clears AP\[2\]: the same entries, with and without. A hidden entry keeps AP\[2\]
//! and DBM, so that hiding and revealing are two operations each.
//!
//! `Ct` is the contiguous hint: sixteen entries that are aligned and map aligned
//! adjacent frames with the same rights may take one TLB entry (D8.7.1).

use crate::{Access, Entry, Format, PhysAddr, Upper};

const VALID: u64 = 1 << 0;
/// With `VALID`: a table above level 0, a page at level 0.
const TABLE_OR_PAGE: u64 = 1 << 1;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const DIRTY_BIT_MODIFIER: u64 = 1 << 51;
const CONTIGUOUS: u64 = 1 << 52;
const PRIVILEGED_NO_EXECUTE: u64 = 1 << 53;
const USER_NO_EXECUTE: u64 = 1 << 54;
const HIDDEN: u64 = 1 << 55;
const WRITTEN: u64 = 1 << 56;
const SHARED: u64 = 1 << 57;
const STATE: u32 = 59;
const FRAME: u64 = 0x0000_ffff_ffff_f000;

/// What every present page of ours has.
const PAGE: u64 = VALID | TABLE_OR_PAGE | INNER_SHAREABLE | ACCESSED | USER_NO_EXECUTE;
/// What [`Format::hide`] keeps.
const KEPT: u64 = FRAME | READ_ONLY | DIRTY_BIT_MODIFIER | WRITTEN | SHARED;
/// What CPUs ignore in a valid entry.
const SOFTWARE: u64 = 0b1111 << 55;

/// Limits that a table descriptor puts on everything below (D8.3.1).
const TABLE_PRIVILEGED_NO_EXECUTE: u64 = 1 << 59;
const TABLE_READ_ONLY: u64 = 1 << 62;

/// The aarch64 entry format: stage 1 of EL1, attribute index 0.
#[derive(Clone, Copy, Debug)]
pub struct Aarch64;

impl Format for Aarch64 {
    const NAME: &'static str = "aarch64";
    const PRESENT: u64 = VALID;
    const HIDDEN: u64 = HIDDEN;
    const SHARED: u64 = SHARED;
    const FRAME: u64 = FRAME;
    const WRITTEN: u64 = WRITTEN | READ_ONLY;
    const CLEAN: u64 = READ_ONLY;
    const RUN: usize = 16;
    const RUN_HINT: u64 = CONTIGUOUS;
    // Ignored by the CPU in table descriptors (D8.3.1, bits [58:51]).
    const SUMMARY: u64 = 1 << 55;
    const SHARED_TABLE: u64 = 1 << 56;
    const STALE_AFTER_UPGRADE: bool = true;

    fn present(frame: PhysAddr, access: Access, written: bool) -> u64 {
        let soft = if written { WRITTEN } else { 0 };
        let flags = match access {
            Access::Read => PRIVILEGED_NO_EXECUTE | READ_ONLY | soft,
            Access::ReadWrite if written => PRIVILEGED_NO_EXECUTE | DIRTY_BIT_MODIFIER,
            Access::ReadWrite => PRIVILEGED_NO_EXECUTE | DIRTY_BIT_MODIFIER | READ_ONLY,
            Access::ReadExecute => READ_ONLY | soft,
            Access::CopyOnWrite => PRIVILEGED_NO_EXECUTE | READ_ONLY | SHARED,
        };
        (frame.0 & FRAME) | PAGE | flags
    }

    fn hidden(frame: PhysAddr, written: bool) -> u64 {
        let clean = if written { 0 } else { READ_ONLY };
        (frame.0 & FRAME) | HIDDEN | DIRTY_BIT_MODIFIER | clean
    }

    fn empty(state: u8) -> u64 {
        u64::from(state & 0xf) << STATE
    }

    fn decode(entry: u64) -> Entry {
        let frame = PhysAddr(entry & FRAME);
        let dirty = entry & READ_ONLY == 0;
        let written = dirty || entry & WRITTEN != 0;
        if entry & VALID != 0 {
            let access = if dirty || entry & DIRTY_BIT_MODIFIER != 0 {
                Access::ReadWrite
            } else if entry & SHARED != 0 {
                Access::CopyOnWrite
            } else if entry & PRIVILEGED_NO_EXECUTE != 0 {
                Access::Read
            } else {
                Access::ReadExecute
            };
            Entry::Present { frame, access, written }
        } else if entry & HIDDEN != 0 {
            Entry::Hidden { frame, written, shared: entry & SHARED != 0 }
        } else {
            Entry::Empty { state: (entry >> STATE & 0xf) as u8 }
        }
    }

    fn reveal(hidden: u64) -> u64 {
        // By one exclusive or: a hidden entry has none of the others.
        hidden ^ (HIDDEN | PAGE | PRIVILEGED_NO_EXECUTE)
    }

    fn hide(present: u64) -> u64 {
        (present & KEPT) | HIDDEN
    }

    fn mark_written(present: u64) -> Option<u64> {
        let writable = present & READ_ONLY == 0 || present & DIRTY_BIT_MODIFIER != 0;
        writable.then_some(present & !READ_ONLY)
    }

    fn mark_clean(entry: u64) -> u64 {
        let hidden = entry & HIDDEN != 0;
        let clean = if hidden || entry & DIRTY_BIT_MODIFIER != 0 { READ_ONLY } else { 0 };
        (entry | clean) & !WRITTEN
    }

    fn needs_invalidation(old: u64, new: u64) -> bool {
        old & VALID != 0 && (old ^ new) & !SOFTWARE != 0
    }

    // D8.16.1: another output address, another size, other memory attributes,
    // and the contiguous hint. Rights may change in place.
    fn needs_break(old: u64, new: u64) -> bool {
        const BROKEN: u64 = FRAME | TABLE_OR_PAGE | CONTIGUOUS | INNER_SHAREABLE | 0b111 << 2;
        old & new & VALID != 0 && (old ^ new) & BROKEN != 0
    }

    fn block(page: u64) -> u64 {
        if page & VALID != 0 { page & !TABLE_OR_PAGE } else { page }
    }

    fn page(block: u64) -> u64 {
        if block & VALID != 0 { block | TABLE_OR_PAGE } else { block }
    }

    fn table(frame: PhysAddr) -> u64 {
        (frame.0 & FRAME) | VALID | TABLE_OR_PAGE
    }

    fn shared_table(frame: PhysAddr) -> u64 {
        Self::table(frame) | TABLE_READ_ONLY | Self::SHARED_TABLE
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
    use super::{Aarch64, CONTIGUOUS, DIRTY_BIT_MODIFIER, READ_ONLY, VALID};
    use crate::{Access, Entry, Format, PhysAddr, Upper, format::tests as contract};

    const FRAME_A: PhysAddr = PhysAddr(0x0001_2345_6000);

    #[test]
    fn entries_keep_the_contract_of_every_format() {
        contract::entries::<Aarch64>();
    }

    #[test]
    fn a_clean_writable_page_becomes_written_when_the_cpu_clears_read_only() {
        let clean = Aarch64::present(FRAME_A, Access::ReadWrite, false);
        assert!(clean & READ_ONLY != 0 && clean & DIRTY_BIT_MODIFIER != 0);
        contract::written_by_the_cpu::<Aarch64>(|entry| entry & !READ_ONLY);
    }

    #[test]
    fn only_pages_that_software_lets_write_carry_dbm() {
        for access in contract::ACCESSES {
            for written in [false, true] {
                let entry = Aarch64::present(FRAME_A, access, written);
                assert_eq!(entry & DIRTY_BIT_MODIFIER != 0, access == Access::ReadWrite, "{access:?}");
            }
        }
    }

    #[test]
    fn a_new_frame_and_a_new_size_need_a_break() {
        let old = Aarch64::present(FRAME_A, Access::Read, false);
        let moved = Aarch64::present(FRAME_A.offset(4096), Access::Read, false);
        assert!(Aarch64::needs_break(old, moved));
        assert!(Aarch64::needs_break(old, old | CONTIGUOUS));
        assert!(Aarch64::needs_break(Aarch64::table(FRAME_A), Aarch64::block(old)));
        assert!(!Aarch64::needs_break(old, Aarch64::present(FRAME_A, Access::ReadExecute, false)));
        assert!(!Aarch64::needs_break(0, old) && !Aarch64::needs_break(old, old & !VALID));
    }

    #[test]
    fn an_upgrade_needs_its_invalidation() {
        let entry = |access| Aarch64::present(FRAME_A, access, false);
        assert!(Aarch64::needs_invalidation(entry(Access::Read), entry(Access::ReadWrite)));
    }

    #[test]
    fn tables_and_blocks_are_told_apart() {
        let plain = Upper::Table { frame: FRAME_A, read_only: false, no_execute: false };
        assert_eq!(Aarch64::upper(2, Aarch64::table(FRAME_A)), plain);
        let block = Aarch64::block(Aarch64::present(PhysAddr(0x4020_0000), Access::ReadExecute, false));
        let leaf = Upper::Leaf { frame: PhysAddr(0x4020_0000), writable: false, executable: true };
        assert_eq!(Aarch64::upper(1, block), leaf);
        assert_eq!(Aarch64::decode(0), Entry::NONE);
    }
}
