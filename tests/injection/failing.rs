//! An allocator that has one step of another one fail, and notes which steps it
//! came to.

use alloc::{boxed::Box, vec::Vec};

use allotment::{
    CompiledModuleId, Error, GcHeap,
    arch::VirtAddr,
    instance::{
        DefinedMemoryIndex, DefinedTableIndex, Instance, InstanceAllocationRequest, InstanceAllocator,
        InstanceError, InstanceIndex, Memory, MemoryType, PrimaryMap, ResourceLimiter, Stack, Table,
    },
};
use spin::Mutex;

use crate::{
    common::{Machine, TestArch},
    world::mark,
};

/// What an allocator is asked to do, in the order of `allocate` and `deallocate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Index,
    Context,
    Memories,
    Tables,
    NoMemories,
    NoTables,
    NoContext,
    NoIndex,
}

/// Where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) step: Step,
    /// After all that the step makes is made and marked; else before it.
    pub(crate) late: bool,
}

/// What it fails with: nobody else does.
pub(crate) const INJECTED: InstanceError =
    InstanceError::Resource(Error::BeyondMaximum { requested: 7, maximum: 3 });

pub(crate) struct Failing<'s, 'a, A: TestArch> {
    machine: &'a Machine<A>,
    inner: &'s (dyn InstanceAllocator<'a, A> + 's),
    point: Option<Point>,
    steps: Mutex<Vec<Step>>,
}

impl<'s, 'a, A: TestArch> Failing<'s, 'a, A> {
    pub(crate) fn new(
        machine: &'a Machine<A>,
        inner: &'s (dyn InstanceAllocator<'a, A> + 's),
        point: Option<Point>,
    ) -> Self {
        Self { machine, inner, point, steps: Mutex::new(Vec::new()) }
    }

    /// The steps that it came to.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.lock().clone()
    }

    fn note(&self, step: Step) {
        self.steps.lock().push(step);
    }

    fn fails(&self, step: Step, late: bool) -> Result<(), InstanceError> {
        if self.point == Some(Point { step, late }) { Err(INJECTED) } else { Ok(()) }
    }

    fn mark_memories(&self, memories: &PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>) {
        for memory in memories.values() {
            mark(self.machine, VirtAddr(memory.base().as_ptr() as u64), memory.byte_size());
        }
    }

    fn mark_tables(&self, tables: &PrimaryMap<DefinedTableIndex, Table<'a, A>>) {
        for table in tables.values() {
            let bytes = usize::try_from(table.size()).unwrap() * table.ty().element.size();
            mark(self.machine, table.vmtable().base, bytes);
        }
    }
}

// SAFETY: all comes from another one, and what is marked is in nobody's hands when
// that gets it back.
unsafe impl<'a, A: TestArch> InstanceAllocator<'a, A> for Failing<'_, 'a, A> {
    fn allocate_index(
        &self,
        request: &InstanceAllocationRequest<'_>,
    ) -> Result<InstanceIndex, InstanceError> {
        self.note(Step::Index);
        self.fails(Step::Index, false)?;
        self.inner.allocate_index(request)
    }

    fn deallocate_index(&self, index: InstanceIndex) {
        self.note(Step::NoIndex);
        self.inner.deallocate_index(index);
    }

    fn allocate_vmctx(
        &self,
        index: InstanceIndex,
        request: &InstanceAllocationRequest<'_>,
    ) -> Result<Box<Instance<'a, A>>, InstanceError> {
        self.note(Step::Context);
        self.fails(Step::Context, false)?;
        self.inner.allocate_vmctx(index, request)
    }

    fn deallocate_vmctx(&self, index: InstanceIndex, instance: Box<Instance<'a, A>>) {
        self.note(Step::NoContext);
        assert!(instance.module().is_err(), "the module is let go");
        self.inner.deallocate_vmctx(index, instance);
    }

    fn allocate_memories(
        &self,
        index: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) -> Result<(), InstanceError> {
        self.note(Step::Memories);
        self.fails(Step::Memories, false)?;
        let made = self.inner.allocate_memories(index, request, memories);
        // Of a step that fails by itself, only some are there to be marked.
        if self.point.is_some() && made.is_ok() {
            self.mark_memories(memories);
        }
        made.and_then(|()| self.fails(Step::Memories, true))
    }

    fn deallocate_memories(
        &self,
        index: InstanceIndex,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) {
        self.note(Step::NoMemories);
        self.inner.deallocate_memories(index, memories);
    }

    fn allocate_tables(
        &self,
        index: InstanceIndex,
        request: &mut InstanceAllocationRequest<'_>,
        tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    ) -> Result<(), InstanceError> {
        self.note(Step::Tables);
        self.fails(Step::Tables, false)?;
        let made = self.inner.allocate_tables(index, request, tables);
        if self.point.is_some() && made.is_ok() {
            self.mark_tables(tables);
        }
        made.and_then(|()| self.fails(Step::Tables, true))
    }

    fn deallocate_tables(
        &self,
        index: InstanceIndex,
        tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    ) {
        self.note(Step::NoTables);
        self.inner.deallocate_tables(index, tables);
    }

    fn allocate_fiber_stack(&self) -> Result<Stack<'a, A>, InstanceError> {
        self.inner.allocate_fiber_stack()
    }

    fn deallocate_fiber_stack(&self, stack: Stack<'a, A>) {
        self.inner.deallocate_fiber_stack(stack);
    }

    fn allocate_gc_heap(
        &self,
        ty: &MemoryType,
        limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    ) -> Result<GcHeap<'a, A>, InstanceError> {
        self.inner.allocate_gc_heap(ty, limiter)
    }

    fn deallocate_gc_heap(&self, heap: GcHeap<'a, A>) {
        self.inner.deallocate_gc_heap(heap);
    }

    fn purge_module(&self, module: CompiledModuleId) {
        self.inner.purge_module(module);
    }
}
