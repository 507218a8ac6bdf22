//! An instance: what belongs to it, and its context.

use alloc::{boxed::Box, sync::Arc};
use core::{any::Any, cell::Cell, fmt, marker::PhantomData, mem::offset_of};

use allotment_arch::{Arch, Native, VirtAddr};
use cranelift_entity::{EntityRef, PrimaryMap};

use super::{
    DefinedMemoryIndex, DefinedTableIndex, FuncIndex, GlobalIndex, InstanceError, InstanceIndex, Memory,
    MemoryIndex, Module, ModuleRuntimeInfo, Table, TableIndex, VMContext, VMFuncRef, VMFunctionImport,
    VMGlobalDefinition, VMGlobalImport, VMMemoryDefinition, VMMemoryImport, VMTableImport, ValRaw,
};
use crate::{Allocator, CompiledModuleId, Error};

/// An instance, reached through its [`InstanceHandle`](super::InstanceHandle).
///
/// What compiled code sees of it is its VMContext, in accessible pages of the
/// window. Everything else stands here, where no wasm reaches: the maps of
/// memories and tables, the module, the engine's own.
///
/// Its methods take indices of its module, imports first, and work on what is
/// imported too. None panics. Besides those that it names, each may give
/// [`InstanceError::NotFound`] of an index that the module does not have, and
/// [`Error::Inaccessible`] where the window cannot be read or written: that is a
/// bug of whoever edits its page tables, or of a context that is not zeros.
///
/// It has no size that is known to the compiler, so that nobody exchanges two of
/// them: its context, and those of instances that import from it, say where it is.
///
/// ```compile_fail,E0277
/// use allotment::instance::InstanceHandle;
///
/// fn exchange(first: &mut InstanceHandle<'_>, second: &mut InstanceHandle<'_>) {
///     core::mem::swap(&mut **first, &mut **second);
/// }
/// ```
pub struct Instance<'a, A: Arch = Native, End: ?Sized = [()]> {
    pub(super) allocator: &'a Allocator<A>,
    pub(super) index: InstanceIndex,
    /// Where the context is, and for how many bytes it may be written.
    pub(super) vmctx: VirtAddr,
    pub(super) vmctx_capacity: usize,
    pub(super) memories: PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    pub(super) tables: PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    /// Which module it is one of, or was: for that one the maps may hold what is
    /// dormant.
    pub(super) module_id: Option<CompiledModuleId>,
    /// There while the instance lives.
    pub(super) life: Option<Life>,
    /// Who asks for a function's reference fills it in: one CPU at a time.
    pub(super) not_sync: PhantomData<Cell<()>>,
    /// Nothing, however many of it.
    pub(super) _end: End,
}

/// An instance as it is made, and as its address says no more than where it is.
pub(super) type SizedInstance<'a, A = Native> = Instance<'a, A, [(); 0]>;

/// What an instance has while it lives.
pub(super) struct Life {
    pub(super) runtime_info: Arc<dyn ModuleRuntimeInfo>,
    pub(super) host_state: Box<dyn Any + Send + Sync>,
}

impl<'a, A: Arch> Instance<'a, A> {
    /// Room for an instance, with its context at `vmctx`, of at most `vmctx_capacity`
    /// bytes; its maps have room for so many memories and tables.
    ///
    /// # Errors
    ///
    /// [`InstanceError::OutOfHeap`] when the maps find no room.
    ///
    /// # Safety
    ///
    /// `[vmctx, vmctx + vmctx_capacity)` is accessible, 16-aligned, holds zeros, and is
    /// this instance's alone as long as it exists.
    pub unsafe fn new(
        allocator: &'a Allocator<A>,
        index: InstanceIndex,
        vmctx: VirtAddr,
        vmctx_capacity: usize,
        memories: usize,
        tables: usize,
    ) -> Result<Box<Self>, InstanceError> {
        Ok(Box::new(SizedInstance {
            allocator,
            index,
            vmctx,
            vmctx_capacity,
            memories: map_with_capacity(memories)?,
            tables: map_with_capacity(tables)?,
            module_id: None,
            life: None,
            not_sync: PhantomData,
            _end: [],
        }))
    }

    /// Whose it is, by the number that [`allocate_index`] gave.
    ///
    /// [`allocate_index`]: super::InstanceAllocator::allocate_index
    #[must_use]
    pub fn index(&self) -> InstanceIndex {
        self.index
    }

    /// Address of its context, for compiled code.
    #[must_use]
    #[inline]
    pub fn vmctx(&self) -> VirtAddr {
        self.vmctx
    }

    /// Bytes that its context may have.
    #[must_use]
    pub fn vmctx_capacity(&self) -> usize {
        self.vmctx_capacity
    }

    /// The module that it is one of.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] between instances: no engine sees it then.
    #[inline]
    pub fn module(&self) -> Result<&Module, InstanceError> {
        Ok(self.runtime_info()?.module())
    }

    /// The module, as the engine gave it.
    ///
    /// # Errors
    ///
    /// As for [`module`](Self::module).
    #[inline]
    pub fn runtime_info(&self) -> Result<&Arc<dyn ModuleRuntimeInfo>, InstanceError> {
        let life = self.life.as_ref();
        life.map(|life| &life.runtime_info).ok_or(Error::Stale { slot: self.index.0 }.into())
    }

    /// What the request brought; `None` between instances.
    #[must_use]
    pub fn host_state(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.life.as_ref().map(|life| &*life.host_state)
    }

    /// The same, to change it.
    #[must_use]
    pub fn host_state_mut(&mut self) -> Option<&mut (dyn Any + Send + Sync)> {
        self.life.as_mut().map(|life| &mut *life.host_state)
    }

    /// The memories that it defines.
    #[must_use]
    pub fn memories(&self) -> &PrimaryMap<DefinedMemoryIndex, Memory<'a, A>> {
        &self.memories
    }

    /// The tables that it defines.
    #[must_use]
    pub fn tables(&self) -> &PrimaryMap<DefinedTableIndex, Table<'a, A>> {
        &self.tables
    }

    /// Must run on the CPU that goes on with the instance, when another one worked
    /// with it before: [`Allocator::arrive`] for all memories and tables that it
    /// defines. What it imports arrives with the instances that define it; a stack
    /// and a GC heap arrive by themselves.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] of what was deallocated behind its back.
    pub fn arrive(&self) -> Result<(), InstanceError> {
        for memory in self.memories.values() {
            match memory {
                Memory::Static { memory, .. } => self.allocator.arrive(&memory.0)?,
                // Whoever made it; another's is in no range of ours.
                Memory::Dynamic { memory, .. } => {
                    self.allocator.arrive_at(VirtAddr(memory.base().as_ptr() as u64))?;
                }
                // Nothing of it is replaced.
                Memory::Shared(_) => {}
            }
        }
        for table in self.tables.values() {
            table.arrive(self.allocator)?;
        }
        Ok(())
    }

    /// The embedder's word in the context, 0 at first: by it, functions that code
    /// calls back find what belongs to the instance.
    ///
    /// # Errors
    ///
    /// [`Error::Inaccessible`].
    pub fn embedder(&self) -> Result<u64, InstanceError> {
        self.get(offset_of!(VMContext, embedder))
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// [`Error::Inaccessible`].
    pub fn set_embedder(&mut self, word: u64) -> Result<(), InstanceError> {
        self.put(offset_of!(VMContext, embedder), word)
    }

    /// A memory as compiled code sees it, also an imported one.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn memory_definition(&self, index: MemoryIndex) -> Result<VMMemoryDefinition, InstanceError> {
        // SAFETY: definitions of live instances are accessible, by `Imports::new`.
        Ok(unsafe { self.allocator.read(self.memory_import(index)?.from) }?)
    }

    /// What somebody is told who imports that memory.
    pub(super) fn memory_import(&self, index: MemoryIndex) -> Result<VMMemoryImport, InstanceError> {
        let module = self.module()?;
        exists("memory", index, module.memories.len())?;
        let offsets = module.offsets();
        match module.defined_memory(index) {
            None => self.get(offsets.imported_memory(index)),
            Some(defined) => {
                let from = self.get(offsets.memory_address(defined))?;
                Ok(VMMemoryImport { from, vmctx: self.vmctx, index: defined.as_u32(), reserved: 0 })
            }
        }
    }

    /// What somebody is told who imports that table.
    pub(super) fn table_import(&self, index: TableIndex) -> Result<VMTableImport, InstanceError> {
        let module = self.module()?;
        exists("table", index, module.tables.len())?;
        let offsets = module.offsets();
        match module.defined_table(index) {
            None => self.get(offsets.imported_table(index)),
            Some(defined) => {
                let from = self.vmctx.offset(offsets.table(defined));
                Ok(VMTableImport { from, vmctx: self.vmctx, index: defined.as_u32(), reserved: 0 })
            }
        }
    }

    /// Where the definition of a global is.
    pub(super) fn global_import(&self, index: GlobalIndex) -> Result<VMGlobalImport, InstanceError> {
        let module = self.module()?;
        exists("global", index, module.globals.len())?;
        let offsets = module.offsets();
        match module.defined_global(index) {
            None => self.get(offsets.imported_global(index)),
            Some(defined) => Ok(VMGlobalImport { from: self.vmctx.offset(offsets.global(defined)) }),
        }
    }

    /// The value of a global, also of an imported one: the 16 bytes that were set
    /// last, by whomever. Those of its type are the low ones.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn global(&self, index: GlobalIndex) -> Result<ValRaw, InstanceError> {
        let from = self.global_import(index)?.from;
        // SAFETY: definitions of live instances are accessible, by `Imports::new`.
        let VMGlobalDefinition(bytes) = unsafe { self.allocator.read(from) }?;
        Ok(ValRaw(u128::from_le_bytes(bytes)))
    }

    /// Sets a global, also an imported one. Whether it is mutable, and of that type,
    /// is the engine's to know.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn set_global(&mut self, index: GlobalIndex, value: ValRaw) -> Result<(), InstanceError> {
        let from = self.global_import(index)?.from;
        // SAFETY: as above; by the same no other CPU uses it now.
        Ok(unsafe { self.allocator.write(from, VMGlobalDefinition(value.0.to_le_bytes())) }?)
    }

    /// The address of a function's [`VMFuncRef`], which is filled in now at the
    /// latest; the same as long as the instance lives.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`] if there is no such function, or it may not be
    /// referred to.
    pub fn func_ref(&self, index: FuncIndex) -> Result<VirtAddr, InstanceError> {
        let info = self.runtime_info()?;
        let module = info.module();
        exists("function", index, module.functions.len())?;
        let ty = module.functions[index];
        let place = ty
            .func_ref
            .ok_or(InstanceError::NotFound { what: "reference to function", index: index.index() })?;
        let offset = module.offsets().func_ref(place);
        if self.get::<u32>(offset + offset_of!(VMFuncRef, filled))? != 0 {
            return Ok(self.vmctx.offset(offset));
        }
        let (wasm_call, array_call, vmctx) = match module.defined_function(index) {
            Some(defined) => {
                let body = info.function(defined);
                (body.wasm_call, body.array_call, self.vmctx)
            }
            None => {
                let import: VMFunctionImport = self.get(module.offsets().imported_function(index))?;
                (import.wasm_call, import.array_call, import.vmctx)
            }
        };
        let reference = VMFuncRef { array_call, wasm_call, type_index: ty.signature.0, filled: 1, vmctx };
        self.put(offset, reference)?;
        Ok(self.vmctx.offset(offset))
    }

    /// What a reference says, of any instance of the same core.
    ///
    /// # Errors
    ///
    /// [`Error::Inaccessible`].
    ///
    /// # Safety
    ///
    /// `reference` came from [`func_ref`](Self::func_ref) of an instance that lives,
    /// or is one of the engine's own.
    pub unsafe fn read_func_ref(&self, reference: VirtAddr) -> Result<VMFuncRef, InstanceError> {
        // SAFETY: by this function's contract.
        Ok(unsafe { self.allocator.read(reference) }?)
    }
}

/// Refuses an index that is not below `count`.
pub(super) fn exists(what: &'static str, index: impl EntityRef, count: usize) -> Result<(), InstanceError> {
    let index = index.index();
    if index < count { Ok(()) } else { Err(InstanceError::NotFound { what, index }) }
}

fn map_with_capacity<K: EntityRef, V>(capacity: usize) -> Result<PrimaryMap<K, V>, InstanceError> {
    let mut values = alloc::vec::Vec::new();
    let bytes = capacity.saturating_mul(size_of::<V>());
    values.try_reserve_exact(capacity).map_err(|_| InstanceError::OutOfHeap { bytes })?;
    Ok(PrimaryMap::from(values))
}

impl<A: Arch> fmt::Debug for Instance<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("index", &self.index)
            .field("vmctx", &self.vmctx)
            .field("memories", &self.memories)
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}
