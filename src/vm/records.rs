//! Records that live in the arena itself: no heap is needed for them, and
//! their number is fixed at the carve.

use core::{fmt, ptr::NonNull, sync::atomic::AtomicU32};

use allotment_arch::{Arch, PhysAddr};

/// A slice in arena memory that was set aside for good.
pub(crate) struct Records<T> {
    first: NonNull<T>,
    len: usize,
}

// SAFETY: a `Records` owns its elements, as a boxed slice does.
unsafe impl<T: Send> Send for Records<T> {}
// SAFETY: as above; shared access gives `&T` only.
unsafe impl<T: Sync> Sync for Records<T> {}

impl<T> Records<T> {
    /// Writes `len` records to `place`, through the physical alias.
    ///
    /// # Safety
    ///
    /// `len * size_of::<T>()` bytes at `place`, aligned for `T`, are the
    /// caller's to give away for as long as the value lives, and nothing else
    /// uses them from now on.
    pub(crate) unsafe fn new<A: Arch>(
        arch: &A,
        place: PhysAddr,
        len: usize,
        make: impl FnMut(usize) -> T,
    ) -> Self {
        // SAFETY: by this function's contract.
        unsafe { Self::of(arch, place, (0..len).map(make)) }
    }

    /// Writes `records` to `place`, through the physical alias.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new), `len` being how many there are.
    pub(crate) unsafe fn of<A: Arch>(arch: &A, place: PhysAddr, records: impl Iterator<Item = T>) -> Self {
        let first: NonNull<T> = arch.physical(place).cast();
        let mut len = 0;
        for record in records {
            // SAFETY: so many elements are ours at `place`.
            let element = unsafe { first.add(len) };
            // SAFETY: `element` is aligned writable memory of a `T`, and holds
            // nothing that would have to be dropped.
            unsafe { element.write(record) };
            len += 1;
        }
        Self { first, len }
    }

    /// Takes what stands at `place` for records.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new).
    pub(crate) unsafe fn as_found<A: Arch>(arch: &A, place: PhysAddr, len: usize) -> Self
    where
        T: AnyBits,
    {
        Self { first: arch.physical(place).cast(), len }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        let slice = NonNull::slice_from_raw_parts(self.first, self.len);
        // SAFETY: `new` initialised `len` elements that nobody else uses.
        unsafe { slice.as_ref() }
    }
}

impl<T> AsRef<[T]> for Records<T> {
    fn as_ref(&self) -> &[T] {
        self.as_slice()
    }
}

/// Types for which every bit pattern is a value.
///
/// # Safety
///
/// It is.
pub(crate) unsafe trait AnyBits {}

// SAFETY: an integer.
unsafe impl AnyBits for AtomicU32 {}

impl<T> fmt::Debug for Records<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("len", &self.len).finish_non_exhaustive()
    }
}
