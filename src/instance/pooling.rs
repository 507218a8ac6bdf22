//! The strategy of slots carved at boot.
//!
//! ```text
//!   contexts   | context 0 | - | context 1 | - | ...      - : a page that is never mapped
//!              one region; each is max_core_instance_size long, and accessible as far
//!              as its largest instance needed
//!   maps       one box per slot, with room for max_memories_per_module and
//!              max_tables_per_module
//! ```
//!
//! A context is cleared when it is taken back, and stays accessible until some
//! instance lacks frames that idle ones have. The slots of memories and tables are
//! as good as free, but the instance's slot remembers them (`pooling::dormant`): the
//! next instance of the same module finds all that it needs, and asks no other index
//! than that of instances.

use alloc::{boxed::Box, vec::Vec};
use core::{
    fmt,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use allotment_arch::{Access, Arch, Native, PAGE_SIZE, VirtAddr, page_ceil};
use cranelift_entity::{EntityRef, PrimaryMap};
use spin::mutex::SpinMutex;

use super::{
    DefinedMemoryIndex, DefinedTableIndex, Instance, InstanceAllocationRequest, InstanceAllocator,
    InstanceError, InstanceIndex, InstanceSnapshot, Memory, MemoryType, Module, ModuleRuntimeInfo,
    ResourceLimiter, Stack, Table, limits::ask_for_gc_heap, memory::Beginning, module_images::ModuleImages,
    owner,
};
use crate::{
    Allocator, CompiledModuleId, ComponentError, ComponentSummary, Error, GcHeap, MemoryInModule,
    ModuleError, PoolKind, PoolingAllocationConfig,
    pooling::{Link, ModuleAffinityIndexAllocator, buckets},
};

/// Makes instances of slots.
///
/// All that it needs of the heap it takes in [`new`](Self::new), and for the images of
/// a module in [`prepare_images`](InstanceAllocator::prepare_images): neither an
/// instance nor its end uses the heap after that.
pub struct PoolingInstanceAllocator<'a, A: Arch = Native> {
    allocator: &'a Allocator<A>,
    pooling: PoolingAllocationConfig,
    /// Which slot is next.
    index: ModuleAffinityIndexAllocator<Box<[Link]>, Box<[AtomicU32]>>,
    slots: Box<[InstanceSlot<'a, A>]>,
    contexts: VirtAddr,
    /// Bytes from one context to the next.
    stride: usize,
    /// Memories that an instance has room for.
    memories: usize,
    /// Tables that it has room for.
    tables: usize,
    /// How many purges are going on, each with a slot in its hands.
    purging: AtomicUsize,
    images: ModuleImages<'a, A>,
}

/// What stands ready for a slot's next instance; nothing while there is one.
type InstanceSlot<'a, A> = SpinMutex<Option<Box<Instance<'a, A>>>>;

impl<'a, A: Arch> PoolingInstanceAllocator<'a, A> {
    /// An allocator over a core that is configured for
    /// [`Pooling`](crate::InstanceAllocationStrategy::Pooling), with as many slots
    /// for instances as its plan says. It reserves `total_core_instances` times
    /// `max_core_instance_size` and a page of `region_space`, for as long as the core
    /// lives: make it once, before [`Allocator::seal`].
    ///
    /// # Errors
    ///
    /// [`InstanceError::Strategy`] without pools, [`InstanceError::OutOfHeap`], and
    /// [`Error::OutOfAddressSpace`] when `region_space` is too small for that.
    pub fn new(allocator: &'a Allocator<A>) -> Result<Self, InstanceError> {
        let Some(&pooling) = allocator.config.pooling() else {
            return Err(InstanceError::Strategy { wanted: "pools" });
        };
        let total = allocator.pools.core_instances.limit();
        let too_large = Error::OutOfAddressSpace { requested: usize::MAX };
        let context = page_ceil(pooling.max_core_instance_size).ok_or(too_large)?;
        let stride = context.checked_add(PAGE_SIZE).ok_or(too_large)?;
        let bytes = stride.checked_mul(total).ok_or(too_large)?.max(PAGE_SIZE);
        let links = boxed(total, |_| Ok(Link::default()))?;
        let buckets = boxed(buckets(total), |_| Ok(AtomicU32::new(0)))?;
        let contexts = allocator.reserve_region(bytes)?;
        let most = [pooling.max_memories_per_module, pooling.max_tables_per_module];
        // More than there are slots can never be had at once.
        let tables = allocator.pools.tables.layout().total_memories;
        let [memories, tables] = [(most[0], allocator.pools.memory_slots()), (most[1], tables)]
            .map(|(most, slots)| (most as usize).min(slots));
        let slots = boxed(total, |number| {
            let vmctx = contexts.offset(number * stride);
            let index = InstanceIndex(u32::try_from(number).unwrap_or(u32::MAX));
            // SAFETY: it may be written as far as its capacity says, which is nowhere.
            let instance = unsafe { Instance::new(allocator, index, vmctx, 0, memories, tables) }?;
            Ok(SpinMutex::new(Some(instance)))
        });
        let slots = slots.inspect_err(|_| {
            // SAFETY: nobody uses it.
            let _ = unsafe { allocator.release_region(contexts, bytes) };
        })?;
        let cpus = allocator.vm.arch.cpus();
        let index = ModuleAffinityIndexAllocator::new(links, buckets, cpus, pooling.max_unused_warm_slots);
        let purging = AtomicUsize::new(0);
        let images = ModuleImages::default();
        Ok(Self { allocator, pooling, index, slots, contexts, stride, memories, tables, purging, images })
    }

    /// Has a map hold all memories of a module, each of which begins as `begins` says.
    #[inline(always)]
    fn fill_memories<'i>(
        &self,
        request: &mut InstanceAllocationRequest<'_>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
        begins: impl Fn(DefinedMemoryIndex) -> Beginning<'i, 'a, A>,
    ) -> Result<(), InstanceError>
    where
        'a: 'i,
    {
        let info = request.runtime_info;
        // Those of an instance of the same module.
        for (index, memory) in memories.iter_mut() {
            let (owner, begins) = (|| owner(info, index), begins(index));
            let renewed = memory.renew(self.allocator, owner, begins, request.store.limiter());
            self.again(renewed, || memory.renew(self.allocator, owner, begins, None))?;
        }
        let module = info.module();
        if memories.len() == module.num_defined_memories() {
            return Ok(());
        }
        for (index, ty) in module.defined_memories().skip(memories.len()) {
            let (owner, begins) = (owner(info, index), begins(index));
            let made = Memory::new_beginning(self.allocator, ty, owner, begins, request.store.limiter());
            let retry = || Memory::new_beginning(self.allocator, ty, owner, begins, None);
            memories.push(self.again(made, retry)?);
        }
        Ok(())
    }

    /// Bytes of all contexts.
    fn bytes(&self) -> usize {
        (self.slots.len() * self.stride).max(PAGE_SIZE)
    }

    /// Has the context of a slot's next instance be `bytes` long.
    #[inline(always)]
    fn extend(&self, instance: &mut Instance<'a, A>, bytes: usize) -> Result<(), InstanceError> {
        if bytes > instance.vmctx_capacity {
            // SAFETY: it is given access, and none is taken away.
            unsafe { self.allocator.protect_region(instance.vmctx, bytes, Some(Access::ReadWrite)) }?;
            instance.vmctx_capacity = page_ceil(bytes).unwrap_or(bytes);
        }
        Ok(())
    }

    /// Has the slots that an instance remembers be anybody's.
    #[cold]
    fn rouse(&self, instance: &mut Instance<'a, A>) {
        drain(&mut instance.memories, |mut memory| memory.rouse());
        drain(&mut instance.tables, |mut table| table.rouse());
    }

    /// Has a free slot give back what its next instance would find.
    fn strip(&self, slot: u32) {
        let Some(slot) = self.slots.get(slot as usize) else { return };
        if let Some(instance) = slot.lock().as_mut() {
            self.rouse(instance);
            self.discard_context(instance);
        }
    }

    /// Has a context that no instance has, nor gets, give its frames back. Whether it
    /// had any.
    fn discard_context(&self, instance: &mut Instance<'a, A>) -> bool {
        let bytes = core::mem::take(&mut instance.vmctx_capacity);
        bytes > 0 && self.allocator.regions.discard(&self.allocator.vm, instance.vmctx, bytes).is_ok()
    }

    /// Does once more what failed for want of frames, if contexts that nobody uses
    /// have some. The limiter is not asked again.
    #[inline]
    fn again<T>(
        &self,
        first: Result<T, InstanceError>,
        retry: impl FnOnce() -> Result<T, InstanceError>,
    ) -> Result<T, InstanceError> {
        match first {
            Err(InstanceError::Resource(Error::OutOfFrames { .. })) if self.discard_contexts() => retry(),
            result => result,
        }
    }

    #[cold]
    fn discard_contexts(&self) -> bool {
        let mut any = false;
        for slot in &self.slots {
            // One that is locked is about to be used.
            let Some(mut ready) = slot.try_lock() else { continue };
            any |= ready.as_mut().is_some_and(|instance| self.discard_context(instance));
        }
        any
    }
}

/// Empties a map, which keeps its room.
fn drain<K: EntityRef, V>(map: &mut PrimaryMap<K, V>, work: impl FnMut(V)) {
    let mut values = Vec::from(core::mem::take(map));
    values.drain(..).for_each(work);
    *map = PrimaryMap::from(values);
}

/// Whether what an instance remembers is the module's. Its number does not say so:
/// that is another module's after a purge, which finds neither a slot whose
/// instance lives nor one that somebody else asked for since.
fn fits<A: Arch>(instance: &Instance<'_, A>, module: &Module) -> bool {
    let memories = || instance.memories.values().zip(module.defined_memories());
    let tables = || instance.tables.values().zip(module.defined_tables());
    instance.memories.len() <= module.num_defined_memories()
        && instance.tables.len() <= module.num_defined_tables()
        && memories().all(|(memory, (_, ty))| memory.ty() == ty)
        && tables().all(|(table, (_, ty))| table.ty() == ty)
}

/// The instance of a module, as the key of its slot.
fn key(module: CompiledModuleId) -> MemoryInModule {
    MemoryInModule { module, index: 0 }
}

fn boxed<T>(
    count: usize,
    mut make: impl FnMut(usize) -> Result<T, InstanceError>,
) -> Result<Box<[T]>, InstanceError> {
    let mut values = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    values.try_reserve_exact(count).map_err(|_| InstanceError::OutOfHeap { bytes })?;
    for number in 0..count {
        values.push(make(number)?);
    }
    Ok(values.into_boxed_slice())
}

impl<A: Arch> Drop for PoolingInstanceAllocator<'_, A> {
    /// Gives the contexts back, unless there is an instance left that has one.
    fn drop(&mut self) {
        let mut in_use = false;
        for slot in 0..self.slots.len() {
            match self.slots[slot].get_mut().take() {
                Some(mut instance) => self.rouse(&mut instance),
                None => in_use = true,
            }
        }
        if !in_use {
            // SAFETY: no instance has a context, so nobody uses them.
            let _ = unsafe { self.allocator.release_region(self.contexts, self.bytes()) };
        }
    }
}

// SAFETY: memories and tables come from the core allocator; each context is a
// part of a region of its own, written as far as it is accessible, and cleared by
// `deallocate` or never used.
unsafe impl<'a, A: Arch> InstanceAllocator<'a, A> for PoolingInstanceAllocator<'a, A> {
    fn validate<'m>(&self, module: &'m Module) -> Result<(), ModuleError<'m>> {
        self.pooling.validate_module(&module.summary())
    }

    fn validate_component<'m>(&self, component: &ComponentSummary<'m>) -> Result<(), ComponentError<'m>> {
        self.pooling.validate_component(component)
    }

    fn prepare_images(&self, info: &dyn ModuleRuntimeInfo) -> Result<bool, InstanceError> {
        self.images.prepare(self.allocator, info)
    }

    fn allocate_index(
        &self,
        request: &InstanceAllocationRequest<'_>,
    ) -> Result<InstanceIndex, InstanceError> {
        self.allocator.increment_core_instance_count()?;
        let key = request.runtime_info.unique_id().map(key);
        let cpu = self.allocator.vm.arch.current_cpu();
        loop {
            let purging = self.purging.load(Ordering::SeqCst);
            if let Some(taken) = self.index.alloc(cpu, key) {
                return Ok(InstanceIndex(taken.slot));
            }
            // By the count there is one: on its way from another CPU to its list, or
            // being purged. Unless somebody has counted down for himself.
            let none = self.index.used() >= self.slots.len();
            if none && purging == 0 && self.purging.load(Ordering::SeqCst) == 0 {
                self.allocator.decrement_core_instance_count();
                let limit = self.slots.len();
                return Err(Error::PoolConcurrencyLimit { kind: PoolKind::CoreInstances, limit }.into());
            }
            core::hint::spin_loop();
        }
    }

    fn deallocate_index(&self, index: InstanceIndex) {
        if self.index.free(index.0, 0) {
            self.allocator.decrement_core_instance_count();
        }
    }

    fn allocate_vmctx(
        &self,
        index: InstanceIndex,
        request: &InstanceAllocationRequest<'_>,
    ) -> Result<Box<Instance<'a, A>>, InstanceError> {
        let module = request.runtime_info.module();
        let (size, limit) = (module.offsets().size(), self.pooling.max_core_instance_size);
        if size > limit {
            return Err(InstanceError::TooLarge { size, limit });
        }
        let no_slot = InstanceError::NotFound { what: "instance slot", index: index.0 as usize };
        let slot = self.slots.get(index.0 as usize).ok_or(no_slot)?;
        let mut ready = slot.lock();
        let instance = ready.as_mut().ok_or(no_slot)?;
        let room = |what, count, limit| {
            if count > limit { Err(InstanceError::TooMany { what, count, limit }) } else { Ok(()) }
        };
        room("memories", module.num_defined_memories(), self.memories)?;
        room("tables", module.num_defined_tables(), self.tables)?;
        let bytes = module.offsets().vmctx_size();
        let extended = self.extend(instance, bytes);
        self.again(extended, || self.extend(instance, bytes))?;
        let id = request.runtime_info.unique_id();
        if id.is_none() || id != instance.module_id || !fits(instance, module) {
            self.rouse(instance);
            instance.module_id = id;
        }
        ready.take().ok_or(no_slot)
    }

    fn deallocate_vmctx(&self, index: InstanceIndex, instance: Box<Instance<'a, A>>) {
        let Some(slot) = self.slots.get(index.0 as usize) else { return };
        // Whoever has one may hand it to another slot, or another allocator: one that
        // took it would not know that its own context is in use.
        if instance.vmctx == self.contexts.offset(index.0 as usize * self.stride) {
            *slot.lock() = Some(instance);
        }
    }

    fn allocate_memories(
        &self,
        _: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) -> Result<(), InstanceError> {
        let images = self.images.of(request.runtime_info.unique_id());
        let begins = |index: DefinedMemoryIndex| Beginning {
            image: images.as_ref().and_then(|images| images.get(index.index())?.as_ref()),
            initialized: images.is_some(),
            ..Beginning::ZEROS
        };
        self.fill_memories(request, memories, begins)
    }

    fn allocate_cloned_memories(
        &self,
        _: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        snapshot: &InstanceSnapshot<'a, A>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) -> Result<(), InstanceError> {
        self.fill_memories(request, memories, |index| snapshot.begins(index))
    }

    fn deallocate_memories(
        &self,
        _: InstanceIndex,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) {
        memories.values_mut().for_each(|memory| memory.put_to_sleep());
    }

    fn allocate_tables(
        &self,
        _: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    ) -> Result<(), InstanceError> {
        let info = request.runtime_info;
        for (index, table) in tables.iter_mut() {
            let renewed = table.renew(self.allocator, || owner(info, index), request.store.limiter());
            self.again(renewed, || table.renew(self.allocator, || owner(info, index), None))?;
        }
        let module = info.module();
        if tables.len() == module.num_defined_tables() {
            return Ok(());
        }
        for (index, ty) in module.defined_tables().skip(tables.len()) {
            let (owner, limiter) = (owner(info, index), request.store.limiter());
            let made = Table::new_static(self.allocator, ty, owner, limiter);
            tables.push(self.again(made, || Table::new_static(self.allocator, ty, owner, None))?);
        }
        Ok(())
    }

    fn deallocate_tables(&self, _: InstanceIndex, tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>) {
        tables.values_mut().for_each(|table| table.put_to_sleep());
    }

    fn allocate_fiber_stack(&self) -> Result<Stack<'a, A>, InstanceError> {
        Ok(Stack::Fiber(self.allocator.allocate_fiber_stack()?))
    }

    fn deallocate_fiber_stack(&self, stack: Stack<'a, A>) {
        if let Stack::Fiber(stack) = stack {
            self.allocator.deallocate_fiber_stack(stack);
        }
    }

    fn allocate_gc_heap(
        &self,
        ty: &MemoryType,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<GcHeap<'a, A>, InstanceError> {
        Ok(self.allocator.allocate_gc_heap(ask_for_gc_heap(ty, limiter)?)?)
    }

    fn deallocate_gc_heap(&self, heap: GcHeap<'a, A>) {
        self.allocator.deallocate_gc_heap(heap);
    }

    fn purge_module(&self, module: CompiledModuleId) {
        self.purging.fetch_add(1, Ordering::SeqCst);
        while let Some(slot) = self.index.alloc_affine_and_clear_affinity(key(module)) {
            self.strip(slot);
            self.index.free_cold(slot);
        }
        self.purging.fetch_sub(1, Ordering::SeqCst);
        self.images.remove(module);
        self.allocator.purge_module(module);
    }
}

impl<A: Arch> fmt::Debug for PoolingInstanceAllocator<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolingInstanceAllocator")
            .field("index", &self.index)
            .field("contexts", &self.contexts)
            .field("stride", &self.stride)
            .finish_non_exhaustive()
    }
}
