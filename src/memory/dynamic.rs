//! A memory with a range of address space of its own.

use core::{fmt, ptr::NonNull};

use allotment_arch::{Arch, Native, page_ceil};

use crate::{
    Allocator, Error, MemoryInModule,
    on_demand::{Place, RangeKind},
    vm::pointer,
};

/// A memory on demand: what stands in [`Memory::Dynamic`](super::Memory::Dynamic).
///
/// ```text
///   | guard before | size: accessible | up to capacity: grows in place | guard |
///                  base
/// ```
///
/// Growth beyond the capacity moves it, where it may: nothing is copied, but
/// all of it has another address then, and the old ones fault.
///
/// What nobody wrote is shared where that pays, as in a pool's slot: pages get
/// frames of their own when they are first written, out of those that were
/// promised to the memory when they became accessible.
pub struct DynamicMemory<'a, A: Arch = Native> {
    pub(crate) allocator: &'a Allocator<A>,
    pub(crate) place: Place,
    pub(crate) kind: RangeKind,
    pub(crate) owner: Option<MemoryInModule>,
    pub(crate) size: usize,
    pub(crate) capacity: usize,
    pub(crate) maximum: usize,
    pub(crate) may_move: bool,
    pub(crate) needs_bounds_checks: bool,
}

impl<A: Arch> DynamicMemory<'_, A> {
    /// Address of the first byte, until it grows beyond its capacity.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        pointer(self.place.base)
    }

    /// Bytes that it has now. Access ends at a multiple of 4 KiB.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that it may have before it moves.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether compiled code must compare addresses with the size: there are
    /// some that it can reach and that may not fault.
    #[must_use]
    pub fn needs_bounds_checks(&self) -> bool {
        self.needs_bounds_checks
    }

    /// Grows to `new_size` bytes; what is added reads as zeros. A size that is
    /// not larger changes nothing. Beyond the capacity the memory moves: nobody
    /// uses it by its old addresses during the call.
    ///
    /// # Errors
    ///
    /// [`Error::BeyondMaximum`]; [`Error::BeyondCapacity`] if it may not move;
    /// [`Error::OutOfAddressSpace`], [`Error::OutOfRegions`] and
    /// [`Error::OutOfFrames`]. The memory is then as before, and where it was.
    pub fn grow_to(&mut self, new_size: usize) -> Result<(), Error> {
        if new_size <= self.size {
            return Ok(());
        }
        if new_size > self.maximum {
            return Err(Error::BeyondMaximum { requested: new_size, maximum: self.maximum });
        }
        if new_size <= self.capacity {
            self.allocator.grow_backed(self.place.id, new_size)?;
        } else if self.may_move {
            self.move_to(new_size)?;
        } else {
            return Err(Error::BeyondCapacity { requested: new_size, capacity: self.capacity });
        }
        self.size = new_size;
        Ok(())
    }

    fn move_to(&mut self, new_size: usize) -> Result<(), Error> {
        let capacity = self.allocator.capacity_for_growth(self.kind, new_size)?;
        let backed = self.allocator.backed(self.kind, self.owner, capacity);
        self.place = self.allocator.move_backed(self.place.id, &backed, new_size)?;
        self.capacity = page_ceil(capacity).unwrap_or(capacity);
        Ok(())
    }

    /// Takes it apart, by its own allocator.
    pub(crate) fn release(self) {
        self.allocator.release_backed(self.place.id);
    }

    /// Whether it is there still.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.allocator.regions.check(self.place.id)
    }

    /// Makes sure that this CPU caches nothing that first writes on others replaced.
    pub(crate) fn arrive(&self) -> Result<(), Error> {
        self.allocator.regions.arrive(&self.allocator.vm, self.place.id)
    }

    /// Gives a part of it frames of its own.
    pub(crate) fn prepare_write(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.check_range(offset, len)?;
        self.allocator.regions.prepare_write(&self.allocator.vm, self.place.id, offset, len)
    }

    /// Notes that a part was written by other means than its mapping.
    pub(crate) fn note_written(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.check_range(offset, len)?;
        self.allocator.regions.note_written(&self.allocator.vm, self.place.id, offset, len)
    }

    /// Whether a part of it is accessible.
    fn check_range(&self, offset: usize, len: usize) -> Result<(), Error> {
        self.check()?;
        let accessible = page_ceil(self.size).unwrap_or(self.size);
        let end = offset.checked_add(len).filter(|&end| end <= accessible);
        end.map(drop).ok_or(Error::OutOfBounds { offset, len, accessible })
    }
}

impl<A: Arch> fmt::Debug for DynamicMemory<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicMemory")
            .field("base", &self.place.base)
            .field("size", &self.size)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
