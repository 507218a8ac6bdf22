//! aarch64 with the 4 KiB granule, as the Arm ARM (DDI 0487, chapter D8)
//! describes it: stage 1 of EL1.

use super::{
    Descriptor, Emulated, Instructions, Leaf, Mmu, Violation,
    state::{Drop, Pending, Pointers, State},
};
use crate::{Aarch64, Arch, Invalidation, PAGE_SIZE, PhysAddr, VirtAddr, aarch64::invalidate};

const VALID: u64 = 1 << 0;
/// A table above the leaf table, a page in it.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ATTRIBUTE_INDEX: u64 = 0b111 << 2;
/// AP\[2\].
const READ_ONLY: u64 = 1 << 7;
const SHAREABILITY: u64 = 0b11 << 8;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESS_FLAG: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const FRAME: u64 = 0x0000_ffff_ffff_f000;
/// Output address bits that a 48-bit CPU does not have.
const RESERVED: u64 = 0b111 << 48;
const DBM: u64 = 1 << 51;
const CONTIGUOUS: u64 = 1 << 52;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const TABLE_PXN: u64 = 1 << 59;
/// APTable\[1\].
const TABLE_READ_ONLY: u64 = 1 << 62;

impl Mmu for Aarch64 {
    const SPLIT_ROOTS: bool = true;
    const LEVELS: &'static [u8] = &[3, 4];
    const SHIFTS: &'static [u32] = &[12, 16, 21, 30];
    const ALWAYS_DIRTY: bool = false;
    const FAULT_DROPS: bool = false;
    const BREAKS: bool = true;
    const HIDES_ADDRESSES: bool = false;

    fn hardware_bits(entry: u64) -> u64 {
        if entry & VALID != 0 && entry & DBM != 0 { READ_ONLY } else { 0 }
    }

    // D8.7.1: all that a translation is made of is the same in all sixteen.
    fn run_shape(entry: u64) -> u64 {
        const SAME: u64 = VALID | TABLE_OR_PAGE | ATTRIBUTE_INDEX | READ_ONLY | SHAREABILITY | ACCESS_FLAG;
        entry & (SAME | NOT_GLOBAL | FRAME | DBM | CONTIGUOUS | PXN | UXN)
    }

    // D8.1.9: TnSZ of 16 or 25.
    fn canonical(address: VirtAddr, levels: u8) -> bool {
        let bits = if levels == 3 { 39 } else { 48 };
        address.0 >> bits == 0 || address.0 >> bits == u64::MAX >> bits
    }

    // D8.3.1 (tables), D8.3.2 (blocks and pages), D8.4.1 (AP), D8.4.6 (dirty
    // state).
    fn descriptor(level: u8, entry: u64) -> Descriptor {
        if entry & VALID == 0 {
            return Descriptor::Invalid;
        }
        let whole = entry & TABLE_OR_PAGE != 0;
        // No block at the top level, no block in a leaf table.
        if entry & RESERVED != 0 || !whole && (level == 0 || level == 3) {
            return Descriptor::Reserved;
        }
        if level > 0 && whole {
            return Descriptor::Table {
                frame: PhysAddr(entry & FRAME),
                read_only: entry & TABLE_READ_ONLY != 0,
                no_execute: entry & TABLE_PXN != 0,
            };
        }
        let low = FRAME & ((1u64 << (12 + 9 * u32::from(level))) - 1);
        if entry & low != 0 {
            return Descriptor::Reserved;
        }
        let other_memory = entry & ATTRIBUTE_INDEX != 0 || entry & SHAREABILITY != INNER_SHAREABLE;
        Descriptor::Leaf(Leaf {
            frame: PhysAddr(entry & FRAME),
            writable: entry & READ_ONLY == 0,
            markable: entry & DBM != 0,
            executable: entry & PXN == 0,
            dirty: entry & READ_ONLY == 0,
            accessed: entry & ACCESS_FLAG != 0,
            global: entry & NOT_GLOBAL == 0,
            run: level == 0 && entry & CONTIGUOUS != 0,
            attributes: entry & (ATTRIBUTE_INDEX | SHAREABILITY | CONTIGUOUS),
            odd: other_memory || level > 0 && entry & CONTIGUOUS != 0,
        })
    }

    fn accessed(entry: u64) -> u64 {
        entry
    }

    fn dirtied(entry: u64) -> u64 {
        entry & !READ_ONLY
    }

    fn invalidate(machine: &Emulated<Self>, what: Invalidation, everywhere: bool) {
        let cpu = machine.current_cpu();
        invalidate::invalidate(&Instructions { machine, cpu }, machine.settings.ranges, what, everywhere);
    }

    fn foreign_table(frame: PhysAddr) -> u64 {
        frame.0 | VALID | TABLE_OR_PAGE
    }

    fn foreign_page(frame: PhysAddr) -> u64 {
        frame.0 | VALID | TABLE_OR_PAGE | INNER_SHAREABLE | ACCESS_FLAG | DBM | READ_ONLY | PXN | UXN
    }
}

/// Address bits \[63:n\] are copies of bit n - 1.
const fn sign_extend(bits: u64, n: u32) -> VirtAddr {
    VirtAddr((bits.cast_signed() << (64 - n) >> (64 - n)).cast_unsigned())
}

impl Instructions<'_, Aarch64> {
    /// Begins an invalidation; `dsb` completes it.
    fn begin(&self, state: &mut State, drop: Drop, shared: bool) {
        if state.cpus[self.cpu].ordered {
            state.cpus[self.cpu].pending.push(Pending { drop, shared });
        } else {
            // The worst that can come of it: a walk caches the old entry again,
            // as if nothing had been dropped.
            state.report(Violation::UnorderedInvalidation { cpu: self.cpu });
        }
    }

    fn malformed(&self, state: &mut State, instruction: &'static str, operand: u64) {
        state.report(Violation::Operand { cpu: self.cpu, instruction, operand });
    }
}

// D8.16 and D8.17. Nothing global or of another identifier is spared: the
// forms are those for all identifiers.
impl invalidate::Instructions for Instructions<'_, Aarch64> {
    fn dsb_before(&self) {
        self.run(|state| state.cpus[self.cpu].ordered = true);
    }

    fn tlbi_page(&self, operand: u64, leaves_only: bool, shared: bool) {
        const GRANULE_4K: u64 = 0b01;
        let ttl = operand >> 44 & 0xf;
        // The level as the Arm ARM counts it, 3 for a leaf table.
        let level = (3 - (ttl & 0b11)) as u8;
        let drop = Drop {
            start: sign_extend((operand & ((1 << 44) - 1)) << 12, 56),
            bytes: PAGE_SIZE as u64,
            level: (ttl != 0).then_some(level),
            pointers: if leaves_only { Pointers::None } else { Pointers::OnTheWay },
            global: true,
        };
        self.run(|state| {
            if operand >> 48 != 0 {
                self.malformed(state, "tlbi vaae1", operand);
            }
            // A hint for another granule matches nothing.
            if ttl == 0 || ttl >> 2 == GRANULE_4K {
                self.begin(state, drop, shared);
            }
        });
    }

    fn tlbi_range(&self, operand: u64, leaves_only: bool, shared: bool) {
        const GRANULE_4K: u64 = 0b01;
        let (num, scale, ttl) = (operand >> 39 & 0x1f, operand >> 44 & 0b11, operand >> 37 & 0b11);
        let pages = (num + 1) << (5 * scale + 1);
        let drop = Drop {
            start: sign_extend((operand & ((1 << 37) - 1)) << 12, 49),
            bytes: pages * PAGE_SIZE as u64,
            level: (ttl != 0).then_some((3 - ttl) as u8),
            pointers: if leaves_only { Pointers::None } else { Pointers::OnTheWay },
            global: true,
        };
        let granule = operand >> 46 & 0b11 == GRANULE_4K;
        let exists = self.machine.settings.ranges;
        self.run(|state| {
            if operand >> 48 != 0 || !granule || !exists {
                self.malformed(state, "tlbi rvaae1", operand);
            }
            if granule && exists {
                self.begin(state, drop, shared);
            }
        });
    }

    fn tlbi_all(&self, shared: bool) {
        self.run(|state| self.begin(state, Drop { global: true, ..Drop::ALL }, shared));
    }

    fn dsb_complete(&self, shared: bool) {
        self.run(|state| {
            state.complete(self.cpu, shared);
            state.cpus[self.cpu].ordered = false;
        });
    }

    fn isb(&self) {
        self.run(|_| ());
    }
}
