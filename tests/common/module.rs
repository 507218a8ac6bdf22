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

#[path = "ears.rs"]
mod ears;
#[path = "engine.rs"]
mod engine;

use alloc::{string::ToString, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};

use allotment::{
    CompiledModuleId,
    arch::VirtAddr,
    instance::{
        ConstExpr, DataSegment, DefinedFuncIndex, ElementSegment, EntityIndex, FuncIndex, FuncRefIndex,
        FunctionBody, FunctionType, GlobalType, MemoryIndex, MemoryType, Module, ModuleInfo,
        ModuleRuntimeInfo, SegmentElements, SegmentMode, TableIndex, TableType, VMSharedTypeIndex, ValRaw,
        ValType, cranelift_entity::EntityRef,
    },
};

pub use ears::{Ears, Heard, TestStore};
pub use engine::{Engine, by_either_strategy, bytes, with_and_without_images};

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
