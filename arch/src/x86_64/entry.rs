//! Entries as the SDM lays them out (volume 3A, 4.5, tables 4-15 to 4-20):
//!
//! ```text
//!  63 62..56 55..52 51.......12 11 10 9 8 7 6 5 4 3 2 1 0
//!  NX  ign.   ign.    frame     C  W  - G P D A C T U R P      present page
//!   0   0      0     ~frame     C  W  H 0 0 D 0 0 0 0 R 0      hidden
//!   0   0    state      0       0  0  0 0 0 0 0 0 0 0 0 0      empty
//! ```
//!
//! `H` (hidden), `W` (written) and `C` (shared, copied on write) are ours, from
//! the bits the CPU ignores. A hidden entry keeps `D` and `R` as they were, so
//! that hiding and revealing are one exclusive or; and it holds the frame's
//! address inverted: a speculative load through a not-present entry (L1TF) then
//! aims beyond populated memory.
//!
//! A page that is not writable says by `W` that it was written, never by `D`:
//! R/W = 0 with D = 1 would be a shadow stack (volume 1, 17.2).

use crate::{Access, Entry, Format, PhysAddr, Upper};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const BLOCK: u64 = 1 << 7;
const HIDDEN: u64 = 1 << 9;
const WRITTEN: u64 = 1 << 10;
const SHARED: u64 = 1 << 11;
const STATE: u32 = 52;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// What [`Format::hide`] keeps.
const KEPT: u64 = FRAME | WRITABLE | DIRTY | WRITTEN | SHARED;
/// In what a page of data differs from the same page hidden, which has none of the last
/// three. By one exclusive or: the compiler makes a single instruction of load and store.
const FLIPPED: u64 = FRAME | HIDDEN | PRESENT | ACCESSED | NO_EXECUTE;
/// What CPUs cache of an entry.
const CACHED: u64 = FRAME | PRESENT | WRITABLE | DIRTY | BLOCK | NO_EXECUTE;

/// The x86_64 entry format, 4 and 5 levels.
#[derive(Clone, Copy, Debug)]
pub struct X86_64;

impl Format for X86_64 {
    const NAME: &'static str = "x86_64";
    const PRESENT: u64 = PRESENT;
    const HIDDEN: u64 = HIDDEN;
    const SHARED: u64 = SHARED;
    const FRAME: u64 = FRAME;
    const WRITTEN: u64 = WRITTEN | DIRTY;
    const CLEAN: u64 = 0;
    const RUN: usize = 1;
    const RUN_HINT: u64 = 0;
    // Ignored by the CPU in entries that point to tables (table 4-19).
    const SUMMARY: u64 = 1 << 52;
    const SHARED_TABLE: u64 = 1 << 53;
    // A fault drops the translation that it came from (4.10.4.1).
    const STALE_AFTER_UPGRADE: bool = false;

    // The accessed bit is set beforehand: nothing reads it, and the CPU is
    // spared a locked update. Global is never set: a CR3 reload must suffice.
    fn present(frame: PhysAddr, access: Access, written: bool) -> u64 {
        let flags = match (access, written) {
            (Access::Read, false) => NO_EXECUTE,
            (Access::Read, true) => NO_EXECUTE | WRITTEN,
            (Access::ReadWrite, false) => NO_EXECUTE | WRITABLE,
            (Access::ReadWrite, true) => NO_EXECUTE | WRITABLE | DIRTY,
            (Access::ReadExecute, false) => 0,
            (Access::ReadExecute, true) => WRITTEN,
            (Access::CopyOnWrite, _) => NO_EXECUTE | SHARED,
        };
        (frame.0 & FRAME) | PRESENT | ACCESSED | flags
    }

    fn hidden(frame: PhysAddr, written: bool) -> u64 {
        (!frame.0 & FRAME) | HIDDEN | WRITABLE | if written { DIRTY } else { 0 }
    }

    fn empty(state: u8) -> u64 {
        u64::from(state & 0xf) << STATE
    }

    fn decode(entry: u64) -> Entry {
        // Dirty is trusted only where the CPU may have set it.
        let written = entry & WRITTEN != 0 || entry & (WRITABLE | DIRTY) == WRITABLE | DIRTY;
        if entry & PRESENT != 0 {
            let access = match (entry & WRITABLE != 0, entry & NO_EXECUTE != 0) {
                (true, _) => Access::ReadWrite,
                (false, true) if entry & SHARED != 0 => Access::CopyOnWrite,
                (false, true) => Access::Read,
                (false, false) => Access::ReadExecute,
            };
            Entry::Present { frame: PhysAddr(entry & FRAME), access, written }
        } else if entry & HIDDEN != 0 {
            Entry::Hidden { frame: PhysAddr(!entry & FRAME), written, shared: entry & SHARED != 0 }
        } else {
            Entry::Empty { state: (entry >> STATE & 0xf) as u8 }
        }
    }

    fn reveal(hidden: u64) -> u64 {
        hidden ^ FLIPPED
    }

    fn hide(present: u64) -> u64 {
        (present & KEPT) ^ (FRAME | HIDDEN)
    }

    fn hide_data(present: u64) -> u64 {
        present ^ FLIPPED
    }

    fn mark_written(present: u64) -> Option<u64> {
        (present & WRITABLE != 0).then_some(present | DIRTY)
    }

    fn mark_clean(entry: u64) -> u64 {
        entry & !(DIRTY | WRITTEN)
    }

    // More rights to the same frame: a cached translation with fewer faults
    // once, and is then dropped (4.10.4.3).
    fn needs_invalidation(old: u64, new: u64) -> bool {
        const TAKEN: u64 = WRITABLE | DIRTY;
        let taken = old & !new & TAKEN | !old & new & NO_EXECUTE;
        let moved = (old ^ new) & (CACHED & !(TAKEN | NO_EXECUTE));
        old & PRESENT != 0 && taken | moved != 0
    }

    fn needs_break(_old: u64, _new: u64) -> bool {
        false
    }

    fn block(page: u64) -> u64 {
        if page & PRESENT != 0 { page | BLOCK } else { page }
    }

    fn page(block: u64) -> u64 {
        if block & PRESENT != 0 { block & !BLOCK } else { block }
    }

    fn table(frame: PhysAddr) -> u64 {
        (frame.0 & FRAME) | PRESENT | WRITABLE | ACCESSED
    }

    fn shared_table(frame: PhysAddr) -> u64 {
        (frame.0 & FRAME) | PRESENT | ACCESSED | Self::SHARED_TABLE
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
    use super::{DIRTY, FRAME, NO_EXECUTE, PRESENT, WRITABLE, X86_64};
    use crate::{Access, Format, PhysAddr, Upper, format::tests as contract};

    const FRAME_A: PhysAddr = PhysAddr(0x0001_2345_6000);

    #[test]
    fn entries_keep_the_contract_of_every_format() {
        contract::entries::<X86_64>();
    }

    #[test]
    fn the_hardware_dirty_bit_counts_as_written() {
        contract::written_by_the_cpu::<X86_64>(|entry| entry | DIRTY);
    }

    #[test]
    fn a_not_present_entry_carries_no_usable_address() {
        let present = X86_64::present(FRAME_A, Access::ReadWrite, true);
        let shared = X86_64::present(FRAME_A, Access::CopyOnWrite, false);
        let entries = [X86_64::hidden(FRAME_A, true), X86_64::hide(present), X86_64::hide(shared)];
        for entry in entries {
            assert_eq!(entry & PRESENT, 0);
            // Any machine with less than half of the address space populated is
            // out of reach of the inverted address.
            assert!(entry & FRAME >= 1 << 51);
        }
        for state in 0..16 {
            assert_eq!(X86_64::empty(state) & (FRAME | PRESENT), 0);
        }
    }

    #[test]
    fn no_encoding_is_dirty_and_read_only() {
        for access in contract::ACCESSES {
            for written in [false, true] {
                let entry = X86_64::present(FRAME_A, access, written);
                assert!(entry & WRITABLE != 0 || entry & DIRTY == 0, "{access:?}");
            }
        }
    }

    #[test]
    fn an_upgrade_of_the_same_frame_needs_no_invalidation() {
        let entry = |access| X86_64::present(FRAME_A, access, false);
        assert!(!X86_64::needs_invalidation(entry(Access::Read), entry(Access::ReadWrite)));
        assert!(!X86_64::needs_invalidation(entry(Access::Read), entry(Access::ReadExecute)));
        let writable = entry(Access::ReadWrite);
        assert!(!X86_64::needs_invalidation(writable, writable | DIRTY));
        assert!(X86_64::needs_invalidation(writable | DIRTY, writable), "the mark would not come back");
        assert!(X86_64::needs_invalidation(entry(Access::ReadExecute), entry(Access::Read)));
        assert_ne!(entry(Access::Read) & NO_EXECUTE, 0);
    }

    #[test]
    fn tables_and_blocks_are_told_apart_by_level() {
        let table = X86_64::table(FRAME_A);
        let plain = Upper::Table { frame: FRAME_A, read_only: false, no_execute: false };
        assert_eq!(X86_64::upper(1, table), plain);
        let block = X86_64::block(X86_64::present(PhysAddr(0x4020_0000), Access::Read, false));
        let leaf = Upper::Leaf { frame: PhysAddr(0x4020_0000), writable: false, executable: false };
        assert_eq!(X86_64::upper(1, block), leaf);
        assert_eq!(X86_64::upper(2, 0), Upper::NotPresent);
    }
}
