//! Mistakes that take a kernel: its own tables, and what its CPU uses.

use core::{ops::Range, sync::atomic::AtomicU64, sync::atomic::Ordering};

use allotment::{
    Allocator, CarveError,
    arch::{
        Arch, Cpus, Format, Invalidation, Native, Occupant, PhysAddr, PhysOffset, Table, Upper, VirtAddr,
        index,
    },
};

use crate::{
    common::{MIB, PAGE, TestArch},
    refused, tiny,
};

/// Text and constants lie around it.
static CONSTANT: [u64; 2] = [1, 2];

fn as_address<T: ?Sized>(place: &T) -> u64 {
    core::ptr::from_ref(place).cast::<u8>().addr() as u64
}

/// An arena that begins with the page of a physical address, which here is the virtual one.
fn arena_at(address: u64) -> Range<PhysAddr> {
    let page = PhysAddr(address & !(PAGE as u64 - 1));
    page..page.offset(32 * PAGE)
}

pub(super) fn in_use() {
    let here = 0u8;
    let code = in_use as fn() as *const () as u64;
    for (address, by) in [
        // The carve is called from here, and asks further down.
        (as_address(&here) - 16 * PAGE as u64, Occupant::Stack),
        (code, Occupant::Code),
        // Of the same image, and far from the code that the CPU runs.
        (as_address(&CONSTANT), Occupant::Code),
        // On aarch64 vectors are code, among the kernel's.
        (exceptions(), if cfg!(target_arch = "aarch64") { Occupant::Code } else { Occupant::Exceptions }),
    ] {
        let (arch, window, _) = Native::machine(16 * MIB);
        let error = refused(arch, window, arena_at(address));
        let CarveError::ArenaInUse { address: found, by: as_said, .. } = error else { panic!("{error}") };
        // The image has a root of tables, too, which may be as near.
        assert!(as_said == by || as_said == Occupant::PageTable, "{error}");
        assert!(arena_at(address).contains(&found), "{error}");
    }
    let (arch, window, arena) = Native::machine(16 * MIB);
    // SAFETY: the machine is the test's.
    unsafe { Allocator::new(arch, window, arena, &tiny()) }.unwrap();
}

#[cfg(target_arch = "x86_64")]
fn exceptions() -> u64 {
    x86_64::instructions::tables::sidt().base.as_u64()
}

#[cfg(target_arch = "aarch64")]
fn exceptions() -> u64 {
    let vectors: u64;
    // SAFETY: reading it has no effect.
    unsafe { core::arch::asm!("mrs {}, vbar_el1", out(reg) vectors) };
    vectors
}

/// What entries of the kernel's own map have, or have not.
#[cfg(target_arch = "x86_64")]
mod bits {
    pub(super) const WRITABLE: (u64, u64) = (1 << 1, 1 << 1);
    pub(super) const NO_EXECUTE: u64 = 1 << 63;
}
#[cfg(target_arch = "aarch64")]
mod bits {
    /// AP\[2\] is set in what is read-only.
    pub(super) const WRITABLE: (u64, u64) = (1 << 7, 0);
    /// PXN.
    pub(super) const NO_EXECUTE: u64 = 1 << 53;
}

pub(super) fn aliases() {
    const BYTES: usize = 16 * MIB;
    let flip = |entry: u64| entry ^ bits::WRITABLE.0;
    let (alias, address) = (|at: PhysAddr| VirtAddr(at.0), |at: PhysAddr| at);
    for (what, edit) in [
        ("nothing", (|_| 0) as fn(u64) -> u64),
        ("read-only", flip),
        ("executable", |entry| entry & !bits::NO_EXECUTE),
    ] {
        let (arch, window, arena) = Native::machine(BYTES);
        let (block, entry) = entry_of(&arch, arena.start.offset(BYTES / 2));
        assert!(
            arena.start < block.start && block.end < arena.end,
            "{block:?} is not in the midst of {arena:?}"
        );
        let edited = |new: u64| {
            entry.store(new, Ordering::Release);
            arch.publish();
            arch.invalidate_everywhere(Invalidation::EVERYTHING);
        };
        let old = entry.load(Ordering::Acquire);
        assert_eq!(old & bits::WRITABLE.0, bits::WRITABLE.1, "the kernel's map has changed");
        edited(edit(old));
        // SAFETY: as in `TestArch::machine`.
        let again = unsafe { Native::current(PhysOffset(0)) };
        let error = refused(again, window.clone(), arena.clone());
        edited(old);
        let expected = match what {
            "nothing" => CarveError::ArenaNotMapped {
                address: address(block.start),
                alias: alias(block.start),
                found: None,
            },
            "read-only" => {
                CarveError::ArenaReadOnly { address: address(block.start), alias: alias(block.start) }
            }
            _ => CarveError::ArenaExecutable { address: address(block.start), alias: alias(block.start) },
        };
        assert_eq!(error, expected, "{what}");
        // SAFETY: the machine is the test's.
        unsafe { Allocator::new(arch, window, arena, &tiny()) }.unwrap();
    }
    wrong_offset();
}

/// The entry of the kernel's own map for an address, and the page or block that it serves.
fn entry_of(arch: &Native, address: PhysAddr) -> (Range<PhysAddr>, &'static AtomicU64) {
    // SAFETY: as in `TestArch::machine`: the kernel's tables stay for good.
    let arch: &'static Native = unsafe { &*core::ptr::from_ref(arch) };
    let at = VirtAddr(address.0);
    let mut table = arch.root(at);
    for level in (0..arch.levels()).rev() {
        // SAFETY: a live table.
        let entries = unsafe { Table::new(arch, table, 1) }.entries();
        let entry = &entries[index(at, level)];
        match <Native as Arch>::Format::upper(level, entry.load(Ordering::Acquire)) {
            Upper::NotPresent => break,
            Upper::Table { frame, .. } => table = frame,
            Upper::Leaf { frame, .. } => return (frame..frame.offset(PAGE << (9 * level)), entry),
        }
    }
    panic!("the kernel does not map {address}");
}

/// A linear map of memory that is somewhere else, as far as the arena is concerned.
fn wrong_offset() {
    struct Elsewhere(PhysAddr);

    // SAFETY: not linear over tables and arena, which is what is found.
    unsafe impl allotment::arch::PhysMap for Elsewhere {
        fn phys_to_virt(&self, address: PhysAddr) -> core::ptr::NonNull<u8> {
            let shift = if address.0 >= self.0.0 { PAGE as u64 } else { 0 };
            allotment::arch::PhysMap::phys_to_virt(&PhysOffset(shift), address)
        }
    }

    let (_, window, arena) = Native::machine(16 * MIB);
    // Where the tables should be is something else.
    // SAFETY: it is refused.
    let arch = unsafe { Native::current(PhysOffset(PAGE as u64)) };
    let error = refused(arch, window.clone(), arena.clone());
    let CarveError::RootNotMapped { root, alias, found } = error else { panic!("{error}") };
    assert_eq!(alias, VirtAddr(root.0 + PAGE as u64));
    assert_ne!(found, Some(root));
    // SAFETY: it is refused.
    let arch = unsafe { Native::current(Elsewhere(arena.start)) };
    let error = refused(arch, window, arena.clone());
    let (address, page) = (arena.start, arena.start.offset(PAGE));
    assert_eq!(error, CarveError::ArenaNotMapped { address, alias: VirtAddr(page.0), found: Some(page) });
}

pub(super) fn unknown_cpu() {
    struct Two;

    // SAFETY: it counts wrong, which is what is found.
    unsafe impl Cpus for Two {
        fn count(&self) -> usize {
            2
        }

        fn current(&self) -> usize {
            2
        }

        fn interrupt_others(&self, _work: &(dyn Fn() + Sync)) {}
    }

    let (arch, window, arena) = Native::machine(16 * MIB);
    let error = refused(arch.with_cpus(&Two), window, arena);
    assert_eq!(error, CarveError::UnknownCpu { current: 2, count: 2 });
}
