//! Modules of random shape.

use alloc::{sync::Arc, vec::Vec};

use allotment::instance::{
    ConstExpr, ConstOp, DataSegment, DefinedTableIndex, ElementSegment, FuncIndex, FuncRefIndex,
    FunctionType, GlobalIndex, GlobalType, MemoryIndex, MemoryType, ModuleInfo, ModuleRuntimeInfo,
    SegmentElements, SegmentMode, TableElementType, TableIndex, TableType, VMSharedTypeIndex, ValRaw,
    ValType, cranelift_entity::EntityRef,
};

use crate::{random::Random, world::code};

/// Most bytes of a memory, and elements of a table.
pub(crate) const MOST_BYTES: usize = 0x4_0000;
pub(crate) const MOST_ELEMENTS: usize = 1100;
/// Functions of each module; the first is imported.
pub(crate) const FUNCTIONS: usize = 4;
const DATA: usize = 2000;

/// A module with one or two memories and tables, and whatever else.
pub(crate) fn any(random: &mut Random, id: u64) -> Arc<dyn ModuleRuntimeInfo> {
    let mut info =
        ModuleInfo { num_imported_functions: 1, num_func_refs: FUNCTIONS, ..ModuleInfo::default() };
    for number in 0..FUNCTIONS {
        let func_ref = Some(FuncRefIndex::new(number));
        info.functions.push(FunctionType { signature: VMSharedTypeIndex(9), func_ref });
    }
    for _ in 0..=random.below(2) {
        info.memories.push(memory(random));
    }
    for number in 0..=random.below(2) {
        let table = table(random);
        info.tables.push(table);
        if random.percent(25) {
            info.table_initial_values.insert(DefinedTableIndex::new(number), element(random, table.element));
        }
    }
    for number in 0..random.below(4) {
        info.globals.push(GlobalType { content: ValType::V128, mutable: true });
        let earlier = (number > 0 && random.percent(30)).then(|| GlobalIndex::new(random.below(number)));
        let value = ValRaw(u128::from(random.next()) << 64 | u128::from(random.next()));
        info.global_initializers.push(
            earlier
                .map_or(ConstExpr::constant(value), |earlier| ConstExpr::new([ConstOp::GlobalGet(earlier)])),
        );
    }
    for _ in 0..random.below(4) {
        let segment = data(random, &info);
        info.data.push(segment);
    }
    for _ in 0..random.below(5) {
        let segment = elements(random, &info);
        info.elements.push(segment);
    }
    code(info, id, (0..DATA).map(|_| random.byte()).collect())
}

fn memory(random: &mut Random) -> MemoryType {
    let (log2, most) = random.pick(&[(0, MOST_BYTES), (16, MOST_BYTES >> 16)]);
    let minimum = random.below(most / 2 + 1);
    let maximum = minimum + random.below(most - minimum + 1);
    MemoryType {
        page_size_log2: log2,
        memory64: random.percent(30),
        ..MemoryType::new(minimum as u64, Some(maximum as u64))
    }
}

fn table(random: &mut Random) -> TableType {
    let element = random.pick(&[TableElementType::Func, TableElementType::Func, TableElementType::GcRef]);
    let minimum = random.pick(&[0, 5, 100, 700]);
    let maximum = minimum + random.below(MOST_ELEMENTS - minimum);
    TableType { element, minimum: minimum as u64, maximum: Some(maximum as u64) }
}

fn element(random: &mut Random, ty: TableElementType) -> ConstExpr {
    match ty {
        TableElementType::Func if random.percent(20) => ConstExpr::new([ConstOp::RefNull]),
        TableElementType::Func => ConstExpr::new([ConstOp::RefFunc(FuncIndex::new(random.below(FUNCTIONS)))]),
        _ => ConstExpr::constant(ValRaw::i32(i32::from(random.byte()))),
    }
}

/// Where a segment of `length` goes that has `size` before it: mostly in bounds.
fn offset(random: &mut Random, size: u64, length: usize) -> ConstExpr {
    let fits = usize::try_from(size).unwrap().saturating_sub(length);
    let offset = if random.percent(10) { fits + 1 } else { random.below(fits + 1) };
    let offset = i32::try_from(offset).unwrap();
    if random.percent(20) {
        let ops = [ConstOp::Const(ValRaw::i32(offset - 5)), ConstOp::Const(ValRaw::i32(5)), ConstOp::I32Add];
        return ConstExpr::new(ops);
    }
    ConstExpr::constant(ValRaw::i32(offset))
}

fn data(random: &mut Random, info: &ModuleInfo) -> DataSegment {
    let length = random.below(300);
    let from = random.below(DATA - length);
    let memory = MemoryIndex::new(random.below(info.memories.len()));
    let size = info.memories[memory].minimum_bytes().unwrap();
    let mode = match random.below(3) {
        0 => SegmentMode::Passive,
        _ => SegmentMode::Active(memory, offset(random, size as u64, length)),
    };
    DataSegment { mode, data: from..from + length }
}

fn elements(random: &mut Random, info: &ModuleInfo) -> ElementSegment {
    let length = random.below(8);
    let table = TableIndex::new(random.below(info.tables.len()));
    let TableType { element: ty, minimum, .. } = info.tables[table];
    let mode = match random.below(6) {
        0 => SegmentMode::Declared,
        1 | 2 => SegmentMode::Passive,
        _ => SegmentMode::Active(table, offset(random, minimum, length)),
    };
    let elements = if ty == TableElementType::Func && random.percent(60) {
        let functions: Vec<_> = (0..length).map(|_| FuncIndex::new(random.below(FUNCTIONS))).collect();
        SegmentElements::Functions(functions.into())
    } else {
        SegmentElements::Expressions((0..length).map(|_| element(random, ty)).collect())
    };
    ElementSegment { mode, elements }
}
