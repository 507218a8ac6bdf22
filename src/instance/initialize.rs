//! What wasm does before its start function: globals, then element segments, then
//! data segments, in their order (core specification, *Instantiation*).

use allotment_arch::{Arch, VirtAddr};
use cranelift_entity::EntityRef;

use super::{
    ConstExpr, ConstOp, DataIndex, DefinedTableIndex, ElemIndex, Instance, InstanceError, Memory,
    MemoryIndex, Module, SegmentElements, SegmentMode, TableElement, TableElementType, TableIndex, Trap,
    VMGlobalDefinition, ValRaw, core_instance::exists,
};

impl<A: Arch> Instance<'_, A> {
    /// Gives globals their values and copies the active segments: once, before
    /// anything else. The start function is the engine's to call after that.
    ///
    /// # Errors
    ///
    /// [`Trap::TableOutOfBounds`] and [`Trap::MemoryOutOfBounds`] of the first
    /// segment that does not fit; with `Commit::PerInstance`
    /// [`Error::CommitmentExceeded`](crate::Error::CommitmentExceeded). Segments before
    /// it are copied: other instances may see that in what is imported from them. The
    /// instance itself is of no use then, and still has to be deallocated: after the
    /// instances whose tables have its functions by now.
    pub fn initialize(&mut self) -> Result<(), InstanceError> {
        let info = self.runtime_info()?.clone();
        let module = info.module();
        self.initialize_globals(module)?;
        self.initialize_tables(module)?;
        self.initialize_memories(module, info.wasm_data())
    }

    fn initialize_globals(&mut self, module: &Module) -> Result<(), InstanceError> {
        for (index, expr) in &module.global_initializers {
            let value = self.evaluate(expr)?;
            self.put(module.offsets().global(index), VMGlobalDefinition(value.0.to_le_bytes()))?;
        }
        Ok(())
    }

    fn initialize_tables(&mut self, module: &Module) -> Result<(), InstanceError> {
        for (&table, expr) in &module.table_initial_values {
            let value = self.evaluate(expr)?;
            if let Some(table) = self.tables.get_mut(table) {
                table.fill(0, as_element(table.ty().element, value), table.size())?;
            }
        }
        for number in 0..self.tables.len() {
            let table = DefinedTableIndex::new(number);
            if self.tables.get(table).is_some_and(|table| !table.is_lazy()) {
                self.write_table_image(module, table)?;
            }
        }
        for (index, segment) in module.active_elements() {
            let SegmentMode::Active(table, offset) = &segment.mode else { continue };
            let to = self.offset_in_table(offset)?;
            self.copy_elements(module, *table, index, to, 0, segment.elements.len() as u64)?;
        }
        for (index, segment) in &module.elements {
            if segment.mode != SegmentMode::Passive {
                self.elem_drop(index)?;
            }
        }
        Ok(())
    }

    /// What a table begins with, where nobody would fill it in later.
    fn write_table_image(&mut self, module: &Module, table: DefinedTableIndex) -> Result<(), InstanceError> {
        for (number, &function) in module.table_image(table).iter().enumerate() {
            let Some(function) = function else { continue };
            let reference = self.func_ref(function)?;
            self.tables[table].set(number as u64, TableElement::FuncRef(Some(reference)))?;
        }
        Ok(())
    }

    fn initialize_memories(&mut self, module: &Module, data: &[u8]) -> Result<(), InstanceError> {
        for (index, segment) in &module.data {
            if let SegmentMode::Active(memory, offset) = &segment.mode
                && !self.begins_with_segments(module, *memory)
            {
                let to = self.offset_in_memory(module, *memory, offset)?;
                let bytes = data.get(segment.data.clone()).ok_or(Trap::MemoryOutOfBounds)?;
                self.write_memory(*memory, to, bytes)?;
            }
            if segment.mode != SegmentMode::Passive {
                self.data_drop(index)?;
            }
        }
        Ok(())
    }

    /// Whether a memory shows an image of its active segments since it was made.
    fn begins_with_segments(&self, module: &Module, memory: MemoryIndex) -> bool {
        let defined = module.defined_memory(memory);
        defined.and_then(|memory| self.memories.get(memory)).is_some_and(Memory::is_initialized)
    }

    /// The value of a constant expression.
    pub(super) fn evaluate(&self, expr: &ConstExpr) -> Result<ValRaw, InstanceError> {
        expr.evaluate(|op| match op {
            ConstOp::GlobalGet(global) => self.global(global),
            ConstOp::RefFunc(function) => Ok(ValRaw::from(self.func_ref(function)?.0)),
            _ => Ok(ValRaw::default()),
        })
    }

    fn offset_in_memory(
        &self,
        module: &Module,
        memory: MemoryIndex,
        offset: &ConstExpr,
    ) -> Result<u64, InstanceError> {
        let value = self.evaluate(offset)?;
        let wide = module.memories.get(memory).is_some_and(|ty| ty.memory64);
        Ok(if wide { value.get_i64().cast_unsigned() } else { value.get_i32().cast_unsigned().into() })
    }

    fn offset_in_table(&self, offset: &ConstExpr) -> Result<u64, InstanceError> {
        Ok(self.evaluate(offset)?.get_i32().cast_unsigned().into())
    }

    /// `memory.init`: copies `len` bytes of a segment from its byte `from` on to
    /// address `to`. A dropped segment has none.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`], before anything is copied; as for
    /// [`write_memory`](Self::write_memory).
    pub fn memory_init(
        &mut self,
        memory: MemoryIndex,
        segment: DataIndex,
        to: u64,
        from: u64,
        len: u64,
    ) -> Result<(), InstanceError> {
        let info = self.runtime_info()?.clone();
        let module = info.module();
        exists("data segment", segment, module.data.len())?;
        let range = if self.is_dropped(module.offsets().dropped_data(segment))? {
            0..0
        } else {
            module.data[segment].data.clone()
        };
        let bytes = info.wasm_data().get(range).ok_or(Trap::MemoryOutOfBounds)?;
        let bytes = part(bytes, from, len).ok_or(Trap::MemoryOutOfBounds)?;
        self.write_memory(memory, to, bytes)
    }

    /// `data.drop`. Again is no error.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn data_drop(&mut self, segment: DataIndex) -> Result<(), InstanceError> {
        let module = self.module()?;
        exists("data segment", segment, module.data.len())?;
        self.mark_dropped(module.offsets().dropped_data(segment))
    }

    /// `table.init`: copies `len` elements of a segment from its element `from` on to
    /// element `to`. A dropped segment has none.
    ///
    /// # Errors
    ///
    /// [`Trap::TableOutOfBounds`], before anything is copied.
    pub fn table_init(
        &mut self,
        table: TableIndex,
        segment: ElemIndex,
        to: u64,
        from: u64,
        len: u64,
    ) -> Result<(), InstanceError> {
        let info = self.runtime_info()?.clone();
        let module = info.module();
        exists("element segment", segment, module.elements.len())?;
        self.copy_elements(module, table, segment, to, from, len)
    }

    /// `elem.drop`. Again is no error.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotFound`].
    pub fn elem_drop(&mut self, segment: ElemIndex) -> Result<(), InstanceError> {
        let module = self.module()?;
        exists("element segment", segment, module.elements.len())?;
        self.mark_dropped(module.offsets().dropped_elements(segment))
    }

    fn copy_elements(
        &mut self,
        module: &Module,
        table: TableIndex,
        segment: ElemIndex,
        to: u64,
        from: u64,
        len: u64,
    ) -> Result<(), InstanceError> {
        let elements = &module.elements[segment].elements;
        let dropped = self.is_dropped(module.offsets().dropped_elements(segment))?;
        let count = if dropped { 0 } else { elements.len() as u64 };
        let out = InstanceError::Trap(Trap::TableOutOfBounds);
        let end = from.checked_add(len).filter(|&end| end <= count).ok_or(out)?;
        let size = self.table_size(table)?;
        to.checked_add(len).filter(|&end| end <= size).ok_or(out)?;
        exists("table", table, module.tables.len())?;
        let ty = module.tables[table].element;
        for (nth, index) in (from..end).enumerate() {
            let index = usize::try_from(index).map_err(|_| out)?;
            let element = match elements {
                SegmentElements::Functions(functions) => {
                    TableElement::FuncRef(Some(self.func_ref(functions[index])?))
                }
                SegmentElements::Expressions(expressions) => {
                    as_element(ty, self.evaluate(&expressions[index])?)
                }
            };
            self.table_set(table, to + nth as u64, element)?;
        }
        Ok(())
    }

    fn is_dropped(&self, (word, bit): (usize, u64)) -> Result<bool, InstanceError> {
        Ok(self.get::<u64>(word)? & bit != 0)
    }

    fn mark_dropped(&self, (word, bit): (usize, u64)) -> Result<(), InstanceError> {
        self.put(word, self.get::<u64>(word)? | bit)
    }
}

/// `len` of `bytes` from `from` on.
fn part(bytes: &[u8], from: u64, len: u64) -> Option<&[u8]> {
    let end = usize::try_from(from.checked_add(len)?).ok()?;
    bytes.get(usize::try_from(from).ok()?..end)
}

/// A value as an element of a table.
pub(super) fn as_element(ty: TableElementType, value: ValRaw) -> TableElement {
    match ty {
        TableElementType::Func => {
            let address = value.get_i64().cast_unsigned();
            TableElement::FuncRef((address != 0).then_some(VirtAddr(address)))
        }
        TableElementType::GcRef => TableElement::GcRef(value.get_i32().cast_unsigned()),
    }
}
