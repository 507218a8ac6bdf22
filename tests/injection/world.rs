//! What the cases share: a module, a store that refuses, counts, and a look at
//! everything that a new instance can see.

use alloc::{boxed::Box, sync::Arc, vec, vec::Vec};
use core::ptr::NonNull;

use allotment::{
    CompiledModuleId, Config,
    arch::VirtAddr,
    instance::{
        self, ConstExpr, DataSegment, DefinedFuncIndex, ElementSegment, FuncIndex, FuncRefIndex,
        FunctionBody, FunctionType, GlobalIndex, GlobalType, Imports, Instance, InstanceAllocationRequest,
        InstanceAllocator, InstanceError, InstanceHandle, LimiterError, MemoryIndex, MemoryType, Module,
        ModuleInfo, ModuleRuntimeInfo, ResourceLimiter, SegmentElements, SegmentMode, Store, StorePtr,
        TableElement, TableElementType, TableIndex, TableType, VMContext, VMSharedTypeIndex, ValRaw, ValType,
        cranelift_entity::EntityRef,
    },
};

use crate::common::{MIB, Machine, PAGE, TestArch, pool, pooled};

/// An allocator as an engine holds it.
pub(crate) type Engine<'a, A> = Box<dyn InstanceAllocator<'a, A> + 'a>;

/// What half-made instances are filled with.
pub(crate) const MARK: u8 = 0xee;
/// Instances that the pools have room for.
pub(crate) const INSTANCES: usize = 2;
/// Memories, and tables, of an instance of [`module`].
pub(crate) const EACH: usize = 2;
const FUNCTIONS: usize = 3;

/// A module, as an engine that compiled it keeps it.
pub(crate) struct Code {
    pub(crate) module: Module,
    pub(crate) id: u64,
    pub(crate) data: Vec<u8>,
}

/// Where a function's code would be.
pub(crate) fn entry(function: usize) -> VirtAddr {
    VirtAddr(0x10_0000 + 0x100 * function as u64)
}

// SAFETY: both are what they are.
unsafe impl ModuleRuntimeInfo for Code {
    fn module(&self) -> &Module {
        &self.module
    }
    fn unique_id(&self) -> Option<CompiledModuleId> {
        Some(CompiledModuleId(self.id))
    }
    fn function(&self, index: DefinedFuncIndex) -> FunctionBody {
        FunctionBody { wasm_call: entry(index.index()), array_call: entry(index.index()).offset(8) }
    }
    fn wasm_data(&self) -> &[u8] {
        &self.data
    }
}

pub(crate) fn code(info: ModuleInfo, id: u64, data: Vec<u8>) -> Arc<dyn ModuleRuntimeInfo> {
    Arc::new(Code { module: Module::new(info).expect("it is whole"), id, data })
}

/// Two memories, two tables of either kind, a global, and segments for all.
pub(crate) fn description() -> ModuleInfo {
    let mut info = ModuleInfo::default();
    for number in 0..FUNCTIONS {
        let func_ref = Some(FuncRefIndex::new(number));
        info.functions.push(FunctionType { signature: VMSharedTypeIndex(7), func_ref });
    }
    info.num_func_refs = FUNCTIONS;
    for minimum in 1..=EACH as u64 {
        info.memories.push(MemoryType::new(minimum, Some(3)));
    }
    info.tables.push(TableType::functions(600, Some(1000)));
    info.tables.push(TableType { element: TableElementType::GcRef, minimum: 20, maximum: Some(1000) });
    info.globals.push(GlobalType { content: ValType::I64, mutable: true });
    info.global_initializers.push(ConstExpr::constant(ValRaw::i64(-7)));
    for memory in 0..EACH {
        info.data.push(data_at(memory, 100, 0..5));
    }
    info.elements.push(functions_at(3, &[0, 2]));
    info
}

/// A segment for a memory.
pub(crate) fn data_at(memory: usize, offset: i32, data: core::ops::Range<usize>) -> DataSegment {
    let mode = SegmentMode::Active(MemoryIndex::new(memory), ConstExpr::constant(ValRaw::i32(offset)));
    DataSegment { mode, data }
}

/// A segment for the table of functions.
pub(crate) fn functions_at(offset: i32, functions: &[usize]) -> ElementSegment {
    let mode = SegmentMode::Active(TableIndex::new(0), ConstExpr::constant(ValRaw::i32(offset)));
    let functions = functions.iter().map(|&number| FuncIndex::new(number)).collect();
    ElementSegment { mode, elements: SegmentElements::Functions(functions) }
}

/// The usual module.
pub(crate) fn module() -> Arc<dyn ModuleRuntimeInfo> {
    code(description(), 1, b"hello".to_vec())
}

/// Pools with room for so many instances of the usual module, which share frames,
/// and the same on demand.
pub(crate) fn both() -> [Config; 2] {
    [pools(), on_demand()]
}

pub(crate) fn pools() -> Config {
    let pools = pool(INSTANCES * EACH, MIB)
        .total_tables(INSTANCES * EACH)
        .table_elements(1000)
        .total_core_instances(INSTANCES)
        .max_memories_per_module(2)
        .max_tables_per_module(2)
        .max_core_instance_size(2 * PAGE);
    pooled(pools).region_space(1 << 30)
}

pub(crate) fn on_demand() -> Config {
    Config::new().memory_reservation(4 * MIB).region_space(1 << 30)
}

/// Runs a case with either strategy.
pub(crate) fn each_strategy<A: TestArch>(case: impl for<'a> Fn(&'a Machine<A>, &Engine<'a, A>)) {
    for config in both() {
        let m = Machine::<A>::new(&config, 6 * MIB);
        case(&m, &instance::build(&m.allocator).unwrap());
    }
}

/// An instance, without a store.
pub(crate) fn allocate<'a, A: TestArch>(
    engine: &(dyn InstanceAllocator<'a, A> + '_),
    code: &Arc<dyn ModuleRuntimeInfo>,
) -> Result<InstanceHandle<'a, A>, InstanceError> {
    allocate_in(engine, code, StorePtr::empty())
}

pub(crate) fn allocate_in<'a, A: TestArch>(
    engine: &(dyn InstanceAllocator<'a, A> + '_),
    code: &Arc<dyn ModuleRuntimeInfo>,
    store: StorePtr<'_>,
) -> Result<InstanceHandle<'a, A>, InstanceError> {
    engine.allocate(InstanceAllocationRequest {
        runtime_info: code,
        imports: Imports::none(),
        host_state: Box::new(()),
        store,
    })
}

pub(crate) fn deallocate<'a, A: TestArch>(
    engine: &(dyn InstanceAllocator<'a, A> + '_),
    handle: InstanceHandle<'a, A>,
) {
    // SAFETY: nobody uses it, and nobody imports from it.
    unsafe { engine.deallocate(handle) };
}

/// A store whose limiter counts, and refuses once.
#[derive(Default)]
pub(crate) struct Limited {
    /// How often it was asked.
    pub(crate) asked: usize,
    /// What it was told of growth that failed.
    pub(crate) told: Vec<InstanceError>,
    /// The ask that it refuses, and how.
    pub(crate) refuse: Option<(usize, Result<bool, LimiterError>)>,
}

pub(crate) const REFUSED: LimiterError = LimiterError("not one more");

impl Limited {
    pub(crate) fn at(ask: usize, how: Result<bool, LimiterError>) -> Self {
        Self { refuse: Some((ask, how)), ..Self::default() }
    }

    /// For one request.
    pub(crate) fn store(&mut self) -> StorePtr<'_> {
        StorePtr::new(self)
    }

    fn ask(&mut self) -> Result<bool, LimiterError> {
        self.asked += 1;
        match self.refuse {
            Some((ask, how)) if ask + 1 == self.asked => how,
            _ => Ok(true),
        }
    }
}

impl Store for Limited {
    fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
        Some(self)
    }
}

impl ResourceLimiter for Limited {
    fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        self.ask()
    }
    fn memory_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        self.told.push(*error);
        Ok(())
    }
    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        self.ask()
    }
    fn table_grow_failed(&mut self, error: &InstanceError) -> Result<(), LimiterError> {
        self.told.push(*error);
        Ok(())
    }
}

/// Where [`counts`] has the available frames.
pub(crate) const AVAILABLE: usize = 6;

/// All that is counted, but for what slots keep while they are free: others may
/// have needed that.
pub(crate) fn counts<A: TestArch>(m: &Machine<A>) -> [usize; 7] {
    let all = m.allocator.metrics();
    let live = m.allocator.pooling_allocator_metrics().map_or(0, |all| all.core_instances);
    let live = usize::try_from(live).unwrap();
    let [memories, tables] = [all.memories, all.tables];
    [live, memories, all.free_memories, tables, all.regions, all.largest_free_region, all.available_frames]
}

/// What slots keep while they are free, too.
pub(crate) fn all_counts<A: TestArch>(m: &Machine<A>) -> ([usize; 7], [u32; 2], [usize; 3]) {
    let idle = m.allocator.metrics().idle_frames;
    let Some(kept) = m.allocator.pooling_allocator_metrics() else {
        return (counts(m), [0; 2], [idle, 0, 0]);
    };
    let resident = [idle, kept.unused_memory_bytes_resident, kept.unused_table_bytes_resident];
    (counts(m), [kept.unused_warm_memories, kept.unused_warm_tables], resident)
}

/// Makes as many instances as there can be, of as many pages, writes to all of these,
/// and takes them back: from then on all slots keep what they ever will, and so do
/// contexts.
pub(crate) fn warm_up<'a, A: TestArch + 'a>(
    engine: &(dyn InstanceAllocator<'a, A> + '_),
    code: &Arc<dyn ModuleRuntimeInfo>,
) {
    let mut all = [(); INSTANCES].map(|()| allocate(engine, code).unwrap());
    for handle in &mut all {
        for memory in (0..EACH).map(MemoryIndex::new) {
            let more = 3 - handle.memory_size(memory).unwrap();
            handle.memory_grow(memory, more, None).unwrap().expect("there are frames");
            handle.memory_fill(memory, 0, MARK, 3 << 16).unwrap();
        }
    }
    all.into_iter().for_each(|handle| deallocate(engine, handle));
}

/// Has memories of each size of the usual module share zeros, in slots that nobody used:
/// the tables of that are made for each size, once, and stay. No slot is used then.
pub(crate) fn share_zeros<A: TestArch>(m: &Machine<A>) {
    let slots = m.allocator.metrics().free_memories;
    let image = m.allocator.build_image(0, PAGE, |_, bytes| bytes.fill(MARK)).unwrap();
    for pages in [3, 2, 1, 0] {
        let memory = |_| match pages {
            // A slot that showed an image which is gone is as if nobody had used it.
            0 => m.allocator.allocate_memory_from(&image, PAGE).unwrap(),
            _ => m.allocator.allocate_memory(pages << 16).unwrap(),
        };
        let all: Vec<_> = (0..slots).map(memory).collect();
        all.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    }
}

/// Writes to all that a module could write to, at once and without asking.
pub(crate) fn mark<A: TestArch>(m: &Machine<A>, base: VirtAddr, bytes: usize) {
    for at in (0..bytes).step_by(2048).chain(bytes.checked_sub(1)) {
        m.store_at(base.offset(at), MARK).expect("it is accessible");
    }
}

/// Looks at all that a new instance can see before it is initialised.
pub(crate) fn assert_pristine<A: TestArch>(m: &Machine<A>, instance: &mut Instance<'_, A>) {
    let (memories, tables, globals) = {
        let module = instance.module().unwrap();
        (module.memories.len(), module.tables.len(), module.globals.len())
    };
    for index in (0..memories).map(MemoryIndex::new) {
        let length = instance.memory_definition(index).unwrap().current_length;
        let mut bytes = vec![MARK; usize::try_from(length).unwrap()];
        instance.read_memory(index, 0, &mut bytes).unwrap();
        assert_eq!(bytes.iter().position(|&byte| byte != 0), None, "{index:?}");
    }
    for index in (0..tables).map(TableIndex::new) {
        let table = &instance.tables()[index.index().into_defined()];
        let (base, bytes) = (table.vmtable().base, table.size() * table.ty().element.size() as u64);
        for at in 0..bytes {
            assert_eq!(m.load_at(VirtAddr(base.0 + at)), Ok(0), "byte {at} of {index:?}");
        }
    }
    for index in (0..globals).map(GlobalIndex::new) {
        assert_eq!(instance.global(index), Ok(ValRaw::default()), "{index:?}");
    }
    let offsets = *instance.module().unwrap().offsets();
    let capacity = instance.vmctx_capacity();
    let mut context = vec![MARK; capacity];
    // SAFETY: so many bytes are accessible, and there is room for them.
    let read = unsafe {
        m.allocator.arch().read_bytes(instance.vmctx(), NonNull::from(&mut context[..]).cast(), capacity)
    };
    read.expect("a context is accessible");
    // Beyond the fixed part and what says where memories and tables are.
    let first = match tables {
        0 => size_of::<VMContext>(),
        _ => offsets.table((tables - 1).into_defined()) + 16,
    };
    let written = context[first..].iter().position(|&byte| byte != 0);
    assert_eq!(written, None, "byte of the context, counted from {first}");
}

/// An index by its number.
pub(crate) trait IntoDefined {
    fn into_defined<I: EntityRef>(self) -> I;
}

impl IntoDefined for usize {
    fn into_defined<I: EntityRef>(self) -> I {
        I::new(self)
    }
}

/// That the usual module works: a twin for whatever failed.
pub(crate) fn works<'a, A: TestArch + 'a>(
    m: &Machine<A>,
    engine: &(dyn InstanceAllocator<'a, A> + '_),
    code: &Arc<dyn ModuleRuntimeInfo>,
) {
    let mut handle = allocate(engine, code).expect("nothing fails now");
    assert_pristine(m, &mut handle);
    handle.initialize().unwrap();
    for memory in (0..EACH).map(MemoryIndex::new) {
        let size = handle.memory_size(memory).unwrap();
        assert_eq!(handle.memory_grow(memory, 3 - size, None), Ok(Some(size)));
        let mut bytes = vec![MARK; 3 << 16];
        handle.read_memory(memory, 0, &mut bytes).unwrap();
        assert_eq!(&bytes[100..105], b"hello");
        bytes[100..105].fill(0);
        assert_eq!(bytes.iter().position(|&byte| byte != 0), None, "{memory:?} after it grew");
    }
    let [functions, references] = [0, 1].map(TableIndex::new);
    for at in 0..600 {
        let function = [(3, 0), (4, 2)].into_iter().find(|&(place, _)| place == at);
        let expected = function.map(|(_, function)| handle.func_ref(FuncIndex::new(function)).unwrap());
        assert_eq!(handle.table_get(functions, at), Ok(TableElement::FuncRef(expected)), "element {at}");
    }
    assert_eq!(handle.table_get(references, 19), Ok(TableElement::GcRef(0)));
    assert_eq!(handle.global(GlobalIndex::new(0)), Ok(ValRaw::i64(-7)));
    deallocate(engine, handle);
}
