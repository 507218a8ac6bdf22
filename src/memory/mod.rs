//! Linear memories, as an engine holds them.

use core::{fmt, ptr::NonNull};

mod dynamic;

use allotment_arch::{Arch, Native};

use crate::{Allocator, Error, events::told, pooling::SlotId};

pub use dynamic::DynamicMemory;

/// A linear memory: where it is, how large, and how it grows.
///
/// ```text
///   base                base + size                       base + capacity
///   | accessible        | reserved: faults                | faults: rest of the slot, guard
/// ```
///
/// Access ends at a multiple of 4 KiB: `base + size` rounded up.
///
/// Give it back with [`Allocator::deallocate_memory`]. There is no `Drop`.
#[non_exhaustive]
#[must_use = "a memory that is dropped keeps its slot for ever; give it to deallocate_memory"]
pub enum Memory<'a, A: Arch = Native> {
    /// A slot of a pool, whose address never changes.
    Static {
        /// The whole slot, as bytes that may become accessible. Only the first
        /// `size` of them may be touched.
        base: NonNull<[u8]>,
        /// Bytes that the memory has now. [`MakeAccessible::call`] does not
        /// change it.
        size: usize,
        /// Makes more of the slot accessible.
        make_accessible: MakeAccessible<'a, A>,
    },
    /// A range of its own, which may move when it grows.
    Dynamic(DynamicMemory<'a, A>),
}

// SAFETY: the pointer names a slot that this value alone holds; it is only
// dereferenced by unsafe code of the engine.
unsafe impl<A: Arch> Send for Memory<'_, A> {}
// SAFETY: as above; `&Memory` gives addresses and sizes only.
unsafe impl<A: Arch> Sync for Memory<'_, A> {}

impl<A: Arch> Memory<'_, A> {
    /// Address of the first byte, until it grows beyond its capacity. A CPU may
    /// use it that allocated the memory, or has called [`Allocator::arrive`].
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        match self {
            Self::Static { base, .. } => base.cast(),
            Self::Dynamic(memory) => memory.base(),
        }
    }

    /// Bytes that the memory has now.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Static { size, .. } => *size,
            Self::Dynamic(memory) => memory.size(),
        }
    }

    /// Bytes that it may have where it is. A slot has no more; a range of its own
    /// may be exchanged for a larger one.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match self {
            Self::Static { base, .. } => base.len(),
            Self::Dynamic(memory) => memory.capacity(),
        }
    }

    /// Whether compiled code must compare addresses with the size by itself.
    ///
    /// If not, every access faults that a 32-bit address plus an offset of at
    /// most the guard makes beyond [`size`](Self::size). So it must when there is
    /// no guard or faults are not to become traps, when addresses have 64 bits or
    /// the reservation fewer than 4 GiB, and when the size need not be a multiple
    /// of 4 KiB: the rest of the last page is accessible, and holds zeros until
    /// somebody writes there.
    #[must_use]
    pub fn needs_bounds_checks(&self) -> bool {
        match self {
            Self::Static { make_accessible, .. } => make_accessible.needs_bounds_checks,
            Self::Dynamic(memory) => memory.needs_bounds_checks(),
        }
    }

    /// Grows to `new_size` bytes; what is added reads as zeros. A size that is
    /// not larger changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryTooLarge`] beyond a slot, [`Error::BeyondMaximum`] beyond
    /// what was asked for, [`Error::OutOfFrames`] beyond the arena, and
    /// [`Error::Stale`] after a copy was deallocated; those of
    /// [`DynamicMemory::grow_to`]. The memory is then as before.
    pub fn grow_to(&mut self, new_size: usize) -> Result<(), Error> {
        match self {
            Self::Static { base, size, make_accessible } => {
                if new_size > *size {
                    if new_size > base.len() {
                        return Err(make_accessible.refuse(new_size, base.len()));
                    }
                    make_accessible.call(*size, new_size - *size)?;
                    *size = new_size;
                }
                Ok(())
            }
            Self::Dynamic(memory) => told!(Debug, "a memory does not grow", memory.grow_to(new_size)),
        }
    }
}

impl<A: Arch> fmt::Debug for Memory<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { base, size, make_accessible } => f
                .debug_struct("Static")
                .field("base", base)
                .field("size", size)
                .field("make_accessible", make_accessible)
                .finish(),
            Self::Dynamic(memory) => memory.fmt(f),
        }
    }
}

/// Makes parts of one slot accessible: a small handle that can be copied to
/// wherever a memory grows from.
pub struct MakeAccessible<'a, A: Arch = Native> {
    pub(crate) allocator: &'a Allocator<A>,
    pub(crate) id: SlotId,
    pub(crate) needs_bounds_checks: bool,
}

impl<A: Arch> MakeAccessible<'_, A> {
    /// Makes `len` bytes from `offset` accessible, rounded up to pages. They
    /// read as zeros. What was accessible before stays as it is. Offset and
    /// length are bytes from the memory's first.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryTooLarge`], [`Error::OutOfFrames`],
    /// [`Error::NotAPrefix`] when a gap would be left below `offset`, and
    /// [`Error::Stale`] after the memory was deallocated.
    pub fn call(self, offset: usize, len: usize) -> Result<(), Error> {
        self.allocator.make_accessible(self.id, offset, len)
    }

    /// Why a memory of `capacity` bytes cannot have more.
    #[cold]
    fn refuse(&self, requested: usize, capacity: usize) -> Error {
        let limit = self.allocator.pools.of(self.id).layout().max_memory_size;
        if capacity < limit {
            return Error::BeyondMaximum { requested, maximum: capacity };
        }
        Error::MemoryTooLarge { requested, limit }
    }
}

impl<A: Arch> Clone for MakeAccessible<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Arch> Copy for MakeAccessible<'_, A> {}

impl<A: Arch> fmt::Debug for MakeAccessible<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeAccessible").field("id", &self.id).finish_non_exhaustive()
    }
}
