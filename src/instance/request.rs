//! What an instance is made from.

use alloc::{boxed::Box, sync::Arc};
use core::{any::Any, fmt, marker::PhantomData, ptr::NonNull};

use allotment_arch::VirtAddr;

use super::{
    DefinedFuncIndex, InstanceError, Module, ResourceLimiter, VMFunctionImport, VMGlobalImport,
    VMMemoryImport, VMSharedTypeIndex, VMTableImport,
};
use crate::CompiledModuleId;

/// Code of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionBody {
    /// Its entry by the convention of compiled code. Whatever an engine calls
    /// functions by: an interpreter may put a number here.
    pub wasm_call: VirtAddr,
    /// Its entry with arguments in an array, for hosts.
    pub array_call: VirtAddr,
}

/// A compiled module, as instances need it while they live.
///
/// # Safety
///
/// `module` and `type_ids` give the same each time, `type_ids` also at the same
/// address: what a context holds is read again by the places that the module says.
/// Two with the same `unique_id` are the same module, unless the first was purged
/// before the second came.
pub unsafe trait ModuleRuntimeInfo: Send + Sync + 'static {
    /// What it consists of.
    fn module(&self) -> &Module;

    /// The number by which its instances get the slots again that they had before,
    /// and by which fault reports name it. With `None` any slot will do.
    fn unique_id(&self) -> Option<CompiledModuleId>;

    /// Code of a function: asked when a reference to it is first filled in.
    fn function(&self, index: DefinedFuncIndex) -> FunctionBody;

    /// The bytes that data segments are ranges of.
    fn wasm_data(&self) -> &[u8];

    /// The types that its code compares those of functions with. Each context holds
    /// the address of the first one.
    fn type_ids(&self) -> &[VMSharedTypeIndex] {
        &[]
    }
}

/// What an engine's store gives to the instances in it.
pub trait Store {
    /// Who is asked before memories and tables are made.
    fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
        None
    }

    /// Addresses for the fixed part of each context.
    fn pointers(&self) -> StorePointers {
        StorePointers::default()
    }
}

/// Addresses that compiled code finds in the fixed part of a
/// [`VMContext`](super::VMContext). Allotment looks at none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorePointers {
    /// The store's context: stack limit, fuel and the like.
    pub store_context: VirtAddr,
    /// The array of built-in functions.
    pub builtin_functions: VirtAddr,
    /// The epoch counter.
    pub epoch: VirtAddr,
    /// The definition of the GC heap.
    pub gc_heap: VirtAddr,
}

/// A store, or none, for one request. The [book](super#who-limits) has an example.
#[derive(Default)]
pub struct StorePtr<'a> {
    /// A reference would not let a request of a longer life be used for a shorter one.
    store: Option<NonNull<dyn Store + 'a>>,
    borrowed: PhantomData<&'a mut ()>,
}

impl<'a> StorePtr<'a> {
    /// No store: nobody limits, and the pointers are 0.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// That store, which is nobody else's until the request is done with.
    #[must_use]
    pub fn new(store: &'a mut (dyn Store + 'a)) -> Self {
        Self { store: Some(NonNull::from(store)), borrowed: PhantomData }
    }

    /// The store.
    pub fn get(&mut self) -> Option<&mut (dyn Store + 'a)> {
        // SAFETY: `new` borrowed it for as long as this lives, and only one borrow of this leads to it.
        self.store.map(|mut store| unsafe { store.as_mut() })
    }

    /// Who is asked before memories and tables are made.
    pub fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
        self.get()?.limiter()
    }
}

impl fmt::Debug for StorePtr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StorePtr").field(&self.store.map(NonNull::cast::<()>)).finish()
    }
}

/// What a module's imports are resolved to, in the order of its index spaces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Imports<'a> {
    functions: &'a [VMFunctionImport],
    tables: &'a [VMTableImport],
    memories: &'a [VMMemoryImport],
    globals: &'a [VMGlobalImport],
}

impl<'a> Imports<'a> {
    /// Nothing is imported.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// These. [`Instance::lookup`](super::Instance::lookup) gives what an instance
    /// exports in this form.
    ///
    /// # Safety
    ///
    /// * Each one is an export of a live instance of the same core allocator, of the
    ///   type that the module declares. Functions may be of the engine's own, and
    ///   shared memories [`SharedMemory::import`](super::SharedMemory::import).
    /// * That instance, or some clone of that shared memory, outlives every one that
    ///   imports from it.
    /// * No two CPUs use instances at the same time of which one imports from the
    ///   other, or both from a third, unless all that is imported is shared memories.
    /// * During a call of a method of an instance nobody holds a reference to another
    ///   one that it imports from, or to what that gave by reference; nor does a
    ///   limiter that the call is given use such an instance.
    #[must_use]
    pub unsafe fn new(
        functions: &'a [VMFunctionImport],
        tables: &'a [VMTableImport],
        memories: &'a [VMMemoryImport],
        globals: &'a [VMGlobalImport],
    ) -> Self {
        Self { functions, tables, memories, globals }
    }

    /// Functions.
    #[must_use]
    pub fn functions(&self) -> &'a [VMFunctionImport] {
        self.functions
    }

    /// Tables.
    #[must_use]
    pub fn tables(&self) -> &'a [VMTableImport] {
        self.tables
    }

    /// Memories.
    #[must_use]
    pub fn memories(&self) -> &'a [VMMemoryImport] {
        self.memories
    }

    /// Globals.
    #[must_use]
    pub fn globals(&self) -> &'a [VMGlobalImport] {
        self.globals
    }

    /// Refuses other numbers than the module declares.
    pub(super) fn check(&self, module: &Module) -> Result<(), InstanceError> {
        let all = [
            ("functions", module.num_imported_functions, self.functions.len()),
            ("tables", module.num_imported_tables, self.tables.len()),
            ("memories", module.num_imported_memories, self.memories.len()),
            ("globals", module.num_imported_globals, self.globals.len()),
        ];
        match all.into_iter().find(|(_, declared, given)| declared != given) {
            Some((what, declared, given)) => Err(InstanceError::Imports { what, declared, given }),
            None => Ok(()),
        }
    }
}

/// What [`InstanceAllocator::allocate`](super::InstanceAllocator::allocate) makes
/// an instance from.
pub struct InstanceAllocationRequest<'a> {
    /// The module, kept while the instance lives. One and the same for all of its
    /// instances.
    pub runtime_info: &'a Arc<dyn ModuleRuntimeInfo>,
    /// What its imports are.
    pub imports: Imports<'a>,
    /// Whatever the engine wants to find in the instance again. A box of a type
    /// without size takes no heap.
    pub host_state: Box<dyn Any + Send + Sync>,
    /// The store that it will be in. Nobody looks at it after
    /// [`allocate`](super::InstanceAllocator::allocate).
    pub store: StorePtr<'a>,
}

impl fmt::Debug for InstanceAllocationRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceAllocationRequest")
            .field("module", &self.runtime_info.unique_id())
            .field("imports", &self.imports)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
