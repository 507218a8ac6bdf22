//! A software MMU over host memory, so that the same core runs in an ordinary
//! test process, with either entry format.
//!
//! ```text
//!   host allocation = physical memory, from PHYSICAL_BASE up
//!   +-------+-------+----------------------------------------+
//!   | root0 | root1 |  free: the test's arena                |
//!   +-------+-------+----------------------------------------+
//! ```
//!
//! It decodes entries by itself, from the manuals and not through
//! [`Format`](crate::Format), so that a wrong encoder is noticed; and it keeps accessed and
//! dirty state as the hardware does. It has no TLB yet: every access walks.

mod mmu;

use alloc::boxed::Box;
use core::{
    fmt,
    marker::PhantomData,
    ops::Range,
    ptr::NonNull,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

pub use mmu::Mmu;

use crate::{Arch, CpuError, Invalidation, PAGE_SIZE, PhysAddr, Scope, VirtAddr};

/// Where emulated physical memory begins.
pub const PHYSICAL_BASE: PhysAddr = PhysAddr(0x4000_0000);

/// An access that the emulated MMU refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFault {
    /// The address of the first byte that could not be accessed.
    pub address: VirtAddr,
    /// Whether the access was a write.
    pub write: bool,
}

impl fmt::Display for AccessFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} faulted", if self.write { "write" } else { "read" }, self.address)
    }
}

impl core::error::Error for AccessFault {}

/// A machine in software with entries of format `F`.
pub struct Emulated<F> {
    /// From a `Box`, but not kept as one: moving a `Box` claims that no other
    /// pointer is in use, and those that `physical` gave are.
    memory: NonNull<[Frame]>,
    invalidated: AtomicUsize,
    hardware_dirty: bool,
    format: PhantomData<F>,
}

/// A page of physical memory, as words so that entries can be atomic.
#[repr(align(4096))]
struct Frame([AtomicU64; PAGE_SIZE / 8]);

impl<F: Mmu> Emulated<F> {
    /// A machine with `bytes` of physical memory, rounded down to pages, and
    /// two empty roots in the first two of them.
    ///
    /// # Panics
    ///
    /// When `bytes` is less than the two roots.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let frames = bytes / PAGE_SIZE;
        assert!(frames >= 2, "an emulated machine needs two pages for its roots, {bytes} bytes are too few");
        let memory: Box<[Frame]> =
            (0..frames).map(|_| Frame([const { AtomicU64::new(0) }; PAGE_SIZE / 8])).collect();
        let memory = NonNull::from(Box::leak(memory));
        Self { memory, invalidated: AtomicUsize::new(0), hardware_dirty: true, format: PhantomData }
    }

    /// The same machine without dirty state in hardware, like an aarch64 CPU
    /// without FEAT_HAFDBS.
    #[must_use]
    pub fn without_hardware_dirty(mut self) -> Self {
        self.hardware_dirty = false;
        self
    }

    /// Physical memory that no root occupies.
    #[must_use]
    pub fn free_memory(&self) -> Range<PhysAddr> {
        PHYSICAL_BASE.offset(2 * PAGE_SIZE)..PHYSICAL_BASE.offset(self.memory.len() * PAGE_SIZE)
    }

    /// How many pages were invalidated so far.
    #[must_use]
    pub fn invalidated(&self) -> usize {
        self.invalidated.load(Ordering::Relaxed)
    }

    /// Loads `into.len()` bytes as code running on this machine would.
    ///
    /// # Errors
    ///
    /// The first byte that does not translate; `into` is then partly filled.
    pub fn read(&self, address: VirtAddr, into: &mut [u8]) -> Result<(), AccessFault> {
        for (offset, byte) in into.iter_mut().enumerate() {
            *byte = self.byte(address.offset(offset), false, |byte| byte)?;
        }
        Ok(())
    }

    /// Stores `from` as code running on this machine would.
    ///
    /// # Errors
    ///
    /// The first byte that does not translate writable; those before it are
    /// written.
    pub fn write(&self, address: VirtAddr, from: &[u8]) -> Result<(), AccessFault> {
        for (offset, &new) in from.iter().enumerate() {
            self.byte(address.offset(offset), true, |_| new)?;
        }
        Ok(())
    }

    fn byte(&self, address: VirtAddr, write: bool, edit: impl Fn(u8) -> u8) -> Result<u8, AccessFault> {
        let fault = AccessFault { address, write };
        let physical = F::access(self, address, write).ok_or(fault)?;
        let word = self.word(PhysAddr(physical.0 & !7)).ok_or(fault)?;
        let shift = 8 * (physical.0 & 7);
        let old = word.load(Ordering::Relaxed);
        let byte = old.to_le_bytes()[(physical.0 & 7) as usize];
        if write {
            let new = old & !(0xff << shift) | u64::from(edit(byte)) << shift;
            word.store(new, Ordering::Relaxed);
        }
        Ok(byte)
    }

    /// The 8-byte word at a physical address, if memory is there.
    fn word(&self, address: PhysAddr) -> Option<&AtomicU64> {
        let offset = usize::try_from(address.0.checked_sub(PHYSICAL_BASE.0)?).ok()?;
        self.frames().get(offset / PAGE_SIZE)?.0.get(offset % PAGE_SIZE / 8)
    }

    fn frames(&self) -> &[Frame] {
        // SAFETY: the allocation lives as long as `self`, and is only shared.
        unsafe { self.memory.as_ref() }
    }
}

// SAFETY: it owns its memory, as the `Box` did, and shares it as atomics.
unsafe impl<F> Send for Emulated<F> {}
// SAFETY: as above.
unsafe impl<F> Sync for Emulated<F> {}

impl<F> Drop for Emulated<F> {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of the `Box` that `new` leaked, and this
        // is the only place that takes it back.
        drop(unsafe { Box::from_raw(self.memory.as_ptr()) });
    }
}

// SAFETY: physical memory is one allocation, so `physical` is linear over it;
// accesses walk the tables each time, so nothing stale is ever used.
unsafe impl<F: Mmu> Arch for Emulated<F> {
    type Format = F;

    const ALIAS_IS_MAPPED: bool = false;

    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        let offset = address.0.wrapping_sub(PHYSICAL_BASE.0);
        let size = (self.memory.len() * PAGE_SIZE) as u64;
        assert!(offset < size, "physical address {address} is outside the emulated memory");
        // SAFETY: `offset` is inside the allocation, as asserted.
        unsafe { self.memory.cast::<u8>().byte_add(usize::try_from(offset).unwrap_or(0)) }
    }

    fn root(&self, address: VirtAddr) -> PhysAddr {
        if F::SPLIT_ROOTS && address.0 >> 63 == 0 { PHYSICAL_BASE } else { PHYSICAL_BASE.offset(PAGE_SIZE) }
    }

    fn levels(&self) -> u8 {
        4
    }

    fn hardware_dirty(&self) -> bool {
        self.hardware_dirty
    }

    fn cpus(&self) -> usize {
        1
    }

    fn current_cpu(&self) -> usize {
        0
    }

    fn publish(&self) {}

    fn invalidate_local(&self, what: Invalidation) {
        self.invalidate_everywhere(what);
    }

    fn invalidate_everywhere(&self, what: Invalidation) {
        let pages = match what.scope() {
            Scope::Nothing => 0,
            Scope::Pages(pages) => pages.count,
            Scope::Everything => 1,
        };
        self.invalidated.fetch_add(pages, Ordering::Relaxed);
    }

    fn synchronise_code(&self, _start: VirtAddr, _bytes: usize) {}

    fn check(&self, _window: VirtAddr) -> Result<(), CpuError> {
        Ok(())
    }
}

impl<F> fmt::Debug for Emulated<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulated").field("frames", &self.memory.len()).finish_non_exhaustive()
    }
}
