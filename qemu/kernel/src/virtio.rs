//! What `virtio-drivers` asks of a kernel: memory for its queues and addresses for devices.
//!
//! Memory is identity-mapped and there is no IOMMU, so that a pointer is a device's address.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;

use crate::ranges;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// This kernel, as `virtio-drivers` sees it.
pub(crate) struct Identity;

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()
}

// SAFETY: queues come zeroed and page-aligned from the heap; addresses are identities.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let Some(layout) = layout(pages).filter(|layout| layout.size() > 0) else {
            return (0, NonNull::dangling());
        };
        // SAFETY: the size is not 0.
        let memory = unsafe { alloc_zeroed(layout) };
        // Address 0 is how the driver is told that there is none.
        NonNull::new(memory).map_or((0, NonNull::dangling()), |memory| (physical(memory), memory))
    }

    unsafe fn dma_dealloc(_: PhysAddr, memory: NonNull<u8>, pages: usize) -> i32 {
        let Some(layout) = layout(pages) else { return -1 };
        // SAFETY: the caller got it from `dma_alloc` with as many pages.
        unsafe { dealloc(memory.as_ptr(), layout) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        // Only PCI transports ask; none is used here.
        let pointer = ranges::pointer(address);
        NonNull::new(pointer).expect("no device has its registers at address 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        physical(buffer.cast())
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

fn physical(memory: NonNull<u8>) -> PhysAddr {
    memory.as_ptr().expose_provenance() as PhysAddr
}
