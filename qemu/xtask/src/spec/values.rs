//! Values and patterns of a text, as the kernel reads them.

use anyhow::{Result, bail};
use protocol::spec::{Expected, Float, Heap, Value};
use wast::core::{AbstractHeapType, HeapType, NanPattern, V128Const, V128Pattern, WastArgCore, WastRetCore};
use wast::token::{F32, F64};
use wast::{WastArg, WastRet};

/// An argument.
///
/// # Errors
/// For what no core function takes.
pub(super) fn argument(argument: &WastArg<'_>) -> Result<Value> {
    let WastArg::Core(argument) = argument else { bail!("an argument of a component") };
    Ok(match argument {
        WastArgCore::I32(value) => Value::I32(*value),
        WastArgCore::I64(value) => Value::I64(*value),
        WastArgCore::F32(value) => Value::F32(value.bits),
        WastArgCore::F64(value) => Value::F64(value.bits),
        WastArgCore::V128(value) => Value::V128(constant(value)),
        WastArgCore::RefNull(heap) => Value::Null(hierarchy(heap)?),
        WastArgCore::RefExtern(number) => Value::Extern(*number),
        WastArgCore::RefHost(number) => Value::Host(*number),
    })
}

/// A pattern for a result.
///
/// # Errors
/// For what no core function returns.
pub(super) fn expected(result: &WastRet<'_>) -> Result<Expected> {
    match result {
        WastRet::Core(result) => pattern(result),
        _ => bail!("a result of a component"),
    }
}

fn pattern(result: &WastRetCore<'_>) -> Result<Expected> {
    Ok(match result {
        WastRetCore::I32(value) => Expected::I32(*value),
        WastRetCore::I64(value) => Expected::I64(*value),
        WastRetCore::F32(value) => Expected::F32(f32(value)),
        WastRetCore::F64(value) => Expected::F64(f64(value)),
        WastRetCore::V128(V128Pattern::F32x4(lanes)) => Expected::F32x4(lanes.each_ref().map(f32)),
        WastRetCore::V128(V128Pattern::F64x2(lanes)) => Expected::F64x2(lanes.each_ref().map(f64)),
        WastRetCore::V128(V128Pattern::I8x16(lanes)) => Expected::V128(lanes_of(lanes.map(i8::to_le_bytes))),
        WastRetCore::V128(V128Pattern::I16x8(lanes)) => Expected::V128(lanes_of(lanes.map(i16::to_le_bytes))),
        WastRetCore::V128(V128Pattern::I32x4(lanes)) => Expected::V128(lanes_of(lanes.map(i32::to_le_bytes))),
        WastRetCore::V128(V128Pattern::I64x2(lanes)) => Expected::V128(lanes_of(lanes.map(i64::to_le_bytes))),
        // A type of the module's own does not say here which hierarchy it belongs to.
        WastRetCore::RefNull(None | Some(HeapType::Concrete(_) | HeapType::Exact(_))) => Expected::Null(None),
        WastRetCore::RefNull(Some(heap)) => Expected::Null(Some(hierarchy(heap)?)),
        WastRetCore::RefExtern(number) => Expected::Extern(*number),
        WastRetCore::RefHost(number) => Expected::Host(*number),
        WastRetCore::RefFunc(_) => Expected::Func,
        WastRetCore::RefAny => Expected::Any,
        WastRetCore::RefEq => Expected::Eq,
        WastRetCore::RefArray => Expected::Array,
        WastRetCore::RefStruct => Expected::Struct,
        WastRetCore::RefI31 | WastRetCore::RefI31Shared => Expected::I31,
        WastRetCore::Either(choices) => Expected::Either(choices.iter().map(pattern).collect::<Result<_>>()?),
    })
}

fn f32(value: &NanPattern<F32>) -> Float<u32> {
    match value {
        NanPattern::CanonicalNan => Float::Canonical,
        NanPattern::ArithmeticNan => Float::Arithmetic,
        NanPattern::Value(value) => Float::Bits(value.bits),
    }
}

fn f64(value: &NanPattern<F64>) -> Float<u64> {
    match value {
        NanPattern::CanonicalNan => Float::Canonical,
        NanPattern::ArithmeticNan => Float::Arithmetic,
        NanPattern::Value(value) => Float::Bits(value.bits),
    }
}

fn constant(value: &V128Const) -> u128 {
    u128::from_le_bytes(value.to_le_bytes())
}

/// Lanes, the first one lowest.
fn lanes_of<const SIZE: usize, const COUNT: usize>(lanes: [[u8; SIZE]; COUNT]) -> u128 {
    lanes.as_flattened().iter().rev().fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

fn hierarchy(heap: &HeapType<'_>) -> Result<Heap> {
    use AbstractHeapType as Abstract;

    let HeapType::Abstract { ty, .. } = heap else { bail!("a null of a type that is not an abstract one") };
    Ok(match ty {
        Abstract::Func | Abstract::NoFunc => Heap::Func,
        Abstract::Extern | Abstract::NoExtern => Heap::Extern,
        Abstract::Exn | Abstract::NoExn => Heap::Exn,
        Abstract::Any
        | Abstract::Eq
        | Abstract::Struct
        | Abstract::Array
        | Abstract::I31
        | Abstract::None => Heap::Any,
        Abstract::Cont | Abstract::NoCont => bail!("a null continuation"),
    })
}

#[cfg(test)]
mod tests {
    use super::lanes_of;

    #[test]
    fn the_first_lane_is_lowest() {
        assert_eq!(lanes_of([[1_u8, 2], [3, 4]]), 0x0403_0201);
        assert_eq!(lanes_of([i64::MIN.to_le_bytes(), 7_i64.to_le_bytes()]), 7 << 64 | 1 << 63);
    }
}
