//! Entries as the SDM lays them out (volume 3A, 4.5, tables 4-15 to 4-20):
//!
//! ```text
//!  63 62..52 51.......12 11 10 9 8 7 6 5 4 3 2 1 0
//!  NX  ign.   frame       -  W H G S D A C T U R P      present
//!   0   0    ~frame       -  W H 0 0 0 0 0 0 0 0 0      hidden
//! ```
//!
//! `H` (hidden) and `W` (written) are ours, from the bits the CPU ignores. A
//! hidden entry holds the frame's address inverted: a speculative load through
//! a not-present entry (L1TF) then aims beyond populated memory.

use crate::{Access, Entry, Format, PhysAddr, Upper};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const BLOCK: u64 = 1 << 7;
const HIDDEN: u64 = 1 << 9;
const WRITTEN: u64 = 1 << 10;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The x86_64 entry format, 4 and 5 levels.
#[derive(Clone, Copy, Debug)]
pub struct X86_64;

impl Format for X86_64 {
    const NAME: &'static str = "x86_64";
    const WRITTEN: u64 = WRITTEN;
    const PRESENT: u64 = PRESENT;

    // The accessed bit is set beforehand: nothing reads it, and the CPU is
    // spared a locked update. Global is never set: a CR3 reload must suffice.
    fn present(frame: PhysAddr, access: Access, written: bool) -> u64 {
        let soft = if written { WRITTEN } else { 0 };
        let flags = match access {
            Access::Read => NO_EXECUTE,
            Access::ReadWrite => NO_EXECUTE | WRITABLE,
            Access::ReadExecute => 0,
        };
        (frame.0 & FRAME) | PRESENT | ACCESSED | flags | soft
    }

    fn hidden(frame: PhysAddr, written: bool) -> u64 {
        (!frame.0 & FRAME) | HIDDEN | if written { WRITTEN } else { 0 }
    }

    fn decode(entry: u64) -> Entry {
        // Dirty is trusted only where the CPU may have set it.
        let written = entry & WRITTEN != 0 || entry & (WRITABLE | DIRTY) == WRITABLE | DIRTY;
        if entry & PRESENT != 0 {
            let access = match (entry & WRITABLE != 0, entry & NO_EXECUTE != 0) {
                (true, _) => Access::ReadWrite,
                (false, true) => Access::Read,
                (false, false) => Access::ReadExecute,
            };
            Entry::Present { frame: PhysAddr(entry & FRAME), access, written }
        } else if entry & HIDDEN != 0 {
            Entry::Hidden { frame: PhysAddr(!entry & FRAME), written: entry & WRITTEN != 0 }
        } else {
            Entry::Empty
        }
    }

    fn reveal(hidden: u64) -> u64 {
        (hidden ^ (FRAME | HIDDEN)) | PRESENT | ACCESSED | WRITABLE | NO_EXECUTE
    }

    fn hide(present: u64) -> u64 {
        const DIRTY_TO_WRITTEN: u32 = WRITTEN.trailing_zeros() - DIRTY.trailing_zeros();
        (!present & FRAME) | HIDDEN | ((present | present << DIRTY_TO_WRITTEN) & WRITTEN)
    }

    fn table(frame: PhysAddr) -> u64 {
        (frame.0 & FRAME) | PRESENT | WRITABLE | ACCESSED
    }

    fn upper(level: u8, entry: u64) -> Upper {
        if entry & PRESENT == 0 {
            return Upper::NotPresent;
        }
        // In a leaf table bit 7 is PAT; levels 1 and 2 use it for blocks.
        let leaf = level == 0 || (level <= 2 && entry & BLOCK != 0);
        if leaf {
            let low = (1u64 << (12 + 9 * u32::from(level))) - 1;
            Upper::Leaf {
                frame: PhysAddr(entry & FRAME & !low),
                writable: entry & WRITABLE != 0,
                executable: entry & NO_EXECUTE == 0,
            }
        } else {
            Upper::Table {
                frame: PhysAddr(entry & FRAME),
                read_only: entry & WRITABLE == 0,
                no_execute: entry & NO_EXECUTE != 0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DIRTY, FRAME, PRESENT, WRITABLE, X86_64};
    use crate::{Access, Entry, Format, PhysAddr, Upper};

    const FRAME_A: PhysAddr = PhysAddr(0x0001_2345_6000);

    #[test]
    fn every_state_reads_back_as_written() {
        for written in [false, true] {
            for access in [Access::Read, Access::ReadWrite, Access::ReadExecute] {
                let entry = X86_64::present(FRAME_A, access, written);
                assert_eq!(X86_64::decode(entry), Entry::Present { frame: FRAME_A, access, written });
            }
            let entry = X86_64::hidden(FRAME_A, written);
            assert_eq!(X86_64::decode(entry), Entry::Hidden { frame: FRAME_A, written });
        }
        assert_eq!(X86_64::decode(0), Entry::Empty);
    }

    #[test]
    fn the_short_ways_lead_where_the_long_ones_do() {
        for written in [false, true] {
            let hidden = X86_64::hidden(FRAME_A, written);
            let present = X86_64::present(FRAME_A, Access::ReadWrite, written);
            assert_eq!(X86_64::decode(X86_64::reveal(hidden)), X86_64::decode(present));
            assert_eq!(X86_64::hide(present), hidden);
            assert_eq!(X86_64::hide(present | DIRTY), X86_64::hidden(FRAME_A, true));
            for access in [Access::Read, Access::ReadExecute] {
                assert_eq!(X86_64::hide(X86_64::present(FRAME_A, access, written)), hidden);
            }
        }
    }

    #[test]
    fn the_hardware_dirty_bit_counts_as_written() {
        let entry = X86_64::present(FRAME_A, Access::ReadWrite, false) | DIRTY;
        assert!(matches!(X86_64::decode(entry), Entry::Present { written: true, .. }));
    }

    #[test]
    fn a_hidden_entry_carries_no_usable_address() {
        let entry = X86_64::hidden(FRAME_A, true);
        assert_eq!(entry & PRESENT, 0);
        assert_ne!(entry & FRAME, FRAME_A.0);
        // Any machine with less than half of the address space populated is
        // out of reach of the inverted address.
        assert!(entry & FRAME >= 1 << 51);
    }

    #[test]
    fn no_encoding_is_writable_and_executable_or_dirty_and_read_only() {
        for access in [Access::Read, Access::ReadWrite, Access::ReadExecute] {
            for written in [false, true] {
                let entry = X86_64::present(FRAME_A, access, written);
                let Upper::Leaf { writable, executable, .. } = X86_64::upper(0, entry) else {
                    panic!("not a leaf")
                };
                assert!(!(writable && executable));
                assert!(entry & WRITABLE != 0 || entry & DIRTY == 0);
            }
        }
    }

    #[test]
    fn tables_and_blocks_are_told_apart_by_level() {
        let table = X86_64::table(FRAME_A);
        let plain = Upper::Table { frame: FRAME_A, read_only: false, no_execute: false };
        assert_eq!(X86_64::upper(1, table), plain);
        let block = X86_64::present(PhysAddr(0x4020_0000), Access::Read, false) | 1 << 7;
        let leaf = Upper::Leaf { frame: PhysAddr(0x4020_0000), writable: false, executable: false };
        assert_eq!(X86_64::upper(1, block), leaf);
        assert_eq!(X86_64::upper(2, 0), Upper::NotPresent);
    }
}
