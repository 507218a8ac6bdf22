//! Heaps for a garbage collector.

use core::{fmt, ptr::NonNull};

use allotment_arch::{Arch, Native};

use crate::{Error, Memory};

/// The memory of a GC heap. Compiled code reaches it as it does a linear
/// memory, which is why both have the same reservation and guards, and why it
/// lies in one of their slots.
///
/// Give it back with [`Allocator::deallocate_gc_heap`](crate::Allocator::deallocate_gc_heap).
/// There is no `Drop`.
#[must_use = "a GC heap that is dropped keeps its slot for ever; give it to deallocate_gc_heap"]
pub struct GcHeap<'a, A: Arch = Native> {
    pub(crate) memory: Memory<'a, A>,
}

impl<'a, A: Arch> GcHeap<'a, A> {
    /// Address of the first byte.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }

    /// Bytes that it has now.
    #[must_use]
    pub fn size(&self) -> usize {
        self.memory.size()
    }

    /// Bytes that it may ever have.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Grows to `new_size` bytes, as [`Memory::grow_to`] does.
    ///
    /// # Errors
    ///
    /// As for [`Memory::grow_to`].
    pub fn grow_to(&mut self, new_size: usize) -> Result<(), Error> {
        self.memory.grow_to(new_size)
    }

    /// It as a memory: for `arrive` and `prepare_write`.
    pub fn memory(&self) -> &Memory<'a, A> {
        &self.memory
    }
}

impl<A: Arch> fmt::Debug for GcHeap<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcHeap").field("memory", &self.memory).finish()
    }
}
