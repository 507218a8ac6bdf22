//! Memories that threads share, and how they wait for one another.
//!
//! ```text
//!   SharedMemory ──┐
//!   SharedMemory ──┴─> one range, which never moves
//!                      a page: | VMMemoryDefinition | address of the memory's record |
//! ```
//!
//! All instances look at that one definition. Who imports it finds the memory by
//! what stands behind it, and need not touch the instance that defines it, which
//! another CPU may run.

use alloc::sync::Arc;
use core::{
    fmt,
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use allotment_arch::{Access, Arch, Native, PAGE_SIZE, VirtAddr};
use spin::Mutex;

use super::{
    InstanceError, MemoryType, ResourceLimiter, Trap, VMMemoryDefinition, VMMemoryImport,
    limits::{ask, desired_size, grow_to},
    vmcontext::address,
};
use crate::{Allocator, Error, MemoryRequest};

/// In the page of the definition: where the record is.
const RECORD: usize = size_of::<VMMemoryDefinition>();

/// A memory that threads share. A clone is the same memory, which goes with the
/// last one.
///
/// An instance may define it, and has a clone; or the engine makes one with
/// [`Memory::new_shared`](super::Memory::new_shared). Instances on several CPUs
/// [`import`](Self::import) it.
pub struct SharedMemory<'a, A: Arch = Native>(Arc<Inner<'a, A>>);

struct Inner<'a, A: Arch> {
    allocator: &'a Allocator<A>,
    ty: MemoryType,
    base: NonNull<u8>,
    needs_bounds_checks: bool,
    /// Where the definition is, which all instances look at.
    definition: VirtAddr,
    byte_size: AtomicUsize,
    /// Held while it grows; there until it is dropped.
    memory: Mutex<Option<crate::Memory<'a, A>>>,
}

// SAFETY: the pointer names a range that this value alone holds; it is only
// dereferenced by unsafe code of the engine.
unsafe impl<A: Arch> Send for Inner<'_, A> {}
// SAFETY: as above; what changes is atomic or behind the lock.
unsafe impl<A: Arch> Sync for Inner<'_, A> {}

/// How threads of the embedder wait for one another: the hook behind
/// `memory.atomic.wait` and `memory.atomic.notify`.
pub trait AtomicWaiter {
    /// Blocks the calling thread until somebody notifies `address`, or `timeout`
    /// is over; not at all if `expected` says that the value is another already.
    /// A call of `expected` and going to sleep are one step for
    /// [`notify`](Self::notify): both are done under the same lock. For ever without
    /// `timeout`. `address` is in the window: the same for all who wait for the same
    /// bytes, whatever instance they run in.
    fn wait(
        &self,
        address: VirtAddr,
        expected: &mut dyn FnMut() -> bool,
        timeout: Option<Duration>,
    ) -> WaitResult;

    /// Wakes at most `count` threads that wait for `address`, and says how many
    /// that were.
    fn notify(&self, address: VirtAddr, count: u32) -> u32;
}

/// Why a wait is over, by wasm's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WaitResult {
    /// Somebody notified.
    Ok = 0,
    /// The value was not as expected.
    Mismatch = 1,
    /// The time was over.
    TimedOut = 2,
}

impl<'a, A: Arch> SharedMemory<'a, A> {
    pub(super) fn new(
        allocator: &'a Allocator<A>,
        ty: &MemoryType,
        request: MemoryRequest,
    ) -> Result<Self, InstanceError> {
        let memory = allocator.allocate_memory(request)?;
        let definition = match page_for_definition(allocator) {
            Ok(definition) => definition,
            Err(error) => {
                allocator.deallocate_memory(memory);
                return Err(error.into());
            }
        };
        let byte_size = memory.size();
        let shared = Self(Arc::new(Inner {
            allocator,
            ty: *ty,
            base: memory.base(),
            needs_bounds_checks: memory.needs_bounds_checks(),
            definition,
            byte_size: AtomicUsize::new(byte_size),
            memory: Mutex::new(Some(memory)),
        }));
        // SAFETY: the page is ours and accessible, and nobody else knows of it.
        unsafe { allocator.write(definition, address(shared.0.base)) }?;
        let record = Arc::as_ptr(&shared.0).expose_provenance() as u64;
        // SAFETY: as above.
        unsafe { allocator.write(definition.offset(RECORD), record) }?;
        shared.publish(byte_size)?;
        Ok(shared)
    }

    /// The memory whose definition is there.
    ///
    /// # Safety
    ///
    /// It is [`definition`](Self::definition) of a memory of `allocator`, of which
    /// somebody has a clone during the call.
    pub(super) unsafe fn at(
        allocator: &'a Allocator<A>,
        definition: VirtAddr,
    ) -> Result<Self, InstanceError> {
        // SAFETY: by this function's contract; nobody writes it again.
        let word: u64 = unsafe { allocator.read(definition.offset(RECORD)) }?;
        let inaccessible = Error::Inaccessible { address: definition };
        let record = usize::try_from(word).ok().filter(|&record| record != 0).ok_or(inaccessible)?;
        let record = core::ptr::with_exposed_provenance::<Inner<'a, A>>(record);
        // SAFETY: `new` had it from an `Arc`, which lives by this function's contract.
        unsafe { Arc::increment_strong_count(record) };
        // SAFETY: as above; the count is this value's.
        Ok(Self(unsafe { Arc::from_raw(record) }))
    }

    /// What an instance is told that imports it. Some clone has to live as long as
    /// that instance.
    #[must_use]
    pub fn import(&self) -> VMMemoryImport {
        VMMemoryImport { from: self.0.definition, vmctx: VirtAddr(0), index: 0, reserved: 0 }
    }

    /// What it is declared as.
    #[must_use]
    pub fn ty(&self) -> &MemoryType {
        &self.0.ty
    }

    /// Bytes that it has at this moment.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        self.0.byte_size.load(Ordering::Acquire)
    }

    /// Address of the first byte, for good.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.0.base
    }

    /// Whether code must compare addresses with the size.
    #[must_use]
    pub fn needs_bounds_checks(&self) -> bool {
        self.0.needs_bounds_checks
    }

    /// Where its [`VMMemoryDefinition`] is.
    #[must_use]
    pub fn definition(&self) -> VirtAddr {
        self.0.definition
    }

    /// Grows by `delta` pages, as [`Memory::grow`](super::Memory::grow) does; one
    /// thread at a time. The limiter is asked meanwhile: it does not use the memory.
    ///
    /// # Errors
    ///
    /// [`InstanceError::Limiter`] if the limiter ends the program.
    pub fn grow(
        &self,
        delta: u64,
        mut limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Option<u64>, InstanceError> {
        let ty = &self.0.ty;
        let mut memory = self.0.memory.lock();
        let old = self.byte_size();
        let before = ty.pages(old as u64);
        if delta == 0 {
            return Ok(Some(before));
        }
        let desired = desired_size(ty, old, delta);
        if !ask(limiter.as_deref_mut(), old, desired, ty)? {
            return Ok(None);
        }
        let grown = grow_to(ty, desired, |size| self.grow_locked(memory.as_mut(), size));
        let Err(error) = grown else { return Ok(Some(before)) };
        limiter.map_or(Ok(()), |limiter| limiter.memory_grow_failed(&error))?;
        Ok(None)
    }

    pub(super) fn grow_to(&self, size: usize) -> Result<(), Error> {
        self.grow_locked(self.0.memory.lock().as_mut(), size)
    }

    fn grow_locked(&self, memory: Option<&mut crate::Memory<'a, A>>, size: usize) -> Result<(), Error> {
        memory.map_or(Ok(()), |memory| memory.grow_to(size))?;
        self.0.byte_size.store(size, Ordering::Release);
        self.publish(size)
    }

    /// Tells compiled code how large it is.
    fn publish(&self, byte_size: usize) -> Result<(), Error> {
        let length = self.0.definition.offset(offset_of!(VMMemoryDefinition, current_length));
        // SAFETY: the page is ours and accessible. Who reads it meanwhile sees one
        // length or the other: it is one aligned word.
        unsafe { self.0.allocator.write(length, byte_size as u64) }
    }

    /// `memory.atomic.notify`: wakes at most `count` of those that wait for the 4
    /// bytes at `offset`, and says how many that were.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`] and [`Trap::HeapMisaligned`].
    pub fn atomic_notify(
        &self,
        waiter: &dyn AtomicWaiter,
        offset: u64,
        count: u32,
    ) -> Result<u32, InstanceError> {
        let address = self.atomic_address(offset, 4)?;
        Ok(if count == 0 { 0 } else { waiter.notify(address, count) })
    }

    /// `memory.atomic.wait32`: waits while the 4 bytes at `offset` are `expected`; for
    /// ever without `timeout`, which is wasm's negative one.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`] and [`Trap::HeapMisaligned`].
    pub fn atomic_wait32(
        &self,
        waiter: &dyn AtomicWaiter,
        offset: u64,
        expected: u32,
        timeout: Option<Duration>,
    ) -> Result<WaitResult, InstanceError> {
        self.wait(waiter, offset, expected, timeout)
    }

    /// `memory.atomic.wait64`: the same of 8 bytes.
    ///
    /// # Errors
    ///
    /// As for [`atomic_wait32`](Self::atomic_wait32).
    pub fn atomic_wait64(
        &self,
        waiter: &dyn AtomicWaiter,
        offset: u64,
        expected: u64,
        timeout: Option<Duration>,
    ) -> Result<WaitResult, InstanceError> {
        self.wait(waiter, offset, expected, timeout)
    }

    fn wait<T: crate::access::Plain + PartialEq>(
        &self,
        waiter: &dyn AtomicWaiter,
        offset: u64,
        expected: T,
        timeout: Option<Duration>,
    ) -> Result<WaitResult, InstanceError> {
        let address = self.atomic_address(offset, size_of::<T>())?;
        let mut failed = None;
        let mut matches = || {
            // SAFETY: the bytes are accessible. Who writes them meanwhile does so by
            // one aligned atomic store, as the wasm that it runs says.
            match unsafe { self.0.allocator.read::<T>(address) } {
                Ok(value) => value == expected,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        };
        let result = waiter.wait(address, &mut matches, timeout);
        failed.map_or(Ok(result), |error| Err(error.into()))
    }

    /// Where an aligned access of `bytes` bytes goes.
    fn atomic_address(&self, offset: u64, bytes: usize) -> Result<VirtAddr, InstanceError> {
        if !offset.is_multiple_of(bytes as u64) {
            return Err(Trap::HeapMisaligned.into());
        }
        let end = offset.checked_add(bytes as u64).filter(|&end| end <= self.byte_size() as u64);
        let end = end.ok_or(Trap::MemoryOutOfBounds)?;
        Ok(VirtAddr(address(self.0.base).0 + end - bytes as u64))
    }
}

/// A page that the definition can stand in.
fn page_for_definition<A: Arch>(allocator: &Allocator<A>) -> Result<VirtAddr, Error> {
    let page = allocator.reserve_region(PAGE_SIZE)?;
    // SAFETY: nobody uses the page yet.
    if let Err(error) = unsafe { allocator.protect_region(page, PAGE_SIZE, Some(Access::ReadWrite)) } {
        // SAFETY: as above.
        let _ = unsafe { allocator.release_region(page, PAGE_SIZE) };
        return Err(error);
    }
    Ok(page)
}

impl<A: Arch> Drop for Inner<'_, A> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.get_mut().take() {
            self.allocator.deallocate_memory(memory);
        }
        // SAFETY: no instance has the memory any more, so nobody looks at the page.
        let _ = unsafe { self.allocator.release_region(self.definition, PAGE_SIZE) };
    }
}

impl<A: Arch> Clone for SharedMemory<'_, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Arch> fmt::Debug for SharedMemory<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SharedMemory");
        debug.field("base", &self.0.base).field("byte_size", &self.byte_size()).finish_non_exhaustive()
    }
}
