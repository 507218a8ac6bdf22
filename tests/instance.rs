//! What an engine holds: instances through the allocator's trait.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use allotment::{
    CompiledModuleId, Config,
    arch::VirtAddr,
    instance::{
        self, ConstExpr, DataSegment, DefinedFuncIndex, FunctionBody, Imports, InstanceAllocationRequest,
        MemoryIndex, MemoryType, Module, ModuleInfo, ModuleRuntimeInfo, SegmentMode, StorePtr, TableType,
        ValRaw, cranelift_entity::EntityRef,
    },
};
use common::{MIB, Machine, TestArch, pool, pooled};

harness::tests! {
    fn an_instance_lives_and_dies() {
        on_every_machine!(life);
    }
}

struct Code {
    module: Module,
    data: Vec<u8>,
}

// SAFETY: both are what they are.
unsafe impl ModuleRuntimeInfo for Code {
    fn module(&self) -> &Module {
        &self.module
    }
    fn unique_id(&self) -> Option<CompiledModuleId> {
        Some(CompiledModuleId(1))
    }
    fn function(&self, index: DefinedFuncIndex) -> FunctionBody {
        let at = VirtAddr(index.index() as u64);
        FunctionBody { wasm_call: at, array_call: at }
    }
    fn wasm_data(&self) -> &[u8] {
        &self.data
    }
}

fn life<A: TestArch>() {
    for config in [
        pooled(pool(4, MIB).total_tables(4).total_core_instances(4)).region_space(1 << 30),
        Config::new().region_space(1 << 36),
    ] {
        let m = Machine::<A>::new(&config, 8 * MIB);
        let instances = instance::build(&m.allocator).unwrap();
        let mut info = ModuleInfo::default();
        info.memories.push(MemoryType::new(1, Some(3)));
        info.tables.push(TableType::functions(10, None));
        info.data.push(DataSegment {
            mode: SegmentMode::Active(MemoryIndex::new(0), ConstExpr::constant(ValRaw::i32(100))),
            data: 0..5,
        });
        let code: Arc<dyn ModuleRuntimeInfo> =
            Arc::new(Code { module: Module::new(info).unwrap(), data: b"hello".to_vec() });
        instances.validate(code.module()).unwrap();
        for _ in 0..3 {
            let mut handle = instances
                .allocate(InstanceAllocationRequest {
                    runtime_info: &code,
                    imports: Imports::none(),
                    host_state: Box::new(()),
                    store: StorePtr::empty(),
                })
                .unwrap();
            handle.initialize().unwrap();
            let mut bytes = [0; 5];
            handle.read_memory(MemoryIndex::new(0), 100, &mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
            assert_eq!(handle.memory_grow(MemoryIndex::new(0), 1, None), Ok(Some(1)));
            assert_eq!(handle.memory_size(MemoryIndex::new(0)), Ok(2));
            assert_eq!(handle.memory_grow(MemoryIndex::new(0), 2, None), Ok(None));
            // SAFETY: nobody uses it.
            unsafe { instances.deallocate(handle) };
        }
    }
}
