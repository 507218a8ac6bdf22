//! The strategy that makes everything when it is asked for.

use alloc::boxed::Box;
use core::fmt;

use allotment_arch::{Access, Arch, Native, page_ceil};
use cranelift_entity::PrimaryMap;

use super::{
    DefinedMemoryIndex, DefinedTableIndex, Instance, InstanceAllocationRequest, InstanceAllocator,
    InstanceError, InstanceIndex, Memory, MemoryType, ResourceLimiter, RuntimeMemoryCreator, Stack,
    StackCreator, Table, limits::ask_for_gc_heap, owner,
};
use crate::{Allocator, CompiledModuleId, Error, GcHeap};

/// Makes instances of ranges of their own, and takes these apart again.
///
/// Boxes of memories and instances, and the maps, come from the heap. A context
/// takes `region_space` in units of 2 MiB, and one of these besides.
pub struct OnDemandInstanceAllocator<'a, A: Arch = Native> {
    allocator: &'a Allocator<A>,
    memory_creator: Option<&'a dyn RuntimeMemoryCreator>,
    stack_creator: Option<&'a dyn StackCreator>,
}

impl<'a, A: Arch> OnDemandInstanceAllocator<'a, A> {
    /// An allocator over a core that is configured for
    /// [`OnDemand`](crate::InstanceAllocationStrategy::OnDemand).
    ///
    /// # Errors
    ///
    /// [`InstanceError::Strategy`] if it is configured for pools.
    pub fn new(allocator: &'a Allocator<A>) -> Result<Self, InstanceError> {
        if allocator.config.pooling().is_some() {
            return Err(InstanceError::Strategy { wanted: "on demand" });
        }
        Ok(Self { allocator, memory_creator: None, stack_creator: None })
    }

    /// Memories come from there, but those that threads share.
    #[must_use]
    pub fn memory_creator(mut self, creator: &'a dyn RuntimeMemoryCreator) -> Self {
        self.memory_creator = Some(creator);
        self
    }

    /// Stacks come from there.
    #[must_use]
    pub fn stack_creator(mut self, creator: &'a dyn StackCreator) -> Self {
        self.stack_creator = Some(creator);
        self
    }
}

// SAFETY: all comes from the core allocator, or creators that promise the same.
unsafe impl<'a, A: Arch> InstanceAllocator<'a, A> for OnDemandInstanceAllocator<'a, A> {
    fn allocate_index(&self, _: &InstanceAllocationRequest<'_>) -> Result<InstanceIndex, InstanceError> {
        Ok(InstanceIndex::ON_DEMAND)
    }

    fn deallocate_index(&self, _: InstanceIndex) {}

    fn allocate_vmctx(
        &self,
        index: InstanceIndex,
        request: &InstanceAllocationRequest<'_>,
    ) -> Result<Box<Instance<'a, A>>, InstanceError> {
        let module = request.runtime_info.module();
        let size = module.offsets().vmctx_size();
        let size = page_ceil(size).unwrap_or(size);
        let (memories, tables) = (module.num_defined_memories(), module.num_defined_tables());
        let vmctx = self.allocator.reserve_region(size)?;
        // SAFETY: nobody uses the range yet.
        let accessible = unsafe { self.allocator.protect_region(vmctx, size, Some(Access::ReadWrite)) };
        let made = accessible.map_err(InstanceError::from).and_then(|()| {
            // SAFETY: it is accessible now, new, and goes with the instance.
            unsafe { Instance::new(self.allocator, index, vmctx, size, memories, tables) }
        });
        made.inspect_err(|_| {
            // SAFETY: still nobody does.
            let _ = unsafe { self.allocator.release_region(vmctx, size) };
        })
    }

    fn deallocate_vmctx(&self, _: InstanceIndex, instance: Box<Instance<'a, A>>) {
        // SAFETY: the instance is gone, and nobody else used its context.
        let _ = unsafe { self.allocator.release_region(instance.vmctx, instance.vmctx_capacity) };
    }

    fn allocate_memories(
        &self,
        _: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) -> Result<(), InstanceError> {
        let info = request.runtime_info;
        let creator = self.memory_creator.unwrap_or(self.allocator);
        for (index, ty) in info.module().defined_memories() {
            let (owner, limiter) = (owner(info, index), request.store.limiter());
            memories.push(if ty.shared {
                Memory::new_shared(self.allocator, ty, owner, limiter)?
            } else {
                Memory::new_dynamic(creator, ty, owner, limiter)?
            });
        }
        Ok(())
    }

    fn deallocate_memories(
        &self,
        _: InstanceIndex,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) {
        memories.clear();
    }

    fn allocate_tables(
        &self,
        _: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    ) -> Result<(), InstanceError> {
        let info = request.runtime_info;
        for (index, ty) in info.module().defined_tables() {
            let (owner, limiter) = (owner(info, index), request.store.limiter());
            tables.push(Table::new_dynamic(self.allocator, ty, owner, limiter)?);
        }
        Ok(())
    }

    fn deallocate_tables(&self, _: InstanceIndex, tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>) {
        core::mem::take(tables).into_iter().for_each(|(_, table)| table.release(self.allocator));
    }

    fn allocate_fiber_stack(&self) -> Result<Stack<'a, A>, InstanceError> {
        let config = &self.allocator.config;
        match self.stack_creator {
            Some(_) if config.async_stack_size == 0 => Err(Error::NoStacks.into()),
            Some(creator) => {
                Ok(Stack::Custom(creator.new_stack(config.async_stack_size, config.async_stack_zeroing)?))
            }
            None => Ok(Stack::Fiber(self.allocator.allocate_fiber_stack()?)),
        }
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

    fn purge_module(&self, _: CompiledModuleId) {}
}

impl<A: Arch> fmt::Debug for OnDemandInstanceAllocator<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemandInstanceAllocator")
            .field("memory_creator", &self.memory_creator.is_some())
            .field("stack_creator", &self.stack_creator.is_some())
            .finish_non_exhaustive()
    }
}
