//! From a function's body to its code.
//!
//! The validator goes through the body instruction by instruction, and each is
//! translated once it is known to be valid. What is on the operand stack, and
//! hence how high, the validator says.

use alloc::vec::Vec;

use allotment::instance::{
    DataIndex, ElemIndex, FuncIndex, GlobalIndex, MemoryIndex, TableIndex, cranelift_entity::EntityRef,
};
use wasmparser::{
    BlockType, FuncToValidate, FunctionBody, MemArg, Operator, OperatorsReader, ValidatorResources,
};

use crate::{
    CompileError,
    code::{Function, Op, Place, Target},
    module::Signature,
    numeric,
};

/// Translates a body, which is of type `signature` in a module with such `types`.
pub(crate) fn translate(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    types: &[Signature],
    signature: &Signature,
) -> Result<Function, CompileError> {
    let mut validator = function.into_validator(Default::default());
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let locals = validator.len_locals();
    let results = signature.results;
    let body = Label { keep: results, height: locals, ..Label::default() };
    let mut code = Translation { types, ops: Vec::new(), labels: Vec::from([body]), reachable: true };
    let mut most = locals + results;
    let mut operators = OperatorsReader::new(reader);
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset()?;
        let height = locals + validator.operand_stack_height();
        validator.op(offset, &operator)?;
        most = most.max(locals + validator.operand_stack_height());
        code.operator(&operator, height)?;
    }
    operators.finish()?;
    Ok(Function {
        ops: code.ops.into_boxed_slice(),
        params: signature.params as usize,
        results: results as usize,
        locals: locals as usize,
        most: most as usize,
    })
}

struct Translation<'t> {
    types: &'t [Signature],
    ops: Vec<Op>,
    /// The body, and the blocks that we are in.
    labels: Vec<Label>,
    /// Whether control ever comes here. What is not reachable is valid and has no
    /// height, and is left out.
    reachable: bool,
}

/// What a branch can go to.
#[derive(Default)]
struct Label {
    /// Where a loop begins. Branches to others go to their end.
    start: Option<u32>,
    keep: u32,
    height: u32,
    /// Branches that wait for the end: an instruction, and which of its targets.
    waiting: Vec<(usize, usize)>,
    /// The branch of an `if` that waits for `else`.
    otherwise: Option<usize>,
    /// Whether all of the block is unreachable.
    dead: bool,
}

impl Translation<'_> {
    /// Translates an instruction before which frames are so `height`.
    fn operator(&mut self, operator: &Operator<'_>, height: u32) -> Result<(), CompileError> {
        match operator {
            Operator::Block { blockty } => self.begin(*blockty, height, None),
            Operator::Loop { blockty } => self.begin(*blockty, height, Some(self.here())),
            Operator::If { blockty } => {
                // The condition is gone by then.
                self.begin(*blockty, height.saturating_sub(1), None);
                if self.reachable {
                    let branch = self.emit(Op::JumpUnless(0));
                    self.last_label().otherwise = Some(branch);
                }
            }
            Operator::Else => self.middle(),
            Operator::End => self.end(),
            _ if !self.reachable => {}
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth, Op::Jump);
                self.reachable = false;
            }
            Operator::BrIf { relative_depth } => self.branch(*relative_depth, Op::JumpIf),
            Operator::BrTable { targets } => {
                let depths: Result<Vec<u32>, _> = targets.targets().collect();
                let depths = depths?.into_iter().chain([targets.default()]);
                let at = self.ops.len();
                let targets = depths.enumerate().map(|(nth, depth)| self.target(depth, at, nth)).collect();
                self.emit(Op::JumpTable(targets));
                self.reachable = false;
            }
            Operator::Return | Operator::Unreachable => {
                let ends = matches!(operator, Operator::Return);
                self.emit(if ends { Op::Return } else { Op::Unreachable });
                self.reachable = false;
            }
            Operator::Nop => {}
            _ => {
                let simple = numeric::instruction(operator).or_else(|| access(operator));
                let op = simple.or_else(|| self.other(operator));
                self.emit(op.ok_or(CompileError::Unsupported("instructions of later proposals"))?);
            }
        }
        Ok(())
    }

    fn begin(&mut self, ty: BlockType, height: u32, start: Option<u32>) {
        let (params, results) = match ty {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            BlockType::FuncType(index) => {
                let signature = self.types.get(index as usize);
                signature.map_or((0, 0), |signature| (signature.params, signature.results))
            }
        };
        let keep = if start.is_some() { params } else { results };
        let height = height.saturating_sub(params);
        let dead = !self.reachable;
        self.labels.push(Label { start, keep, height, dead, ..Label::default() });
    }

    fn middle(&mut self) {
        if self.last_label().dead {
            return;
        }
        if self.reachable {
            self.branch(0, Op::Jump);
        }
        let here = self.here();
        if let Some(branch) = self.last_label().otherwise.take() {
            self.arrive(branch, 0, here);
        }
        self.reachable = true;
    }

    fn end(&mut self) {
        let Some(label) = self.labels.pop() else { return };
        if label.dead {
            return;
        }
        let here = self.here();
        for (branch, nth) in label.waiting {
            self.arrive(branch, nth, here);
        }
        if let Some(branch) = label.otherwise {
            self.arrive(branch, 0, here);
        }
        if self.labels.is_empty() {
            self.emit(Op::Return);
        }
        self.reachable = true;
    }

    fn branch(&mut self, depth: u32, op: fn(Target) -> Op) {
        let target = self.target(depth, self.ops.len(), 0);
        self.emit(op(target));
    }

    /// The label at `depth`, for target `nth` of the instruction `at`.
    fn target(&mut self, depth: u32, at: usize, nth: usize) -> Target {
        // Valid: so many labels there are.
        let index = self.labels.len() - 1 - depth as usize;
        let label = &mut self.labels[index];
        if label.start.is_none() {
            label.waiting.push((at, nth));
        }
        Target { to: label.start.unwrap_or(0), keep: label.keep, height: label.height }
    }

    /// Has a branch that waited go to `here`.
    fn arrive(&mut self, branch: usize, nth: usize, here: u32) {
        match &mut self.ops[branch] {
            Op::Jump(target) | Op::JumpIf(target) => target.to = here,
            Op::JumpUnless(to) => *to = here,
            Op::JumpTable(targets) => targets[nth].to = here,
            _ => {}
        }
    }

    fn last_label(&mut self) -> &mut Label {
        // Valid: `else` and `if` are in a block.
        let last = self.labels.len() - 1;
        &mut self.labels[last]
    }

    /// The number of the next instruction. A body has fewer bytes than 2^32, and an
    /// instruction for each at most.
    fn here(&self) -> u32 {
        u32::try_from(self.ops.len()).unwrap_or(u32::MAX)
    }

    fn emit(&mut self, op: Op) -> usize {
        self.ops.push(op);
        self.ops.len() - 1
    }

    /// Instructions that are neither control, numeric, loads nor stores.
    fn other(&self, operator: &Operator<'_>) -> Option<Op> {
        let (memory, table) =
            (|index: u32| MemoryIndex::from_u32(index), |index: u32| TableIndex::from_u32(index));
        Some(match *operator {
            Operator::Call { function_index } => Op::Call(FuncIndex::from_u32(function_index)),
            Operator::CallIndirect { type_index, table_index } => {
                Op::CallIndirect(table(table_index), self.types.get(type_index as usize)?.id)
            }
            Operator::Drop => Op::Drop,
            Operator::Select | Operator::TypedSelect { .. } => Op::Select,
            Operator::LocalGet { local_index } => Op::LocalGet(local_index),
            Operator::LocalSet { local_index } => Op::LocalSet(local_index),
            Operator::LocalTee { local_index } => Op::LocalTee(local_index),
            Operator::GlobalGet { global_index } => Op::GlobalGet(GlobalIndex::from_u32(global_index)),
            Operator::GlobalSet { global_index } => Op::GlobalSet(GlobalIndex::from_u32(global_index)),
            Operator::I32Const { value } => Op::Const(value.cast_unsigned().into()),
            Operator::I64Const { value } => Op::Const(value.cast_unsigned()),
            Operator::F32Const { value } => Op::Const(value.bits().into()),
            Operator::F64Const { value } => Op::Const(value.bits()),
            Operator::RefNull { .. } => Op::Const(0),
            Operator::RefFunc { function_index } => Op::RefFunc(FuncIndex::from_u32(function_index)),
            Operator::MemorySize { mem } => Op::MemorySize(memory(mem)),
            Operator::MemoryGrow { mem } => Op::MemoryGrow(memory(mem)),
            Operator::MemoryFill { mem } => Op::MemoryFill(memory(mem)),
            Operator::MemoryCopy { dst_mem, src_mem } => Op::MemoryCopy(memory(dst_mem), memory(src_mem)),
            Operator::MemoryInit { data_index, mem } => {
                Op::MemoryInit(memory(mem), DataIndex::from_u32(data_index))
            }
            Operator::DataDrop { data_index } => Op::DataDrop(DataIndex::from_u32(data_index)),
            Operator::TableGet { table: index } => Op::TableGet(table(index)),
            Operator::TableSet { table: index } => Op::TableSet(table(index)),
            Operator::TableSize { table: index } => Op::TableSize(table(index)),
            Operator::TableGrow { table: index } => Op::TableGrow(table(index)),
            Operator::TableFill { table: index } => Op::TableFill(table(index)),
            Operator::TableCopy { dst_table, src_table } => Op::TableCopy(table(dst_table), table(src_table)),
            Operator::TableInit { elem_index, table: index } => {
                Op::TableInit(table(index), ElemIndex::from_u32(elem_index))
            }
            Operator::ElemDrop { elem_index } => Op::ElemDrop(ElemIndex::from_u32(elem_index)),
            _ => return None,
        })
    }
}

/// A load or a store.
#[expect(clippy::cast_possible_truncation, reason = "narrow values are the low bits")]
fn access(operator: &Operator<'_>) -> Option<Op> {
    let load = |memarg: &MemArg, bytes, extend| Some(Op::Load(place(memarg, bytes), extend));
    let store = |memarg: &MemArg, bytes| Some(Op::Store(place(memarg, bytes)));
    match operator {
        Operator::I32Load { memarg } | Operator::F32Load { memarg } => load(memarg, 4, |bits| bits),
        Operator::I64Load { memarg } | Operator::F64Load { memarg } => load(memarg, 8, |bits| bits),
        Operator::I32Load8U { memarg } | Operator::I64Load8U { memarg } => load(memarg, 1, |bits| bits),
        Operator::I32Load16U { memarg } | Operator::I64Load16U { memarg } => load(memarg, 2, |bits| bits),
        Operator::I64Load32U { memarg } => load(memarg, 4, |bits| bits),
        Operator::I32Load8S { memarg } => load(memarg, 1, |bits| narrow(i32::from(bits as u8 as i8))),
        Operator::I32Load16S { memarg } => load(memarg, 2, |bits| narrow(i32::from(bits as u16 as i16))),
        Operator::I64Load8S { memarg } => load(memarg, 1, |bits| i64::from(bits as u8 as i8).cast_unsigned()),
        Operator::I64Load16S { memarg } => {
            load(memarg, 2, |bits| i64::from(bits as u16 as i16).cast_unsigned())
        }
        Operator::I64Load32S { memarg } => {
            load(memarg, 4, |bits| i64::from(bits as u32 as i32).cast_unsigned())
        }
        Operator::I32Store8 { memarg } | Operator::I64Store8 { memarg } => store(memarg, 1),
        Operator::I32Store16 { memarg } | Operator::I64Store16 { memarg } => store(memarg, 2),
        Operator::I32Store { memarg } | Operator::F32Store { memarg } | Operator::I64Store32 { memarg } => {
            store(memarg, 4)
        }
        Operator::I64Store { memarg } | Operator::F64Store { memarg } => store(memarg, 8),
        _ => None,
    }
}

fn narrow(value: i32) -> u64 {
    value.cast_unsigned().into()
}

fn place(memarg: &MemArg, bytes: usize) -> Place {
    Place { memory: MemoryIndex::new(memarg.memory as usize), offset: memarg.offset, bytes }
}
