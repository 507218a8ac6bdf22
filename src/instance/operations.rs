//! What compiled code asks its runtime for: growth, bulk copies, single elements,
//! waiting. All of it works on imported memories and tables too. Places and lengths
//! are bytes of memories and elements of tables, unsigned, as wide as the widest
//! index of wasm. Bounds are those of the core specification: both ranges are
//! looked at before anything is written.
//!
//! ```text
//!   self ──> its definition, or the VMMemoryImport / VMTableImport
//!                                     '── vmctx ──> the instance that defines it
//! ```

use core::time::Duration;

use allotment_arch::{Arch, VirtAddr};
use cranelift_entity::EntityRef;

use super::{
    AtomicWaiter, DefinedMemoryIndex, DefinedTableIndex, Instance, InstanceError, MemoryIndex,
    ResourceLimiter, SharedMemory, Table, TableElement, TableIndex, Trap, WaitResult, context::instance_of,
};

impl<'a, A: Arch> Instance<'a, A> {
    /// `memory.grow`: grows by `delta` pages of the memory's own size and says how
    /// many there were; `None` stands for -1. Its definition is rewritten, and may
    /// have another base on demand.
    ///
    /// # Errors
    ///
    /// [`InstanceError::Limiter`] if the limiter ends the program.
    pub fn memory_grow(
        &mut self,
        index: MemoryIndex,
        delta: u64,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Option<u64>, InstanceError> {
        if let Some(shared) = self.shared_memory(index)? {
            return shared.grow(delta, limiter);
        }
        let import = self.memory_import(index)?;
        self.in_definer(import.vmctx, |instance| {
            let defined = DefinedMemoryIndex::from_u32(import.index);
            let memory = instance.memories.get_mut(defined).ok_or(not_found("memory", index))?;
            let before = memory.grow(delta, limiter)?;
            let definition = memory.vmmemory();
            // SAFETY: the definition is in the definer's context, which nobody else
            // uses now.
            unsafe { instance.allocator.write(import.from, definition) }?;
            Ok(before)
        })
    }

    /// `memory.size`, in pages of the memory's own size.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn memory_size(&self, index: MemoryIndex) -> Result<u64, InstanceError> {
        let bytes = self.memory_definition(index)?.current_length;
        Ok(self.module()?.memories[index].pages(bytes))
    }

    /// Whether code must compare addresses with the size of a memory. If not, what
    /// it does beyond the end faults; see [`crate::Memory::needs_bounds_checks`].
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn memory_needs_bounds_checks(&mut self, index: MemoryIndex) -> Result<bool, InstanceError> {
        if let Some(shared) = self.shared_memory(index)? {
            return Ok(shared.needs_bounds_checks());
        }
        let import = self.memory_import(index)?;
        self.in_definer(import.vmctx, |instance| {
            let memory = instance.memories.get(DefinedMemoryIndex::from_u32(import.index));
            Ok(memory.ok_or(not_found("memory", index))?.needs_bounds_checks())
        })
    }

    /// The memory at that index, if threads share it; also an imported one.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn shared_memory(&self, index: MemoryIndex) -> Result<Option<SharedMemory<'a, A>>, InstanceError> {
        let import = self.memory_import(index)?;
        if !self.module()?.memories[index].shared {
            return Ok(None);
        }
        // SAFETY: by `Imports::new` it is of the declared type, and it lives.
        unsafe { SharedMemory::at(self.allocator, import.from) }.map(Some)
    }

    /// `memory.fill`: writes `byte` to `len` bytes from address `to` on.
    ///
    /// # Errors
    ///
    /// As for [`write_memory`](Self::write_memory).
    pub fn memory_fill(
        &mut self,
        index: MemoryIndex,
        to: u64,
        byte: u8,
        len: u64,
    ) -> Result<(), InstanceError> {
        let (at, len) = self.range(index, to, len)?;
        // SAFETY: in bounds of the memory, which no other CPU uses now; of a shared
        // one each byte is whatever some thread wrote.
        Ok(unsafe { self.allocator.fill(at, byte, len) }?)
    }

    /// `memory.copy`, within a memory, also where both ranges overlap, or from one to
    /// another: `len` bytes.
    ///
    /// # Errors
    ///
    /// As for [`write_memory`](Self::write_memory).
    pub fn memory_copy(
        &mut self,
        to_memory: MemoryIndex,
        to: u64,
        from_memory: MemoryIndex,
        from: u64,
        len: u64,
    ) -> Result<(), InstanceError> {
        let (source, _) = self.range(from_memory, from, len)?;
        let (target, len) = self.range(to_memory, to, len)?;
        // SAFETY: as above.
        Ok(unsafe { self.allocator.copy(source, target, len) }?)
    }

    /// Copies the bytes of a memory from address `from` on out, for hosts.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`].
    pub fn read_memory(&self, index: MemoryIndex, from: u64, into: &mut [u8]) -> Result<(), InstanceError> {
        let (at, _) = self.range(index, from, into.len() as u64)?;
        // SAFETY: as above.
        Ok(unsafe { self.allocator.read_into(at, into) }?)
    }

    /// Copies bytes to address `to` of a memory, for hosts.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`], and, with `Commit::PerInstance`,
    /// [`Error::CommitmentExceeded`](crate::Error::CommitmentExceeded): both before
    /// anything is written.
    pub fn write_memory(&mut self, index: MemoryIndex, to: u64, bytes: &[u8]) -> Result<(), InstanceError> {
        let (at, _) = self.range(index, to, bytes.len() as u64)?;
        // SAFETY: as above.
        Ok(unsafe { self.allocator.write_from(at, bytes) }?)
    }

    /// `memory.atomic.notify`: wakes at most `count` of those that wait for the 4 bytes
    /// at `offset`, and says how many. Nobody waits on a memory that is not shared.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`] and [`Trap::HeapMisaligned`].
    pub fn memory_atomic_notify(
        &mut self,
        waiter: &dyn AtomicWaiter,
        index: MemoryIndex,
        offset: u64,
        count: u32,
    ) -> Result<u32, InstanceError> {
        if !offset.is_multiple_of(4) {
            return Err(Trap::HeapMisaligned.into());
        }
        match self.shared_memory(index)? {
            Some(shared) => shared.atomic_notify(waiter, offset, count),
            None => self.range(index, offset, 4).map(|_| 0),
        }
    }

    /// `memory.atomic.wait32`: waits while the 4 bytes at `offset` are `expected`; for
    /// ever without `timeout`.
    ///
    /// # Errors
    ///
    /// [`Trap::AtomicWaitNonSharedMemory`], [`Trap::MemoryOutOfBounds`] and
    /// [`Trap::HeapMisaligned`].
    pub fn memory_atomic_wait32(
        &mut self,
        waiter: &dyn AtomicWaiter,
        index: MemoryIndex,
        offset: u64,
        expected: u32,
        timeout: Option<Duration>,
    ) -> Result<WaitResult, InstanceError> {
        let shared = self.shared_memory(index)?.ok_or(Trap::AtomicWaitNonSharedMemory)?;
        shared.atomic_wait32(waiter, offset, expected, timeout)
    }

    /// `memory.atomic.wait64`: the same of 8 bytes.
    ///
    /// # Errors
    ///
    /// As for [`memory_atomic_wait32`](Self::memory_atomic_wait32).
    pub fn memory_atomic_wait64(
        &mut self,
        waiter: &dyn AtomicWaiter,
        index: MemoryIndex,
        offset: u64,
        expected: u64,
        timeout: Option<Duration>,
    ) -> Result<WaitResult, InstanceError> {
        let shared = self.shared_memory(index)?.ok_or(Trap::AtomicWaitNonSharedMemory)?;
        shared.atomic_wait64(waiter, offset, expected, timeout)
    }

    /// `table.size`, in elements.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn table_size(&mut self, index: TableIndex) -> Result<u64, InstanceError> {
        self.with_table(index, |instance, table| Ok(instance.defined_table(table)?.size()))
    }

    /// `table.get`. A function that was not filled in yet is now.
    ///
    /// # Errors
    ///
    /// [`Trap::TableOutOfBounds`].
    pub fn table_get(&mut self, index: TableIndex, at: u64) -> Result<TableElement, InstanceError> {
        self.with_table(index, |instance, table| {
            if let Some(element) = instance.defined_table(table)?.get(at)? {
                return Ok(element);
            }
            let function = instance.module()?.initial_function(table, at);
            let reference = function.map(|function| instance.func_ref(function)).transpose()?;
            let element = TableElement::FuncRef(reference);
            instance.defined_table(table)?.set(at, element)?;
            Ok(element)
        })
    }

    /// `table.set`.
    ///
    /// # Errors
    ///
    /// [`Trap::TableOutOfBounds`], and [`InstanceError::NotFound`] of an element
    /// that is of another type.
    pub fn table_set(
        &mut self,
        index: TableIndex,
        at: u64,
        element: TableElement,
    ) -> Result<(), InstanceError> {
        self.with_table(index, |instance, table| instance.defined_table(table)?.set(at, element))
    }

    /// `table.fill`: writes `element` to `len` elements from `start` on.
    ///
    /// # Errors
    ///
    /// As for [`table_set`](Self::table_set), before anything is written.
    pub fn table_fill(
        &mut self,
        index: TableIndex,
        start: u64,
        element: TableElement,
        len: u64,
    ) -> Result<(), InstanceError> {
        self.with_table(index, |instance, table| instance.defined_table(table)?.fill(start, element, len))
    }

    /// `table.copy`, within a table, also where both ranges overlap, or from one to
    /// another: `len` elements.
    ///
    /// # Errors
    ///
    /// [`Trap::TableOutOfBounds`], before anything is written; of tables of different
    /// types as for [`table_set`](Self::table_set).
    pub fn table_copy(
        &mut self,
        to_table: TableIndex,
        to: u64,
        from_table: TableIndex,
        from: u64,
        len: u64,
    ) -> Result<(), InstanceError> {
        for (table, start) in [(from_table, from), (to_table, to)] {
            let size = self.table_size(table)?;
            start.checked_add(len).filter(|&end| end <= size).ok_or(Trap::TableOutOfBounds)?;
        }
        // As wasm says: so that what overlaps is read before it is written.
        let backwards = to > from;
        for nth in 0..len {
            let nth = if backwards { len - 1 - nth } else { nth };
            let element = self.table_get(from_table, from + nth)?;
            self.table_set(to_table, to + nth, element)?;
        }
        Ok(())
    }

    /// `table.grow`: grows by `delta` elements, which are `init`, and says how many
    /// there were; `None` stands for -1. Its definition is rewritten.
    ///
    /// # Errors
    ///
    /// [`InstanceError::Limiter`] if the limiter ends the program, and
    /// [`InstanceError::NotFound`] if `init` is of another type.
    pub fn table_grow(
        &mut self,
        index: TableIndex,
        delta: u64,
        init: TableElement,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<Option<u64>, InstanceError> {
        let import = self.table_import(index)?;
        self.with_table(index, |instance, table| {
            let table = instance.defined_table(table)?;
            let before = table.grow(delta, init, limiter)?;
            let definition = table.vmtable();
            // SAFETY: the definition is in the definer's context, which nobody else
            // uses now.
            unsafe { instance.allocator.write(import.from, definition) }?;
            Ok(before)
        })
    }

    fn defined_table(&mut self, index: DefinedTableIndex) -> Result<&mut Table<'a, A>, InstanceError> {
        self.tables.get_mut(index).ok_or(not_found("table", index))
    }

    fn with_table<R>(
        &mut self,
        index: TableIndex,
        work: impl FnOnce(&mut Self, DefinedTableIndex) -> Result<R, InstanceError>,
    ) -> Result<R, InstanceError> {
        if let Some(defined) = self.module()?.defined_table(index) {
            return work(self, defined);
        }
        let import = self.table_import(index)?;
        self.in_definer(import.vmctx, |instance| work(instance, DefinedTableIndex::from_u32(import.index)))
    }

    /// Runs `work` on the instance whose context is at `vmctx`: this one, or one
    /// that this one imports from.
    fn in_definer<R>(
        &mut self,
        vmctx: VirtAddr,
        work: impl FnOnce(&mut Self) -> Result<R, InstanceError>,
    ) -> Result<R, InstanceError> {
        if vmctx == self.vmctx {
            return work(self);
        }
        // SAFETY: an import names the context of a live instance of the same
        // allocator, by `Imports::new`.
        let mut definer = unsafe { instance_of(self.allocator, vmctx) }?;
        // SAFETY: as above; it is another one than this, and by the same nobody else
        // uses it now.
        work(unsafe { definer.as_mut() })
    }

    /// Where `len` bytes from `start` on are, if the memory has them. All of it has
    /// frames then, so that the host does not meet a page that the instance may not
    /// touch; and this CPU has forgotten what it knew of the slot's former users.
    fn range(&self, index: MemoryIndex, start: u64, len: u64) -> Result<(VirtAddr, usize), InstanceError> {
        let definition = self.memory_definition(index)?;
        let out = InstanceError::Trap(Trap::MemoryOutOfBounds);
        start.checked_add(len).filter(|&end| end <= definition.current_length).ok_or(out)?;
        let (at, len) = (VirtAddr(definition.base.0 + start), usize::try_from(len).map_err(|_| out)?);
        self.allocator.prepare_access_at(at, len)?;
        Ok((at, len))
    }
}

fn not_found(what: &'static str, index: impl EntityRef) -> InstanceError {
    InstanceError::NotFound { what, index: index.index() }
}
