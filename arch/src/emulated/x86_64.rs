//! x86_64 as the SDM (volume 3A, chapter 4) and, for INVLPGB, the APM (volume
//! 3) describe it.

use super::{
    Descriptor, Emulated, Instructions, Leaf, Mmu, Violation,
    state::{Drop, Pending, Pointers},
};
use crate::{
    Arch, Invalidation, PAGE_SIZE, PhysAddr, VirtAddr, X86_64,
    x86_64::invalidate::{self, Method},
};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// PWT and PCD: not write-back (4.9.2).
const UNCACHED: u64 = 0b11 << 3;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// A block above the leaf table, PAT in it.
const BIT_7: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Physical address bits that this CPU does not have: MAXPHYADDR is 46.
const BEYOND_MEMORY: u64 = 0x000f_c000_0000_0000;

impl Mmu for X86_64 {
    const SPLIT_ROOTS: bool = false;
    const LEVELS: &'static [u8] = &[4, 5];
    const SHIFTS: &'static [u32] = &[12, 21, 30];
    const ALWAYS_DIRTY: bool = true;
    // 4.10.4.1, at the end.
    const FAULT_DROPS: bool = true;
    const BREAKS: bool = false;
    const HIDES_ADDRESSES: bool = true;

    fn hardware_bits(_entry: u64) -> u64 {
        ACCESSED | DIRTY
    }

    fn run_shape(_entry: u64) -> u64 {
        0
    }

    // 3.3.7.1; 4.5.1 for five levels.
    fn canonical(address: VirtAddr, levels: u8) -> bool {
        let unused = 64 - (12 + 9 * u32::from(levels));
        (address.0.cast_signed() << unused >> unused).cast_unsigned() == address.0
    }

    // 4.5.4, tables 4-15 to 4-20; 4.6.1 for the rights with CR0.WP = 1.
    fn descriptor(level: u8, entry: u64) -> Descriptor {
        if entry & PRESENT == 0 {
            return Descriptor::Invalid;
        }
        if entry & BEYOND_MEMORY != 0 || level >= 3 && entry & BIT_7 != 0 {
            return Descriptor::Reserved;
        }
        if level > 0 && entry & BIT_7 == 0 {
            return Descriptor::Table {
                frame: PhysAddr(entry & FRAME),
                read_only: entry & WRITABLE == 0,
                no_execute: entry & NO_EXECUTE != 0,
            };
        }
        // A block has PAT in bit 12; the bits above it are zero up to its size.
        let low = FRAME & ((1u64 << (12 + 9 * u32::from(level))) - 1);
        let pat = if level == 0 { BIT_7 } else { 1 << 12 };
        if entry & low & !pat != 0 {
            return Descriptor::Reserved;
        }
        Descriptor::Leaf(Leaf {
            frame: PhysAddr(entry & FRAME & !low),
            writable: entry & WRITABLE != 0,
            markable: false,
            executable: entry & NO_EXECUTE == 0,
            dirty: entry & DIRTY != 0,
            accessed: true,
            global: entry & GLOBAL != 0,
            run: false,
            attributes: 0,
            odd: entry & (pat | UNCACHED | GLOBAL) != 0,
        })
    }

    fn accessed(entry: u64) -> u64 {
        entry | ACCESSED
    }

    fn dirtied(entry: u64) -> u64 {
        entry | DIRTY
    }

    fn invalidate(machine: &Emulated<Self>, what: Invalidation, everywhere: bool) {
        let method = machine.settings.method;
        let own = machine.current_cpu();
        invalidate::invalidate(&Instructions { machine, cpu: own }, method, what);
        // INVLPGB has reached all.
        if !everywhere || matches!(method, Method::Invlpgb { .. }) {
            return;
        }
        // The embedder's interrupt, played here: each of the others does what
        // its handler would.
        for cpu in (0..machine.cpus()).filter(|&cpu| cpu != own) {
            machine.with(|state| {
                state.interrupts += 1;
                machine.hook(state, 1);
            });
            invalidate::invalidate(&Instructions { machine, cpu }, method, what);
        }
    }

    fn foreign_table(frame: PhysAddr) -> u64 {
        frame.0 | PRESENT | WRITABLE
    }

    fn foreign_page(frame: PhysAddr) -> u64 {
        frame.0 | PRESENT | WRITABLE | GLOBAL | NO_EXECUTE
    }
}

impl Instructions<'_, X86_64> {
    /// The identifier under which the CPUs run.
    fn pcid(&self) -> u64 {
        match self.machine.settings.method {
            Method::Invpcid { pcid } => u64::from(pcid),
            Method::Invlpg | Method::Invlpgb { .. } => 0,
        }
    }

    fn canonical(&self, address: u64) -> bool {
        X86_64::canonical(VirtAddr(address), self.machine.settings.levels)
    }
}

impl invalidate::Instructions for Instructions<'_, X86_64> {
    // 4.10.4.1: any size, global or not, and every pointer to a table.
    fn invlpg(&self, page: VirtAddr) {
        let drop = Drop {
            start: VirtAddr(page.0 & !0xfff),
            bytes: PAGE_SIZE as u64,
            level: None,
            pointers: Pointers::All,
            global: true,
        };
        self.run(|state| state.cpus[self.cpu].forget(drop));
    }

    fn reload_cr3(&self) {
        self.run(|state| state.cpus[self.cpu].forget(Drop::ALL));
    }

    // SDM 2A, INVPCID; 4.10.4.1 for what each type drops.
    fn invpcid(&self, kind: u64, [identifier, address]: [u64; 2]) {
        let wrong = kind > 3 || identifier >> 12 != 0 || kind == 0 && !self.canonical(address);
        let operand = if kind > 3 { kind } else { identifier };
        let own = self.pcid() == identifier;
        let drop = match kind {
            0 if own => Some(Drop {
                start: VirtAddr(address & !0xfff),
                bytes: PAGE_SIZE as u64,
                level: None,
                pointers: Pointers::OnTheWay,
                global: false,
            }),
            1 if own => Some(Drop::ALL),
            2 => Some(Drop { global: true, ..Drop::ALL }),
            3 => Some(Drop::ALL),
            _ => None,
        };
        self.run(|state| match drop {
            _ if wrong => {
                state.report(Violation::Operand { cpu: self.cpu, instruction: "invpcid", operand });
            }
            Some(drop) => state.cpus[self.cpu].forget(drop),
            None => {}
        });
    }

    // APM 3, INVLPGB.
    fn invlpgb(&self, rax: u64, ecx: u32, edx: u32) {
        const ADDRESS_VALID: u64 = 1 << 0;
        const IDENTIFIER_VALID: u64 = 1 << 1;
        const GLOBAL_TOO: u64 = 1 << 3;
        const FINAL_ONLY: u64 = 1 << 4;
        const RESERVED: u64 = 0xfc0;
        const BY_BLOCKS: u32 = 1 << 31;
        let beyond = u64::from(ecx & 0xffff);
        let most = match self.machine.settings.method {
            Method::Invlpgb { most } => most as u64,
            Method::Invlpg | Method::Invpcid { .. } => 1,
        };
        let (reserved, by_blocks) = (ecx & 0x7fff_0000, ecx & BY_BLOCKS != 0);
        let by_address = rax & ADDRESS_VALID != 0;
        let bad_address = by_address && !self.canonical(rax & !0xfff);
        let too_many = beyond >= most.max(1);
        let edx_reserved = edx >> 28 != 0;
        let wrong = if rax & RESERVED != 0 || bad_address {
            Some(rax)
        } else if reserved != 0 || too_many {
            Some(u64::from(ecx))
        } else {
            edx_reserved.then_some(u64::from(edx))
        };
        let step = if by_blocks { 1 << 21 } else { PAGE_SIZE as u64 };
        // Identifier 0 is the only one in use.
        let elsewhere = rax & IDENTIFIER_VALID != 0 && edx >> 16 & 0xfff != 0;
        let drop = Drop {
            start: VirtAddr(if by_address { rax & !(step - 1) } else { 0 }),
            bytes: if by_address { (beyond + 1) * step } else { 0 },
            level: None,
            pointers: match (by_address, rax & FINAL_ONLY != 0) {
                (_, true) => Pointers::None,
                (true, false) => Pointers::OnTheWay,
                (false, false) => Pointers::All,
            },
            global: rax & GLOBAL_TOO != 0,
        };
        self.run(|state| {
            if let Some(operand) = wrong {
                state.report(Violation::Operand { cpu: self.cpu, instruction: "invlpgb", operand });
            } else if !elsewhere {
                state.cpus[self.cpu].pending.push(Pending { drop, shared: true });
            }
        });
    }

    fn tlbsync(&self) {
        self.run(|state| state.complete(self.cpu, true));
    }
}
