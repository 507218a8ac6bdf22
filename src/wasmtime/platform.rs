//! Virtual memory as Wasmtime asks for it, over an [`Allocator`]: which calls
//! are slots and which are regions. The C symbols are thin over this, so that
//! it runs on the emulated MMU too.

use core::{fmt, ptr::NonNull};

use allotment_arch::{Access, Arch, Native, PAGE_SIZE, VirtAddr, page_ceil};
use spin::Mutex;

use super::{GUARD_SIZE, Preemption, RESERVATION, code::CodeOutside, next::Successors};
use crate::{
    Allocator, Error,
    events::told,
    pooling::{SlabLayout, SlotId, SlotPool, is_in_use},
    vm::pointer,
};

/// What a linear memory takes: a guard, the reservation, a guard.
const MEMORY_MAPPING: usize = GUARD_SIZE + RESERVATION + GUARD_SIZE;

/// Access as Wasmtime's `prot_flags` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection(Option<Access>);

impl Protection {
    /// From the bits READ = 1, WRITE = 2, EXEC = 4.
    ///
    /// # Errors
    ///
    /// [`PlatformError::Protection`] for what the window never gives: writable
    /// and executable at once, or unreadable but accessible.
    pub fn from_flags(flags: u32) -> Result<Self, PlatformError> {
        Ok(Self(match flags {
            0 => None,
            1 => Some(Access::Read),
            3 => Some(Access::ReadWrite),
            5 => Some(Access::ReadExecute),
            flags => return Err(PlatformError::Protection { flags }),
        }))
    }
}

/// Why a call of Wasmtime's failed. Everything is as it was before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlatformError {
    /// The allocator refused.
    Allocator(Error),
    /// The flags ask for an access that does not exist here.
    Protection {
        /// The flags.
        flags: u32,
    },
    /// A memory slot cannot have that access on that part.
    SlotAccess {
        /// First byte of the part, from the slot's first.
        offset: usize,
        /// Bytes in the part.
        bytes: usize,
    },
    /// Code outside the window is not mapped as code.
    NotExecutable {
        /// The first page that is not executable, or that is writable.
        address: VirtAddr,
    },
    /// Code outside the window is in too many pieces.
    TooManyPieces {
        /// How many there can be.
        limit: usize,
    },
    /// A stack is to be larger than the allocator's are.
    StackTooLarge {
        /// Bytes asked for.
        requested: usize,
        /// Bytes that each stack has: the allocator's `async_stack_size`.
        limit: usize,
    },
    /// A memory is to reserve more than the allocator's do, or to have a larger guard.
    Reservation {
        /// Bytes to reserve, and of the guard after them.
        requested: (usize, usize),
        /// What the allocator's memories have of both.
        limit: (usize, usize),
    },
}

impl PlatformError {
    /// The number that Wasmtime prints as `os error N`: Linux's for the same.
    #[must_use]
    pub fn code(self) -> i32 {
        const ENOMEM: i32 = 12;
        const EINVAL: i32 = 22;
        match self {
            Self::Allocator(
                Error::OutOfFrames { .. }
                | Error::PoolConcurrencyLimit { .. }
                | Error::OutOfAddressSpace { .. }
                | Error::MemoryTooLarge { .. },
            ) => ENOMEM,
            _ => EINVAL,
        }
    }
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocator(error) => error.fmt(f),
            Self::Protection { flags } => {
                write!(
                    f,
                    "protection flags {flags:#b} are none of: nothing, read, read-write, read-execute; ask for one of these"
                )
            }
            Self::SlotAccess { offset, bytes } => {
                write!(
                    f,
                    "{bytes:#x} bytes at offset {offset:#x} of a memory slot cannot have that access; map a range that is no memory"
                )
            }
            Self::NotExecutable { address } => {
                write!(
                    f,
                    "no code can run at {address}: the kernel does not map it as read-only and executable; \
                     map it so, or load it into a mapping of the platform's"
                )
            }
            Self::TooManyPieces { limit } => {
                write!(
                    f,
                    "there is code in {limit} places outside the window already; load more of it into \
                     mappings of the platform's"
                )
            }
            Self::StackTooLarge { requested, limit } => {
                write!(
                    f,
                    "a stack of {requested:#x} bytes was asked for, and those of the allocator have \
                     {limit:#x}; give both the same async_stack_size"
                )
            }
            Self::Reservation { requested, limit } => {
                write!(
                    f,
                    "a memory that reserves {:#x} bytes before a guard of {:#x} was asked for, and those of \
                     the allocator have {:#x} and {:#x}; give both the same memory_reservation and \
                     memory_guard_size",
                    requested.0, requested.1, limit.0, limit.1
                )
            }
        }
    }
}

impl core::error::Error for PlatformError {}

impl From<Error> for PlatformError {
    fn from(error: Error) -> Self {
        Self::Allocator(error)
    }
}

/// An allocator as Wasmtime's platform.
pub struct Platform<A: Arch = Native> {
    allocator: Allocator<A>,
    /// Whether each slot has what a mapping promises.
    slots_are_mappings: bool,
    last_error: Mutex<Option<PlatformError>>,
    pub(super) preemption: Option<&'static dyn Preemption>,
    pub(super) code_outside: CodeOutside,
    pub(super) successors: Successors,
}

impl<A: Arch> fmt::Debug for Platform<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform").field("plan", self.allocator.plan()).finish_non_exhaustive()
    }
}

impl<A: Arch> Platform<A> {
    /// A platform over `allocator`, which should have been carved with
    /// [`allocator_config`](super::allocator_config)'s reservation and guard. With
    /// others memories become regions, and its slots stay unused.
    pub fn new(allocator: Allocator<A>) -> Self {
        let slots_are_mappings =
            !allocator.on_demand.is_strategy && slots_are_mappings(allocator.pools.memories.layout());
        Self {
            allocator,
            slots_are_mappings,
            last_error: Mutex::new(None),
            preemption: None,
            code_outside: CodeOutside::new(),
            successors: Successors::new(),
        }
    }

    /// For a kernel that switches threads while they use Wasmtime: has them stay where they
    /// are for the length of each call that Wasmtime makes, and while it holds a lock.
    #[must_use]
    pub fn with_preemption(self, preemption: &'static dyn Preemption) -> Self {
        Self { preemption: Some(preemption), ..self }
    }

    /// The allocator.
    pub fn allocator(&self) -> &Allocator<A> {
        &self.allocator
    }

    /// Why the last failed call failed, in full: Wasmtime itself is told a
    /// number only. Taking it clears it.
    pub fn take_last_error(&self) -> Option<PlatformError> {
        self.last_error.lock().take()
    }

    /// `wasmtime_mmap_new`: a new mapping of zeros.
    ///
    /// # Errors
    ///
    /// [`PlatformError`]; nothing is mapped then.
    pub fn map(&self, bytes: usize, protection: Protection) -> Result<NonNull<u8>, PlatformError> {
        self.note(if self.is_memory(bytes, protection) {
            self.map_slot()
        } else {
            self.map_region(bytes, protection)
        })
    }

    /// `wasmtime_munmap`: ends the mapping that `map` made with this size.
    ///
    /// # Errors
    ///
    /// [`PlatformError`] when there is no such mapping.
    ///
    /// # Safety
    ///
    /// Nobody uses the mapping any more.
    pub unsafe fn unmap(&self, start: NonNull<u8>, bytes: usize) -> Result<(), PlatformError> {
        let start = virt(start);
        self.note(if self.memories().contains(start) {
            match self.slot_of(start) {
                Some((id, 0)) if bytes == MEMORY_MAPPING => {
                    self.note_shown(id);
                    self.memories().deallocate(&self.allocator.vm, id);
                    Ok(())
                }
                _ => Err(Error::UnknownRange { address: start, bytes }.into()),
            }
        } else {
            // SAFETY: by this function's contract.
            unsafe { self.allocator.release_region(start, bytes) }.map_err(PlatformError::from)
        })
    }

    /// `wasmtime_mprotect`: changes the access to pages and keeps contents.
    ///
    /// In a memory slot access can be extended from the front, and taken away
    /// from the end.
    ///
    /// # Errors
    ///
    /// [`PlatformError`]; nothing changed.
    ///
    /// # Safety
    ///
    /// Nobody relies on an access that the call takes away.
    pub unsafe fn protect(
        &self,
        start: NonNull<u8>,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), PlatformError> {
        let start = virt(start);
        // As a rule it is that, which is tried first, and by itself.
        if protection == Protection(Some(Access::ReadWrite))
            && self.memories().give_access_at(&self.allocator.vm, start, bytes)
        {
            return Ok(());
        }
        // SAFETY: by this function's contract.
        unsafe { self.protect_otherwise(start, bytes, protection) }
    }

    /// The same where it is not mere growth.
    ///
    /// # Safety
    ///
    /// Nobody relies on an access that the call takes away.
    #[inline(never)]
    unsafe fn protect_otherwise(
        &self,
        start: VirtAddr,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), PlatformError> {
        self.note(match self.memories().find(start) {
            Some((id, offset)) => self.protect_slot(id, offset, bytes, protection),
            // SAFETY: by this function's contract.
            None => unsafe { self.allocator.protect_region(start, bytes, protection.0) }.map_err(Into::into),
        })
    }

    /// `wasmtime_mmap_remap`: pages become zeros with a new access.
    ///
    /// # Errors
    ///
    /// [`PlatformError`]; nothing changed.
    ///
    /// # Safety
    ///
    /// Nobody uses the pages.
    pub unsafe fn remap(
        &self,
        start: NonNull<u8>,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), PlatformError> {
        let start = virt(start);
        self.note(match self.memories().find(start) {
            Some((id, offset)) => self.remap_slot(id, offset, bytes, protection),
            // SAFETY: by this function's contract.
            None => unsafe { self.remap_region(start, bytes, protection) }.map_err(Into::into),
        })
    }

    pub(super) fn memories(&self) -> &SlotPool {
        &self.allocator.pools.memories
    }

    /// Whether a new mapping is the reservation of a linear memory.
    fn is_memory(&self, bytes: usize, protection: Protection) -> bool {
        bytes == MEMORY_MAPPING && protection == Protection(None) && self.slots_are_mappings
    }

    fn map_slot(&self) -> Result<NonNull<u8>, PlatformError> {
        let next = self.next_memory();
        let id = self.allocator.pools.allocate(&self.allocator.vm, self.memories(), next.key, None, 0)?;
        self.begin_memory(id, next);
        let base = self.memories().base(id.slot);
        Ok(pointer(VirtAddr(base.0 - GUARD_SIZE as u64)))
    }

    fn map_region(&self, bytes: usize, protection: Protection) -> Result<NonNull<u8>, PlatformError> {
        // What is mapped like this is a memory's reservation with its guards.
        let inner_guard = if bytes == MEMORY_MAPPING && protection.0.is_none() { GUARD_SIZE } else { 0 };
        let start = self.allocator.regions.reserve_plain(bytes, inner_guard)?;
        if protection.0.is_some() {
            // SAFETY: nobody knows the new region yet.
            let given = unsafe { self.allocator.protect_region(start, bytes, protection.0) };
            if let Err(error) = given {
                // SAFETY: as above. It was reserved three lines up.
                unsafe { self.allocator.release_region(start, bytes) }?;
                return Err(error.into());
            }
        }
        Ok(pointer(start))
    }

    fn protect_slot(
        &self,
        id: SlotId,
        offset: usize,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), PlatformError> {
        let refused = PlatformError::SlotAccess { offset, bytes };
        let end = page_end(offset, bytes).ok_or(refused)?;
        // Not from the midst of a page: the page would lose its first bytes.
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(refused);
        }
        let (vm, memories) = (&self.allocator.vm, self.memories());
        match protection.0 {
            Some(Access::ReadWrite) if offset == 0 => self.begin_slot(id, bytes)?,
            Some(Access::ReadWrite) => self.allocator.make_accessible(id, offset, bytes)?,
            None if self.accessible(id) <= end => memories.make_inaccessible(vm, id, offset)?,
            _ => return Err(refused),
        }
        Ok(())
    }

    /// Gives access from the first byte on: an image may follow.
    fn begin_slot(&self, id: SlotId, bytes: usize) -> Result<(), Error> {
        let Allocator { vm, pools, .. } = &self.allocator;
        loop {
            match pools.memories.make_accessible_at_first(vm, id, bytes) {
                Err(Error::OutOfFrames { needed, .. }) if pools.make_room(vm, needed) => {}
                result => return result,
            }
        }
    }

    fn remap_slot(
        &self,
        id: SlotId,
        offset: usize,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), PlatformError> {
        // Taking access away clears. Giving it comes first, as it may fail.
        self.protect_slot(id, offset, bytes, protection)?;
        if protection.0.is_none() {
            return Ok(());
        }
        if page_end(offset, bytes).is_none_or(|end| self.accessible(id) > end) {
            return Err(PlatformError::SlotAccess { offset, bytes });
        }
        Ok(self.memories().erase(&self.allocator.vm, id, offset)?)
    }

    /// # Safety
    ///
    /// Nobody uses the pages.
    unsafe fn remap_region(
        &self,
        start: VirtAddr,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), Error> {
        if protection.0.is_some() {
            // Gives every page a frame, which clearing keeps: what may fail
            // comes first.
            // SAFETY: by this function's contract.
            unsafe { self.allocator.protect_region(start, bytes, protection.0) }?;
        }
        // SAFETY: as above.
        unsafe { self.allocator.reset_region(start, bytes) }?;
        // SAFETY: as above.
        unsafe { self.allocator.protect_region(start, bytes, protection.0) }
    }

    /// The slot whose mapping, guard before included, holds `address`, and the
    /// offset from the mapping's first byte.
    fn slot_of(&self, address: VirtAddr) -> Option<(SlotId, usize)> {
        self.memories().find(address.offset(GUARD_SIZE)).filter(|(id, _)| is_in_use(id.generation))
    }

    fn accessible(&self, id: SlotId) -> usize {
        let base = self.memories().base(id.slot);
        self.memories().locate(base).map_or(0, |position| position.accessible)
    }

    pub(super) fn note<T>(&self, result: Result<T, PlatformError>) -> Result<T, PlatformError> {
        if let Err(error) = result {
            *self.last_error.lock() = Some(error);
        }
        told!(Debug, "a call of Wasmtime's failed", result)
    }
}

/// Whether there are slots, and each has what a mapping promises: the reservation, and
/// guards before and after in which nothing ever becomes accessible.
/// Compiled code relies on both. With other slots, memories are regions.
fn slots_are_mappings(slab: &SlabLayout) -> bool {
    slab.total_memories > 0
        && slab.reservation == RESERVATION
        && slab.guard_before >= GUARD_SIZE
        && slab.guard_size >= GUARD_SIZE
}

/// The end of the last page of a part.
fn page_end(offset: usize, bytes: usize) -> Option<usize> {
    offset.checked_add(bytes).and_then(page_ceil)
}

pub(super) fn virt(pointer: NonNull<u8>) -> VirtAddr {
    VirtAddr(pointer.as_ptr().expose_provenance() as u64)
}
