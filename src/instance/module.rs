//! What an engine tells of a module, and how it is checked.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
use core::ops::{Deref, Range};

use cranelift_entity::{EntityRef, PrimaryMap};

use super::{
    BadModule, ConstExpr, ConstOp, DataIndex, DefinedFuncIndex, DefinedGlobalIndex, DefinedMemoryIndex,
    DefinedTableIndex, ElemIndex, EntityIndex, FuncIndex, FuncRefIndex, GlobalIndex, GlobalType, MemoryIndex,
    MemoryType, TableElementType, TableIndex, TableType, VMOffsets, VMSharedTypeIndex,
    limits::MOST_PAGE_SIZE_LOG2,
};
use crate::{MemorySummary, ModuleSummary, TableSummary};

/// A function, as a module declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionType {
    /// Its type.
    pub signature: VMSharedTypeIndex,
    /// Its place among the functions that may be referred to, if it is one: exported
    /// ones, and those in element segments and `ref.func`. Below
    /// [`num_func_refs`](ModuleInfo::num_func_refs), and no other function's.
    pub func_ref: Option<FuncRefIndex>,
}

/// When a segment is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentMode<I> {
    /// By [`Instance::initialize`](super::Instance::initialize), to the place that
    /// the expression says.
    Active(I, ConstExpr),
    /// When the module asks for it.
    Passive,
    /// Never: it only declares functions.
    Declared,
}

/// A segment of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSegment {
    /// When it is copied, and to which memory.
    pub mode: SegmentMode<MemoryIndex>,
    /// Where its bytes are in
    /// [`ModuleRuntimeInfo::wasm_data`](super::ModuleRuntimeInfo::wasm_data). One that
    /// ends beyond that traps when it is copied.
    pub data: Range<usize>,
}

/// A segment of elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementSegment {
    /// When it is copied, and to which table.
    pub mode: SegmentMode<TableIndex>,
    /// The elements.
    pub elements: SegmentElements,
}

/// The elements of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentElements {
    /// Functions by their indices.
    Functions(Box<[FuncIndex]>),
    /// Values of any reference type.
    Expressions(Box<[ConstExpr]>),
}

impl SegmentElements {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Functions(functions) => functions.len(),
            Self::Expressions(expressions) => expressions.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A module as its engine describes it. Imports come first in each index space.
/// Indices are what `push` on these maps returns, or made by `from_u32`.
///
/// | section of the binary | goes to |
/// |---|---|
/// | type | numbers that the engine gives: [`VMSharedTypeIndex`] |
/// | import | the first entries of `functions`, `tables`, `memories` and `globals`, and `num_imported_*`; names are the engine's to resolve |
/// | function | `functions` |
/// | table | `tables`; initial elements other than null: `table_initial_values` |
/// | memory | `memories` |
/// | global | `globals` and `global_initializers` |
/// | export | `exports` |
/// | start | `start` |
/// | element | `elements` |
/// | data | `data`, as ranges of [`wasm_data`](super::ModuleRuntimeInfo::wasm_data) |
/// | code | [`ModuleRuntimeInfo::function`](super::ModuleRuntimeInfo::function); each function that a `ref.func` names has a `func_ref` |
#[derive(Clone, Debug, Default)]
pub struct ModuleInfo {
    /// Functions, imported ones first.
    pub functions: PrimaryMap<FuncIndex, FunctionType>,
    /// How many of them are imported.
    pub num_imported_functions: usize,
    /// How many of them may be referred to.
    pub num_func_refs: usize,
    /// Tables, imported ones first.
    pub tables: PrimaryMap<TableIndex, TableType>,
    /// How many of them are imported.
    pub num_imported_tables: usize,
    /// What the elements of each defined table begin with, if not null.
    pub table_initial_values: BTreeMap<DefinedTableIndex, ConstExpr>,
    /// Memories, imported ones first.
    pub memories: PrimaryMap<MemoryIndex, MemoryType>,
    /// How many of them are imported.
    pub num_imported_memories: usize,
    /// Globals, imported ones first.
    pub globals: PrimaryMap<GlobalIndex, GlobalType>,
    /// How many of them are imported.
    pub num_imported_globals: usize,
    /// What each defined global begins with; it sees the globals before it.
    pub global_initializers: PrimaryMap<DefinedGlobalIndex, ConstExpr>,
    /// Exports by name.
    pub exports: BTreeMap<String, EntityIndex>,
    /// Segments of data.
    pub data: PrimaryMap<DataIndex, DataSegment>,
    /// Segments of elements.
    pub elements: PrimaryMap<ElemIndex, ElementSegment>,
    /// The function to call when an instance is initialised: the engine does it.
    pub start: Option<FuncIndex>,
}

macro_rules! defined {
    ($($name:ident, $defined:ident, $map:ident, $imported:ident: $index:ident, $result:ident;)*) => {$(
        #[doc = concat!("Which of the defined ones in `", stringify!($map), "` that is; `None` of an import.")]
        #[must_use]
        #[inline]
        pub fn $name(&self, index: $index) -> Option<$result> {
            index.index().checked_sub(self.$imported).map($result::new)
        }

        #[doc = concat!("How many of `", stringify!($map), "` are defined here.")]
        #[must_use]
        #[inline]
        pub fn $defined(&self) -> usize {
            self.$map.len().saturating_sub(self.$imported)
        }
    )*};
}

impl ModuleInfo {
    defined! {
        defined_function, num_defined_functions, functions, num_imported_functions: FuncIndex, DefinedFuncIndex;
        defined_table, num_defined_tables, tables, num_imported_tables: TableIndex, DefinedTableIndex;
        defined_memory, num_defined_memories, memories, num_imported_memories: MemoryIndex, DefinedMemoryIndex;
        defined_global, num_defined_globals, globals, num_imported_globals: GlobalIndex, DefinedGlobalIndex;
    }

    /// The memories that it defines, with their types.
    pub fn defined_memories(&self) -> impl Iterator<Item = (DefinedMemoryIndex, &MemoryType)> {
        let defined = self.memories.values().skip(self.num_imported_memories);
        defined.enumerate().map(|(number, ty)| (DefinedMemoryIndex::new(number), ty))
    }

    /// The tables that it defines, with their types.
    pub fn defined_tables(&self) -> impl Iterator<Item = (DefinedTableIndex, &TableType)> {
        let defined = self.tables.values().skip(self.num_imported_tables);
        defined.enumerate().map(|(number, ty)| (DefinedTableIndex::new(number), ty))
    }
}

/// A module that was looked at: whatever it names exists, so that no instance of
/// it can come upon something that does not.
#[derive(Debug)]
pub struct Module {
    info: ModuleInfo,
    offsets: VMOffsets,
    /// What each defined table of functions begins with, as far as that is known.
    table_images: PrimaryMap<DefinedTableIndex, Vec<Option<FuncIndex>>>,
    /// Active element segments that the images hold.
    segments_in_images: usize,
    memories: Box<[MemorySummary]>,
    tables: Box<[TableSummary]>,
}

impl Deref for Module {
    type Target = ModuleInfo;

    fn deref(&self) -> &ModuleInfo {
        &self.info
    }
}

impl Module {
    /// Checks a module's description, lays its context out, and works out what
    /// its tables begin with.
    ///
    /// It does not validate wasm: a parser has done so. What it checks is that the
    /// description is whole.
    ///
    /// # Errors
    ///
    /// [`BadModule`] says what names something that is not there.
    ///
    /// ```ignore-none
    /// use allotment::instance::{BadModule, EntityIndex, MemoryIndex, Module, ModuleInfo};
    ///
    /// let mut info = ModuleInfo::default();
    /// info.exports.insert("memory".into(), EntityIndex::Memory(MemoryIndex::from_u32(0)));
    /// let error = Module::new(info).unwrap_err();
    /// assert_eq!(error, BadModule::Missing { what: "memory", index: 0, count: 0 });
    /// assert_eq!(error.to_string(), "memory 0 is named, there are 0; describe all that is named");
    /// ```
    pub fn new(info: ModuleInfo) -> Result<Self, BadModule> {
        check(&info)?;
        let offsets = VMOffsets::new(&info)?;
        let (table_images, segments_in_images) = table_images(&info);
        let memories = info.defined_memories().map(|(_, ty)| MemorySummary {
            minimum_pages: ty.minimum,
            page_size_log2: ty.page_size_log2,
            shared: ty.shared,
        });
        let tables = info.defined_tables();
        let tables =
            tables.map(|(_, ty)| TableSummary { minimum: ty.minimum, element_size: ty.element.size() });
        let (memories, tables) = (memories.collect(), tables.collect());
        Ok(Self { info, offsets, table_images, segments_in_images, memories, tables })
    }

    /// Where everything is in its instances' contexts.
    #[must_use]
    pub fn offsets(&self) -> &VMOffsets {
        &self.offsets
    }

    /// What of it decides whether slots can hold its instances: for
    /// [`validate_component`](super::InstanceAllocator::validate_component).
    #[must_use]
    pub fn summary(&self) -> ModuleSummary<'_> {
        ModuleSummary {
            memories: &self.memories,
            tables: &self.tables,
            instance_size: self.offsets.size(),
            instance_parts: self.offsets.parts(),
        }
    }

    /// What element `index` of a table of functions begins with.
    pub(super) fn initial_function(&self, table: DefinedTableIndex, index: u64) -> Option<FuncIndex> {
        let image = self.table_images.get(table)?;
        *image.get(usize::try_from(index).ok()?)?
    }

    /// The elements of a table that are known from the start.
    pub(super) fn table_image(&self, table: DefinedTableIndex) -> &[Option<FuncIndex>] {
        self.table_images.get(table).map_or(&[], Vec::as_slice)
    }

    /// The active element segments that have to be copied.
    pub(super) fn active_elements(&self) -> impl Iterator<Item = (ElemIndex, &ElementSegment)> {
        let active = |(_, segment): &(_, &ElementSegment)| matches!(segment.mode, SegmentMode::Active(..));
        self.info.elements.iter().filter(active).skip(self.segments_in_images)
    }
}

fn check(info: &ModuleInfo) -> Result<(), BadModule> {
    let counts = [
        ("imported functions", info.num_imported_functions, info.functions.len()),
        ("imported tables", info.num_imported_tables, info.tables.len()),
        ("imported memories", info.num_imported_memories, info.memories.len()),
        ("imported globals", info.num_imported_globals, info.globals.len()),
        ("global initializers", info.global_initializers.len(), info.num_defined_globals()),
        ("defined globals", info.num_defined_globals(), info.global_initializers.len()),
    ];
    for (what, count, limit) in counts {
        within(what, count as u64, limit as u64)?;
    }
    check_func_refs(info)?;
    for memory in info.memories.values() {
        within("logarithm of a page size", memory.page_size_log2.into(), MOST_PAGE_SIZE_LOG2.into())?;
    }
    for (&table, value) in &info.table_initial_values {
        exists("defined table", table.index(), info.num_defined_tables())?;
        check_expr(info, value, info.globals.len())?;
    }
    for (index, value) in &info.global_initializers {
        // It sees the globals before it only.
        check_expr(info, value, info.num_imported_globals + index.index())?;
    }
    for segment in info.data.values() {
        within("start of a data segment", segment.data.start as u64, segment.data.end as u64)?;
        if let SegmentMode::Active(memory, offset) = &segment.mode {
            exists("memory", memory.index(), info.memories.len())?;
            check_expr(info, offset, info.globals.len())?;
        }
    }
    for segment in info.elements.values() {
        if let SegmentMode::Active(table, offset) = &segment.mode {
            exists("table", table.index(), info.tables.len())?;
            check_expr(info, offset, info.globals.len())?;
        }
        match &segment.elements {
            SegmentElements::Functions(functions) => {
                functions.iter().try_for_each(|&function| referable(info, function))?;
            }
            SegmentElements::Expressions(expressions) => {
                expressions.iter().try_for_each(|expr| check_expr(info, expr, info.globals.len()))?;
            }
        }
    }
    for &export in info.exports.values() {
        match export {
            EntityIndex::Function(index) => referable(info, index)?,
            EntityIndex::Table(index) => exists("table", index.index(), info.tables.len())?,
            EntityIndex::Memory(index) => exists("memory", index.index(), info.memories.len())?,
            EntityIndex::Global(index) => exists("global", index.index(), info.globals.len())?,
        }
    }
    info.start.map_or(Ok(()), |start| exists("function", start.index(), info.functions.len()))
}

/// Each function that may be referred to has a place for that, which is its own.
fn check_func_refs(info: &ModuleInfo) -> Result<(), BadModule> {
    let mut owners = BTreeMap::new();
    for (function, ty) in &info.functions {
        let Some(place) = ty.func_ref else { continue };
        exists("function reference", place.index(), info.num_func_refs)?;
        if let Some(first) = owners.insert(place, function) {
            let (first, second) = (first.as_u32(), function.as_u32());
            return Err(BadModule::SharedFuncRef { place: place.as_u32(), first, second });
        }
    }
    Ok(())
}

fn check_expr(info: &ModuleInfo, expr: &ConstExpr, globals: usize) -> Result<(), BadModule> {
    if !expr.is_balanced() {
        return Err(BadModule::UnbalancedExpression { ops: expr.ops().len() });
    }
    expr.ops().iter().try_for_each(|&op| match op {
        ConstOp::GlobalGet(global) => exists("global", global.index(), globals),
        ConstOp::RefFunc(function) => referable(info, function),
        _ => Ok(()),
    })
}

/// A function that something refers to has a place for that.
fn referable(info: &ModuleInfo, function: FuncIndex) -> Result<(), BadModule> {
    exists("function", function.index(), info.functions.len())?;
    match info.functions[function].func_ref {
        Some(_) => Ok(()),
        None => Err(BadModule::NotReferable { function: function.as_u32() }),
    }
}

fn exists(what: &'static str, index: usize, count: usize) -> Result<(), BadModule> {
    if index < count { Ok(()) } else { Err(BadModule::Missing { what, index, count }) }
}

fn within(what: &'static str, value: u64, limit: u64) -> Result<(), BadModule> {
    if value <= limit { Ok(()) } else { Err(BadModule::TooLarge { what, value, limit }) }
}

/// Most elements that are worked out in advance, of all tables together: what is
/// beyond is copied.
const MOST_IN_IMAGES: usize = 1 << 20;

/// Tables of functions, filled with the leading active segments whose place and
/// functions are known: those need not be copied then.
fn table_images(info: &ModuleInfo) -> (PrimaryMap<DefinedTableIndex, Vec<Option<FuncIndex>>>, usize) {
    let mut images: PrimaryMap<_, Vec<_>> = info.defined_tables().map(|_| Vec::new()).collect();
    let (mut count, mut room) = (0, MOST_IN_IMAGES);
    for segment in info.elements.values() {
        let SegmentMode::Active(table, offset) = &segment.mode else { continue };
        let known = (|| {
            let defined = info.defined_table(*table)?;
            let ty = info.tables[*table];
            let whole =
                ty.element == TableElementType::Func && !info.table_initial_values.contains_key(&defined);
            let SegmentElements::Functions(functions) = &segment.elements else { return None };
            let start = u64::from(offset.as_constant()?.get_i32().cast_unsigned());
            let end = start.checked_add(functions.len() as u64)?;
            let more = usize::try_from(end).ok()?.saturating_sub(images[defined].len());
            let fits = whole && end <= ty.minimum && more <= room;
            fits.then_some((defined, usize::try_from(start).ok()?, functions, more))
        })();
        // Those after it may lie above it, and one that fails is the first to.
        let Some((table, start, functions, more)) = known else { break };
        let image = &mut images[table];
        // A short module may ask for much.
        if image.try_reserve(more).is_err() {
            break;
        }
        room -= more;
        image.resize(image.len() + more, None);
        for (to, &function) in image[start..].iter_mut().zip(functions) {
            *to = Some(function);
        }
        count += 1;
    }
    (images, count)
}
