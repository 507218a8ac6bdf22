//! Instances through the allocator's trait: what an engine other than Wasmtime pays.

extern crate alloc;

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use allotment::{
    CompiledModuleId, Config,
    arch::VirtAddr,
    instance::{
        ConstExpr, DataSegment, DefinedFuncIndex, DefinedMemoryIndex, FunctionBody, Imports,
        InstanceAllocationRequest, InstanceAllocator, InstanceHandle, MemoryIndex, MemoryType, Module,
        ModuleInfo, ModuleRuntimeInfo, PoolingInstanceAllocator, SegmentMode, StorePtr, TableType, ValRaw,
        cranelift_entity::EntityRef,
    },
};
use kernel::BootInfo;

use crate::{
    count::{average, average_of, row},
    group::{Group, group},
    pools::{MIB, carve, parts, pool},
};

pub(crate) const GROUPS: &[Group] = &[group(
    "instances",
    true,
    &[
        "instance-warm-clean",
        "instance-without-memory",
        "instance-one-page-written",
        "instance-data-segments",
        "instance-cold",
    ],
    instances,
)];

/// Bytes of each data segment.
const SEGMENT: usize = 256;

struct Code {
    module: Module,
    data: Vec<u8>,
    id: u64,
}

// SAFETY: both are what they are.
unsafe impl ModuleRuntimeInfo for Code {
    fn module(&self) -> &Module {
        &self.module
    }

    fn unique_id(&self) -> Option<CompiledModuleId> {
        Some(CompiledModuleId(self.id))
    }

    fn function(&self, _: DefinedFuncIndex) -> FunctionBody {
        FunctionBody { wasm_call: VirtAddr(0), array_call: VirtAddr(0) }
    }

    fn wasm_data(&self) -> &[u8] {
        &self.data
    }
}

/// A module with so many memories of 64 KiB, as many tables of 100 functions, and
/// data segments 1 KiB apart.
fn code(id: u64, memories: usize, segments: usize) -> Arc<dyn ModuleRuntimeInfo> {
    let mut info = ModuleInfo::default();
    for _ in 0..memories {
        info.memories.push(MemoryType::new(1, None));
        info.tables.push(TableType::functions(100, None));
    }
    for nth in 0..segments {
        let place = i32::try_from(nth * 1024).expect("few segments");
        info.data.push(DataSegment {
            mode: SegmentMode::Active(MemoryIndex::new(0), ConstExpr::constant(ValRaw::i32(place))),
            data: 0..SEGMENT,
        });
    }
    let module = Module::new(info).expect("a whole module");
    Arc::new(Code { module, data: alloc::vec![7; SEGMENT], id })
}

fn instances(boot: &'static BootInfo) {
    let part = parts(boot, &[256 * MIB]).next().expect("a part");
    let pools = pool(100).total_tables(100).total_core_instances(100);
    let allocator = &carve(part, &Config::new().allocation_strategy(pools));
    let instances = &PoolingInstanceAllocator::new(allocator).expect("slots");
    let instances: &dyn InstanceAllocator<'_> = instances;

    let plain = code(1, 1, 0);
    row("instance-warm-clean", || average(|| cycle(instances, &plain, |_| {})));
    let without = code(2, 0, 0);
    row("instance-without-memory", || average(|| cycle(instances, &without, |_| {})));
    let write = |handle: &mut InstanceHandle<'_>| {
        let base = handle.memories()[DefinedMemoryIndex::new(0)].base();
        // SAFETY: the memory has a wasm page.
        unsafe { base.write_volatile(1) };
    };
    row("instance-one-page-written", || average(|| cycle(instances, &plain, write)));
    let data = code(3, 1, 4);
    let initialize = |handle: &mut InstanceHandle<'_>| handle.initialize().expect("segments in bounds");
    row("instance-data-segments", || average(|| cycle(instances, &data, initialize)));
    // Each a module of its own, so that nothing is warm for it.
    let cold: Vec<_> = (0..50).map(|id| code(1000 + id, 1, 0)).collect();
    let mut cold = cold.iter();
    row("instance-cold", || average_of(50, || cycle(instances, cold.next().expect("as many"), |_| {})));
}

/// An instance that is made, used by `work`, and given back.
fn cycle<'a>(
    instances: &dyn InstanceAllocator<'a>,
    code: &Arc<dyn ModuleRuntimeInfo>,
    work: impl FnOnce(&mut InstanceHandle<'a>),
) {
    let request = InstanceAllocationRequest {
        runtime_info: code,
        imports: Imports::none(),
        host_state: Box::new(()),
        store: StorePtr::empty(),
    };
    let mut handle = instances.allocate(request).expect("an instance");
    work(&mut handle);
    // SAFETY: nobody uses it any more.
    unsafe { instances.deallocate(handle) };
}
