//! The trait, and what it does by itself.

use alloc::boxed::Box;

use allotment_arch::{Arch, Native};
use cranelift_entity::PrimaryMap;

use super::{
    DefinedMemoryIndex, DefinedTableIndex, Instance, InstanceAllocationRequest, InstanceError,
    InstanceHandle, InstanceSnapshot, Memory, MemoryType, Module, ModuleRuntimeInfo, ResourceLimiter, Stack,
    Table,
};
use crate::{CompiledModuleId, ComponentError, ComponentSummary, GcHeap, ModuleError};

/// A claim on one instance, by its number: that of a slot in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceIndex(pub u32);

impl InstanceIndex {
    /// That of all instances on demand, which nobody counts.
    pub const ON_DEMAND: Self = Self(u32::MAX);
}

/// Makes instances and takes them back. An engine holds a
/// `&dyn InstanceAllocator`, and asks it for [`allocate`](Self::allocate) and
/// [`deallocate`](Self::deallocate); most other methods are what these two do, step
/// by step.
///
/// ```text
///   allocate                                      deallocate
///     allocate_index       claim                    deallocate_memories
///     allocate_vmctx       context, maps            deallocate_tables
///     allocate_memories    push each                clear the context
///     allocate_tables      push each                deallocate_vmctx
///     write the context                             deallocate_index
/// ```
///
/// When a step on the left fails, what was done before it is undone as on the
/// right, and what the failing step itself had pushed is given back. Methods have
/// the names and contracts of Wasmtime's trait, as it was in its versions 6 to 12.
///
/// None panics.
///
/// # Safety
///
/// An implementation promises that what it hands out is as its types say, and
/// nobody else's until it is handed back: memories and tables of zeros that are
/// accessible as far as they say, contexts as [`Instance::new`] wants them. A map
/// that it succeeded to fill holds as many as the module defines, each of the type
/// that stands there.
pub unsafe trait InstanceAllocator<'a, A: Arch = Native>: Send + Sync {
    /// Whether instances of a module can ever be made: asked once, when it is
    /// compiled or loaded. What passes can still fail for want of slots or frames.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] names what does not fit, and the knob.
    fn validate<'m>(&self, module: &'m Module) -> Result<(), ModuleError<'m>> {
        let _ = module;
        Ok(())
    }

    /// The same of a component: of the [`summary`](Module::summary) of each module
    /// that it instantiates.
    ///
    /// # Errors
    ///
    /// [`ComponentError`] names what does not fit, and the knob.
    fn validate_component<'m>(&self, component: &ComponentSummary<'m>) -> Result<(), ComponentError<'m>> {
        let _ = component;
        Ok(())
    }

    /// Makes images of what the memories of a module begin with, once it is validated:
    /// from then until [`purge_module`](Self::purge_module) its instances show them, and
    /// copy a page when they write there, instead of copying its active data segments.
    /// Whether it has such images: without, all goes as before. Again is no error.
    ///
    /// It has none with [`Config::memory_init_cow`](crate::Config::memory_init_cow) off,
    /// without a [`unique_id`](ModuleRuntimeInfo::unique_id), on demand, and where
    /// [`Module::plan_images`] says why not. They take frames, and some heap.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfFrames`](crate::Error::OutOfFrames). There are no images then.
    fn prepare_images(&self, info: &dyn ModuleRuntimeInfo) -> Result<bool, InstanceError> {
        let _ = info;
        Ok(false)
    }

    /// Claims an instance.
    ///
    /// # Errors
    ///
    /// [`Error::PoolConcurrencyLimit`](crate::Error::PoolConcurrencyLimit) of core
    /// instances. Nothing is claimed then.
    fn allocate_index(&self, request: &InstanceAllocationRequest<'_>)
    -> Result<InstanceIndex, InstanceError>;

    /// Gives a claim back. Cannot fail.
    fn deallocate_index(&self, index: InstanceIndex);

    /// Room for the context and maps of an instance.
    ///
    /// # Errors
    ///
    /// [`InstanceError::TooLarge`], [`InstanceError::TooMany`], and those of frames
    /// and address space. Nothing is allocated then.
    fn allocate_vmctx(
        &self,
        index: InstanceIndex,
        request: &InstanceAllocationRequest<'_>,
    ) -> Result<Box<Instance<'a, A>>, InstanceError>;

    /// Takes it back. Its context holds zeros again, and what its maps hold was
    /// deallocated. Cannot fail.
    fn deallocate_vmctx(&self, index: InstanceIndex, instance: Box<Instance<'a, A>>);

    /// Has the map hold a memory for each that the module defines, in their order. It
    /// is the map of the instance that [`allocate_vmctx`](Self::allocate_vmctx) gave.
    ///
    /// # Errors
    ///
    /// At any of them, those of [`Memory::new_static`], [`Memory::new_dynamic`] and
    /// [`Memory::new_shared`]. What the map holds then is sure to reach
    /// [`deallocate_memories`](Self::deallocate_memories).
    fn allocate_memories(
        &self,
        index: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) -> Result<(), InstanceError>;

    /// The same of memories that begin with what they were in a snapshot. Unless an
    /// allocator does better, they are copied.
    ///
    /// # Errors
    ///
    /// As for [`allocate_memories`](Self::allocate_memories).
    fn allocate_cloned_memories(
        &self,
        index: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        snapshot: &InstanceSnapshot<'a, A>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) -> Result<(), InstanceError> {
        self.allocate_memories(index, request, memories)?;
        snapshot.copy_memories(request, memories)
    }

    /// Takes all of them back. Cannot fail. What is left in the map is nobody's but
    /// the allocator's.
    fn deallocate_memories(
        &self,
        index: InstanceIndex,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    );

    /// Has the map hold a table for each that the module defines, in their order.
    ///
    /// # Errors
    ///
    /// At any of them, those of [`Table::new_static`]. What the map holds then is
    /// sure to reach [`deallocate_tables`](Self::deallocate_tables).
    fn allocate_tables(
        &self,
        index: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    ) -> Result<(), InstanceError>;

    /// Takes all of them back, as
    /// [`deallocate_memories`](Self::deallocate_memories). Cannot fail.
    fn deallocate_tables(
        &self,
        index: InstanceIndex,
        tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    );

    /// A stack for a fiber.
    ///
    /// # Errors
    ///
    /// As for [`Allocator::allocate_fiber_stack`](crate::Allocator::allocate_fiber_stack),
    /// or those of a [`StackCreator`](super::StackCreator).
    fn allocate_fiber_stack(&self) -> Result<Stack<'a, A>, InstanceError>;

    /// Takes it back. Nobody runs on it.
    fn deallocate_fiber_stack(&self, stack: Stack<'a, A>);

    /// A GC heap of that type, unless the limiter refuses it: it is asked as for a
    /// memory.
    ///
    /// # Errors
    ///
    /// As for [`Memory::new_static`], and
    /// [`Error::PoolConcurrencyLimit`](crate::Error::PoolConcurrencyLimit) of GC
    /// heaps. Nothing is allocated then.
    fn allocate_gc_heap(
        &self,
        ty: &MemoryType,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<GcHeap<'a, A>, InstanceError>;

    /// Takes it back. Nobody uses it any more.
    fn deallocate_gc_heap(&self, heap: GcHeap<'a, A>);

    /// Forgets which slots a module had: it is gone. Instances of it may live on.
    fn purge_module(&self, module: CompiledModuleId);

    /// Makes an instance: all but its globals and segments, which
    /// [`Instance::initialize`] does.
    ///
    /// # Errors
    ///
    /// [`InstanceError::Imports`], and those of each step. Everything is as before
    /// then, and `host_state` is dropped.
    fn allocate(
        &self,
        mut request: InstanceAllocationRequest<'_>,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        let mut half_made = begin(self, &request)?;
        let (index, handle) = (half_made.index, &mut half_made.handle);
        self.allocate_memories(index, &mut request, &mut handle.memories)?;
        self.allocate_tables(index, &mut request, &mut handle.tables)?;
        handle.write_context(request)?;
        Ok(half_made.finish())
    }

    /// Makes an instance that goes on where a [snapshot](Instance::snapshot) was taken: its
    /// memories, tables, globals and dropped segments are as they were, references to the
    /// original's functions are to its own, and [`Instance::initialize`] is not called. The
    /// limiter is asked for the sizes of then.
    ///
    /// # Errors
    ///
    /// Those of [`allocate`](Self::allocate); [`InstanceError::OtherModule`] unless the
    /// request's module is the snapshot's. Everything is as before then, and `host_state` is
    /// dropped.
    ///
    /// # Safety
    ///
    /// References to functions of other instances, which tables and globals held, are of
    /// instances that live as long as this one.
    unsafe fn allocate_clone(
        &self,
        mut request: InstanceAllocationRequest<'_>,
        snapshot: &InstanceSnapshot<'a, A>,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        snapshot.check(request.runtime_info)?;
        let mut half_made = begin(self, &request)?;
        let (index, handle) = (half_made.index, &mut half_made.handle);
        snapshot.check_core(handle)?;
        self.allocate_cloned_memories(index, &mut request, snapshot, &mut handle.memories)?;
        self.allocate_tables(index, &mut request, &mut handle.tables)?;
        snapshot.grow_tables(&mut request, &mut handle.tables)?;
        handle.write_context(request)?;
        handle.restore(snapshot)?;
        Ok(half_made.finish())
    }

    /// Takes an instance back: memories, tables, context, claim; `host_state` and its
    /// share of the module are dropped. Cannot fail.
    ///
    /// # Safety
    ///
    /// The handle is of this allocator. Nobody runs in the instance, uses its
    /// context, memories or tables by their addresses, or goes on with an instance
    /// that imports from it, or whose tables and globals hold references to its
    /// functions.
    unsafe fn deallocate(&self, handle: InstanceHandle<'a, A>) {
        let index = handle.index();
        release(self, index, handle);
    }
}

/// An instance without memories and tables.
fn begin<'s, 'a, A: Arch, T: InstanceAllocator<'a, A> + ?Sized>(
    allocator: &'s T,
    request: &InstanceAllocationRequest<'_>,
) -> Result<HalfMade<'s, 'a, A, T>, InstanceError> {
    request.imports.check(request.runtime_info.module())?;
    let index = allocator.allocate_index(request)?;
    match allocator.allocate_vmctx(index, request) {
        Ok(instance) => Ok(HalfMade { allocator, index, handle: InstanceHandle::new(instance) }),
        Err(error) => {
            allocator.deallocate_index(index);
            Err(error)
        }
    }
}

/// An instance that goes back unless it is finished: also if a limiter panics.
struct HalfMade<'s, 'a, A: Arch, T: InstanceAllocator<'a, A> + ?Sized> {
    allocator: &'s T,
    index: InstanceIndex,
    handle: InstanceHandle<'a, A>,
}

impl<'a, A: Arch, T: InstanceAllocator<'a, A> + ?Sized> HalfMade<'_, 'a, A, T> {
    fn finish(self) -> InstanceHandle<'a, A> {
        let handle = self.handle.take_over();
        core::mem::forget(self);
        handle
    }
}

impl<'a, A: Arch, T: InstanceAllocator<'a, A> + ?Sized> Drop for HalfMade<'_, 'a, A, T> {
    fn drop(&mut self) {
        release(self.allocator, self.index, self.handle.take_over());
    }
}

fn release<'a, A: Arch, T: InstanceAllocator<'a, A> + ?Sized>(
    allocator: &T,
    index: InstanceIndex,
    mut handle: InstanceHandle<'a, A>,
) {
    allocator.deallocate_memories(index, &mut handle.memories);
    allocator.deallocate_tables(index, &mut handle.tables);
    handle.clear();
    allocator.deallocate_vmctx(index, handle.into_instance());
    allocator.deallocate_index(index);
}
