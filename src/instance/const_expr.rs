//! Constant expressions: what globals begin with, where segments go, what
//! elements are. They are those of the core specification (*Constant Expressions*),
//! integer arithmetic included.

use alloc::{boxed::Box, vec::Vec};

use heapless::Vec as Stack;

use super::{FuncIndex, GlobalIndex, InstanceError, ValRaw};

/// Most operands that an expression has at a time; [`Module::new`](super::Module::new)
/// refuses one with more.
pub const MAX_OPERANDS: usize = 16;

/// One instruction of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConstOp {
    /// A constant of any type, floats and vectors by their bits.
    Const(ValRaw),
    /// The value of a global.
    GlobalGet(GlobalIndex),
    /// A reference to a function: the address of its
    /// [`VMFuncRef`](super::VMFuncRef).
    RefFunc(FuncIndex),
    /// Null of any type: 0.
    RefNull,
    /// The sum of two `i32`, modulo 2^32.
    I32Add,
    /// Their difference.
    I32Sub,
    /// Their product.
    I32Mul,
    /// The sum of two `i64`, modulo 2^64.
    I64Add,
    /// Their difference.
    I64Sub,
    /// Their product.
    I64Mul,
}

/// A constant expression, in the order of the binary format, without `end`.
///
/// ```ignore-none
/// use allotment::instance::{ConstExpr, ConstOp, GlobalIndex, ValRaw};
///
/// let seven = ConstExpr::constant(ValRaw::i32(7));
/// assert_eq!(seven.as_constant(), Some(ValRaw::i32(7)));
///
/// // (i32.add (global.get 0) (i32.const 8))
/// let base = ConstOp::GlobalGet(GlobalIndex::from_u32(0));
/// let place = ConstExpr::new([base, ConstOp::Const(ValRaw::i32(8)), ConstOp::I32Add]);
/// assert_eq!(place.as_constant(), None); // known once there is an instance
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstExpr(Box<[ConstOp]>);

impl ConstExpr {
    /// An expression of these instructions; [`Module::new`](super::Module::new)
    /// looks at them.
    pub fn new(ops: impl Into<Vec<ConstOp>>) -> Self {
        Self(ops.into().into_boxed_slice())
    }

    /// One constant.
    #[must_use]
    pub fn constant(value: ValRaw) -> Self {
        Self(Box::new([ConstOp::Const(value)]))
    }

    /// Its instructions.
    #[must_use]
    pub fn ops(&self) -> &[ConstOp] {
        &self.0
    }

    /// Its value, if it is one constant.
    #[must_use]
    pub fn as_constant(&self) -> Option<ValRaw> {
        match *self.0 {
            [ConstOp::Const(value)] => Some(value),
            _ => None,
        }
    }

    /// Whether it leaves one value, with no more than [`MAX_OPERANDS`] on the way.
    pub(super) fn is_balanced(&self) -> bool {
        let mut depth = 0usize;
        let balanced = self.0.iter().all(|op| {
            let (takes, leaves) = match op {
                ConstOp::Const(_) | ConstOp::GlobalGet(_) | ConstOp::RefFunc(_) | ConstOp::RefNull => (0, 1),
                _ => (2, 1),
            };
            let Some(rest) = depth.checked_sub(takes) else { return false };
            depth = rest + leaves;
            depth <= MAX_OPERANDS
        });
        balanced && depth == 1
    }

    /// Its value, where `get` says what globals and functions are.
    pub(super) fn evaluate(
        &self,
        mut get: impl FnMut(ConstOp) -> Result<ValRaw, InstanceError>,
    ) -> Result<ValRaw, InstanceError> {
        let mut stack = Stack::<ValRaw, MAX_OPERANDS>::new();
        for &op in &self.0 {
            let value = match op {
                ConstOp::Const(value) => value,
                ConstOp::RefNull => ValRaw::default(),
                ConstOp::GlobalGet(_) | ConstOp::RefFunc(_) => get(op)?,
                _ => {
                    // Looked at when the module was made: neither is missing.
                    let (right, left) = (stack.pop().unwrap_or_default(), stack.pop().unwrap_or_default());
                    binary(op, left, right)
                }
            };
            let _ = stack.push(value);
        }
        Ok(stack.pop().unwrap_or_default())
    }
}

fn binary(op: ConstOp, left: ValRaw, right: ValRaw) -> ValRaw {
    let narrow = |f: fn(i32, i32) -> i32| ValRaw::i32(f(left.get_i32(), right.get_i32()));
    let wide = |f: fn(i64, i64) -> i64| ValRaw::i64(f(left.get_i64(), right.get_i64()));
    match op {
        ConstOp::I32Add => narrow(i32::wrapping_add),
        ConstOp::I32Sub => narrow(i32::wrapping_sub),
        ConstOp::I32Mul => narrow(i32::wrapping_mul),
        ConstOp::I64Add => wide(i64::wrapping_add),
        ConstOp::I64Sub => wide(i64::wrapping_sub),
        ConstOp::I64Mul => wide(i64::wrapping_mul),
        _ => ValRaw::default(),
    }
}
