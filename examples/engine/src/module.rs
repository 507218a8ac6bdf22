//! From a wasm binary to what Allotment and the interpreter know of a module.
//!
//! ```text
//!   bytes ──> wasmparser ──> Reading ──┬─> ModuleInfo ──> instance::Module    Allotment's
//!             sections,                ├─> functions                          the interpreter's
//!             validation               └─> imports by name                    the linker's
//! ```

use alloc::{collections::BTreeSet, string::String, sync::Arc, vec::Vec};

use allotment::{
    CompiledModuleId,
    arch::{Arch, VirtAddr},
    instance::{
        ConstExpr, ConstOp, DataSegment, DefinedFuncIndex, DefinedTableIndex, ElementSegment, EntityIndex,
        FuncIndex, FuncRefIndex, FunctionBody, FunctionType, GlobalIndex, GlobalType, MemoryIndex,
        MemoryType, Module, ModuleInfo, ModuleRuntimeInfo, SegmentElements, SegmentMode, TableElementType,
        TableIndex, TableType, VMSharedTypeIndex, ValRaw, ValType, cranelift_entity::EntityRef,
    },
};
use wasmparser::{
    DataKind, ElementItems, ElementKind, ExternalKind, Operator, Parser, Payload, RefType, TableInit,
    TypeRef, ValidPayload, Validator, WasmFeatures,
};

use crate::{CompileError, Engine, code::Function, function};

/// A compiled module.
#[derive(Debug)]
pub struct Code {
    pub(crate) module: Module,
    pub(crate) id: CompiledModuleId,
    /// Where each import comes from, in the order of the section.
    pub(crate) imports: Vec<Import>,
    pub(crate) functions: Vec<Function>,
    type_ids: Vec<VMSharedTypeIndex>,
    data: Vec<u8>,
}

/// An import by its names.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
    /// What it is here.
    pub(crate) index: EntityIndex,
}

// SAFETY: a module and its type ids never change.
unsafe impl ModuleRuntimeInfo for Code {
    fn module(&self) -> &Module {
        &self.module
    }

    fn unique_id(&self) -> Option<CompiledModuleId> {
        Some(self.id)
    }

    /// No addresses but numbers: nobody but the interpreter looks at them.
    fn function(&self, index: DefinedFuncIndex) -> FunctionBody {
        let number = VirtAddr(index.index() as u64);
        FunctionBody { wasm_call: number, array_call: number }
    }

    fn wasm_data(&self) -> &[u8] {
        &self.data
    }

    fn type_ids(&self) -> &[VMSharedTypeIndex] {
        &self.type_ids
    }
}

impl Code {
    /// What is known of it.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }
}

/// The type of a function: its number, and what of it matters to translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    pub(crate) id: VMSharedTypeIndex,
    pub(crate) params: u32,
    pub(crate) results: u32,
}

/// What the engine runs.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::FLOATS
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::MEMORY64
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::GC_TYPES
}

/// Validates and translates a module.
pub(crate) fn compile<A: Arch>(engine: &Engine<'_, A>, bytes: &[u8]) -> Result<Arc<Code>, CompileError> {
    let mut validator = Validator::new_with_features(features());
    let mut reading = Reading::new(engine);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
            let index = FuncIndex::new(reading.info.num_imported_functions + reading.functions.len());
            // Valid: the function section has declared it.
            let signature = reading.signatures[index.index()];
            reading.functions.push(function::translate(function, &body, &reading.types, &signature)?);
        }
        reading.section(payload)?;
    }
    reading.finish()
}

/// What has been read so far.
struct Reading<'e, 'a, A: Arch> {
    engine: &'e Engine<'a, A>,
    info: ModuleInfo,
    types: Vec<Signature>,
    /// Of each function.
    signatures: Vec<Signature>,
    /// Functions that something may refer to.
    referable: BTreeSet<FuncIndex>,
    imports: Vec<Import>,
    functions: Vec<Function>,
    data: Vec<u8>,
}

impl<'e, 'a, A: Arch> Reading<'e, 'a, A> {
    fn new(engine: &'e Engine<'a, A>) -> Self {
        Self {
            engine,
            info: ModuleInfo::default(),
            types: Vec::new(),
            signatures: Vec::new(),
            referable: BTreeSet::new(),
            imports: Vec::new(),
            functions: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Takes what a section says, which is valid.
    fn section(&mut self, payload: Payload<'_>) -> Result<(), CompileError> {
        match payload {
            Payload::TypeSection(types) => {
                for ty in types.into_iter_err_on_gc_types() {
                    self.types.push(self.engine.intern(ty?));
                }
            }
            Payload::ImportSection(imports) => {
                imports.into_imports().try_for_each(|import| self.import(import?))?;
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.function(ty?);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    let table = table?;
                    let index = self.info.tables.push(table_type(&table.ty)?);
                    if let TableInit::Expr(expr) = table.init {
                        let value = self.expression(&expr)?;
                        let defined = index.index() - self.info.num_imported_tables;
                        self.info.table_initial_values.insert(DefinedTableIndex::new(defined), value);
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.info.memories.push(memory_type(&memory?));
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let global = global?;
                    self.info.globals.push(global_type(&global.ty)?);
                    let value = self.expression(&global.init_expr)?;
                    self.info.global_initializers.push(value);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let index = self.entity(export.kind, export.index)?;
                    self.info.exports.insert(export.name.into(), index);
                }
            }
            Payload::StartSection { func, .. } => self.info.start = Some(FuncIndex::from_u32(func)),
            Payload::ElementSection(segments) => {
                for segment in segments {
                    self.elements(segment?)?;
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    let segment = segment?;
                    let mode = match segment.kind {
                        DataKind::Passive => SegmentMode::Passive,
                        DataKind::Active { memory_index, offset_expr } => SegmentMode::Active(
                            MemoryIndex::from_u32(memory_index),
                            self.expression(&offset_expr)?,
                        ),
                    };
                    let start = self.data.len();
                    self.data.extend_from_slice(segment.data);
                    self.info.data.push(DataSegment { mode, data: start..self.data.len() });
                }
            }
            // Custom sections, and what only the validator needs.
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: wasmparser::Import<'_>) -> Result<(), CompileError> {
        let index = match import.ty {
            TypeRef::Func(ty) => {
                let index = self.function(ty);
                // By its reference the interpreter finds it.
                self.referable.insert(index);
                self.info.num_imported_functions += 1;
                EntityIndex::Function(index)
            }
            TypeRef::Table(ty) => {
                self.info.num_imported_tables += 1;
                EntityIndex::Table(self.info.tables.push(table_type(&ty)?))
            }
            TypeRef::Memory(ty) => {
                self.info.num_imported_memories += 1;
                EntityIndex::Memory(self.info.memories.push(memory_type(&ty)))
            }
            TypeRef::Global(ty) => {
                self.info.num_imported_globals += 1;
                EntityIndex::Global(self.info.globals.push(global_type(&ty)?))
            }
            _ => return Err(CompileError::Unsupported("imports of that kind")),
        };
        self.imports.push(Import { module: import.module.into(), name: import.name.into(), index });
        Ok(())
    }

    fn function(&mut self, ty: u32) -> FuncIndex {
        let signature = self.types[ty as usize];
        self.signatures.push(signature);
        self.info.functions.push(FunctionType { signature: signature.id, func_ref: None })
    }

    fn entity(&mut self, kind: ExternalKind, index: u32) -> Result<EntityIndex, CompileError> {
        Ok(match kind {
            ExternalKind::Func => {
                let index = FuncIndex::from_u32(index);
                self.referable.insert(index);
                EntityIndex::Function(index)
            }
            ExternalKind::Table => EntityIndex::Table(TableIndex::from_u32(index)),
            ExternalKind::Memory => EntityIndex::Memory(MemoryIndex::from_u32(index)),
            ExternalKind::Global => EntityIndex::Global(GlobalIndex::from_u32(index)),
            _ => return Err(CompileError::Unsupported("exports of that kind")),
        })
    }

    fn elements(&mut self, segment: wasmparser::Element<'_>) -> Result<(), CompileError> {
        let mode = match segment.kind {
            ElementKind::Passive => SegmentMode::Passive,
            ElementKind::Declared => SegmentMode::Declared,
            ElementKind::Active { table_index, offset_expr } => SegmentMode::Active(
                TableIndex::from_u32(table_index.unwrap_or(0)),
                self.expression(&offset_expr)?,
            ),
        };
        let elements = match segment.items {
            ElementItems::Functions(functions) => {
                let functions: Result<Vec<u32>, _> = functions.into_iter().collect();
                let functions: Vec<FuncIndex> = functions?.into_iter().map(FuncIndex::from_u32).collect();
                self.referable.extend(&functions);
                SegmentElements::Functions(functions.into_boxed_slice())
            }
            ElementItems::Expressions(_, expressions) => {
                let expressions = expressions.into_iter().map(|expr| self.expression(&expr?));
                SegmentElements::Expressions(expressions.collect::<Result<_, CompileError>>()?)
            }
        };
        self.info.elements.push(ElementSegment { mode, elements });
        Ok(())
    }

    fn expression(&mut self, expr: &wasmparser::ConstExpr<'_>) -> Result<ConstExpr, CompileError> {
        let mut ops = Vec::new();
        for operator in expr.get_operators_reader() {
            ops.push(match operator? {
                Operator::I32Const { value } => ConstOp::Const(ValRaw::i32(value)),
                Operator::I64Const { value } => ConstOp::Const(ValRaw::i64(value)),
                Operator::F32Const { value } => ConstOp::Const(value.bits().into()),
                Operator::F64Const { value } => ConstOp::Const(value.bits().into()),
                Operator::GlobalGet { global_index } => {
                    ConstOp::GlobalGet(GlobalIndex::from_u32(global_index))
                }
                Operator::RefNull { .. } => ConstOp::RefNull,
                Operator::RefFunc { function_index } => {
                    let index = FuncIndex::from_u32(function_index);
                    self.referable.insert(index);
                    ConstOp::RefFunc(index)
                }
                Operator::I32Add => ConstOp::I32Add,
                Operator::I32Sub => ConstOp::I32Sub,
                Operator::I32Mul => ConstOp::I32Mul,
                Operator::I64Add => ConstOp::I64Add,
                Operator::I64Sub => ConstOp::I64Sub,
                Operator::I64Mul => ConstOp::I64Mul,
                Operator::End => break,
                _ => return Err(CompileError::Unsupported("constant expressions of that kind")),
            });
        }
        Ok(ConstExpr::new(ops))
    }

    fn finish(mut self) -> Result<Arc<Code>, CompileError> {
        for (place, &function) in self.referable.iter().enumerate() {
            self.info.functions[function].func_ref = Some(FuncRefIndex::new(place));
        }
        self.info.num_func_refs = self.referable.len();
        let type_ids = self.types.iter().map(|ty| ty.id).collect();
        Ok(Arc::new(Code {
            module: Module::new(self.info)?,
            id: CompiledModuleId(self.engine.next_number()),
            imports: self.imports,
            functions: self.functions,
            type_ids,
            data: self.data,
        }))
    }
}

fn memory_type(ty: &wasmparser::MemoryType) -> MemoryType {
    // Custom page sizes and shared memories are proposals that are off.
    MemoryType { memory64: ty.memory64, ..MemoryType::new(ty.initial, ty.maximum) }
}

fn table_type(ty: &wasmparser::TableType) -> Result<TableType, CompileError> {
    if ty.table64 {
        return Err(CompileError::Unsupported("tables with 64-bit indices"));
    }
    let element = match val_type(wasmparser::ValType::Ref(ty.element_type))? {
        ValType::FuncRef => TableElementType::Func,
        _ => TableElementType::GcRef,
    };
    Ok(TableType { element, minimum: ty.initial, maximum: ty.maximum })
}

fn global_type(ty: &wasmparser::GlobalType) -> Result<GlobalType, CompileError> {
    Ok(GlobalType { content: val_type(ty.content_type)?, mutable: ty.mutable })
}

/// A type in Allotment's words.
pub(crate) fn val_type(ty: wasmparser::ValType) -> Result<ValType, CompileError> {
    Ok(match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::Ref(RefType::FUNCREF) => ValType::FuncRef,
        wasmparser::ValType::Ref(RefType::EXTERNREF) => ValType::GcRef,
        _ => return Err(CompileError::Unsupported("values of that type")),
    })
}
