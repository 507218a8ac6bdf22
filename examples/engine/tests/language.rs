//! What instructions do: numbers, control, calls.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../../../tests/common/mod.rs"]
mod common;

mod numeric;
mod worlds;

use alloc::vec::Vec;

use engine::{CompileError, Error, MOST_FRAMES, MOST_SLOTS, Trap, ValType, Value};
use numeric::{CASES, NAN};
use worlds::{World, alone, call, call_i32, strategies, with_engines};

harness::tests! {
    fn numeric_instructions_give_what_they_should() {
        on_every_machine!(numbers);
    }

    fn control_goes_where_it_should() {
        on_every_machine!(control);
    }

    fn calls_within_calls_are_bounded() {
        on_every_machine!(depth);
    }

    fn fuel_ends_what_would_run_for_ever() {
        on_every_machine!(fuel);
    }

    fn bad_modules_are_refused() {
        on_every_machine!(bad_modules);
    }
}

fn numbers<A: World>() {
    with_engines::<A>(&strategies()[..1], |engine| {
        let (mut store, id) = alone(engine, guest!("numeric"));
        for &(name, operands, expected) in CASES {
            let ty = store.function_type(id, name).unwrap();
            let arguments: Vec<Value> =
                operands.iter().zip(ty.params()).map(|(&bits, &ty)| value(bits, ty)).collect();
            let result = call(&mut store, id, name, &arguments).map(|value| bits(value.unwrap()));
            if expected == NAN {
                let is_nan = match ty.results() {
                    [ValType::F32] => f32::from_bits(u32::try_from(result.unwrap()).unwrap()).is_nan(),
                    _ => f64::from_bits(result.unwrap()).is_nan(),
                };
                assert!(is_nan, "{name} of {operands:x?} is {result:x?}");
            } else {
                assert_eq!(result, expected, "{name} of {operands:x?}");
            }
        }
    });
}

fn value(bits: u64, ty: ValType) -> Value {
    let narrow = || u32::try_from(bits).unwrap();
    match ty {
        ValType::I32 => Value::I32(narrow().cast_signed()),
        ValType::I64 => Value::I64(bits.cast_signed()),
        ValType::F32 => Value::F32(f32::from_bits(narrow())),
        _ => Value::F64(f64::from_bits(bits)),
    }
}

fn bits(value: Value) -> u64 {
    match value {
        Value::I32(value) => value.cast_unsigned().into(),
        Value::I64(value) => value.cast_unsigned(),
        Value::F32(value) => value.to_bits().into(),
        Value::F64(value) => value.to_bits(),
        Value::FuncRef(_) | Value::ExternRef(_) => panic!("{value:?} is no number"),
    }
}

fn control<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let (mut store, id) = alone(engine, guest!("control"));
        let of_one = [
            ("fib", 15, 610),
            ("table", 0, 100),
            ("table", 1, 101),
            ("table", 2, 102),
            ("table", 3, 103),
            ("table", -1, 103),
            ("drops", 1, 1007),
            ("drops", 0, 1009),
            ("leaves", 1, 6),
            ("leaves", 0, 3),
            ("sum", 10, 55),
            ("power", 2, 8),
            ("dead", 1, 12),
            ("dead", 0, 12),
            ("if_without_else", 0, 0),
            ("if_without_else", 1, 77),
            ("tee", 5, 36),
        ];
        for (name, argument, result) in of_one {
            assert_eq!(call_i32(&mut store, id, name, &[argument]), Ok(result), "{name} of {argument}");
        }
        assert_eq!(
            call(&mut store, id, "factorial", &[Value::I64(20)]),
            Ok(Some(Value::I64(2_432_902_008_176_640_000)))
        );
        assert_eq!(call(&mut store, id, "choose", &[Value::I32(0)]), Ok(Some(Value::I64(-1))));
        assert_eq!(call(&mut store, id, "choose", &[Value::I32(1)]), Ok(Some(Value::I64(1))));
        let (one, two) = (Value::I32(1), Value::I64(2));
        assert_eq!(store.call(id, "swap", &[one, two]), Ok([two, one].into()));
        assert_eq!(store.call(id, "swap_twice", &[one, two]), Ok([one, two].into()));
        let floats = [Value::F32(0.5), Value::F64(0.25)];
        assert_eq!(store.call(id, "floats", &floats), Ok([Value::F64(0.75)].into()));
        for count in 1..4 {
            assert_eq!(call_i32(&mut store, id, "count", &[]), Ok(count));
        }
        assert_eq!(store.global(id, "answer"), Ok(Value::I64(42)));
        assert_eq!(call(&mut store, id, "trap", &[]), Err(Trap::Unreachable));
        assert_eq!(store.call(id, "swap", &[two, one]), Err(Error::WrongValues));
        assert_eq!(store.call(id, "swap", &[one]), Err(Error::WrongValues));
        assert_eq!(store.call(id, "nothing", &[]), Err(Error::UnknownExport("nothing".into())));
    });
}

fn depth<A: World>() {
    with_engines::<A>(&strategies()[..1], |engine| {
        let (mut store, id) = alone(engine, guest!("control"));
        let most = i32::try_from(MOST_FRAMES).unwrap() - 1;
        assert_eq!(call_i32(&mut store, id, "deep", &[most]), Ok(most));
        assert_eq!(call_i32(&mut store, id, "deep", &[most + 1]), Err(Trap::StackExhausted));
        // Fewer calls with more locals; what a call takes it takes before it runs.
        let most = i32::try_from(MOST_SLOTS / 101).unwrap() - 1;
        assert_eq!(call_i32(&mut store, id, "deep_and_wide", &[most - 3]), Ok(most - 3));
        assert_eq!(call_i32(&mut store, id, "deep_and_wide", &[most + 1]), Err(Trap::StackExhausted));
        // The store is as good as before.
        assert_eq!(call_i32(&mut store, id, "deep", &[1]), Ok(1));
    });
}

fn fuel<A: World>() {
    with_engines::<A>(&strategies()[..1], |engine| {
        let (mut store, id) = alone(engine, guest!("control"));
        store.set_fuel(Some(1000));
        assert_eq!(call(&mut store, id, "for_ever", &[]), Err(Trap::OutOfFuel));
        assert_eq!(call_i32(&mut store, id, "fib", &[3]), Err(Trap::OutOfFuel));
        store.set_fuel(Some(1000));
        assert_eq!(call_i32(&mut store, id, "fib", &[3]), Ok(2));
    });
}

fn bad_modules<A: World>() {
    with_engines::<A>(&strategies()[..1], |engine| {
        let refused = |bytes: &[u8]| match engine.compile(bytes) {
            Err(CompileError::Invalid { .. }) => {}
            Ok(_) => panic!("it was taken"),
            Err(error) => panic!("{error}"),
        };
        refused(b"");
        refused(b"no wasm at all");
        let good: &[u8] = guest!("control");
        refused(&good[..good.len() / 2]);
        // Wherever it ends, and whatever one byte becomes, it is taken or refused, and
        // that is all.
        for len in 0..good.len() {
            drop(engine.compile(&good[..len]));
        }
        let mut bytes = good.to_vec();
        for at in 8..good.len() {
            bytes[at] ^= 0x41;
            drop(engine.compile(&bytes));
            bytes[at] = good[at];
        }
        assert!(engine.compile(&bytes).is_ok());
        // A vector, and a shared memory: of proposals that are off.
        refused(b"\0asm\x01\0\0\0\x01\x05\x01\x60\x01\x7b\0");
        refused(b"\0asm\x01\0\0\0\x05\x04\x01\x03\x01\x01");
    });
}
