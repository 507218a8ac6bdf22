//! Adapters for the types of the crate `x86_64`, version 0.15: a kernel's frame
//! allocator and its level 4 (or 5) table, as they are, and its addresses, which
//! become [`VirtAddr`] and [`PhysAddr`] with `into`.

use x86_64::{
    PhysAddr as X86PhysAddr, VirtAddr as X86VirtAddr,
    structures::paging::{FrameAllocator, FrameDeallocator, PageTable, PhysFrame, Size4KiB},
};

use crate::{FrameSource, Native, PhysAddr, PhysOffset, VirtAddr};

impl From<X86VirtAddr> for VirtAddr {
    fn from(address: X86VirtAddr) -> Self {
        Self(address.as_u64())
    }
}

impl From<X86PhysAddr> for PhysAddr {
    fn from(address: X86PhysAddr) -> Self {
        Self(address.as_u64())
    }
}

/// A kernel's `FrameAllocator<Size4KiB>`, which can take frames back, as a
/// [`FrameSource`].
#[derive(Debug)]
pub struct X86Frames<'a, F>(pub &'a mut F);

// SAFETY: `FrameAllocator` is an unsafe trait with the same promise.
unsafe impl<F: FrameAllocator<Size4KiB> + FrameDeallocator<Size4KiB>> FrameSource for X86Frames<'_, F> {
    fn allocate_frame(&mut self) -> Option<PhysAddr> {
        allocate(self.0)
    }

    unsafe fn deallocate_frame(&mut self, frame: PhysAddr) {
        let frame = PhysFrame::containing_address(X86PhysAddr::new_truncate(frame.0));
        // SAFETY: it came from this allocator and is used no more.
        unsafe { self.0.deallocate_frame(frame) };
    }
}

/// A kernel's `FrameAllocator<Size4KiB>` that takes nothing back, such as one
/// that counts upwards, as a [`FrameSource`]. What a failed carve took is lost
/// with such an allocator.
#[derive(Debug)]
pub struct X86BumpFrames<'a, F>(pub &'a mut F);

// SAFETY: as above.
unsafe impl<F: FrameAllocator<Size4KiB>> FrameSource for X86BumpFrames<'_, F> {
    fn allocate_frame(&mut self) -> Option<PhysAddr> {
        allocate(self.0)
    }

    unsafe fn deallocate_frame(&mut self, _frame: PhysAddr) {}
}

fn allocate<F: FrameAllocator<Size4KiB>>(frames: &mut F) -> Option<PhysAddr> {
    frames.allocate_frame().map(|frame| PhysAddr(frame.start_address().as_u64()))
}

impl Native<PhysOffset> {
    /// Adopts the tables below `root`, a kernel's level 4 table (5 with
    /// CR4.LA57) as it reaches it through `physical`: what
    /// `OffsetPageTable::level_4_table` gives.
    ///
    /// # Safety
    ///
    /// As for [`current`](Native::current), with `root` for CR3; and `root`
    /// lies in the mapping at `physical`.
    #[must_use]
    pub unsafe fn of_table(physical: PhysOffset, root: &PageTable) -> Self {
        let address = core::ptr::from_ref(root).addr() as u64;
        // SAFETY: as above.
        let current = unsafe { Self::current(physical) };
        current.with_root(PhysAddr(address.wrapping_sub(physical.0)))
    }
}
