//! Modules, stores and instances for tests of `allotment::instance`.
//!
//! ```text
//!   module().memory(1, Some(3)).data(0, 100, b"hello").build()
//!     `- Arc<dyn ModuleRuntimeInfo> ──> Engine::instantiate ──> InstanceHandle
//!                                         `- Ears: a limiter that writes down what it is asked
//! ```
//!
//! In a test file: `#[path = "common/module.rs"] mod module;`, beside `mod common;`.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "every test file uses its own part")]

use alloc::{boxed::Box, string::ToString, sync::Arc, vec, vec::Vec};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use allotment::{
    CompiledModuleId, Config, Metrics, PoolingAllocationConfig,
    arch::{Arch, VirtAddr},
    instance::{
        self, ConstExpr, DataSegment, DefinedFuncIndex, ElementSegment, EntityIndex, FuncIndex, FuncRefIndex,
        FunctionBody, FunctionType, GlobalIndex, GlobalType, Imports, Instance, InstanceAllocationRequest,
        InstanceAllocator, InstanceError, InstanceHandle, LimiterError, MemoryIndex, MemoryType, Module,
        ModuleInfo, ModuleRuntimeInfo, ResourceLimiter, SegmentElements, SegmentMode, Store, StorePointers,
        StorePtr, TableIndex, TableType, VMSharedTypeIndex, ValRaw, ValType, cranelift_entity::EntityRef,
    },
};

use crate::common::{Fault, MIB, Machine, TestArch, pooled};

/// A module as an engine has it.
pub type Code = Arc<dyn ModuleRuntimeInfo>;

/// Memory `number` of a module, imports first.
pub fn memory(number: u32) -> MemoryIndex {
    MemoryIndex::from_u32(number)
}

/// Table `number` of a module, imports first.
pub fn table(number: u32) -> TableIndex {
    TableIndex::from_u32(number)
}

/// A module without anything, to be added to. Imports before definitions.
pub fn module() -> Builder {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = Some(CompiledModuleId(NEXT.fetch_add(1, Ordering::Relaxed)));
    Builder { info: ModuleInfo::default(), data: Vec::new(), id }
}

/// A module in the making. It has a number of its own unless told otherwise.
pub struct Builder {
    pub info: ModuleInfo,
    pub data: Vec<u8>,
    pub id: Option<CompiledModuleId>,
}

impl Builder {
    /// Makes it the module of that number, or of none.
    pub fn id(mut self, id: Option<u64>) -> Self {
        self.id = id.map(CompiledModuleId);
        self
    }

    /// A memory of so many pages of 64 KiB.
    pub fn memory(self, minimum: u64, maximum: Option<u64>) -> Self {
        self.memory_type(MemoryType::new(minimum, maximum))
    }

    /// A memory of any type.
    pub fn memory_type(mut self, ty: MemoryType) -> Self {
        self.info.memories.push(ty);
        self
    }

    /// An imported memory.
    pub fn import_memory(mut self, ty: MemoryType) -> Self {
        self.info.num_imported_memories += 1;
        self.memory_type(ty)
    }

    /// A table of functions.
    pub fn table(self, minimum: u64, maximum: Option<u64>) -> Self {
        self.table_type(TableType::functions(minimum, maximum))
    }

    /// A table of any type.
    pub fn table_type(mut self, ty: TableType) -> Self {
        self.info.tables.push(ty);
        self
    }

    /// An imported table.
    pub fn import_table(mut self, ty: TableType) -> Self {
        self.info.num_imported_tables += 1;
        self.table_type(ty)
    }

    /// A mutable global.
    pub fn global(mut self, content: ValType, value: ConstExpr) -> Self {
        self.info.globals.push(GlobalType { content, mutable: true });
        self.info.global_initializers.push(value);
        self
    }

    /// An imported, mutable global.
    pub fn import_global(mut self, content: ValType) -> Self {
        self.info.globals.push(GlobalType { content, mutable: true });
        self.info.num_imported_globals += 1;
        self
    }

    /// So many functions that may be referred to, of type 0.
    pub fn functions(mut self, count: usize) -> Self {
        for _ in 0..count {
            let func_ref = Some(FuncRefIndex::new(self.info.num_func_refs));
            self.info.num_func_refs += 1;
            self.info.functions.push(FunctionType { signature: VMSharedTypeIndex(0), func_ref });
        }
        self
    }

    /// An imported function that may be referred to.
    pub fn import_function(mut self) -> Self {
        self.info.num_imported_functions += 1;
        self.functions(1)
    }

    /// Bytes that are copied to a constant offset of a memory.
    pub fn data(self, memory: u32, offset: i32, bytes: &[u8]) -> Self {
        let to = ConstExpr::constant(ValRaw::i32(offset));
        self.data_segment(SegmentMode::Active(self::memory(memory), to), bytes)
    }

    /// Bytes that the module copies itself.
    pub fn passive_data(self, bytes: &[u8]) -> Self {
        self.data_segment(SegmentMode::Passive, bytes)
    }

    /// A segment of any mode.
    pub fn data_segment(mut self, mode: SegmentMode<MemoryIndex>, bytes: &[u8]) -> Self {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        self.info.data.push(DataSegment { mode, data: start..self.data.len() });
        self
    }

    /// Functions that stand in a table from a constant index on.
    pub fn elements(self, table: u32, index: i32, functions: &[u32]) -> Self {
        let to = ConstExpr::constant(ValRaw::i32(index));
        self.element_segment(SegmentMode::Active(self::table(table), to), functions)
    }

    /// Functions that the module copies itself.
    pub fn passive_elements(self, functions: &[u32]) -> Self {
        self.element_segment(SegmentMode::Passive, functions)
    }

    /// A segment of any mode.
    pub fn element_segment(mut self, mode: SegmentMode<TableIndex>, functions: &[u32]) -> Self {
        let functions = functions.iter().map(|&function| FuncIndex::from_u32(function)).collect();
        let elements = SegmentElements::Functions(functions);
        self.info.elements.push(ElementSegment { mode, elements });
        self
    }

    /// An export.
    pub fn export(mut self, name: &str, what: EntityIndex) -> Self {
        self.info.exports.insert(name.to_string(), what);
        self
    }

    /// The module, checked.
    pub fn build(self) -> Code {
        let Self { info, data, id } = self;
        let module = Module::new(info).expect("the test's module is whole");
        Arc::new(Compiled { module, data, id })
    }
}

struct Compiled {
    module: Module,
    data: Vec<u8>,
    id: Option<CompiledModuleId>,
}

// SAFETY: nothing of it changes.
unsafe impl ModuleRuntimeInfo for Compiled {
    fn module(&self) -> &Module {
        &self.module
    }

    fn unique_id(&self) -> Option<CompiledModuleId> {
        self.id
    }

    fn function(&self, index: DefinedFuncIndex) -> FunctionBody {
        body_of(self.id, index.as_u32())
    }

    fn wasm_data(&self) -> &[u8] {
        &self.data
    }
}

/// The "code" of the defined function `index` of module `id`: numbers that no other function has.
pub fn body_of(id: Option<CompiledModuleId>, index: u32) -> FunctionBody {
    let at = (1 << 40) + (id.map_or(0, |id| id.0) << 20) + u64::from(index) * 16;
    FunctionBody { wasm_call: VirtAddr(at), array_call: VirtAddr(at + 8) }
}

/// What a limiter was asked or told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Memory { current: usize, desired: usize, maximum: Option<usize> },
    Table { current: usize, desired: usize, maximum: Option<usize> },
    MemoryFailed(InstanceError),
    TableFailed(InstanceError),
}

/// A limiter that writes down what it is asked. It allows whatever its limits do.
#[derive(Debug)]
pub struct Ears {
    pub heard: Vec<Heard>,
    /// Most bytes that a memory may have.
    pub memory: usize,
    /// Most elements that a table may have.
    pub table: usize,
    /// How many memories and tables may still be made or grow.
    pub remaining: usize,
    /// What it ends the program with instead of refusing.
    pub error: Option<LimiterError>,
    /// What it ends the program with when it is told of a failure.
    pub failure: Option<LimiterError>,
}

impl Default for Ears {
    fn default() -> Self {
        let most = usize::MAX;
        Self { heard: Vec::new(), memory: most, table: most, remaining: most, error: None, failure: None }
    }
}

impl Ears {
    /// What it heard since it was asked last.
    pub fn take(&mut self) -> Vec<Heard> {
        core::mem::take(&mut self.heard)
    }

    fn decide(&mut self, heard: Heard, within: bool) -> Result<bool, LimiterError> {
        self.heard.push(heard);
        if within && self.remaining > 0 {
            self.remaining -= 1;
            return Ok(true);
        }
        self.error.map_or(Ok(false), Err)
    }

    fn failed(&mut self, heard: Heard) -> Result<(), LimiterError> {
        self.heard.push(heard);
        self.failure.map_or(Ok(()), Err)
    }
}

impl ResourceLimiter for Ears {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let within = desired <= self.memory;
        self.decide(Heard::Memory { current, desired, maximum }, within)
    }

    fn memory_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        self.failed(Heard::MemoryFailed(*error))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let within = desired <= self.table;
        self.decide(Heard::Table { current, desired, maximum }, within)
    }

    fn table_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        self.failed(Heard::TableFailed(*error))
    }
}

/// A store whose limiter writes down what it is asked.
#[derive(Debug, Default)]
pub struct TestStore {
    pub ears: Ears,
    pub pointers: StorePointers,
}

impl Store for TestStore {
    fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
        Some(&mut self.ears)
    }

    fn pointers(&self) -> StorePointers {
        self.pointers
    }
}

/// An instance allocator, as an engine holds it, on some machine.
pub struct Engine<'a, A: TestArch> {
    pub m: &'a Machine<A>,
    pub instances: Box<dyn InstanceAllocator<'a, A> + 'a>,
}

impl<'a, A: TestArch> Engine<'a, A> {
    /// By the strategy that the machine is configured for.
    pub fn new(m: &'a Machine<A>) -> Self {
        Self { m, instances: instance::build(&m.allocator).expect("the test's instances fit") }
    }

    /// The same, with frames for a page of each context of a pool: those stay with it, and would be
    /// missing in [`counts`](Self::counts) after its first instance.
    pub fn settled(m: &'a Machine<A>) -> Self {
        let engine = Self::new(m);
        let code = module().id(None).build();
        let mut held = Vec::new();
        while let Some(instance) = engine.pools().then(|| engine.instantiate(&code).ok()).flatten() {
            held.push(instance);
        }
        held.into_iter().for_each(|instance| engine.end(instance));
        engine
    }

    /// Whether it has pools.
    pub fn pools(&self) -> bool {
        self.m.allocator.pooling_allocator_metrics().is_some()
    }

    /// Allocates and initialises an instance without imports, in no store.
    pub fn instantiate(&self, code: &Code) -> Result<InstanceHandle<'a, A>, InstanceError> {
        self.instantiate_with(code, Imports::none(), None)
    }

    /// The same, in a store.
    pub fn instantiate_in(
        &self,
        store: &mut TestStore,
        code: &Code,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        self.instantiate_with(code, Imports::none(), Some(store))
    }

    /// Allocates and initialises an instance. One whose segments do not fit is given back.
    pub fn instantiate_with(
        &self,
        code: &Code,
        imports: Imports<'_>,
        store: Option<&mut TestStore>,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        let mut handle = self.allocate(code, imports, store)?;
        if let Err(error) = handle.initialize() {
            self.end(handle);
            return Err(error);
        }
        Ok(handle)
    }

    /// Allocates an instance.
    pub fn allocate(
        &self,
        code: &Code,
        imports: Imports<'_>,
        store: Option<&mut TestStore>,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        let store = store.map_or_else(StorePtr::empty, |store| {
            // SAFETY: the store is borrowed for longer than the request lives.
            unsafe { StorePtr::new(NonNull::from(store)) }
        });
        let host_state = Box::new(());
        self.instances.allocate(InstanceAllocationRequest { runtime_info: code, imports, host_state, store })
    }

    /// Takes an instance back.
    pub fn end(&self, handle: InstanceHandle<'a, A>) {
        // SAFETY: no test uses an instance after this, or one that imports from it.
        unsafe { self.instances.deallocate(handle) };
    }

    /// The address of a byte of a memory, as code would compute it.
    pub fn address(&self, instance: &Instance<'a, A>, memory: MemoryIndex, offset: u64) -> VirtAddr {
        let base = instance.memory_definition(memory).expect("there is that memory").base;
        VirtAddr(base.0.wrapping_add(offset))
    }

    /// Loads a byte as running code would, which relies on guards.
    pub fn load(&self, instance: &Instance<'a, A>, offset: u64) -> Result<u8, Fault> {
        self.m.load_at(self.address(instance, memory(0), offset))
    }

    /// Stores a byte as running code would, which relies on guards.
    pub fn store(&self, instance: &Instance<'a, A>, offset: u64, byte: u8) -> Result<(), Fault> {
        self.m.store_at(self.address(instance, memory(0), offset), byte)
    }

    /// All that is counted and has to be as before once everything is given back. Frames that warm
    /// slots keep are available. Of an engine that is [`settled`](Self::settled).
    pub fn counts(&self) -> [usize; 8] {
        let Metrics { memories, free_memories, tables, stacks, gc_heaps, regions, available_frames, .. } =
            self.m.allocator.metrics();
        let pooling = self.m.allocator.pooling_allocator_metrics();
        let live = pooling.map_or(0, |pooling| pooling.core_instances);
        let live = usize::try_from(live).expect("a count of instances");
        [memories, free_memories, tables, stacks, gc_heaps, regions, available_frames, live]
    }
}

/// Bytes of a memory of the instance.
pub fn bytes<A: Arch>(instance: &Instance<'_, A>, memory: MemoryIndex, from: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    instance.read_memory(memory, from, &mut bytes).expect("the bytes are in bounds");
    bytes
}

/// Runs a case with pools, and with everything made on demand.
pub fn by_either_strategy<A: TestArch>(pool: PoolingAllocationConfig, case: impl Fn(&Engine<'_, A>)) {
    for config in [pooled(pool), Config::new()] {
        let m = Machine::<A>::new(&config, 8 * MIB);
        case(&Engine::settled(&m));
    }
}
