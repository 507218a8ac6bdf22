//! Instructions on memories, tables and globals. All of these are in Allotment's
//! keeping, and asked for each time: what an instruction sees is what any other
//! instance with the same import has done.

use alloc::boxed::Box;

use allotment::{
    arch::VirtAddr,
    instance::{MemoryIndex, TableElement, TableElementType, TableIndex, ValRaw},
};

use crate::{
    Code, Guarded, InstanceId, Store, Trap,
    access::{self, Refused},
    code::Op,
    store::{Entry, slot_of},
};

impl<A: Guarded> Store<'_, '_, A> {
    /// Runs an instruction that needs more than the stack.
    pub(crate) fn runtime(&mut self, id: InstanceId, code: &Code, op: &Op) -> Result<(), Trap> {
        let Entry { handle, guarded } = &mut self.instances[id.0];
        let (stack, module) = (&mut self.stack, &code.module);
        let is_guarded = |memory: MemoryIndex| guarded.get(memory.as_u32() as usize) == Some(&true);
        match *op {
            Op::Load(place, extend) => {
                let (allocator, address) = (self.engine.allocator, stack.pop());
                let loaded = access::load(allocator, handle, is_guarded(place.memory), place, address);
                let bits = loaded.map_err(|refused| report(&mut self.fault, refused))?;
                stack.push(extend(bits));
            }
            Op::Store(place) => {
                let (allocator, value, address) = (self.engine.allocator, stack.pop(), stack.pop());
                let stored =
                    access::store(allocator, handle, is_guarded(place.memory), place, address, value);
                stored.map_err(|refused| report(&mut self.fault, refused))?;
            }
            Op::GlobalGet(index) => stack.push(slot_of(handle.global(index)?)),
            Op::GlobalSet(index) => handle.set_global(index, ValRaw::from(stack.pop()))?,
            Op::RefFunc(index) => stack.push(handle.func_ref(index)?.0),
            Op::MemorySize(memory) => stack.push(handle.memory_size(memory)?),
            Op::MemoryGrow(memory) => {
                let delta = stack.pop();
                let before = handle.memory_grow(memory, delta, self.limits.limiter())?;
                stack.push(or_minus_one(before, module.memories[memory].memory64));
            }
            Op::MemoryFill(memory) => {
                let [to, byte, len] = stack.pop3();
                let [byte, ..] = byte.to_le_bytes();
                handle.memory_fill(memory, to, byte, len)?;
            }
            Op::MemoryCopy(to_memory, from_memory) => {
                let [to, from, len] = stack.pop3();
                handle.memory_copy(to_memory, to, from_memory, from, len)?;
            }
            Op::MemoryInit(memory, segment) => {
                let [to, from, len] = stack.pop3();
                handle.memory_init(memory, segment, to, from, len)?;
            }
            Op::DataDrop(segment) => handle.data_drop(segment)?,
            Op::TableGet(table) => {
                let element = handle.table_get(table, stack.pop())?;
                stack.push(match element {
                    TableElement::FuncRef(function) => function.map_or(0, |function| function.0),
                    TableElement::GcRef(reference) => reference.into(),
                });
            }
            Op::TableSet(table) => {
                let element = element(code, table, stack.pop());
                handle.table_set(table, stack.pop(), element)?;
            }
            Op::TableSize(table) => stack.push(handle.table_size(table)?),
            Op::TableGrow(table) => {
                let (delta, init) = (stack.pop(), stack.pop());
                let init = element(code, table, init);
                let before = handle.table_grow(table, delta, init, self.limits.limiter())?;
                stack.push(or_minus_one(before, false));
            }
            Op::TableFill(table) => {
                let [start, value, len] = stack.pop3();
                handle.table_fill(table, start, element(code, table, value), len)?;
            }
            Op::TableCopy(to_table, from_table) => {
                let [to, from, len] = stack.pop3();
                handle.table_copy(to_table, to, from_table, from, len)?;
            }
            Op::TableInit(table, segment) => {
                let [to, from, len] = stack.pop3();
                handle.table_init(table, segment, to, from, len)?;
            }
            Op::ElemDrop(segment) => handle.elem_drop(segment)?,
            // All others are the interpreter's own.
            _ => return Err(Trap::Unreachable),
        }
        Ok(())
    }
}

/// Keeps what is known of a fault, for the trap that it becomes.
fn report(kept: &mut Option<Box<allotment::FaultReport>>, refused: Refused) -> Trap {
    let trap = refused.trap();
    if let Refused::Faulted(fault) = refused {
        *kept = Some(Box::new(fault));
    }
    trap
}

/// What growth gives.
fn or_minus_one(before: Option<u64>, wide: bool) -> u64 {
    before.unwrap_or(if wide { u64::MAX } else { u32::MAX.into() })
}

/// A slot as an element of a table.
fn element(code: &Code, table: TableIndex, slot: u64) -> TableElement {
    match code.module.tables.get(table).map(|ty| ty.element) {
        Some(TableElementType::GcRef) => TableElement::GcRef(u32::try_from(slot).unwrap_or(0)),
        _ => TableElement::FuncRef((slot != 0).then_some(VirtAddr(slot))),
    }
}
