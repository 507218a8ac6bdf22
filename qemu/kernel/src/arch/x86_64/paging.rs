//! The kernel's page tables: four levels, built with the `x86_64` crate's mapper, or a fifth above these.

use core::arch::x86_64::__cpuid;
use core::ops::Range;

use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size1GiB,
    Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::map::{Frames, Region, Rights};
use crate::ranges::pointer;

/// 8 TiB: 16 top-level entries, from 288 on.
const WINDOW: Range<u64> = 0xffff_9000_0000_0000..0xffff_9800_0000_0000;

/// As many top-level entries, from 288 on, of five levels: 4 PiB, out of reach of four.
const WINDOW_57: Range<u64> = 0xff20_0000_0000_0000..0xff30_0000_0000_0000;

/// The addresses that the kernel leaves to Allotment.
pub(crate) fn window() -> Range<u64> {
    if five_levels() { WINDOW_57 } else { WINDOW }
}

/// Whether boot code has switched five levels on, of which the kernel's map needs four.
fn five_levels() -> bool {
    Cr4::read().contains(Cr4Flags::L5_PAGING)
}

/// Builds the tables and switches to them.
pub(crate) fn install(regions: &[Region], frames: &mut Frames<'_>) -> u64 {
    let level4 = PhysAddr::new(frames.allocate());
    let table = pointer::<PageTable>(level4.as_u64());
    // SAFETY: a zeroed page of our own, which is an empty table.
    let table = unsafe { &mut *table };
    // SAFETY: tables come from `frames`, which are mapped at their physical addresses before and after.
    let mut mapper = unsafe { OffsetPageTable::new(table, VirtAddr::zero()) };
    let mut tables = Tables { mapper: &mut mapper, frames };
    for region in regions {
        tables.map(region);
    }
    let root = if five_levels() { above(level4, frames) } else { level4 };
    // SAFETY: the kernel and its stack are mapped where they were, each with the rights it uses.
    unsafe { Cr3::write(PhysFrame::containing_address(root), Cr3Flags::empty()) };
    root.as_u64()
}

/// A table of level 5 whose first entry, the lowest 256 TiB, is the table of level 4 at `level4`.
fn above(level4: PhysAddr, frames: &mut Frames<'_>) -> PhysAddr {
    let level5 = frames.allocate();
    let table = pointer::<PageTable>(level5);
    // SAFETY: a zeroed page of our own, which is an empty table.
    let table = unsafe { &mut *table };
    table[0].set_addr(level4, PageTableFlags::PRESENT | PageTableFlags::WRITABLE);
    PhysAddr::new(level5)
}

struct Tables<'a, 'f> {
    mapper: &'a mut OffsetPageTable<'a>,
    frames: &'a mut Frames<'f>,
}

// SAFETY: `Frames` gives each frame once.
unsafe impl FrameAllocator<Size4KiB> for Frames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        Some(PhysFrame::containing_address(PhysAddr::new(self.allocate())))
    }
}

impl Tables<'_, '_> {
    /// Maps a region with the largest pages that fit.
    fn map(&mut self, region: &Region) {
        let flags = flags(region.rights);
        let Range { mut start, end } = region.range;
        while start < end {
            let fits = |size: u64| start.is_multiple_of(size) && end - start >= size;
            start += if fits(Size1GiB::SIZE) && has_1gib_pages() {
                self.map_page::<Size1GiB>(start, flags)
            } else if fits(Size2MiB::SIZE) {
                self.map_page::<Size2MiB>(start, flags)
            } else {
                self.map_page::<Size4KiB>(start, flags)
            };
        }
    }

    /// Maps one page and returns its size.
    fn map_page<S>(&mut self, address: u64, flags: PageTableFlags) -> u64
    where
        S: PageSize + core::fmt::Debug,
        for<'a> OffsetPageTable<'a>: Mapper<S>,
    {
        let page = Page::<S>::containing_address(VirtAddr::new(address));
        let frame = PhysFrame::containing_address(PhysAddr::new(address));
        let parents = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        // SAFETY: these tables are not in force yet; what they will mean is `map::regions`' matter.
        let mapped = unsafe { self.mapper.map_to_with_table_flags(page, frame, flags, parents, self.frames) };
        match mapped {
            // Nothing was mapped there before, so that nothing can be cached.
            Ok(flush) => flush.ignore(),
            Err(MapToError::FrameAllocationFailed) => panic!("no memory left for page tables"),
            Err(error) => panic!("regions of the kernel's map overlap at {address:#x}: {error:?}"),
        }
        S::SIZE
    }
}

fn flags(rights: Rights) -> PageTableFlags {
    use PageTableFlags as F;
    match rights {
        Rights::ReadWrite => F::PRESENT | F::WRITABLE | F::NO_EXECUTE,
        Rights::ReadOnly => F::PRESENT | F::NO_EXECUTE,
        Rights::ReadExecute => F::PRESENT,
        Rights::Device => F::PRESENT | F::WRITABLE | F::NO_EXECUTE | F::NO_CACHE | F::WRITE_THROUGH,
    }
}

fn has_1gib_pages() -> bool {
    // SDM Vol. 2A, CPUID: extended leaf 1, edx bit 26. The boot code used that leaf already.
    __cpuid(0x8000_0001).edx & 1 << 26 != 0
}
