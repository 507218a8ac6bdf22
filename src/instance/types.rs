//! What memories, tables and globals are declared as.

use crate::{MemoryInModule, MemoryRequest};

/// A memory, as a module declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryType {
    /// Pages, of its own page size, that it begins with.
    pub minimum: u64,
    /// Pages, of the same size, that it may grow to.
    pub maximum: Option<u64>,
    /// Logarithm of its page size in bytes: 16, or 0 for pages of one byte.
    pub page_size_log2: u8,
    /// Whether its addresses have 64 bits.
    pub memory64: bool,
    /// Whether threads share it.
    pub shared: bool,
}

impl MemoryType {
    /// A memory of 64 KiB pages with 32-bit addresses, not shared.
    #[must_use]
    pub const fn new(minimum: u64, maximum: Option<u64>) -> Self {
        Self { minimum, maximum, page_size_log2: 16, memory64: false, shared: false }
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        1u64.checked_shl(self.page_size_log2.into()).unwrap_or(0)
    }

    /// Pages that so many bytes are.
    #[must_use]
    pub(super) fn pages(&self, bytes: u64) -> u64 {
        bytes.checked_shr(self.page_size_log2.into()).unwrap_or(0)
    }

    /// Bytes that it begins with, if there is a number for that.
    #[must_use]
    pub fn minimum_bytes(&self) -> Option<usize> {
        usize::try_from(self.minimum.checked_mul(self.page_size())?).ok()
    }

    /// Bytes that it may grow to by its type: its maximum, and no more than addresses
    /// can name, which is 2^32 with 32 bits. `usize::MAX` where there is no number for
    /// that.
    #[must_use]
    pub fn maximum_bytes(&self) -> usize {
        let addressable = if self.memory64 { u64::MAX } else { 1 << 32 };
        let declared = self.maximum.map_or(addressable, |pages| pages.saturating_mul(self.page_size()));
        usize::try_from(declared.min(addressable)).unwrap_or(usize::MAX)
    }
}

impl MemoryType {
    /// What the core is asked for.
    #[inline]
    pub(super) fn request(&self, minimum: usize, owner: Option<MemoryInModule>) -> MemoryRequest {
        MemoryRequest {
            minimum,
            maximum: Some(self.maximum_bytes()),
            owner,
            page_size_log2: self.page_size_log2,
            memory64: self.memory64,
            shared: self.shared,
            open: self.maximum.is_none(),
            reserved: None,
        }
    }
}

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TableElementType {
    /// References to functions: 8 bytes, the address of a
    /// [`VMFuncRef`](super::VMFuncRef).
    Func,
    /// References to what the engine's collector or host owns, `externref`
    /// among them: 4 bytes, 0 for null.
    GcRef,
}

impl TableElementType {
    /// Bytes of an element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Func => 8,
            Self::GcRef => 4,
        }
    }
}

/// A table, as a module declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableType {
    /// What it holds.
    pub element: TableElementType,
    /// Elements that it begins with.
    pub minimum: u64,
    /// Elements that it may grow to.
    pub maximum: Option<u64>,
}

impl TableType {
    /// A table of functions.
    #[must_use]
    pub const fn functions(minimum: u64, maximum: Option<u64>) -> Self {
        Self { element: TableElementType::Func, minimum, maximum }
    }
}

/// What a global or an operand holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValType {
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
    /// A float of 32 bits.
    F32,
    /// A float of 64 bits.
    F64,
    /// A vector of 128 bits.
    V128,
    /// A reference to a function, or null: the address of a `VMFuncRef`, or 0.
    FuncRef,
    /// A reference of 32 bits to what the engine's collector or host owns, or 0.
    GcRef,
}

/// A global, as a module declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalType {
    /// What it holds.
    pub content: ValType,
    /// Whether it can be set.
    pub mutable: bool,
}

/// A value of any type, as bits: those of smaller types are the low ones. Floats are
/// made from their `to_bits`, references to functions from the address of a
/// [`VMFuncRef`](super::VMFuncRef).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ValRaw(pub u128);

impl ValRaw {
    /// Of an `i32`.
    #[must_use]
    pub const fn i32(value: i32) -> Self {
        Self(value.cast_unsigned() as u128)
    }

    /// Of an `i64`.
    #[must_use]
    pub const fn i64(value: i64) -> Self {
        Self(value.cast_unsigned() as u128)
    }

    /// The low 32 bits.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
    pub const fn get_i32(self) -> i32 {
        (self.0 as u32).cast_signed()
    }

    /// The low 64 bits.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
    pub const fn get_i64(self) -> i64 {
        (self.0 as u64).cast_signed()
    }
}

macro_rules! from_bits {
    ($($from:ty),*) => {$(
        impl From<$from> for ValRaw {
            fn from(bits: $from) -> Self {
                Self(u128::from(bits))
            }
        }
    )*};
}
from_bits!(u32, u64, u128);
