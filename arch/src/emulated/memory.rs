//! Physical memory: one host allocation.

use core::{ptr::NonNull, sync::atomic::AtomicU64};
use std::boxed::Box;

use crate::{PAGE_SIZE, PhysAddr};

/// Where emulated physical memory begins.
pub const PHYSICAL_BASE: PhysAddr = PhysAddr(0x4000_0000);

/// A page of physical memory, as words so that entries can be atomic.
#[repr(align(4096))]
struct Frame([AtomicU64; PAGE_SIZE / 8]);

pub(super) struct Memory {
    /// From a `Box`, but not kept as one: moving a `Box` claims that no other
    /// pointer is in use, and those that `physical` gave are.
    frames: NonNull<[Frame]>,
    /// Frames at the end that foreign mappings took.
    taken: usize,
}

impl Memory {
    pub(super) fn new(frames: usize) -> Self {
        let frames = Box::<[Frame]>::new_zeroed_slice(frames);
        // SAFETY: zero is a value of `AtomicU64`.
        let frames = unsafe { frames.assume_init() };
        Self { frames: NonNull::from(Box::leak(frames)), taken: 0 }
    }

    /// Behind the last frame that was not taken.
    pub(super) fn end(&self) -> PhysAddr {
        PHYSICAL_BASE.offset((self.frames.len() - self.taken) * PAGE_SIZE)
    }

    /// Takes the last frame.
    pub(super) fn take(&mut self) -> PhysAddr {
        assert!(self.frames.len() - self.taken > 2, "no memory is left to map; make the machine larger");
        self.taken += 1;
        self.end()
    }

    /// The number of the frame at an address, if memory is there.
    pub(super) fn number(&self, address: u64) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(PHYSICAL_BASE.0)?).ok()?;
        (offset / PAGE_SIZE < self.frames.len()).then_some(offset / PAGE_SIZE)
    }

    /// The 8-byte word at a physical address, if memory is there.
    pub(super) fn word(&self, address: u64) -> Option<&AtomicU64> {
        let number = self.number(address)?;
        // SAFETY: the allocation lives as long as `self`, and is only shared.
        let frames = unsafe { self.frames.as_ref() };
        frames[number].0.get((address % PAGE_SIZE as u64 / 8) as usize)
    }

    pub(super) fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        let offset = address.0.wrapping_sub(PHYSICAL_BASE.0);
        let size = (self.frames.len() * PAGE_SIZE) as u64;
        assert!(offset < size, "physical address {address} is outside the emulated memory");
        // SAFETY: `offset` is inside the allocation, as asserted.
        unsafe { self.frames.cast::<u8>().byte_add(usize::try_from(offset).unwrap_or(0)) }
    }
}

// SAFETY: it owns its memory, as the `Box` did, and shares it as atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of the `Box` that `new` leaked, and this
        // is the only place that takes it back.
        drop(unsafe { Box::from_raw(self.frames.as_ptr()) });
    }
}
