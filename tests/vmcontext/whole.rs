//! A context with something of everything, read as compiled code reads it.

use alloc::{boxed::Box, sync::Arc};
use core::mem::offset_of;

use allotment::{
    CompiledModuleId,
    arch::VirtAddr,
    instance::{
        ConstExpr, DefinedFuncIndex, DefinedGlobalIndex, DefinedMemoryIndex, DefinedTableIndex, FuncIndex,
        FuncRefIndex, FunctionBody, GlobalIndex, Imports, InstanceAllocationRequest, MemoryIndex, MemoryType,
        Module, ModuleRuntimeInfo, StorePointers, StorePtr, TableElement, TableType, VMCONTEXT_MAGIC,
        VMContext, VMFuncRef, VMFunctionImport, VMSharedTypeIndex, ValRaw, ValType,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{TestArch, WASM_PAGE},
    few,
    links::{self, function_at, global_at, memory_at, table_at, word, words},
    module::{Builder, Code, Engine, TestStore, body_of, by_either_strategy, memory, module, table},
};

fn exporter() -> Builder {
    module()
        .functions(1)
        .table(5, None)
        .memory(1, Some(2))
        .global(ValType::I64, ConstExpr::constant(ValRaw::i64(7)))
        .export("f", function_at(0))
        .export("t", table_at(0))
        .export("m", memory_at(0))
        .export("g", global_at(0))
}

pub(crate) fn everything<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let m = engine.m;
        let other = engine.instantiate(&exporter().build()).unwrap();
        let host = VMFunctionImport { wasm_call: VirtAddr(1), array_call: VirtAddr(2), vmctx: VirtAddr(3) };
        let functions = [host, links::function(&other, "f")];
        let (tables, memories) = ([links::table(&other, "t")], [links::memory(&other, "m")]);
        let globals = [links::global(&other, "g")];
        let code = module()
            .import_function()
            .import_function()
            .import_table(TableType::functions(5, None))
            .import_memory(MemoryType::new(1, Some(2)))
            .import_global(ValType::I64)
            .functions(2)
            .table(3, None)
            .memory(1, None)
            .memory(2, None)
            .global(ValType::I32, ConstExpr::constant(ValRaw::i32(-1)))
            .global(ValType::V128, ConstExpr::constant(ValRaw(u128::MAX / 3)))
            .build();
        let mut store = TestStore {
            pointers: StorePointers {
                store_context: VirtAddr(0x10),
                builtin_functions: VirtAddr(0x20),
                epoch: VirtAddr(0x30),
                gc_heap: VirtAddr(0x40),
            },
            ..TestStore::default()
        };
        // SAFETY: all are exports of `other`, which lives until the end, but for one
        // function of the host's.
        let imports = unsafe { Imports::new(&functions, &tables, &memories, &globals) };
        let mut instance = engine.instantiate_with(&code, imports, Some(&mut store)).unwrap();
        instance.set_embedder(0x50).unwrap();

        let (vmctx, offsets) = (instance.vmctx(), *code.module().offsets());
        assert!(vmctx.0.is_multiple_of(16) && instance.vmctx_capacity() >= offsets.vmctx_size());
        let fixed = [
            (offset_of!(VMContext, magic), VMCONTEXT_MAGIC),
            (offset_of!(VMContext, store_context), 0x10),
            (offset_of!(VMContext, builtin_functions), 0x20),
            (offset_of!(VMContext, epoch), 0x30),
            (offset_of!(VMContext, gc_heap), 0x40),
            (offset_of!(VMContext, embedder), 0x50),
        ];
        for (offset, value) in fixed {
            assert_eq!(word(m, vmctx.offset(offset)), value, "offset {offset}");
        }
        for (nth, import) in functions.iter().enumerate() {
            let found: [u64; 3] = words(m, vmctx.offset(offsets.imported_function(FuncIndex::new(nth))));
            assert_eq!(found, [import.wasm_call.0, import.array_call.0, import.vmctx.0]);
        }
        let from: [u64; 2] = words(m, vmctx.offset(offsets.imported_table(table(0))));
        assert_eq!(from, [tables[0].from.0, other.vmctx().0]);
        let definition: [u64; 2] = words(m, VirtAddr(from[0]));
        assert_eq!(definition[1], 5);
        let from: [u64; 2] = words(m, vmctx.offset(offsets.imported_memory(memory(0))));
        assert_eq!(from, [memories[0].from.0, other.vmctx().0]);
        let base = other.memory_definition(memory(0)).unwrap().base;
        assert_eq!(words(m, VirtAddr(from[0])), [base.0, WASM_PAGE as u64]);
        let from = word(m, vmctx.offset(offsets.imported_global(GlobalIndex::new(0))));
        assert_eq!(words(m, VirtAddr(from)), [7, 0]);

        for (nth, pages) in [1, 2].into_iter().enumerate() {
            let address = word(m, vmctx.offset(offsets.memory_address(DefinedMemoryIndex::new(nth))));
            assert_eq!(address, vmctx.offset(offsets.owned_memory(nth)).0);
            let base = instance.memory_definition(MemoryIndex::new(1 + nth)).unwrap().base;
            assert_eq!(words(m, VirtAddr(address)), [base.0, pages * WASM_PAGE as u64]);
        }
        let [base, elements] = words(m, vmctx.offset(offsets.table(DefinedTableIndex::new(0))));
        assert_eq!(elements, 3);
        assert_eq!(word(m, VirtAddr(base)), 0, "a new table is zeros");
        let global = |nth| vmctx.offset(offsets.global(DefinedGlobalIndex::new(nth)));
        assert_eq!(words(m, global(0)), [0xffff_ffff, 0]);
        assert_eq!(words(m, global(1)), [u64::MAX / 3; 2]);
        engine.end(instance);
        engine.end(other);
    });
}

pub(crate) fn growth_is_seen<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module().memory(1, None).table(3, None).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let (vmctx, offsets) = (instance.vmctx(), *code.module().offsets());
        assert_eq!(instance.memory_grow(memory(0), 2, None), Ok(Some(1)));
        assert_eq!(instance.table_grow(table(0), 4, TableElement::FuncRef(None), None), Ok(Some(3)));
        let definition = vmctx.offset(offsets.owned_memory(0));
        let [base, length] = words(engine.m, definition);
        assert_eq!(length, 3 * WASM_PAGE as u64);
        engine.m.store_at(VirtAddr(base + length - 1), 1).unwrap();
        engine.m.store_at(VirtAddr(base + length), 1).unwrap_err();
        let [base, elements] = words(engine.m, vmctx.offset(offsets.table(DefinedTableIndex::new(0))));
        assert_eq!(elements, 7);
        engine.m.load_at(VirtAddr(base + elements * 8 - 1)).unwrap();
        engine.end(instance);
    });
}

pub(crate) fn references<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let m = engine.m;
        let builder = links::typed_function(module().import_function().functions(1), 0x77);
        let id = builder.id;
        let code = builder.build();
        let host = [VMFunctionImport { wasm_call: VirtAddr(1), array_call: VirtAddr(2), vmctx: VirtAddr(3) }];
        // SAFETY: the function is the host's.
        let imports = unsafe { Imports::new(&host, &[], &[], &[]) };
        let instance = engine.instantiate_with(&code, imports, None).unwrap();
        let place = |nth| instance.vmctx().offset(code.module().offsets().func_ref(FuncRefIndex::new(nth)));
        for nth in 0..3 {
            assert_eq!(words(m, place(nth)), [0; 4], "nobody asked for reference {nth} yet");
        }
        for nth in [2, 0, 1, 2] {
            assert_eq!(instance.func_ref(FuncIndex::new(nth)), Ok(place(nth)));
        }
        let filled = 1 << 32;
        assert_eq!(words(m, place(0)), [2, 1, filled, 3], "an import keeps its context");
        for (nth, ty) in [(1, 0), (2, 0x77)] {
            let FunctionBody { wasm_call, array_call } = body_of(id, u32::try_from(nth).unwrap() - 1);
            let expected =
                VMFuncRef { array_call, wasm_call, type_index: ty, filled: 1, vmctx: instance.vmctx() };
            // SAFETY: the instance lives.
            assert_eq!(unsafe { instance.read_func_ref(place(nth)) }, Ok(expected));
            assert_eq!(word(m, place(nth).offset(offset_of!(VMFuncRef, vmctx))), instance.vmctx().0);
        }
        engine.end(instance);
    });
}

/// A module whose functions' types have numbers.
struct Typed {
    code: Code,
    types: [VMSharedTypeIndex; 2],
}

// SAFETY: nothing of it changes.
unsafe impl ModuleRuntimeInfo for Typed {
    fn module(&self) -> &Module {
        self.code.module()
    }
    fn unique_id(&self) -> Option<CompiledModuleId> {
        self.code.unique_id()
    }
    fn function(&self, index: DefinedFuncIndex) -> FunctionBody {
        self.code.function(index)
    }
    fn wasm_data(&self) -> &[u8] {
        self.code.wasm_data()
    }
    fn type_ids(&self) -> &[VMSharedTypeIndex] {
        &self.types
    }
}

pub(crate) fn types<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let types = [VMSharedTypeIndex(3), VMSharedTypeIndex(9)];
        let code: Code = Arc::new(Typed { code: module().functions(1).build(), types });
        let instance = engine.instantiate(&code).unwrap();
        let found = word(engine.m, instance.vmctx().offset(offset_of!(VMContext, type_ids)));
        assert_eq!(found, code.type_ids().as_ptr() as u64);
        engine.end(instance);

        // Without a store the other pointers are null.
        let request = InstanceAllocationRequest {
            runtime_info: &code,
            imports: Imports::none(),
            host_state: Box::new(()),
            store: StorePtr::empty(),
        };
        let instance = engine.instances.allocate(request).unwrap();
        for offset in [offset_of!(VMContext, store_context), offset_of!(VMContext, gc_heap)] {
            assert_eq!(word(engine.m, instance.vmctx().offset(offset)), 0);
        }
        engine.end(instance);
    });
}
