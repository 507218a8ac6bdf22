//! Tables, as wasm sees them.
//!
//! ```text
//!   functions, lazily    0: not filled in yet   1: null   address | 1: a VMFuncRef
//!   functions, eagerly                          0: null   address: a VMFuncRef
//!   GC references                               0: null   anything else
//! ```
//!
//! A new table is zeros. So with `Config::table_lazy_init` none of its elements
//! has to be written before somebody asks for it.

use core::fmt;

use allotment_arch::{Arch, Native, VirtAddr};

use super::{
    InstanceError, ResourceLimiter, TableElementType, TableType, Trap, VMTableDefinition, vmcontext::address,
};
use crate::{Allocator, Error, MemoryInModule, TableRequest};

/// The bit that tells a null from an element that is not filled in yet.
const FILLED: u64 = 1;

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableElement {
    /// The address of a [`VMFuncRef`](super::VMFuncRef), or null.
    FuncRef(Option<VirtAddr>),
    /// A reference of the engine's own, 0 for null.
    GcRef(u32),
}

impl TableElement {
    /// Null, of that type.
    #[must_use]
    pub const fn null(ty: TableElementType) -> Self {
        match ty {
            TableElementType::Func => Self::FuncRef(None),
            TableElementType::GcRef => Self::GcRef(0),
        }
    }

    /// Its type.
    #[must_use]
    pub const fn ty(&self) -> TableElementType {
        match self {
            Self::FuncRef(_) => TableElementType::Func,
            Self::GcRef(_) => TableElementType::GcRef,
        }
    }
}

/// A table that an instance defines.
#[non_exhaustive]
pub enum Table<'a, A: Arch = Native> {
    /// In a slot of a pool.
    Static {
        /// What it is declared as.
        ty: TableType,
        /// The slot.
        table: crate::Table<'a, A>,
    },
    /// In a range of its own.
    Dynamic {
        /// What it is declared as.
        ty: TableType,
        /// The range.
        table: crate::Table<'a, A>,
    },
}

impl<'a, A: Arch> Table<'a, A> {
    /// A table in a slot.
    ///
    /// # Errors
    ///
    /// [`InstanceError::TableDenied`] and [`InstanceError::Limiter`] before a slot
    /// is taken; those of [`Allocator::allocate_table`].
    #[inline(always)]
    pub fn new_static(
        allocator: &'a Allocator<A>,
        ty: &TableType,
        owner: Option<MemoryInModule>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Self, InstanceError> {
        let request = limit_new(ty, owner, limiter)?;
        Ok(Self::Static { ty: *ty, table: allocator.allocate_table(request)? })
    }

    /// Has the table of an earlier instance of the same module be one of a new
    /// instance: in the same slot, if that is still its last one's, else in another.
    #[inline]
    pub(super) fn renew(
        &mut self,
        allocator: &'a Allocator<A>,
        owner: impl FnOnce() -> Option<MemoryInModule>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<(), InstanceError> {
        if limiter.is_some() {
            let _ = limit_new(&self.ty().clone(), None, limiter)?;
        }
        match Allocator::wake_table(self.inner_mut()) {
            Ok(()) => Ok(()),
            Err(_) => self.replace(allocator, owner()),
        }
    }

    #[cold]
    #[inline(never)]
    fn replace(
        &mut self,
        allocator: &'a Allocator<A>,
        owner: Option<MemoryInModule>,
    ) -> Result<(), InstanceError> {
        self.rouse();
        *self = Self::new_static(allocator, &self.ty().clone(), owner, None)?;
        Ok(())
    }

    /// Takes it back, for [`renew`](Self::renew).
    #[inline]
    pub(super) fn put_to_sleep(&mut self) {
        let minimum = usize::try_from(self.ty().minimum).unwrap_or(0);
        Allocator::put_table_to_sleep(self.inner_mut(), minimum);
    }

    /// Has the slot that it was put to sleep in be anybody's.
    pub(super) fn rouse(&mut self) {
        Allocator::rouse_table(self.inner_mut());
    }

    /// A table in a range of its own.
    ///
    /// # Errors
    ///
    /// As for [`new_static`](Self::new_static).
    pub fn new_dynamic(
        allocator: &'a Allocator<A>,
        ty: &TableType,
        owner: Option<MemoryInModule>,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Self, InstanceError> {
        let request = limit_new(ty, owner, limiter)?;
        Ok(Self::Dynamic { ty: *ty, table: allocator.allocate_table(request)? })
    }

    /// What it is declared as.
    #[must_use]
    pub fn ty(&self) -> &TableType {
        match self {
            Self::Static { ty, .. } | Self::Dynamic { ty, .. } => ty,
        }
    }

    /// Elements that it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner().size() as u64
    }

    /// Elements that it may grow to by its type.
    #[must_use]
    pub fn maximum(&self) -> Option<u64> {
        self.ty().maximum
    }

    /// Elements that it may ever have: by its type, its slot's `table_elements`, or on
    /// demand its range, which without a maximum has twice the minimum, or 20,000.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.inner().capacity() as u64
    }

    /// What compiled code is told of it.
    #[must_use]
    pub fn vmtable(&self) -> VMTableDefinition {
        VMTableDefinition { base: address(self.inner().base()), current_elements: self.size() }
    }

    /// An element; `None` if nobody filled it in yet, and the instance knows what it
    /// is: ask [`Instance::table_get`](super::Instance::table_get).
    ///
    /// # Errors
    ///
    /// [`Trap::TableOutOfBounds`].
    pub fn get(&self, index: u64) -> Result<Option<TableElement>, InstanceError> {
        let at = self.place(index)?;
        let table = self.inner();
        Ok(match self.ty().element {
            TableElementType::GcRef => {
                // SAFETY: the element is one of those that the table has, and whoever
                // holds the instance alone uses it.
                Some(TableElement::GcRef(unsafe { table.allocator.read(at) }?))
            }
            TableElementType::Func => {
                // SAFETY: as above.
                let word: u64 = unsafe { table.allocator.read(at) }?;
                let lazy = table.allocator.config.table_lazy_init;
                let function = VirtAddr(word & !FILLED);
                let filled = !lazy || word != 0;
                filled.then_some(TableElement::FuncRef((function.0 != 0).then_some(function)))
            }
        })
    }

    /// Writes an element.
    ///
    /// # Errors
    ///
    /// [`Trap::TableOutOfBounds`], and [`InstanceError::NotFound`] of an element
    /// that is of another type.
    pub fn set(&mut self, index: u64, element: TableElement) -> Result<(), InstanceError> {
        let at = self.place(index)?;
        self.check_type(element)?;
        self.write(at, element)
    }

    /// Writes `len` elements from `start` on.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set), before anything is written.
    pub fn fill(&mut self, start: u64, element: TableElement, len: u64) -> Result<(), InstanceError> {
        self.check_type(element)?;
        let end = start.checked_add(len).filter(|&end| end <= self.size()).ok_or(Trap::TableOutOfBounds)?;
        for index in start..end {
            let at = self.place(index)?;
            self.write(at, element)?;
        }
        Ok(())
    }

    /// Grows by `delta` elements of `init`, and says how many it had; `None` if it
    /// is as before, and wasm's `table.grow` is -1. Growth by 0 asks nobody.
    ///
    /// # Errors
    ///
    /// [`InstanceError::Limiter`] if the limiter ends the program, and
    /// [`InstanceError::NotFound`] if `init` is of another type.
    pub fn grow(
        &mut self,
        delta: u64,
        init: TableElement,
        mut limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Option<u64>, InstanceError> {
        self.check_type(init)?;
        let (old, maximum) = (self.size(), self.maximum());
        if delta == 0 {
            return Ok(Some(old));
        }
        let desired = usize::try_from(old.saturating_add(delta)).unwrap_or(usize::MAX);
        if let Some(limiter) = limiter.as_deref_mut() {
            let current = self.inner().size();
            let maximum = maximum.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
            if !limiter.table_growing(current, desired, maximum)? {
                return Ok(None);
            }
        }
        let Err(error) = self.inner_mut().grow_to(desired) else {
            // What is new is zeros: null, or not filled in and null by the module.
            if init != TableElement::null(self.ty().element) {
                self.fill(old, init, delta)?;
            }
            return Ok(Some(old));
        };
        limiter.map_or(Ok(()), |limiter| limiter.table_grow_failed(&error.into()))?;
        Ok(None)
    }

    /// Gives it back.
    pub(super) fn release(self, allocator: &Allocator<A>) {
        match self {
            Self::Static { table, .. } | Self::Dynamic { table, .. } => allocator.deallocate_table(table),
        }
    }

    pub(super) fn arrive(&self, allocator: &Allocator<A>) -> Result<(), Error> {
        allocator.arrive_table(self.inner())
    }

    /// Whether a zero is an element that is not filled in yet.
    pub(super) fn is_lazy(&self) -> bool {
        self.ty().element == TableElementType::Func && self.inner().allocator.config.table_lazy_init
    }

    fn write(&mut self, at: VirtAddr, element: TableElement) -> Result<(), InstanceError> {
        let table = self.inner();
        let tag = if self.is_lazy() { FILLED } else { 0 };
        let written = match element {
            TableElement::GcRef(reference) => {
                // SAFETY: the element is one of those that the table has, and whoever
                // holds the instance alone uses it.
                unsafe { table.allocator.write(at, reference) }
            }
            TableElement::FuncRef(function) => {
                let word = function.map_or(0, |function| function.0) | tag;
                // SAFETY: as above.
                unsafe { table.allocator.write(at, word) }
            }
        };
        Ok(written?)
    }

    fn place(&self, index: u64) -> Result<VirtAddr, InstanceError> {
        if index >= self.size() {
            return Err(Trap::TableOutOfBounds.into());
        }
        let (size, made_for) = (self.ty().element.size(), self.inner().element_size());
        // Both can be set by whoever has the table to himself.
        if size != made_for {
            return Err(InstanceError::NotFound { what: "element of that size", index: made_for });
        }
        // Host code may be on any CPU.
        self.arrive(self.inner().allocator)?;
        Ok(VirtAddr(self.vmtable().base.0 + index * size as u64))
    }

    fn check_type(&self, element: TableElement) -> Result<(), InstanceError> {
        if element.ty() == self.ty().element {
            return Ok(());
        }
        let what = match element.ty() {
            TableElementType::Func => "table of functions",
            TableElementType::GcRef => "table of GC references",
        };
        Err(InstanceError::NotFound { what, index: 0 })
    }

    fn inner(&self) -> &crate::Table<'a, A> {
        match self {
            Self::Static { table, .. } | Self::Dynamic { table, .. } => table,
        }
    }

    fn inner_mut(&mut self) -> &mut crate::Table<'a, A> {
        match self {
            Self::Static { table, .. } | Self::Dynamic { table, .. } => table,
        }
    }
}

/// What a table is asked for with, if the limiter allows it to be made.
#[inline(always)]
fn limit_new(
    ty: &TableType,
    owner: Option<MemoryInModule>,
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
) -> Result<TableRequest, InstanceError> {
    let count = |elements: u64| usize::try_from(elements).unwrap_or(usize::MAX);
    let (minimum, maximum) = (count(ty.minimum), ty.maximum.map(count));
    if let Some(limiter) = limiter
        && !limiter.table_growing(0, minimum, maximum)?
    {
        return Err(InstanceError::TableDenied { minimum: ty.minimum });
    }
    Ok(TableRequest { minimum, maximum, owner, element_size: ty.element.size() })
}

impl<A: Arch> fmt::Debug for Table<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().fmt(f)
    }
}
