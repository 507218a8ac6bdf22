//! The global allocator.

use linked_list_allocator::LockedHeap;
use x86_64::{
    VirtAddr,
    structures::paging::{FrameAllocator, Mapper, Page, PageTableFlags, Size4KiB, mapper::MapToError},
};

const START: u64 = 0x4444_4444_0000;
const SIZE: usize = 1 << 20;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

pub fn init(
    mapper: &mut impl Mapper<Size4KiB>,
    frames: &mut impl FrameAllocator<Size4KiB>,
) -> Result<(), MapToError<Size4KiB>> {
    let first = Page::containing_address(VirtAddr::new(START));
    let last = Page::containing_address(VirtAddr::new(START + SIZE as u64 - 1));
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    for page in Page::range_inclusive(first, last) {
        let frame = frames.allocate_frame().ok_or(MapToError::FrameAllocationFailed)?;
        // SAFETY: the frame is new, and so is the page.
        unsafe { mapper.map_to(page, frame, flags, frames)?.flush() };
    }
    // SAFETY: these pages were just mapped, for this.
    unsafe { HEAP.lock().init(START as *mut u8, SIZE) };
    Ok(())
}
