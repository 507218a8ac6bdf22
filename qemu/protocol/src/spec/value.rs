//! Values that go in, and patterns for those that come out.

extern crate alloc;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// An argument. Numbers with a point are bits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Value {
    /// `i32.const`.
    I32(i32),
    /// `i64.const`.
    I64(i64),
    /// `f32.const`.
    F32(u32),
    /// `f64.const`.
    F64(u64),
    /// `v128.const`, the first lane lowest.
    V128(u128),
    /// `ref.null`.
    Null(Heap),
    /// `ref.extern`: the host's object of this number.
    Extern(u32),
    /// `ref.host`: the same, as wasm's `any`.
    Host(u32),
}

/// The hierarchy that a reference belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Heap {
    /// `any` and all below it.
    Any,
    /// `extern` and `noextern`.
    Extern,
    /// `func` and all below it.
    Func,
    /// `exn` and `noexn`.
    Exn,
}

/// What a result has to be.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Expected {
    /// This number.
    I32(i32),
    /// This number.
    I64(i64),
    /// These bits, or a NaN.
    F32(Float<u32>),
    /// These bits, or a NaN.
    F64(Float<u64>),
    /// These bits.
    V128(u128),
    /// This in each lane.
    F32x4([Float<u32>; 4]),
    /// This in each lane.
    F64x2([Float<u64>; 2]),
    /// A null of this hierarchy, or of any.
    Null(Option<Heap>),
    /// A function.
    Func,
    /// The host's object of this number, or any.
    Extern(Option<u32>),
    /// The same, as wasm's `any`.
    Host(u32),
    /// Any object that is not the host's alone.
    Any,
    /// An object that can be compared.
    Eq,
    /// A small integer.
    I31,
    /// A structure.
    Struct,
    /// An array.
    Array,
    /// One of these.
    Either(Vec<Self>),
}

/// A floating-point number that has to be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Float<T> {
    /// The NaN with only the highest bit of its payload, of either sign.
    Canonical,
    /// Any NaN that is quiet.
    Arithmetic,
    /// These bits.
    Bits(T),
}

impl Float<u32> {
    /// Whether a number of these bits meets it.
    #[must_use]
    pub const fn is_met_by(self, bits: u32) -> bool {
        const QUIET: u32 = 0x7fc0_0000;
        match self {
            Self::Canonical => bits & 0x7fff_ffff == QUIET,
            Self::Arithmetic => bits & QUIET == QUIET,
            Self::Bits(expected) => bits == expected,
        }
    }
}

impl Float<u64> {
    /// Whether a number of these bits meets it.
    #[must_use]
    pub const fn is_met_by(self, bits: u64) -> bool {
        const QUIET: u64 = 0x7ff8_0000_0000_0000;
        match self {
            Self::Canonical => bits & 0x7fff_ffff_ffff_ffff == QUIET,
            Self::Arithmetic => bits & QUIET == QUIET,
            Self::Bits(expected) => bits == expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Float;

    #[test]
    fn canonical_is_one_nan_of_either_sign() {
        for bits in [0x7fc0_0000_u32, 0xffc0_0000] {
            assert!(Float::<u32>::Canonical.is_met_by(bits) && Float::<u32>::Arithmetic.is_met_by(bits));
        }
        // Infinity, a signalling NaN, a quiet one with more payload.
        for (bits, arithmetic) in [(0x7f80_0000_u32, false), (0x7fa0_0000, false), (0x7fc0_0001, true)] {
            assert!(!Float::<u32>::Canonical.is_met_by(bits));
            assert_eq!(Float::<u32>::Arithmetic.is_met_by(bits), arithmetic);
        }
        assert!(Float::<u64>::Canonical.is_met_by(f64::NAN.to_bits()));
        assert!(!Float::<u64>::Arithmetic.is_met_by(f64::INFINITY.to_bits()));
        assert!(Float::Bits(7_u64).is_met_by(7) && !Float::Bits(7_u64).is_met_by(8));
    }
}
