//! An instance as wasm describes it, without pages, contexts or laziness.

use alloc::vec::Vec;
use core::ops::Range;

use allotment::instance::{
    ConstExpr, ConstOp, DefinedTableIndex, ModuleInfo, SegmentElements, SegmentMode, TableElementType, Trap,
    cranelift_entity::EntityRef,
};

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Null,
    Function(usize),
    Reference(u32),
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) memories: Vec<Vec<u8>>,
    pub(crate) tables: Vec<Vec<Element>>,
    pub(crate) globals: Vec<u128>,
    /// Segments that are left.
    pub(crate) data: Vec<Vec<u8>>,
    pub(crate) elements: Vec<Vec<Element>>,
}

impl Model {
    /// Before it is initialised.
    pub(crate) fn new(info: &ModuleInfo, data: &[u8]) -> Self {
        let segments = info.data.values().map(|segment| data[segment.data.clone()].to_vec());
        let mut model = Self { data: segments.collect(), ..Self::default() };
        for ty in info.memories.values() {
            model.memories.push(alloc::vec![0; ty.minimum_bytes().unwrap()]);
        }
        for ty in info.tables.values() {
            let minimum = usize::try_from(ty.minimum).unwrap();
            model.tables.push(alloc::vec![null(ty.element); minimum]);
        }
        for segment in info.elements.values() {
            model.elements.push(match &segment.elements {
                SegmentElements::Functions(all) => {
                    all.iter().map(|function| Element::Function(function.index())).collect()
                }
                SegmentElements::Expressions(all) => all.iter().map(element).collect(),
            });
        }
        model
    }

    pub(crate) fn initialize(&mut self, info: &ModuleInfo) -> Result<(), Trap> {
        for expr in info.global_initializers.values() {
            let value = match *expr.ops() {
                [ConstOp::GlobalGet(earlier)] => self.globals[earlier.index()],
                _ => expr.as_constant().unwrap().0,
            };
            self.globals.push(value);
        }
        for (number, table) in self.tables.iter_mut().enumerate() {
            if let Some(expr) = info.table_initial_values.get(&DefinedTableIndex::new(number)) {
                table.fill(element(expr));
            }
        }
        for (nth, segment) in info.elements.values().enumerate() {
            if let SegmentMode::Active(table, offset) = &segment.mode {
                let length = self.elements[nth].len();
                self.table_init(table.index(), nth, place(offset), 0, length)?;
            }
        }
        for (nth, segment) in info.elements.values().enumerate() {
            if segment.mode != SegmentMode::Passive {
                self.elements[nth].clear();
            }
        }
        for (nth, segment) in info.data.values().enumerate() {
            if let SegmentMode::Active(memory, offset) = &segment.mode {
                self.memory_init(memory.index(), nth, place(offset), 0, self.data[nth].len())?;
                self.data[nth].clear();
            }
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, memory: usize, to: usize, bytes: &[u8]) -> Result<(), Trap> {
        copy(bytes, &mut self.memories[memory], to, 0..bytes.len()).ok_or(Trap::MemoryOutOfBounds)
    }

    pub(crate) fn memory_fill(&mut self, memory: usize, to: usize, byte: u8, len: usize) -> Result<(), Trap> {
        let bytes = self.memories[memory].get_mut(to..to + len);
        bytes.map(|bytes| bytes.fill(byte)).ok_or(Trap::MemoryOutOfBounds)
    }

    pub(crate) fn memory_copy(&mut self, [into, to, source, from, len]: [usize; 5]) -> Result<(), Trap> {
        let bytes = self.memories[source].clone();
        copy(&bytes, &mut self.memories[into], to, from..from + len).ok_or(Trap::MemoryOutOfBounds)
    }

    pub(crate) fn memory_init(
        &mut self,
        memory: usize,
        segment: usize,
        to: usize,
        from: usize,
        len: usize,
    ) -> Result<(), Trap> {
        let (bytes, memory) = (&self.data[segment], &mut self.memories[memory]);
        copy(bytes, memory, to, from..from + len).ok_or(Trap::MemoryOutOfBounds)
    }

    pub(crate) fn table_set(&mut self, table: usize, at: usize, element: Element) -> Result<(), Trap> {
        self.table_fill(table, at, element, 1)
    }

    pub(crate) fn table_fill(
        &mut self,
        table: usize,
        to: usize,
        element: Element,
        len: usize,
    ) -> Result<(), Trap> {
        let elements = self.tables[table].get_mut(to..to + len);
        elements.map(|elements| elements.fill(element)).ok_or(Trap::TableOutOfBounds)
    }

    pub(crate) fn table_copy(&mut self, [into, to, source, from, len]: [usize; 5]) -> Result<(), Trap> {
        let elements = self.tables[source].clone();
        copy(&elements, &mut self.tables[into], to, from..from + len).ok_or(Trap::TableOutOfBounds)
    }

    pub(crate) fn table_init(
        &mut self,
        table: usize,
        segment: usize,
        to: usize,
        from: usize,
        len: usize,
    ) -> Result<(), Trap> {
        let (elements, table) = (&self.elements[segment], &mut self.tables[table]);
        copy(elements, table, to, from..from + len).ok_or(Trap::TableOutOfBounds)
    }

    /// How many there were, unless they are more than `most` then.
    pub(crate) fn grow<T: Clone>(all: &mut Vec<T>, by: usize, with: T, most: usize) -> Option<usize> {
        let before = all.len();
        (before + by <= most).then(|| all.resize(before + by, with))?;
        Some(before)
    }
}

pub(crate) fn null(ty: TableElementType) -> Element {
    match ty {
        TableElementType::Func => Element::Null,
        _ => Element::Reference(0),
    }
}

fn copy<T: Copy>(source: &[T], into: &mut [T], to: usize, from: Range<usize>) -> Option<()> {
    let part = source.get(from)?;
    into.get_mut(to..to + part.len())?.copy_from_slice(part);
    Some(())
}

fn element(expr: &ConstExpr) -> Element {
    match *expr.ops() {
        [ConstOp::RefNull] => Element::Null,
        [ConstOp::RefFunc(function)] => Element::Function(function.index()),
        _ => Element::Reference(expr.as_constant().unwrap().get_i32().cast_unsigned()),
    }
}

/// What an offset comes to: a constant, or a sum of two.
fn place(expr: &ConstExpr) -> usize {
    let sum: i32 =
        expr.ops().iter().map(|op| if let ConstOp::Const(value) = op { value.get_i32() } else { 0 }).sum();
    usize::try_from(sum).unwrap()
}
