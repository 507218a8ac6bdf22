//! Linear memories, as wasm sees them: pages, a type, somebody who limits them.

use alloc::boxed::Box;
use core::{fmt, ptr::NonNull};

use allotment_arch::{Arch, Native};

use super::{
    InstanceError, MemoryType, ResourceLimiter, RuntimeLinearMemory, RuntimeMemoryCreator, SharedMemory,
    VMMemoryDefinition,
    limits::{ask, desired_size, grow_to, limit_new, limit_new_of},
    vmcontext::address,
};
use crate::{Allocator, Error, MemoryImage, MemoryInModule, vm::Image};

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
        /// The slot.
        memory: StaticMemory<'a, A>,
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

/// A slot that holds the memory of an instance: what stands in
/// [`Memory::Static`]. The handle of its [`crate::Memory`] can be copied, and with
/// a copy the slot be given away under the instance; so nobody is shown it.
///
/// ```compile_fail,E0616
/// use allotment::{MakeAccessible, instance::StaticMemory};
///
/// fn handle<'a>(memory: &StaticMemory<'a>) -> Option<MakeAccessible<'a>> {
///     match &memory.0 {
///         allotment::Memory::Static { make_accessible, .. } => Some(*make_accessible),
///         _ => None,
///     }
/// }
/// ```
pub struct StaticMemory<'a, A: Arch = Native>(
    pub(super) crate::Memory<'a, A>,
    /// Whether it begins with what active segments say.
    bool,
);

/// What a memory in a slot begins with.
#[derive(Debug)]
pub(super) struct Beginning<'i, 'a, A: Arch> {
    /// Its contents, or zeros.
    pub(super) image: Option<&'i MemoryImage<'a, A>>,
    /// Bytes, if not the minimum of its type.
    pub(super) size: Option<usize>,
    /// Whether this is what active segments say.
    pub(super) initialized: bool,
}

impl<A: Arch> Beginning<'_, '_, A> {
    /// Zeros.
    pub(super) const ZEROS: Self = Self { image: None, size: None, initialized: false };

    fn image(&self) -> Option<Image> {
        self.image.map(MemoryImage::image)
    }
}

impl<A: Arch> Clone for Beginning<'_, '_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Arch> Copy for Beginning<'_, '_, A> {}

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
        Self::new_beginning(allocator, ty, owner, Beginning::ZEROS, limiter)
    }

    /// A memory in a slot that begins with something.
    #[inline(always)]
    pub(super) fn new_beginning(
        allocator: &'a Allocator<A>,
        ty: &MemoryType,
        owner: Option<MemoryInModule>,
        begins: Beginning<'_, 'a, A>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Self, InstanceError> {
        let size = limit_new_of(ty, begins.size, limiter)?;
        let memory = allocator.allocate_memory_showing(begins.image(), &ty.request(size, owner))?;
        Ok(Self::Static { ty: *ty, memory: StaticMemory(memory, begins.initialized) })
    }

    /// Has the memory of an earlier instance of the same module be one of a new
    /// instance: in the same slot, if that is still its last one's, else in another.
    #[inline]
    pub(super) fn renew(
        &mut self,
        allocator: &'a Allocator<A>,
        owner: impl FnOnce() -> Option<MemoryInModule>,
        begins: Beginning<'_, 'a, A>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<(), InstanceError> {
        if limiter.is_some() {
            limit_new_of(&self.ty().clone(), begins.size, limiter)?;
        }
        if let Self::Static { memory, .. } = self {
            let bytes = begins.size.unwrap_or(memory.0.size());
            if Allocator::wake_memory(&mut memory.0, begins.image(), bytes).is_ok() {
                memory.1 = begins.initialized;
                return Ok(());
            }
        }
        self.replace(allocator, owner(), begins)
    }

    #[cold]
    #[inline(never)]
    fn replace(
        &mut self,
        allocator: &'a Allocator<A>,
        owner: Option<MemoryInModule>,
        begins: Beginning<'_, 'a, A>,
    ) -> Result<(), InstanceError> {
        self.rouse();
        *self = Self::new_beginning(allocator, &self.ty().clone(), owner, begins, None)?;
        Ok(())
    }

    /// Whether it begins with what active segments say, so that nobody copies them.
    pub(super) fn is_initialized(&self) -> bool {
        matches!(self, Self::Static { memory: StaticMemory(_, true), .. })
    }

    /// Takes it back, for [`renew`](Self::renew).
    #[inline]
    pub(super) fn put_to_sleep(&mut self) {
        if let Self::Static { ty, memory } = self {
            Allocator::put_memory_to_sleep(&mut memory.0, ty.minimum_bytes().unwrap_or(0));
        }
    }

    /// Has the slot that it was put to sleep in be anybody's.
    pub(super) fn rouse(&mut self) {
        if let Self::Static { memory, .. } = self {
            Allocator::rouse_memory(&memory.0);
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
        Ok(Self::Shared(SharedMemory::new(allocator, ty, ty.request(minimum, owner))?))
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
        self.ty().pages(self.byte_size() as u64)
    }

    /// Bytes that it has.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        match self {
            Self::Static { memory, .. } => memory.0.size(),
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
            Self::Static { memory, .. } => memory.0.base(),
            Self::Dynamic { memory, .. } => memory.base(),
            Self::Shared(memory) => memory.base(),
        }
    }

    /// Whether code must compare addresses with the size; see
    /// [`crate::Memory::needs_bounds_checks`].
    #[must_use]
    pub fn needs_bounds_checks(&self) -> bool {
        match self {
            Self::Static { memory, .. } => memory.0.needs_bounds_checks(),
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
        let before = ty.pages(old as u64);
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
            Self::Static { memory, .. } => memory.0.grow_to(size),
            Self::Dynamic { memory, .. } => memory.grow_to(size),
            Self::Shared(memory) => memory.grow_to(size),
        }
    }
}

impl<A: Arch> fmt::Debug for StaticMemory<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
