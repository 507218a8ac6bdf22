//! The final map: identity through TTBR0, and an own, empty root in TTBR1 for the window.
//!
//! ```text
//!   TTBR0, ASID 1   0000_0000_0000_0000 ..   RAM and devices at their physical addresses
//!   TTBR1           ffff_0000_0000_0000 ..   nothing, until Allotment fills its window
//! ```

use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::NonNull;

use aarch64_cpu::{
    asm::barrier,
    registers::{ReadWriteable, SCTLR_EL1, TTBR0_EL1, TTBR1_EL1, Writeable},
};
use aarch64_paging::descriptor::{El1Attributes, PhysicalAddress};
use aarch64_paging::paging::{
    Constraints, El1And0, MemoryRegion, PageTable, RootTable, Translation, VaRange,
};

use crate::map::{Frames, Region, Rights};
use crate::ranges::{pointer, size};

/// The addresses that the kernel leaves to Allotment: 8 TiB of TTBR1's half.
pub(crate) fn window() -> Range<u64> {
    0xffff_9000_0000_0000..0xffff_9800_0000_0000
}

/// The early map's entries are of ASID 0, and none is global: entries of another ASID never meet
/// them in a TLB, so that their going needs no break before make.
const ASID: u64 = 1;

/// Maps the regions and nothing else, switches to that map and returns the root that serves
/// [`window`].
///
/// # Panics
/// If a region lies outside of 48 bits, or memory for tables runs out.
pub(crate) fn install(regions: &[Region], frames: &mut Frames<'_>) -> u64 {
    // The tables stay for good; a root that is dropped would give them back.
    let mut root = ManuallyDrop::new(RootTable::with_va_range(Tables(frames), 0, El1And0, VaRange::Lower));
    for Region { range, rights } in regions {
        let pages = MemoryRegion::new(size(range.start), size(range.end));
        let to = PhysicalAddress(size(range.start));
        if let Err(error) = root.map_range(&pages, to, attributes(*rights), Constraints::empty()) {
            panic!("cannot map {range:#x?}: {error}");
        }
    }
    activate(root.to_physical());
    TTBR1_EL1.get_baddr()
}

/// Attributes of a page or block. MAIR_EL1 has normal memory at index 0 and Device-nGnRE at 1.
fn attributes(rights: Rights) -> El1Attributes {
    const PRESENT: El1Attributes = El1Attributes::VALID.union(El1Attributes::ACCESSED);
    const NORMAL: El1Attributes =
        PRESENT.union(El1Attributes::ATTRIBUTE_INDEX_0).union(El1Attributes::INNER_SHAREABLE);
    const NEVER_EXECUTE: El1Attributes = El1Attributes::PXN.union(El1Attributes::UXN);
    match rights {
        Rights::ReadWrite => NORMAL | NEVER_EXECUTE,
        Rights::ReadOnly => NORMAL | NEVER_EXECUTE | El1Attributes::READ_ONLY,
        Rights::ReadExecute => NORMAL | El1Attributes::UXN | El1Attributes::READ_ONLY,
        Rights::Device => PRESENT | El1Attributes::ATTRIBUTE_INDEX_1 | NEVER_EXECUTE,
    }
}

fn activate(root: PhysicalAddress) {
    barrier::dsb(barrier::ISHST); // the tables, before walks can see them
    TTBR0_EL1.set(ASID << 48 | root.0 as u64);
    barrier::isb(barrier::SY);
    // Nothing uses the early map any more. WXN: what is writable is not executable, whatever an
    // entry says; it may be cached in TLB entries, so they all go.
    SCTLR_EL1.modify(SCTLR_EL1::WXN::Enable);
    barrier::isb(barrier::SY);
    // SAFETY: forgetting translations changes nothing but speed.
    unsafe { core::arch::asm!("tlbi vmalle1", options(nostack, preserves_flags)) };
    barrier::dsb(barrier::NSH);
    barrier::isb(barrier::SY);
}

/// Tables from the frames that common code hands out; physical addresses are pointers.
#[derive(Debug)]
struct Tables<'a, 'b>(&'a mut Frames<'b>);

impl Translation<El1Attributes> for Tables<'_, '_> {
    fn allocate_table(&mut self) -> (NonNull<PageTable<El1Attributes>>, PhysicalAddress) {
        let address = PhysicalAddress(size(self.0.allocate()));
        (self.physical_to_virtual(address), address)
    }

    unsafe fn deallocate_table(&mut self, _: NonNull<PageTable<El1Attributes>>) {
        // Only a split or removed mapping frees a table, and here each region is mapped once.
        unreachable!("a table of the kernel's map is never freed");
    }

    fn physical_to_virtual(&self, address: PhysicalAddress) -> NonNull<PageTable<El1Attributes>> {
        NonNull::new(pointer(address.0 as u64)).expect("frames are not in page 0")
    }
}
