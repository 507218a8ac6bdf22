//! Memories on demand, whoever makes them.

use alloc::boxed::Box;
use core::ptr::NonNull;

use allotment_arch::Arch;

use super::MemoryType;
use crate::{Allocator, Error, MemoryInModule, MemoryRequest};

/// Where a linear memory's bytes are, and how they become more: what stands in
/// [`Memory::Dynamic`](super::Memory::Dynamic). Dropping it gives them back.
///
/// # Safety
///
/// `byte_size` bytes from `base` on, rounded up to 4 KiB, are readable and
/// writable and nobody else's, until it is dropped or grows; `base` changes only
/// in `grow_to`. They are zeros at first, and what is added is. If
/// `needs_bounds_checks` is false, every access faults that a 32-bit address plus
/// an offset of at most `Config::memory_guard_size` makes beyond them.
pub unsafe trait RuntimeLinearMemory: Send + Sync {
    /// Address of the first byte.
    fn base(&self) -> NonNull<u8>;

    /// Bytes that it has.
    fn byte_size(&self) -> usize;

    /// Bytes that it may have without another base: at least
    /// [`byte_size`](Self::byte_size).
    fn byte_capacity(&self) -> usize;

    /// Has it be of `new_size` bytes, which are more. What is added is zeros.
    ///
    /// # Errors
    ///
    /// Any; it is as before then.
    fn grow_to(&mut self, new_size: usize) -> Result<(), Error>;

    /// Whether code must compare addresses with the size. The same for good.
    fn needs_bounds_checks(&self) -> bool {
        true
    }
}

/// Makes memories on demand in the embedder's own way.
pub trait RuntimeMemoryCreator: Send + Sync {
    /// A memory of `minimum` bytes of zeros, which grows to `maximum` bytes at most.
    /// `ty` says the same in pages, and `owner` which memory of which module it is.
    ///
    /// # Errors
    ///
    /// Any; nothing is made then.
    fn new_memory<'s>(
        &'s self,
        ty: &MemoryType,
        minimum: usize,
        maximum: usize,
        owner: Option<MemoryInModule>,
    ) -> Result<Box<dyn RuntimeLinearMemory + 's>, Error>;
}

/// Memories on demand as Allotment makes them.
impl<A: Arch> RuntimeMemoryCreator for Allocator<A> {
    fn new_memory<'s>(
        &'s self,
        ty: &MemoryType,
        minimum: usize,
        maximum: usize,
        owner: Option<MemoryInModule>,
    ) -> Result<Box<dyn RuntimeLinearMemory + 's>, Error> {
        let request = MemoryRequest { maximum: Some(maximum), ..ty.request(minimum, owner) };
        Ok(Box::new(Mapped { allocator: self, memory: Some(self.allocate_memory(request)?) }))
    }
}

/// A memory of the core's that gives itself back.
struct Mapped<'a, A: Arch> {
    allocator: &'a Allocator<A>,
    /// There until it is dropped.
    memory: Option<crate::Memory<'a, A>>,
}

impl<A: Arch> Drop for Mapped<'_, A> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.allocator.deallocate_memory(memory);
        }
    }
}

// SAFETY: the core's memories are as the trait wants them.
unsafe impl<A: Arch> RuntimeLinearMemory for Mapped<'_, A> {
    fn base(&self) -> NonNull<u8> {
        self.memory.as_ref().map_or(NonNull::dangling(), crate::Memory::base)
    }

    fn byte_size(&self) -> usize {
        self.memory.as_ref().map_or(0, crate::Memory::size)
    }

    fn byte_capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, crate::Memory::capacity)
    }

    fn grow_to(&mut self, new_size: usize) -> Result<(), Error> {
        self.memory.as_mut().map_or(Ok(()), |memory| memory.grow_to(new_size))
    }

    fn needs_bounds_checks(&self) -> bool {
        self.memory.as_ref().is_none_or(crate::Memory::needs_bounds_checks)
    }
}
