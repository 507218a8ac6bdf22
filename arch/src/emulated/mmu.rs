//! How each architecture's table walker reads entries. Written from the
//! manuals, on purpose not in terms of the encoders it is there to check.

use core::sync::atomic::Ordering;

use super::Emulated;
use crate::{Aarch64, Format, PhysAddr, VirtAddr, X86_64};

/// A format whose walker is emulated.
pub trait Mmu: Format + Sized {
    /// Whether the lower half has a root of its own (TTBR0).
    const SPLIT_ROOTS: bool;

    /// The physical address that a privileged data access to `address` reaches,
    /// or `None` if it faults. Keeps accessed and dirty state.
    fn access(machine: &Emulated<Self>, address: VirtAddr, write: bool) -> Option<PhysAddr>;
}

const FRAME_48: u64 = 0x0000_ffff_ffff_f000;
const FRAME_52: u64 = 0x000f_ffff_ffff_f000;

impl Mmu for X86_64 {
    const SPLIT_ROOTS: bool = false;

    // SDM 3A 4.5 (4-level paging), 4.6.1 (rights with CR0.WP = 1), 4.8 (A, D).
    fn access(machine: &Emulated<Self>, address: VirtAddr, write: bool) -> Option<PhysAddr> {
        let sign = address.0 >> 47;
        if sign != 0 && sign != 0x1_ffff {
            return None;
        }
        let mut table = crate::Arch::root(machine, address);
        let mut writable = true;
        for shift in [39, 30, 21, 12] {
            let at = PhysAddr(table.0 + ((address.0 >> shift) & 0x1ff) * 8);
            let slot = machine.word(at)?;
            let entry = slot.load(Ordering::Acquire);
            if entry & 1 == 0 {
                return None;
            }
            writable &= entry & 2 != 0;
            if write && !writable {
                return None;
            }
            let leaf = shift == 12;
            assert!(leaf || entry & 0x80 == 0, "blocks are not emulated yet");
            let dirty = if leaf && write { 0x40 } else { 0 };
            slot.fetch_or(0x20 | dirty, Ordering::AcqRel);
            table = PhysAddr(entry & FRAME_52);
        }
        Some(PhysAddr(table.0 | address.0 & 0xfff))
    }
}

impl Mmu for Aarch64 {
    const SPLIT_ROOTS: bool = true;

    // Arm ARM D8.2 (walk), D8.4.1 (AP), D8.4.6 (hardware dirty state).
    fn access(machine: &Emulated<Self>, address: VirtAddr, write: bool) -> Option<PhysAddr> {
        const AP_READ_ONLY: u64 = 1 << 7;
        const ACCESS_FLAG: u64 = 1 << 10;
        const DBM: u64 = 1 << 51;
        let sign = address.0 >> 48;
        if sign != 0 && sign != 0xffff {
            return None;
        }
        let mut table = crate::Arch::root(machine, address);
        for shift in [39, 30, 21] {
            let at = PhysAddr(table.0 + ((address.0 >> shift) & 0x1ff) * 8);
            let entry = machine.word(at)?.load(Ordering::Acquire);
            if entry & 1 == 0 {
                return None;
            }
            assert!(entry & 2 != 0, "blocks are not emulated yet");
            table = PhysAddr(entry & FRAME_48);
        }
        let slot = machine.word(PhysAddr(table.0 + ((address.0 >> 12) & 0x1ff) * 8))?;
        let entry = slot.load(Ordering::Acquire);
        if entry & 3 != 3 || entry & ACCESS_FLAG == 0 {
            return None;
        }
        if write && entry & AP_READ_ONLY != 0 {
            if entry & DBM == 0 || !crate::Arch::hardware_dirty(machine) {
                return None;
            }
            slot.fetch_and(!AP_READ_ONLY, Ordering::AcqRel);
        }
        Some(PhysAddr(entry & FRAME_48 | address.0 & 0xfff))
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use super::Mmu;
    use crate::{
        Aarch64, Access, Arch, Entry, Format, PAGE_SIZE, PhysAddr, Translation, VirtAddr, X86_64,
        emulated::Emulated, index, translate,
    };

    const ADDRESS: VirtAddr = VirtAddr(0xffff_9000_0040_3000);

    /// Maps `ADDRESS` by hand to the first free frame after three tables.
    fn map<F: Mmu>(machine: &Emulated<F>, leaf: impl Fn(PhysAddr) -> u64) -> PhysAddr {
        let free = machine.free_memory().start;
        let mut table = machine.root(ADDRESS);
        for (nth, level) in [3u8, 2, 1].into_iter().enumerate() {
            let next = free.offset(nth * PAGE_SIZE);
            let at = table.offset(index(ADDRESS, level) * 8);
            machine.word(at).unwrap().store(F::table(next), Ordering::Relaxed);
            table = next;
        }
        let frame = free.offset(3 * PAGE_SIZE);
        let at = table.offset(index(ADDRESS, 0) * 8);
        machine.word(at).unwrap().store(leaf(frame), Ordering::Relaxed);
        at
    }

    fn rights_are_enforced_and_writes_leave_a_mark<F: Mmu>() {
        let machine = Emulated::<F>::new(16 * PAGE_SIZE);
        let at = map(&machine, |frame| F::present(frame, Access::ReadWrite, false));
        let entry = || F::decode(machine.word(at).unwrap().load(Ordering::Relaxed));
        let mut byte = [9];
        machine.read(ADDRESS, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        assert!(matches!(entry(), Entry::Present { written: false, .. }), "reading marked the page");
        machine.write(ADDRESS.offset(7), &[42]).unwrap();
        assert!(matches!(entry(), Entry::Present { access: Access::ReadWrite, written: true, .. }));
        machine.read(ADDRESS.offset(7), &mut byte).unwrap();
        assert_eq!(byte, [42]);

        let frame = machine.free_memory().start.offset(3 * PAGE_SIZE);
        machine.word(at).unwrap().store(F::present(frame, Access::Read, true), Ordering::Relaxed);
        machine.read(ADDRESS.offset(7), &mut byte).unwrap();
        machine.write(ADDRESS, &[1]).unwrap_err();
        // SAFETY: the tables live as long as the machine.
        let seen = unsafe { translate(&machine, ADDRESS.offset(5)) }.unwrap();
        let expected = Translation { physical: frame.offset(5), writable: false, executable: false };
        assert_eq!(seen, expected);

        machine.word(at).unwrap().store(F::hidden(frame, true), Ordering::Relaxed);
        machine.read(ADDRESS, &mut byte).unwrap_err();
        // SAFETY: as above.
        assert_eq!(unsafe { translate(&machine, ADDRESS) }, None);
    }

    #[test]
    fn x86_64_rights_are_enforced_and_writes_leave_a_mark() {
        rights_are_enforced_and_writes_leave_a_mark::<X86_64>();
    }

    #[test]
    fn aarch64_rights_are_enforced_and_writes_leave_a_mark() {
        rights_are_enforced_and_writes_leave_a_mark::<Aarch64>();
    }

    #[test]
    fn without_hardware_dirty_state_a_clean_page_refuses_writes() {
        let machine = Emulated::<Aarch64>::new(16 * PAGE_SIZE).without_hardware_dirty();
        map(&machine, |frame| Aarch64::present(frame, Access::ReadWrite, false));
        machine.write(ADDRESS, &[1]).unwrap_err();
        map(&machine, |frame| Aarch64::present(frame, Access::ReadWrite, true));
        machine.write(ADDRESS, &[1]).unwrap();
    }
}
