//! Virtual memory as Wasmtime asks for it, over an [`Allocator`]: which calls
//! are slots and which are regions. The C symbols are thin over this, so that
//! it runs on the emulated MMU too.

use core::{fmt, ptr::NonNull};

use allotment_arch::{Access, Arch, Native, VirtAddr};
use spin::Mutex;

use super::{
    GUARD_SIZE, Preemption, RESERVATION,
    code::CodeOutside,
    next::Successors,
    slots::{GUARDS, mapping, slot_of},
};
use crate::{Allocator, Error, events::told, vm::pointer};

/// Access as Wasmtime's `prot_flags` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection(pub(super) Option<Access>);

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
    /// Bytes of a mapping that is a slot of the main memory pool; 0 if none is.
    pub(super) main_mapping: usize,
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
    /// [`allocator_config`](super::allocator_config)'s guards, and the reservations that
    /// engines have. With others memories become regions, and its slots stay unused.
    pub fn new(allocator: Allocator<A>) -> Self {
        let main_mapping = mapping(allocator.pools.memories.layout()).unwrap_or(0);
        Self {
            allocator,
            main_mapping,
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
            self.map_slot(bytes)
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
        self.note(match self.allocator.pools.memory_pool_at(start) {
            Some(pool) => match slot_of(pool, start) {
                Some((id, 0)) if self.is_mapping_of(pool, bytes) => {
                    self.note_shown(id);
                    pool.deallocate(&self.allocator.vm, id);
                    Ok(())
                }
                _ => Err(Error::UnknownRange { address: start, bytes }.into()),
            },
            // SAFETY: by this function's contract.
            None => unsafe { self.allocator.release_region(start, bytes) }.map_err(PlatformError::from),
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
            && self.allocator.pools.memories.give_access_at(&self.allocator.vm, start, bytes)
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
        let Allocator { vm, pools, .. } = &self.allocator;
        self.note(match pools.find_memory(start) {
            // The same of those of other pools.
            Some((pool, id, _))
                if id.pool > 0
                    && protection == Protection(Some(Access::ReadWrite))
                    && pool.give_access_at(vm, start, bytes) =>
            {
                Ok(())
            }
            Some((pool, id, offset)) => self.protect_slot(pool, id, offset, bytes, protection),
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
        self.note(match self.allocator.pools.find_memory(start) {
            Some((pool, id, offset)) => self.remap_slot(pool, id, offset, bytes, protection),
            // SAFETY: by this function's contract.
            None => unsafe { self.remap_region(start, bytes, protection) }.map_err(Into::into),
        })
    }

    fn map_region(&self, bytes: usize, protection: Protection) -> Result<NonNull<u8>, PlatformError> {
        // What is mapped like this is a memory's reservation with its guards.
        let is_memory = bytes == RESERVATION + GUARDS && protection.0.is_none();
        let inner_guard = if is_memory { GUARD_SIZE } else { 0 };
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

    pub(super) fn note<T>(&self, result: Result<T, PlatformError>) -> Result<T, PlatformError> {
        if let Err(error) = result {
            *self.last_error.lock() = Some(error);
        }
        told!(Debug, "a call of Wasmtime's failed", result)
    }
}

pub(super) fn virt(pointer: NonNull<u8>) -> VirtAddr {
    VirtAddr(pointer.as_ptr().expose_provenance() as u64)
}
