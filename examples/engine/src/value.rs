//! Values, as hosts see them.

use allotment::arch::VirtAddr;
use wasmparser::{RefType, ValType};

/// A value of some type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// An integer of 32 bits.
    I32(i32),
    /// An integer of 64 bits.
    I64(i64),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
    /// A function, or null.
    FuncRef(Option<FuncRef>),
    /// What the host knows by that number, or 0 for null.
    ExternRef(u32),
}

/// A function of some store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncRef {
    store: u64,
    address: VirtAddr,
}

impl Value {
    /// The type that it is of.
    pub(crate) fn ty(&self) -> ValType {
        match self {
            Self::I32(_) => ValType::I32,
            Self::I64(_) => ValType::I64,
            Self::F32(_) => ValType::F32,
            Self::F64(_) => ValType::F64,
            Self::FuncRef(_) => ValType::Ref(RefType::FUNCREF),
            Self::ExternRef(_) => ValType::Ref(RefType::EXTERNREF),
        }
    }

    /// Its slot, if it is of that type; a function must be one of store `store`.
    pub(crate) fn into_slot(self, ty: ValType, store: u64) -> Option<u64> {
        if self.ty() != ty {
            return None;
        }
        Some(match self {
            Self::I32(value) => value.cast_unsigned().into(),
            Self::I64(value) => value.cast_unsigned(),
            Self::F32(value) => value.to_bits().into(),
            Self::F64(value) => value.to_bits(),
            Self::FuncRef(None) => 0,
            // Another store's may be gone.
            Self::FuncRef(Some(function)) if function.store != store => return None,
            Self::FuncRef(Some(function)) => function.address.0,
            Self::ExternRef(value) => value.into(),
        })
    }

    /// What is in a slot of that type; a function is one of store `store`.
    #[expect(clippy::cast_possible_truncation, reason = "smaller types are the low bits")]
    pub(crate) fn from_slot(slot: u64, ty: ValType, store: u64) -> Self {
        match ty {
            ValType::I64 => Self::I64(slot.cast_signed()),
            ValType::F32 => Self::F32(f32::from_bits(slot as u32)),
            ValType::F64 => Self::F64(f64::from_bits(slot)),
            ValType::Ref(RefType::FUNCREF) => {
                Self::FuncRef((slot != 0).then_some(FuncRef { store, address: VirtAddr(slot) }))
            }
            ValType::Ref(_) => Self::ExternRef(slot as u32),
            // A module with vectors is refused.
            ValType::I32 | ValType::V128 => Self::I32((slot as u32).cast_signed()),
        }
    }
}
