//! Pooled instances: what they need of the heap they had when the allocator of
//! instances was made.

use alloc::{boxed::Box, sync::Arc};

use allotment::{
    CompiledModuleId, Config,
    arch::VirtAddr,
    instance::{
        self, ConstExpr, DataIndex, DataSegment, DefinedFuncIndex, ElemIndex, ElementSegment, FuncIndex,
        FuncRefIndex, FunctionBody, FunctionType, GlobalIndex, GlobalType, Imports,
        InstanceAllocationRequest, InstanceAllocator, InstanceError, InstanceHandle, LimiterError,
        MemoryIndex, MemoryType, Module, ModuleInfo, ModuleRuntimeInfo, ResourceLimiter, SegmentElements,
        SegmentMode, Store, StorePtr, TableElement, TableIndex, TableType, VMSharedTypeIndex, ValRaw,
        ValType, cranelift_entity::EntityRef,
    },
};

use crate::{
    ARENA, MODULE, STACK,
    common::{MIB, Machine, PAGE, TestArch, pool, pooled},
    heap, print,
    quiet::Quiet,
};

/// A module and its bytes.
struct Code(Module, CompiledModuleId);

const DATA: &[u8] = b"hello, heap";

// SAFETY: it is what it is.
unsafe impl ModuleRuntimeInfo for Code {
    fn module(&self) -> &Module {
        &self.0
    }
    fn unique_id(&self) -> Option<CompiledModuleId> {
        Some(self.1)
    }
    fn function(&self, _: DefinedFuncIndex) -> FunctionBody {
        FunctionBody { wasm_call: VirtAddr(1), array_call: VirtAddr(2) }
    }
    fn wasm_data(&self) -> &[u8] {
        DATA
    }
}

type Info = Arc<dyn ModuleRuntimeInfo>;

/// A module with a segment of either mode for its memory and table, the active
/// one of data at `offset`.
fn module(id: CompiledModuleId, offset: i32, minimum: u64) -> Info {
    let mut info = ModuleInfo { num_func_refs: 1, ..ModuleInfo::default() };
    let func_ref = Some(FuncRefIndex::new(0));
    info.functions.push(FunctionType { signature: VMSharedTypeIndex(1), func_ref });
    info.memories.push(MemoryType::new(minimum, Some(minimum + 2)));
    info.tables.push(TableType::functions(100, Some(200)));
    info.globals.push(GlobalType { content: ValType::I32, mutable: true });
    info.global_initializers.push(ConstExpr::constant(ValRaw::i32(5)));
    let place = |offset| ConstExpr::constant(ValRaw::i32(offset));
    let data = 0..DATA.len();
    info.data.push(DataSegment { mode: SegmentMode::Passive, data: data.clone() });
    info.data.push(DataSegment { mode: SegmentMode::Active(MemoryIndex::new(0), place(offset)), data });
    let elements = || SegmentElements::Functions([FuncIndex::new(0)].into());
    info.elements.push(ElementSegment { mode: SegmentMode::Passive, elements: elements() });
    let mode = SegmentMode::Active(TableIndex::new(0), place(9));
    info.elements.push(ElementSegment { mode, elements: elements() });
    Arc::new(Code(Module::new(info).unwrap(), id))
}

/// Refuses at the ask of this number.
struct Refuses(usize);

impl Store for Refuses {
    fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
        Some(self)
    }
}

impl Refuses {
    fn ask(&mut self) -> Result<bool, LimiterError> {
        let allowed = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        Ok(allowed)
    }
}

impl ResourceLimiter for Refuses {
    fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        self.ask()
    }
    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        self.ask()
    }
}

pub(crate) fn pools<A: TestArch>() {
    let pools = pool(2, MIB).total_tables(2).table_elements(200).total_core_instances(2).total_stacks(1);
    let config: Config = pooled(pools.total_gc_heaps(1)).max_wasm_stack(STACK).async_stack_size(STACK);
    let machine = Machine::<Quiet<A>>::new(&config.region_space(1 << 30), ARENA);
    let engine = instance::build(&machine.allocator).unwrap();
    let usual = module(MODULE, 100, 1);
    let failing = [(1, 65_530, 1), (2, 0, 17), (3, 0, 1 << 40)];
    let failing = failing.map(|(id, offset, minimum)| module(CompiledModuleId(id), offset, minimum));
    machine.allocator.seal();
    heap::forbid();
    // Twice: the second round reuses what the first one left.
    for _ in 0..2 {
        lives(&machine, &*engine, &usual);
        for module in &failing {
            fails(&*engine, module);
        }
        refused(&*engine, &usual);
        full(&*engine, &usual);
        others(&*engine);
        engine.purge_module(MODULE);
    }
    heap::allow();
}

fn allocate<'a, A: TestArch>(
    engine: &(dyn InstanceAllocator<'a, Quiet<A>> + '_),
    code: &Info,
    store: StorePtr<'_>,
) -> Result<InstanceHandle<'a, Quiet<A>>, InstanceError> {
    // A box of nothing is no use of the heap.
    let host_state = Box::new(());
    engine.allocate(InstanceAllocationRequest {
        runtime_info: code,
        imports: Imports::none(),
        host_state,
        store,
    })
}

/// All that an instance is asked for, in bounds and out of them.
fn lives<'a, A: TestArch>(
    machine: &'a Machine<Quiet<A>>,
    engine: &(dyn InstanceAllocator<'a, Quiet<A>> + '_),
    code: &Info,
) {
    let mut handle = allocate(engine, code, StorePtr::empty()).unwrap();
    handle.initialize().unwrap();
    handle.arrive().unwrap();
    let (memory, table) = (MemoryIndex::new(0), TableIndex::new(0));
    let mut bytes = [0; DATA.len()];
    handle.read_memory(memory, 100, &mut bytes).unwrap();
    assert_eq!(bytes, DATA);
    assert_eq!(handle.memory_grow(memory, 1, None), Ok(Some(1)));
    assert_eq!(handle.memory_grow(memory, 9, None), Ok(None));
    handle.memory_fill(memory, 0, 1, 2 * 65_536).unwrap();
    handle.memory_copy(memory, 5, memory, 9, 3 * PAGE as u64).unwrap();
    handle.memory_init(memory, DataIndex::new(0), 0, 1, 3).unwrap();
    handle.data_drop(DataIndex::new(0)).unwrap();
    print(&handle.memory_init(memory, DataIndex::new(0), 0, 1, 3).unwrap_err());
    print(&handle.memory_fill(memory, 2 * 65_536, 1, 1).unwrap_err());
    let null = TableElement::FuncRef(None);
    let function = handle.table_get(table, 9).unwrap();
    assert_ne!(function, null);
    assert_eq!(handle.table_grow(table, 50, function, None), Ok(Some(100)));
    assert_eq!(handle.table_grow(table, 51, null, None), Ok(None));
    handle.table_fill(table, 0, function, 150).unwrap();
    handle.table_copy(table, 5, table, 9, 100).unwrap();
    handle.table_set(table, 3, null).unwrap();
    handle.table_init(table, ElemIndex::new(0), 0, 0, 1).unwrap();
    handle.elem_drop(ElemIndex::new(0)).unwrap();
    print(&handle.table_init(table, ElemIndex::new(0), 0, 0, 1).unwrap_err());
    print(&handle.table_set(table, 150, null).unwrap_err());
    handle.set_global(GlobalIndex::new(0), ValRaw::i32(8)).unwrap();
    assert_eq!(handle.global(GlobalIndex::new(0)), Ok(ValRaw::i32(8)));
    print(&machine.allocator.metrics());
    deallocate(engine, handle);
}

/// Which steps come to an end by themselves.
fn fails<'a, A: TestArch + 'a>(engine: &(dyn InstanceAllocator<'a, Quiet<A>> + '_), code: &Info) {
    match allocate(engine, code, StorePtr::empty()) {
        Ok(mut handle) => {
            print(&handle.initialize().unwrap_err());
            deallocate(engine, handle);
        }
        Err(error) => print(&error),
    }
}

fn refused<'a, A: TestArch + 'a>(engine: &(dyn InstanceAllocator<'a, Quiet<A>> + '_), code: &Info) {
    for asks in 0..2 {
        let mut store = Refuses(asks);
        print(&allocate(engine, code, StorePtr::new(&mut store)).unwrap_err());
    }
}

fn full<'a, A: TestArch + 'a>(engine: &(dyn InstanceAllocator<'a, Quiet<A>> + '_), code: &Info) {
    let all = [(); 2].map(|()| allocate(engine, code, StorePtr::empty()).unwrap());
    print(&allocate(engine, code, StorePtr::empty()).unwrap_err());
    all.into_iter().for_each(|handle| deallocate(engine, handle));
}

fn others<'a, A: TestArch + 'a>(engine: &(dyn InstanceAllocator<'a, Quiet<A>> + '_)) {
    engine.deallocate_fiber_stack(engine.allocate_fiber_stack().unwrap());
    engine.deallocate_gc_heap(engine.allocate_gc_heap(&MemoryType::new(1, None), None).unwrap());
}

fn deallocate<'a, A: TestArch>(
    engine: &(dyn InstanceAllocator<'a, Quiet<A>> + '_),
    handle: InstanceHandle<'a, Quiet<A>>,
) {
    // SAFETY: nobody uses it.
    unsafe { engine.deallocate(handle) };
}
