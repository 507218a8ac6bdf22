//! Tables, as an engine holds them.

use core::{fmt, ptr::NonNull};

use allotment_arch::{Arch, Native};

use crate::{Allocator, Error, on_demand::Home};

/// A table: elements of one size, where they are, and how many.
///
/// ```text
///   base               base + size * element_size         base + slot
///   | elements          | to the end of the page | faults  | guard
/// ```
///
/// Give it back with [`Allocator::deallocate_table`]. There is no `Drop`.
#[must_use = "a table that is dropped keeps its slot for ever; give it to deallocate_table"]
pub struct Table<'a, A: Arch = Native> {
    pub(crate) allocator: &'a Allocator<A>,
    pub(crate) home: Home,
    pub(crate) base: NonNull<u8>,
    pub(crate) size: usize,
    pub(crate) capacity: usize,
    pub(crate) element_size: usize,
}

// SAFETY: the pointer names a slot that this value alone holds; it is only
// dereferenced by unsafe code of the engine.
unsafe impl<A: Arch> Send for Table<'_, A> {}
// SAFETY: as above; `&Table` gives addresses and sizes only.
unsafe impl<A: Arch> Sync for Table<'_, A> {}

impl<A: Arch> Table<'_, A> {
    /// Address of the first element. A CPU may use it that allocated the table, or
    /// has called [`Allocator::arrive_table`].
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Elements that it has now.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Elements that it may ever have.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of an element.
    #[must_use]
    pub fn element_size(&self) -> usize {
        self.element_size
    }

    /// Grows to `new_size` elements; what is added holds zeros. A size that is
    /// not larger changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::TableTooLarge`] beyond the capacity, [`Error::OutOfFrames`]
    /// beyond the arena; the table is then as before.
    pub fn grow_to(&mut self, new_size: usize) -> Result<(), Error> {
        if new_size > self.capacity {
            return Err(Error::TableTooLarge { requested: new_size, limit: self.capacity });
        }
        if new_size > self.size {
            let Allocator { vm, pools, .. } = self.allocator;
            let bytes = new_size * self.element_size;
            match self.home {
                Home::Slot(id) => pools.make_accessible(vm, &pools.tables, id, 0, bytes)?,
                Home::Range(id) => self.allocator.grow_backed(id, bytes)?,
            }
            self.size = new_size;
        }
        Ok(())
    }
}

impl<A: Arch> fmt::Debug for Table<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("base", &self.base)
            .field("size", &self.size)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
