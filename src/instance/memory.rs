//! Linear memories, as wasm sees them: pages, a type, somebody who limits them.

use alloc::boxed::Box;
use core::{fmt, ptr::NonNull};

use allotment_arch::{Arch, Native, VirtAddr};

use super::{InstanceError, MemoryType, ResourceLimiter, SharedMemory, VMMemoryDefinition};
use crate::{Allocator, Error, MemoryInModule, MemoryRequest};

/// Where a linear memory's bytes are, and how they become more: what stands in
/// [`Memory::Dynamic`]. Dropping it gives them back.
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

/// A linear memory that an instance defines.
///
/// ```text
///   base                base + byte_size               base + capacity
///   | accessible        | faults                       | faults, or it moves there
/// ```
#[non_exhaustive]
pub enum Memory<'a, A: Arch = Native> {
    /// A slot of a pool, whose address never changes.
    Static {
        /// What it is declared as.
        ty: MemoryType,
        /// The slot, with a handle that makes more of it accessible.
        memory: crate::Memory<'a, A>,
    },
    /// A range of its own, which may move when it grows.
    Dynamic {
        /// What it is declared as.
        ty: MemoryType,
        /// The range.
        memory: Box<dyn RuntimeLinearMemory + 'a>,
    },
    /// One that threads share, which never moves.
    Shared(SharedMemory<'a, A>),
}

impl<'a, A: Arch> Memory<'a, A> {
    /// A memory in a slot.
    ///
    /// # Errors
    ///
    /// [`InstanceError::MemoryDenied`], [`InstanceError::MemoryUnrepresentable`]
    /// and [`InstanceError::Limiter`] before a slot is taken; those of
    /// [`Allocator::allocate_memory`].
    #[inline(always)]
    pub fn new_static(
        allocator: &'a Allocator<A>,
        ty: &MemoryType,
        owner: Option<MemoryInModule>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Self, InstanceError> {
        let minimum = limit_new(ty, limiter)?;
        let memory = allocator.allocate_memory(request(ty, minimum, owner))?;
        Ok(Self::Static { ty: *ty, memory })
    }

    /// Has the memory of an earlier instance of the same module be one of a new
    /// instance: in the same slot, if that is still its last one's, else in another.
    #[inline]
    pub(super) fn renew(
        &mut self,
        allocator: &'a Allocator<A>,
        owner: impl FnOnce() -> Option<MemoryInModule>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<(), InstanceError> {
        if limiter.is_some() {
            limit_new(&self.ty().clone(), limiter)?;
        }
        if let Self::Static { memory, .. } = self
            && allocator.wake_memory(memory).is_ok()
        {
            return Ok(());
        }
        self.replace(allocator, owner())
    }

    #[cold]
    #[inline(never)]
    fn replace(
        &mut self,
        allocator: &'a Allocator<A>,
        owner: Option<MemoryInModule>,
    ) -> Result<(), InstanceError> {
        self.rouse(allocator);
        *self = Self::new_static(allocator, &self.ty().clone(), owner, None)?;
        Ok(())
    }

    /// Takes it back, for [`renew`](Self::renew).
    #[inline]
    pub(super) fn put_to_sleep(&mut self, allocator: &Allocator<A>) {
        if let Self::Static { ty, memory } = self {
            allocator.put_memory_to_sleep(memory, ty.minimum_bytes().unwrap_or(0));
        }
    }

    /// Has the slot that it was put to sleep in be anybody's.
    pub(super) fn rouse(&mut self, allocator: &Allocator<A>) {
        if let Self::Static { memory, .. } = self {
            allocator.rouse_memory(memory);
        }
    }

    /// A memory that `creator` makes.
    ///
    /// # Errors
    ///
    /// As for [`new_static`](Self::new_static), and what `creator` says.
    pub fn new_dynamic(
        creator: &'a dyn RuntimeMemoryCreator,
        ty: &MemoryType,
        owner: Option<MemoryInModule>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Self, InstanceError> {
        let minimum = limit_new(ty, limiter)?;
        let memory = creator.new_memory(ty, minimum, ty.maximum_bytes(), owner)?;
        Ok(Self::Dynamic { ty: *ty, memory })
    }

    /// A memory that threads share.
    ///
    /// # Errors
    ///
    /// As for [`new_static`](Self::new_static); [`Error::SharedMemory`] with pools,
    /// and without `Config::shared_memory`.
    pub fn new_shared(
        allocator: &'a Allocator<A>,
        ty: &MemoryType,
        owner: Option<MemoryInModule>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Self, InstanceError> {
        let minimum = limit_new(ty, limiter)?;
        Ok(Self::Shared(SharedMemory::new(allocator, ty, request(ty, minimum, owner))?))
    }

    /// What it is declared as.
    #[must_use]
    pub fn ty(&self) -> &MemoryType {
        match self {
            Self::Static { ty, .. } | Self::Dynamic { ty, .. } => ty,
            Self::Shared(memory) => memory.ty(),
        }
    }

    /// Pages, of its own page size, that it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.byte_size() as u64 >> self.ty().page_size_log2
    }

    /// Bytes that it has.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        match self {
            Self::Static { memory, .. } => memory.size(),
            Self::Dynamic { memory, .. } => memory.byte_size(),
            Self::Shared(memory) => memory.byte_size(),
        }
    }

    /// Pages, of its own page size, that it may grow to by its type.
    #[must_use]
    pub fn maximum(&self) -> Option<u64> {
        self.ty().maximum
    }

    /// Address of the first byte, until it grows. A CPU may use it that allocated the
    /// instance, or has called [`arrive`](super::Instance::arrive).
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        match self {
            Self::Static { memory, .. } => memory.base(),
            Self::Dynamic { memory, .. } => memory.base(),
            Self::Shared(memory) => memory.base(),
        }
    }

    /// Whether code must compare addresses with the size; see
    /// [`crate::Memory::needs_bounds_checks`].
    #[must_use]
    pub fn needs_bounds_checks(&self) -> bool {
        match self {
            Self::Static { memory, .. } => memory.needs_bounds_checks(),
            Self::Dynamic { memory, .. } => memory.needs_bounds_checks(),
            Self::Shared(memory) => memory.needs_bounds_checks(),
        }
    }

    /// The shared memory, if it is one.
    #[must_use]
    pub fn as_shared(&self) -> Option<&SharedMemory<'a, A>> {
        match self {
            Self::Shared(memory) => Some(memory),
            _ => None,
        }
    }

    /// What compiled code is told of it.
    #[must_use]
    pub fn vmmemory(&self) -> VMMemoryDefinition {
        VMMemoryDefinition { base: address(self.base()), current_length: self.byte_size() as u64 }
    }

    /// Grows by `delta` pages, and says how many it had; `None` if it is as before,
    /// and wasm's `memory.grow` is -1. Growth by 0 asks nobody. An engine grows by
    /// [`Instance::memory_grow`](super::Instance::memory_grow), which tells compiled
    /// code.
    ///
    /// # Errors
    ///
    /// [`InstanceError::Limiter`] if the limiter ends the program.
    pub fn grow(
        &mut self,
        delta: u64,
        mut limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Option<u64>, InstanceError> {
        let (ty, old) = (*self.ty(), self.byte_size());
        let before = old as u64 >> ty.page_size_log2;
        if delta == 0 {
            return Ok(Some(before));
        }
        if let Self::Shared(memory) = self {
            return memory.grow(delta, limiter);
        }
        let desired = desired_size(&ty, old, delta);
        if !ask(limiter.as_deref_mut(), old, desired, &ty)? {
            return Ok(None);
        }
        let Err(error) = grow_to(&ty, desired, |size| self.grow_to(size)) else { return Ok(Some(before)) };
        limiter.map_or(Ok(()), |limiter| limiter.memory_grow_failed(&error))?;
        Ok(None)
    }

    fn grow_to(&mut self, size: usize) -> Result<(), Error> {
        match self {
            Self::Static { memory, .. } => memory.grow_to(size),
            Self::Dynamic { memory, .. } => memory.grow_to(size),
            Self::Shared(memory) => memory.grow_to(size),
        }
    }
}

/// Bytes after growth by `delta` pages, or the largest number there is.
pub(super) fn desired_size(ty: &MemoryType, old: usize, delta: u64) -> usize {
    let added = delta.checked_mul(ty.page_size()).and_then(|bytes| usize::try_from(bytes).ok());
    added.and_then(|bytes| old.checked_add(bytes)).unwrap_or(usize::MAX)
}

/// Whether the limiter, if there is one, allows growth.
pub(super) fn ask(
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    old: usize,
    desired: usize,
    ty: &MemoryType,
) -> Result<bool, InstanceError> {
    let Some(limiter) = limiter else { return Ok(true) };
    let maximum = ty.maximum.map(|_| ty.maximum_bytes());
    Ok(limiter.memory_growing(old, desired, maximum)?)
}

/// Grows to `desired` bytes unless the type forbids it.
pub(super) fn grow_to(
    ty: &MemoryType,
    desired: usize,
    grow: impl FnOnce(usize) -> Result<(), Error>,
) -> Result<(), InstanceError> {
    let maximum = ty.maximum_bytes();
    if desired > maximum {
        return Err(Error::BeyondMaximum { requested: desired, maximum }.into());
    }
    Ok(grow(desired)?)
}

/// The bytes that a memory begins with, if the limiter allows it to be made.
#[inline]
fn limit_new(
    ty: &MemoryType,
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
) -> Result<usize, InstanceError> {
    let minimum = ty.minimum_bytes().filter(|_| ty.page_size_log2 <= MOST_PAGE_SIZE_LOG2);
    // Also of what cannot be: the limiter's say comes first.
    if !ask(limiter, 0, minimum.unwrap_or(usize::MAX), ty)? {
        return Err(InstanceError::MemoryDenied { minimum: ty.minimum });
    }
    minimum.ok_or(InstanceError::MemoryUnrepresentable { minimum: ty.minimum })
}

/// Logarithm of the largest page that a memory may have.
pub(super) const MOST_PAGE_SIZE_LOG2: u8 = 16;

/// A GC heap of that type, if the limiter allows it to be made.
pub(super) fn ask_for_gc_heap(
    ty: &MemoryType,
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
) -> Result<MemoryRequest, InstanceError> {
    Ok(request(ty, limit_new(ty, limiter)?, None))
}

#[inline]
fn request(ty: &MemoryType, minimum: usize, owner: Option<MemoryInModule>) -> MemoryRequest {
    MemoryRequest {
        minimum,
        maximum: Some(ty.maximum_bytes()),
        owner,
        page_size_log2: ty.page_size_log2,
        memory64: ty.memory64,
        shared: ty.shared,
    }
}

impl<A: Arch> fmt::Debug for Memory<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Static { .. } => "Static",
            Self::Dynamic { .. } => "Dynamic",
            Self::Shared(_) => "Shared",
        };
        let mut debug = f.debug_struct(name);
        debug.field("base", &self.base()).field("byte_size", &self.byte_size()).finish_non_exhaustive()
    }
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
        let request = MemoryRequest { maximum: Some(maximum), ..request(ty, minimum, owner) };
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

/// Where a pointer to the window points.
#[inline]
pub(super) fn address(pointer: NonNull<u8>) -> VirtAddr {
    VirtAddr(pointer.as_ptr().expose_provenance() as u64)
}
