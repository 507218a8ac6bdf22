//! Loads and stores by the core itself at addresses of the window, as the code
//! does that it serves: through the same tables, so that each write leaves its
//! mark.

#![cfg_attr(not(feature = "instance"), expect(dead_code, reason = "Wasmtime's platform only stores bytes"))]

use core::{mem::MaybeUninit, ptr::NonNull};

use allotment_arch::{Arch, VirtAddr};

use crate::{Allocator, Error, FaultAccess, Verdict};

/// A type that is its bytes: any are valid, and none is padding.
///
/// # Safety
///
/// As the first line says.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers have neither padding nor invalid values.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for VirtAddr {}

/// How often one access is repeated whose fault was said to be resolved: more
/// often than one byte can need it.
const REPEATS: usize = 8;

impl<A: Arch> Allocator<A> {
    /// Loads a value at `at`.
    ///
    /// # Safety
    ///
    /// The bytes are accessible, and nobody writes them meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn read<T: Plain>(&self, at: VirtAddr) -> Result<T, Error> {
        let mut value = MaybeUninit::<T>::zeroed();
        let into = NonNull::from(&mut value).cast();
        // SAFETY: by this function's contract; `value` has so many bytes.
        self.repeat(FaultAccess::Read, || unsafe { self.vm.arch.read_bytes(at, into, size_of::<T>()) })?;
        // SAFETY: any bytes are a valid value of a plain type.
        Ok(unsafe { value.assume_init() })
    }

    /// Stores a value at `at`.
    ///
    /// # Safety
    ///
    /// The bytes are accessible, and nobody else uses them meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn write<T: Plain>(&self, at: VirtAddr, value: T) -> Result<(), Error> {
        let from = NonNull::from(&value).cast();
        // SAFETY: by this function's contract; no byte of `value` is padding.
        self.repeat(FaultAccess::Write, || unsafe { self.vm.arch.write_bytes(at, from, size_of::<T>()) })
    }

    /// Loads as many bytes as `into` has.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read).
    pub(crate) unsafe fn read_into(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Error> {
        let (first, len) = (NonNull::from(&mut *into).cast(), into.len());
        // SAFETY: by this function's contract; `into` has so many bytes.
        self.repeat(FaultAccess::Read, || unsafe { self.vm.arch.read_bytes(at, first, len) })
    }

    /// Stores the bytes of `from`.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write).
    pub(crate) unsafe fn write_from(&self, at: VirtAddr, from: &[u8]) -> Result<(), Error> {
        let (first, len) = (NonNull::from(from).cast(), from.len());
        // SAFETY: by this function's contract; `from` has so many bytes.
        self.repeat(FaultAccess::Write, || unsafe { self.vm.arch.write_bytes(at, first, len) })
    }

    /// Stores `byte` in `len` bytes.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write).
    pub(crate) unsafe fn fill(&self, at: VirtAddr, byte: u8, len: usize) -> Result<(), Error> {
        // SAFETY: by this function's contract.
        self.repeat(FaultAccess::Write, || unsafe { self.vm.arch.fill_bytes(at, byte, len) })
    }

    /// Copies `len` bytes, also within themselves.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read) and [`write`](Self::write).
    pub(crate) unsafe fn copy(&self, from: VirtAddr, to: VirtAddr, len: usize) -> Result<(), Error> {
        // SAFETY: by this function's contract.
        self.repeat(FaultAccess::Write, || unsafe { self.vm.arch.move_bytes(from, to, len) })
    }

    /// On a machine that this does not run on nobody answers faults but us.
    #[inline(always)]
    fn repeat(
        &self,
        access: FaultAccess,
        mut run: impl FnMut() -> Result<(), VirtAddr>,
    ) -> Result<(), Error> {
        let Err(address) = run() else { return Ok(()) };
        self.resolve_and_repeat(access, address, &mut run)
    }

    #[cold]
    fn resolve_and_repeat(
        &self,
        access: FaultAccess,
        mut address: VirtAddr,
        run: &mut dyn FnMut() -> Result<(), VirtAddr>,
    ) -> Result<(), Error> {
        let mut repeats = 0;
        loop {
            if repeats == REPEATS || self.fault(address, access) != Verdict::Resume {
                return Err(Error::Inaccessible { address });
            }
            match run() {
                Ok(()) => return Ok(()),
                // A range goes on to its next page.
                Err(next) if next != address => (address, repeats) = (next, 0),
                Err(_) => repeats += 1,
            }
        }
    }
}
