//! Two page tables, one after the other, both with physical memory where it is (*identity*):
//!
//! ```text
//!   FIRST, by aarch64-rt    0..1 GiB devices, 1..2 GiB memory, all writable and executable
//!   then, by aarch64-paging
//!     0x0900_0000           the serial port; nothing else below memory, page 0 least of all
//!     0x4000_0000 ..        memory: text executable, read-only data read-only, the rest writable
//!     64 GiB .. 512 GiB     nothing: the addresses that Allotment gets
//! ```
//!
//! The lower half is all there is: addresses have 39 bits, and TTBR1_EL1 is off, as aarch64-rt has it.

use core::mem::ManuallyDrop;

use aarch64_cpu::{
    asm::barrier,
    registers::{ID_AA64MMFR1_EL1, ReadWriteable, Readable, TCR_EL1},
};
use aarch64_paging::{
    descriptor::El1Attributes,
    idmap::IdMap,
    mair::{Mair, MairAttribute, NormalMemory},
    paging::{El1And0, MemoryRegion},
};
use aarch64_rt::{InitialPagetable, initial_pagetable};

use crate::{console, memory::Map, stack};

const WRITE_BACK: NormalMemory = NormalMemory::WriteBackNonTransientReadWriteAllocate;
/// Memory is attribute 0, as Allotment wants it; aarch64-rt's own has devices there.
const MAIR: Mair = Mair::EMPTY
    .with_attribute(0, MairAttribute::normal(WRITE_BACK, WRITE_BACK))
    .with_attribute(1, MairAttribute::DEVICE_NGNRE);

const PRESENT: El1Attributes =
    El1Attributes::VALID.union(El1Attributes::ACCESSED).union(El1Attributes::NON_GLOBAL);
const NORMAL: El1Attributes =
    PRESENT.union(El1Attributes::ATTRIBUTE_INDEX_0).union(El1Attributes::INNER_SHAREABLE);
const NEVER_EXECUTE: El1Attributes = El1Attributes::PXN.union(El1Attributes::UXN);
const DEVICE: El1Attributes = PRESENT.union(El1Attributes::ATTRIBUTE_INDEX_1).union(NEVER_EXECUTE);

initial_pagetable!(
    {
        let mut first = [0; 512];
        first[0] = DEVICE.bits();
        first[1] = NORMAL.bits() | 0x4000_0000;
        InitialPagetable(first)
    },
    MAIR.0
);

/// Entries of the first table are of address space 0, so that none of them meets one of these in a TLB.
const ADDRESS_SPACE: usize = 1;
/// Of 39 bits, as aarch64-rt sets TCR_EL1.T0SZ.
const ROOT_LEVEL: usize = 1;

/// Switches to the kernel's own page table.
pub(crate) fn init(map: &Map) {
    let mut table = IdMap::with_asid(ADDRESS_SPACE, ROOT_LEVEL, El1And0);
    let mut add = |start: usize, end: usize, attributes| {
        let range = MemoryRegion::new(start, end);
        table.map_range(&range, attributes).unwrap_or_else(|error| panic!("cannot map {range}: {error}"));
    };
    let (text, read_only, data) = image();
    add(console::REGISTERS, console::REGISTERS + 0x1000, DEVICE);
    add(map.ram.start as usize, text, NORMAL | NEVER_EXECUTE);
    add(text, read_only, NORMAL | El1Attributes::READ_ONLY | El1Attributes::UXN);
    add(read_only, data, NORMAL | El1Attributes::READ_ONLY | NEVER_EXECUTE);
    let guard = stack::guard();
    add(data, guard.start, NORMAL | NEVER_EXECUTE);
    add(guard.end, map.ram.end as usize, NORMAL | NEVER_EXECUTE);
    // It stays for good, and what Allotment adds to it must not be freed with it.
    let mut table = ManuallyDrop::new(table);
    // SAFETY: all that the kernel uses is mapped, where it was.
    unsafe { table.activate() };
    mark_writes();
}

/// Has the CPU mark pages that are written, if it can.
fn mark_writes() {
    if ID_AA64MMFR1_EL1.get() & 0xf >= 2 {
        TCR_EL1.modify(TCR_EL1::HA::Enable + TCR_EL1::HD::Enable);
        barrier::isb(barrier::SY);
        // SAFETY: forgetting translations changes nothing but speed.
        unsafe { core::arch::asm!("tlbi vmalle1", options(nostack, preserves_flags)) };
        barrier::dsb(barrier::NSH);
        barrier::isb(barrier::SY);
    }
}

unsafe extern "C" {
    static text_begin: u8;
    static rodata_begin: u8;
    static data_begin: u8;
    static dma_region: u8;
}

/// Where text, read-only data and data begin.
fn image() -> (usize, usize, usize) {
    ((&raw const text_begin).addr(), (&raw const rodata_begin).addr(), (&raw const data_begin).addr())
}

/// The first address that the kernel does not use, `.bss` and stacks included.
pub(crate) fn image_end() -> u64 {
    (&raw const dma_region).addr() as u64
}
