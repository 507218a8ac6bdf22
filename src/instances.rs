//! What an instance is made of, by either strategy: memories, tables, stacks
//! and GC heaps; and the counts of instances themselves.

use core::ptr::NonNull;

#[cfg(feature = "instance")]
use allotment_arch::VirtAddr;
use allotment_arch::{Arch, PAGE_SIZE, page_ceil};

use crate::{
    Allocator, CompiledModuleId, Error, FiberStack, GcHeap, MakeAccessible, Memory, MemoryRequest, Table,
    TableRequest,
    events::{tell, told},
    on_demand::{Home, RangeKind},
    pooling::{Count, SlabLayout, SlotId, SlotPool},
    vm::{Image, pointer},
};

impl<A: Arch> Allocator<A> {
    /// Allocates a memory of zeros, on the CPU that goes on with it.
    ///
    /// Access ends at a multiple of 4 KiB: the minimum rounded up. A number is a
    /// request of so many bytes.
    ///
    /// Where there are [several pools](crate::PoolingAllocationConfig::memory_pool), it gets a
    /// slot of the one with the least address space per slot that holds its minimum, its
    /// maximum, and the [reservation and guard](MemoryRequest::reserved) that are demanded: those
    /// of the main pool unless others are. Without a maximum it is to have as much room
    /// as in the main pool. If all its slots are in use, the next larger
    /// pool's turn comes; a pool that holds less is never taken instead, so that growth does not
    /// depend on who else is there. A maximum that no pool holds asks for as much as
    /// there is.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryTooLarge`], [`Error::BeyondMaximum`], [`Error::Reservation`],
    /// [`Error::SharedMemory`], [`Error::PoolConcurrencyLimit`] or
    /// [`Error::OutOfFrames`]; on demand also [`Error::OutOfAddressSpace`] and
    /// [`Error::OutOfRegions`]. Nothing is allocated then.
    #[inline(always)]
    pub fn allocate_memory(&self, request: impl Into<MemoryRequest>) -> Result<Memory<'_, A>, Error> {
        self.allocate_memory_showing(None, &request.into())
    }

    /// The same of a memory that shows an image.
    #[inline(always)]
    pub(crate) fn allocate_memory_showing(
        &self,
        image: Option<Image>,
        request: &MemoryRequest,
    ) -> Result<Memory<'_, A>, Error> {
        if let Some(image) = image {
            let end = image.record(&self.vm).end() * PAGE_SIZE;
            // A memory's last page is accessible to its end.
            if page_ceil(request.minimum).is_some_and(|size| end > size) {
                return Err(Error::ImageBeyondMemory { end, size: request.minimum });
            }
        }
        if self.on_demand.is_strategy {
            return told!(Warn, "no memory", self.memory_on_demand(RangeKind::Memory, image, request));
        }
        if request.shared {
            return Err(Error::SharedMemory);
        }
        request.check()?;
        let made = self.pools.allocate_memory(&self.vm, image, request);
        let (pool, id) = told!(Warn, "no memory", made)?;
        let limit = pool.layout().max_memory_size;
        let first = pointer(pool.base(id.slot));
        Ok(Memory::Static {
            base: NonNull::slice_from_raw_parts(first, request.maximum.map_or(limit, |most| most.min(limit))),
            size: request.minimum,
            make_accessible: MakeAccessible {
                allocator: self,
                id,
                needs_bounds_checks: needs_bounds_checks(pool, request),
            },
        })
    }

    /// Takes a memory back. Its slot reads as zeros for the next one. From now
    /// on its addresses are nobody's, or the next memory's.
    ///
    /// Does nothing if the memory was taken back before, by a copy.
    ///
    /// Nobody accesses the memory during the call or after it: a byte that is
    /// written then may not be known to be, and could be seen by the next one.
    #[inline]
    pub fn deallocate_memory(&self, memory: Memory<'_, A>) {
        match memory {
            Memory::Static { make_accessible, .. } => {
                let MakeAccessible { allocator, id, .. } = make_accessible;
                // By its own allocator, should the caller hold several.
                allocator.pools.of(id).deallocate(&allocator.vm, id);
            }
            Memory::Dynamic(memory) => memory.release(),
        }
    }

    /// Must run on the CPU that goes on with `memory`, when another one worked
    /// with it before; [`allocate_memory`](Self::allocate_memory) does it for
    /// the CPU that calls it. One comparison, unless the slot was taken back
    /// since this CPU last invalidated.
    ///
    /// Without, this CPU may still have what it cached of the slot's former
    /// users: it could reach beyond the memory's end, and write without leaving
    /// a mark, so that the next user reads what it wrote. Nor does it see what
    /// others wrote first since it read: where memories share pages until they
    /// write them, it may go on to read the shared one. So where CPUs use a memory
    /// at the same time, each reads of the others' pages only what was written
    /// before it arrived.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] after a copy was deallocated.
    pub fn arrive(&self, memory: &Memory<'_, A>) -> Result<(), Error> {
        match memory {
            Memory::Static { make_accessible, .. } => {
                let MakeAccessible { allocator, id, .. } = make_accessible;
                allocator.pools.of(*id).arrive(&allocator.vm, *id)
            }
            Memory::Dynamic(memory) => memory.arrive(),
        }
    }

    /// Gives the `len` bytes from `offset` on, which are accessible, frames of the
    /// memory's own, so that host code, or a device, can write there without a fault.
    /// Only with [`Commit::PerInstance`](crate::Commit) it can fail: elsewhere each
    /// accessible page has its frame, or is promised one.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], [`Error::CommitmentExceeded`] when the instance
    /// may not touch as many more pages, and [`Error::Stale`]; nothing changed
    /// then.
    pub fn prepare_write(&self, memory: &Memory<'_, A>, offset: usize, len: usize) -> Result<(), Error> {
        match memory {
            Memory::Static { make_accessible, .. } => {
                let MakeAccessible { allocator, id, .. } = make_accessible;
                allocator.pools.of(*id).prepare_write(&allocator.vm, *id, offset, len)
            }
            Memory::Dynamic(memory) => memory.prepare_write(offset, len),
        }
    }

    /// Declares that the `len` bytes from `offset` on, which
    /// [`prepare_write`](Self::prepare_write) was called for, were written by other means
    /// than the memory's own mapping: by a device, or through another alias. They are
    /// reset like the rest.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], [`Error::NotPrepared`] and [`Error::Stale`]; nothing is
    /// noted then.
    pub fn note_written(&self, memory: &Memory<'_, A>, offset: usize, len: usize) -> Result<(), Error> {
        match memory {
            Memory::Static { make_accessible, .. } => {
                let MakeAccessible { allocator, id, .. } = make_accessible;
                allocator.pools.of(*id).note_written(&allocator.vm, *id, offset, len)
            }
            Memory::Dynamic(memory) => memory.note_written(offset, len),
        }
    }

    /// The same by address, of any range, for host code on this CPU: it
    /// [arrives](Self::arrive) first.
    #[cfg(feature = "instance")]
    pub(crate) fn prepare_access_at(&self, address: VirtAddr, len: usize) -> Result<(), Error> {
        match self.pools.find_memory(address) {
            // The end of a memory may be the start of somebody else's.
            _ if len == 0 => Ok(()),
            Some((pool, id, offset)) => {
                pool.arrive(&self.vm, id)?;
                if pool.is_sparse() { pool.prepare_write(&self.vm, id, offset, len) } else { Ok(()) }
            }
            None => self.arrive_at(address),
        }
    }

    /// Has this CPU forget what was replaced in the range at an address, if there is
    /// one.
    #[cfg(feature = "instance")]
    pub(crate) fn arrive_at(&self, address: VirtAddr) -> Result<(), Error> {
        match self.regions.locate(address) {
            Some(position) => self.regions.arrive(&self.vm, position.id),
            None => Ok(()),
        }
    }

    /// Allocates a table of zeros, which an engine takes for null or for not yet
    /// filled in. A number is a request of so many elements of 8 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::TableTooLarge`], [`Error::PoolConcurrencyLimit`] or
    /// [`Error::OutOfFrames`]; nothing is allocated then.
    #[inline(always)]
    pub fn allocate_table(&self, request: impl Into<TableRequest>) -> Result<Table<'_, A>, Error> {
        let request = request.into();
        let TableRequest { minimum, maximum, owner, element_size } = request;
        let pool = &self.pools.tables;
        let limit = if self.on_demand.is_strategy {
            // As many as Wasmtime's indices can name.
            u32::MAX as usize
        } else {
            // As many elements as pointers, of whatever size.
            let fits = pool.layout().max_memory_size / element_size;
            fits.min(self.config.pooling().map_or(0, |pooling| pooling.table_elements))
        };
        let capacity = maximum.map_or(limit, |most| most.min(limit));
        let too_large = Error::TableTooLarge { requested: minimum, limit: capacity };
        let bytes = minimum.checked_mul(element_size).filter(|_| minimum <= capacity).ok_or(too_large)?;
        if self.on_demand.is_strategy {
            return told!(Warn, "no table", self.table_on_demand(&request, capacity));
        }
        let id = told!(Warn, "no table", self.pools.allocate(&self.vm, pool, owner, None, bytes))?;
        let base = pointer(pool.base(id.slot));
        Ok(Table { allocator: self, home: Home::Slot(id), base, size: minimum, capacity, element_size })
    }

    /// Takes a table back.
    ///
    /// Nobody accesses it during the call or after it, as with
    /// [`deallocate_memory`](Self::deallocate_memory).
    pub fn deallocate_table(&self, table: Table<'_, A>) {
        let Table { allocator, home, .. } = table;
        match home {
            Home::Slot(id) => allocator.pools.tables.deallocate(&allocator.vm, id),
            Home::Range(id) => allocator.release_backed(id),
        }
    }

    /// Must run on the CPU that goes on with `table`, when another one worked with
    /// it before, for the reasons that [`arrive`](Self::arrive) has.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] if it is deallocated.
    pub fn arrive_table(&self, table: &Table<'_, A>) -> Result<(), Error> {
        let Allocator { vm, pools, regions, .. } = table.allocator;
        match table.home {
            Home::Slot(id) => pools.tables.arrive(vm, id),
            Home::Range(id) => regions.check(id),
        }
    }

    /// Allocates a stack of `async_stack_size` bytes, all accessible, with pages
    /// below it that never are.
    ///
    /// It holds zeros if `async_stack_zeroing` is set, else whatever its last
    /// user left.
    ///
    /// # Errors
    ///
    /// [`Error::NoStacks`] when their size is 0,
    /// [`Error::PoolConcurrencyLimit`] or [`Error::OutOfFrames`]; nothing is
    /// allocated then.
    pub fn allocate_fiber_stack(&self) -> Result<FiberStack<'_, A>, Error> {
        if self.config.async_stack_size == 0 {
            return Err(Error::NoStacks);
        }
        if self.on_demand.is_strategy {
            return told!(Warn, "no stack", self.stack_on_demand(self.config.async_stack_size));
        }
        let pool = &self.pools.stacks;
        let SlabLayout { max_memory_size, guard_size, .. } = *pool.layout();
        let id = told!(Warn, "no stack", self.pools.allocate(&self.vm, pool, None, None, max_memory_size))?;
        let base = pointer(pool.base(id.slot));
        let stack = NonNull::slice_from_raw_parts(base, max_memory_size);
        Ok(FiberStack { allocator: self, home: Home::Slot(id), stack, guard_size })
    }

    /// Must run on the CPU that goes on with `stack`, before it does, when it is not
    /// the one that allocated it or went on with it last. Without, what it writes
    /// may not be known to be written, and be seen by the stack's next user.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] if it is deallocated.
    pub fn arrive_fiber_stack(&self, stack: &FiberStack<'_, A>) -> Result<(), Error> {
        let Allocator { vm, pools, regions, .. } = stack.allocator;
        match stack.home {
            Home::Slot(id) => pools.stacks.arrive(vm, id),
            Home::Range(id) => regions.check(id),
        }
    }

    /// Takes a stack back. Nobody runs on it.
    pub fn deallocate_fiber_stack(&self, stack: FiberStack<'_, A>) {
        let FiberStack { allocator, home, .. } = stack;
        match home {
            Home::Slot(id) => allocator.pools.stacks.deallocate(&allocator.vm, id),
            Home::Range(id) => allocator.release_backed(id),
        }
    }

    /// Allocates a GC heap: a memory, counted by `total_gc_heaps` as well.
    ///
    /// # Errors
    ///
    /// As for [`allocate_memory`](Self::allocate_memory).
    pub fn allocate_gc_heap(&self, request: impl Into<MemoryRequest>) -> Result<GcHeap<'_, A>, Error> {
        if self.on_demand.is_strategy {
            let memory = self.memory_on_demand(RangeKind::GcHeap, None, &request.into());
            let memory = told!(Warn, "no GC heap", memory)?;
            return Ok(GcHeap { memory });
        }
        told!(Warn, "no GC heap", self.pools.gc_heaps.increment())?;
        match self.allocate_memory(request) {
            Ok(memory) => {
                mark_gc_heap(&memory, true);
                Ok(GcHeap { memory })
            }
            Err(error) => {
                self.pools.gc_heaps.decrement();
                Err(error)
            }
        }
    }

    /// Takes a GC heap back, as [`deallocate_memory`](Self::deallocate_memory)
    /// does a memory.
    pub fn deallocate_gc_heap(&self, heap: GcHeap<'_, A>) {
        mark_gc_heap(&heap.memory, false);
        if let Memory::Static { make_accessible, .. } = &heap.memory {
            make_accessible.allocator.pools.gc_heaps.decrement();
        }
        self.deallocate_memory(heap.memory);
    }

    /// Takes a memory back, dormant: [`wake_memory`](Self::wake_memory) may have it
    /// again, of `minimum` bytes. Contracts are those of
    /// [`deallocate_memory`](Self::deallocate_memory); by its own allocator, as there.
    #[cfg(feature = "instance")]
    #[inline]
    pub(crate) fn put_memory_to_sleep(memory: &mut Memory<'_, A>, minimum: usize) {
        if let Memory::Static { make_accessible: MakeAccessible { allocator, id, .. }, size, .. } = memory
            && let Some(dormant) = allocator.pools.of(*id).put_to_sleep(&allocator.vm, *id)
        {
            (*id, *size) = (dormant, minimum);
        }
    }

    /// Takes a dormant memory again, if its slot is still what it was: of `bytes`, which
    /// show `image`.
    #[cfg(feature = "instance")]
    #[inline(always)]
    pub(crate) fn wake_memory(
        memory: &mut Memory<'_, A>,
        image: Option<Image>,
        bytes: usize,
    ) -> Result<(), Error> {
        let Memory::Static { make_accessible: MakeAccessible { allocator, id, .. }, size, .. } = memory
        else {
            return Err(Error::Stale { slot: u32::MAX });
        };
        *id = allocator.pools.of(*id).wake(&allocator.vm, *id, image, bytes)?;
        *size = bytes;
        Ok(())
    }

    /// Has the slot of a dormant memory be everybody's.
    #[cfg(feature = "instance")]
    pub(crate) fn rouse_memory(memory: &Memory<'_, A>) {
        if let Memory::Static { make_accessible: MakeAccessible { allocator, id, .. }, .. } = memory {
            allocator.pools.of(*id).rouse_one(&allocator.vm, *id);
        }
    }

    /// As [`put_memory_to_sleep`](Self::put_memory_to_sleep), of a table.
    #[cfg(feature = "instance")]
    #[inline]
    pub(crate) fn put_table_to_sleep(table: &mut Table<'_, A>, minimum: usize) {
        let Self { vm, pools, .. } = table.allocator;
        if let Home::Slot(id) = &mut table.home
            && let Some(dormant) = pools.tables.put_to_sleep(vm, *id)
        {
            (*id, table.size) = (dormant, minimum);
        }
    }

    /// As [`wake_memory`](Self::wake_memory), of a table.
    #[cfg(feature = "instance")]
    #[inline(always)]
    pub(crate) fn wake_table(table: &mut Table<'_, A>) -> Result<(), Error> {
        let Self { vm, pools, .. } = table.allocator;
        let Home::Slot(id) = &mut table.home else { return Err(Error::Stale { slot: u32::MAX }) };
        if table.size > table.capacity {
            return Err(Error::TableTooLarge { requested: table.size, limit: table.capacity });
        }
        *id = pools.tables.wake(vm, *id, None, table.size * table.element_size)?;
        Ok(())
    }

    /// As [`rouse_memory`](Self::rouse_memory), of a table.
    #[cfg(feature = "instance")]
    pub(crate) fn rouse_table(table: &Table<'_, A>) {
        let Self { vm, pools, .. } = table.allocator;
        if let Home::Slot(id) = table.home {
            pools.tables.rouse_one(vm, id);
        }
    }

    /// Counts a core instance that is about to be made.
    ///
    /// # Errors
    ///
    /// [`Error::PoolConcurrencyLimit`] when there are `total_core_instances`;
    /// it is not counted then.
    pub fn increment_core_instance_count(&self) -> Result<(), Error> {
        self.count(&self.pools.core_instances)
    }

    /// Counts a core instance no longer.
    pub fn decrement_core_instance_count(&self) {
        self.pools.core_instances.decrement();
    }

    /// Counts a component instance that is about to be made.
    ///
    /// # Errors
    ///
    /// [`Error::PoolConcurrencyLimit`] when there are
    /// `total_component_instances`; it is not counted then.
    pub fn increment_component_instance_count(&self) -> Result<(), Error> {
        self.count(&self.pools.component_instances)
    }

    /// Counts a component instance no longer.
    pub fn decrement_component_instance_count(&self) {
        self.pools.component_instances.decrement();
    }

    /// On demand nothing is limited, nor counted.
    fn count(&self, count: &Count) -> Result<(), Error> {
        if self.on_demand.is_strategy { Ok(()) } else { told!(Warn, "no instance", count.increment()) }
    }

    /// Forgets which slots `module` had: it is gone, and will not come back for
    /// them.
    pub fn purge_module(&self, module: CompiledModuleId) {
        self.pools.purge_module(&self.vm, module);
        tell!(debug, "purged {module}");
    }

    pub(crate) fn make_accessible(&self, id: SlotId, offset: usize, len: usize) -> Result<(), Error> {
        let made = self.pools.make_accessible(&self.vm, self.pools.of(id), id, offset, len);
        told!(Debug, "a memory does not grow", made)
    }
}

/// Whether an access beyond such a memory's end may not fault.
#[inline]
fn needs_bounds_checks(pool: &SlotPool, request: &MemoryRequest) -> bool {
    pool.checks_bounds() || request.memory64 || request.page_size_log2 < 12
}

/// Has faults in the slot say whose it is.
fn mark_gc_heap<A: Arch>(memory: &Memory<'_, A>, enable: bool) {
    if let Memory::Static { make_accessible, .. } = memory {
        let MakeAccessible { allocator, id, .. } = *make_accessible;
        allocator.pools.of(id).mark_gc_heap(id, enable);
    }
}
