//! Page tables, and frames for them.

use core::ops::Range;

use bootloader_api::info::{MemoryRegionKind, MemoryRegions};
use x86_64::{
    PhysAddr, VirtAddr,
    registers::control::Cr3,
    structures::paging::{FrameAllocator, OffsetPageTable, PageTable, PhysFrame, Size4KiB},
};

/// The tables that the boot-loader has made.
///
/// # Safety
///
/// All physical memory is mapped at `offset`, and this is called once.
pub unsafe fn init(offset: VirtAddr) -> OffsetPageTable<'static> {
    let (root, _) = Cr3::read();
    let root: *mut PageTable = (offset + root.start_address().as_u64()).as_mut_ptr();
    // SAFETY: by this function's contract.
    unsafe { OffsetPageTable::new(&mut *root, offset) }
}

/// What the kernel may use, as ranges of physical addresses.
pub fn usable(regions: &MemoryRegions) -> impl Iterator<Item = Range<u64>> {
    let usable = regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable);
    usable.map(|region| region.start..region.end)
}

/// Hands out frames from below, up to a limit, and takes none back.
pub struct BootInfoFrameAllocator {
    regions: &'static MemoryRegions,
    limit: u64,
    next: usize,
}

impl BootInfoFrameAllocator {
    /// # Safety
    ///
    /// What `regions` calls usable is not used, below `limit`.
    pub unsafe fn new(regions: &'static MemoryRegions, limit: u64) -> Self {
        Self { regions, limit, next: 0 }
    }
}

// SAFETY: each frame is handed out once.
unsafe impl FrameAllocator<Size4KiB> for BootInfoFrameAllocator {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let below = usable(self.regions).map(|range| range.start..range.end.min(self.limit));
        let frame = below.flat_map(|range| range.step_by(4096)).nth(self.next)?;
        self.next += 1;
        Some(PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}
