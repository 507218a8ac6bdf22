//! Arguments as Wasmtime has them, and whether its results are as expected.

use alloc::{format, string::String, vec::Vec};

use protocol::spec::{Expected, Heap, Value};
use wasmtime::{AnyRef, ExternRef, Result, Rooted, Store, Val};

/// The host's objects have a number each.
type Number = u32;

/// An argument.
pub(crate) fn argument(store: &mut Store<()>, value: &Value) -> Result<Val> {
    Ok(match *value {
        Value::I32(value) => Val::I32(value),
        Value::I64(value) => Val::I64(value),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(bits) => Val::V128(bits.into()),
        Value::Null(Heap::Any) => Val::AnyRef(None),
        Value::Null(Heap::Extern) => Val::ExternRef(None),
        Value::Null(Heap::Func) => Val::FuncRef(None),
        Value::Null(Heap::Exn) => Val::ExnRef(None),
        Value::Extern(number) => Val::ExternRef(Some(ExternRef::new(store, number)?)),
        Value::Host(number) => {
            let object = ExternRef::new(&mut *store, number)?;
            Val::AnyRef(Some(AnyRef::convert_extern(store, object)?))
        }
    })
}

/// Checks that results are as expected, one by one.
pub(crate) fn check(store: &mut Store<()>, results: &[Val], expected: &[Expected]) -> Result<(), String> {
    if results.len() != expected.len() {
        return Err(format!("expected {} results, got {}", expected.len(), results.len()));
    }
    for (number, (result, expected)) in results.iter().zip(expected).enumerate() {
        let meets = meets(store, result, expected)
            .map_err(|error| format!("result {number} cannot be looked at: {error:?}"))?;
        if !meets {
            return Err(format!("expected {expected:x?} as result {number}, got {}", shown(result)));
        }
    }
    Ok(())
}

fn meets(store: &mut Store<()>, result: &Val, expected: &Expected) -> Result<bool> {
    Ok(match (expected, result) {
        (Expected::I32(expected), Val::I32(result)) => expected == result,
        (Expected::I64(expected), Val::I64(result)) => expected == result,
        (Expected::F32(expected), Val::F32(bits)) => expected.is_met_by(*bits),
        (Expected::F64(expected), Val::F64(bits)) => expected.is_met_by(*bits),
        (Expected::V128(expected), Val::V128(result)) => *expected == result.as_u128(),
        (Expected::F32x4(lanes), Val::V128(result)) => {
            let bytes = result.as_u128().to_le_bytes();
            let bits = bytes.as_chunks().0.iter().map(|lane| u32::from_le_bytes(*lane));
            lanes.iter().zip(bits).all(|(lane, bits)| lane.is_met_by(bits))
        }
        (Expected::F64x2(lanes), Val::V128(result)) => {
            let bytes = result.as_u128().to_le_bytes();
            let bits = bytes.as_chunks().0.iter().map(|lane| u64::from_le_bytes(*lane));
            lanes.iter().zip(bits).all(|(lane, bits)| lane.is_met_by(bits))
        }
        (Expected::Null(heap), _) => is_null(result, *heap),
        (Expected::Func, Val::FuncRef(result)) => result.is_some(),
        (Expected::Extern(expected), Val::ExternRef(Some(result))) => {
            let found = number(store, *result)?;
            expected.is_none_or(|expected| found == Some(expected))
        }
        (Expected::Host(expected), Val::AnyRef(Some(result))) => {
            let object = ExternRef::convert_any(&mut *store, *result)?;
            number(store, object)? == Some(*expected)
        }
        (Expected::Any, Val::AnyRef(result)) => result.is_some(),
        (Expected::Eq, Val::AnyRef(Some(result))) => result.is_eqref(&*store)?,
        (Expected::I31, Val::AnyRef(Some(result))) => result.is_i31(&*store)?,
        (Expected::Struct, Val::AnyRef(Some(result))) => result.is_struct(&*store)?,
        (Expected::Array, Val::AnyRef(Some(result))) => result.is_array(&*store)?,
        (Expected::Either(choices), _) => {
            for choice in choices {
                if meets(store, result, choice)? {
                    return Ok(true);
                }
            }
            false
        }
        _ => false,
    })
}

fn is_null(result: &Val, heap: Option<Heap>) -> bool {
    let found = match result {
        Val::AnyRef(None) => Heap::Any,
        Val::ExternRef(None) => Heap::Extern,
        Val::FuncRef(None) => Heap::Func,
        Val::ExnRef(None) => Heap::Exn,
        _ => return false,
    };
    heap.is_none_or(|heap| heap == found)
}

/// The number of a host's object.
fn number(store: &Store<()>, object: Rooted<ExternRef>) -> Result<Option<Number>> {
    Ok(object.data(store)?.and_then(|data| data.downcast_ref::<Number>()).copied())
}

/// A value for messages: numbers as the patterns show them.
fn shown(value: &Val) -> String {
    match value {
        Val::I32(value) => format!("I32({value:x})"),
        Val::I64(value) => format!("I64({value:x})"),
        Val::F32(bits) => format!("F32({bits:x})"),
        Val::F64(bits) => format!("F64({bits:x})"),
        Val::V128(value) => format!("V128({:x})", value.as_u128()),
        other => format!("{other:?}"),
    }
}

/// Room for so many results.
pub(crate) fn room(count: usize) -> Vec<Val> {
    alloc::vec![Val::I32(0); count]
}
