//! The code that the interpreter runs: wasm without its nesting.
//!
//! ```text
//!   wasm     block  ...  br_if 1  ...  end        a label is found by counting
//!   here     ...         JumpIf(Target)  ...      to: which instruction comes next
//!                                                 keep, height: which operands stay
//!
//!   frame    | parameters | other locals | operands ...        slots of 64 bits
//!            base                        heights count from base
//! ```
//!
//! A slot holds any value by its bits; those of 32 bits have zeros above them. So
//! an address or a count is the whole slot, whether its type is `i32` or `i64`.

use alloc::boxed::Box;

use allotment::instance::{
    DataIndex, ElemIndex, FuncIndex, GlobalIndex, MemoryIndex, TableIndex, VMSharedTypeIndex,
};

use crate::Trap;

/// A function that its module defines.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) ops: Box<[Op]>,
    pub(crate) params: usize,
    pub(crate) results: usize,
    /// Parameters and other locals.
    pub(crate) locals: usize,
    /// Slots that a frame of it ever has.
    pub(crate) most: usize,
}

/// Where a branch goes, and what it leaves of the operands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The next instruction.
    pub(crate) to: u32,
    /// How many operands from the top go along.
    pub(crate) keep: u32,
    /// What lies below them then.
    pub(crate) height: u32,
}

/// A function from one operand to another; or two.
pub(crate) type Unary = fn(u64) -> Result<u64, Trap>;
pub(crate) type Binary = fn(u64, u64) -> Result<u64, Trap>;

/// An instruction.
#[derive(Debug)]
pub(crate) enum Op {
    Unreachable,
    Jump(Target),
    JumpIf(Target),
    /// Leaves the operands as they are.
    JumpUnless(u32),
    /// The last one is the default.
    JumpTable(Box<[Target]>),
    Return,
    Call(FuncIndex),
    CallIndirect(TableIndex, VMSharedTypeIndex),
    Drop,
    Select,
    LocalGet(u32),
    LocalSet(u32),
    LocalTee(u32),
    GlobalGet(GlobalIndex),
    GlobalSet(GlobalIndex),
    Const(u64),
    RefFunc(FuncIndex),
    Unary(Unary),
    Binary(Binary),
    Load(Place, fn(u64) -> u64),
    Store(Place),
    MemorySize(MemoryIndex),
    MemoryGrow(MemoryIndex),
    MemoryFill(MemoryIndex),
    /// To, from.
    MemoryCopy(MemoryIndex, MemoryIndex),
    MemoryInit(MemoryIndex, DataIndex),
    DataDrop(DataIndex),
    TableGet(TableIndex),
    TableSet(TableIndex),
    TableSize(TableIndex),
    TableGrow(TableIndex),
    TableFill(TableIndex),
    /// To, from.
    TableCopy(TableIndex, TableIndex),
    TableInit(TableIndex, ElemIndex),
    ElemDrop(ElemIndex),
}

/// What a load or store says about its place, beside the address on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) memory: MemoryIndex,
    pub(crate) offset: u64,
    /// 1, 2, 4 or 8.
    pub(crate) bytes: usize,
}
