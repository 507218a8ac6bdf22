//! Globals and the expressions that they begin with.

use allotment::{
    arch::VirtAddr,
    instance::{
        ConstExpr, ConstOp, FuncIndex, GlobalIndex, Imports, InstanceError, ValRaw, ValType,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::TestArch,
    few,
    links::{self, function_at, global_at},
    module::{Engine, by_either_strategy, module},
};

fn nth(number: usize) -> GlobalIndex {
    GlobalIndex::new(number)
}

pub(crate) fn constants<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let values = [
            (ValType::I32, ValRaw::i32(-2)),
            (ValType::I64, ValRaw::i64(i64::MIN)),
            (ValType::F32, ValRaw::from(1.5f32.to_bits())),
            (ValType::F64, ValRaw::from(f64::NAN.to_bits())),
            (ValType::V128, ValRaw(0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978)),
            (ValType::GcRef, ValRaw::i32(5)),
        ];
        let mut builder = module();
        for (ty, value) in values {
            builder = builder.global(ty, ConstExpr::constant(value));
        }
        let mut instance = engine.allocate(&builder.build(), Imports::none(), None).unwrap();
        for number in 0..values.len() {
            assert_eq!(instance.global(nth(number)), Ok(ValRaw(0)), "before it is initialised");
        }
        instance.initialize().unwrap();
        for (number, (ty, value)) in values.into_iter().enumerate() {
            assert_eq!(instance.global(nth(number)), Ok(value), "{ty:?}");
        }
        // One does not reach into another.
        instance.set_global(nth(2), ValRaw(u128::MAX)).unwrap();
        assert_eq!(instance.global(nth(1)), Ok(values[1].1));
        assert_eq!(instance.global(nth(2)), Ok(ValRaw(u128::MAX)));
        assert_eq!(instance.global(nth(3)), Ok(values[3].1));
        let missing = InstanceError::NotFound { what: "global", index: 6 };
        assert_eq!(instance.global(nth(6)), Err(missing));
        assert_eq!(instance.set_global(nth(6), ValRaw(0)), Err(missing));
        engine.end(instance);
    });
}

pub(crate) fn computed<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let ops = |ops: &[ConstOp]| ConstExpr::new(ops);
        let constant = |value| ConstOp::Const(ValRaw::i32(value));
        let code = module()
            .functions(2)
            .global(ValType::I32, ops(&[constant(6)]))
            .global(ValType::I32, ops(&[ConstOp::GlobalGet(nth(0)), constant(7), ConstOp::I32Mul]))
            // (g1 - 2) + (g0 * 3)
            .global(
                ValType::I32,
                ops(&[
                    ConstOp::GlobalGet(nth(1)),
                    constant(2),
                    ConstOp::I32Sub,
                    ConstOp::GlobalGet(nth(0)),
                    constant(3),
                    ConstOp::I32Mul,
                    ConstOp::I32Add,
                ]),
            )
            .global(ValType::FuncRef, ops(&[ConstOp::RefFunc(FuncIndex::new(1))]))
            .global(ValType::FuncRef, ops(&[ConstOp::RefNull]))
            .global(ValType::FuncRef, ops(&[ConstOp::GlobalGet(nth(3))]))
            .build();
        let instance = engine.instantiate(&code).unwrap();
        for (number, value) in [(0, 6), (1, 42), (2, 58)] {
            assert_eq!(instance.global(nth(number)), Ok(ValRaw::i32(value)), "global {number}");
        }
        let VirtAddr(reference) = instance.func_ref(FuncIndex::new(1)).unwrap();
        for (number, value) in [(3, reference), (4, 0), (5, reference)] {
            assert_eq!(instance.global(nth(number)), Ok(ValRaw::from(value)), "global {number}");
        }
        engine.end(instance);
    });
}

pub(crate) fn wrapping<A: TestArch>() {
    let narrow = |left, op, right| {
        ConstExpr::new([ConstOp::Const(ValRaw::i32(left)), ConstOp::Const(ValRaw::i32(right)), op])
    };
    let wide = |left, op, right| {
        ConstExpr::new([ConstOp::Const(ValRaw::i64(left)), ConstOp::Const(ValRaw::i64(right)), op])
    };
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let code = module()
            .global(ValType::I32, narrow(i32::MAX, ConstOp::I32Add, 1))
            .global(ValType::I32, narrow(i32::MIN, ConstOp::I32Sub, 1))
            .global(ValType::I32, narrow(i32::MIN, ConstOp::I32Mul, -1))
            .global(ValType::I64, wide(i64::MAX, ConstOp::I64Add, 1))
            .global(ValType::I64, wide(1, ConstOp::I64Sub, 2))
            .global(ValType::I64, wide(1 << 40, ConstOp::I64Mul, 1 << 30))
            .build();
        let instance = engine.instantiate(&code).unwrap();
        for (number, value) in [(0, i32::MIN), (1, i32::MAX), (2, i32::MIN)] {
            assert_eq!(instance.global(nth(number)), Ok(ValRaw::i32(value)), "global {number}");
        }
        for (number, value) in [(3, i64::MIN), (4, -1), (5, 0)] {
            assert_eq!(instance.global(nth(number)), Ok(ValRaw::i64(value)), "global {number}");
        }
        engine.end(instance);
    });
}

pub(crate) fn imported<A: TestArch>() {
    by_either_strategy(few(), |engine: &Engine<'_, A>| {
        let definer = module()
            .functions(1)
            .global(ValType::I32, ConstExpr::constant(ValRaw::i32(20)))
            .export("counter", global_at(0))
            .export("f", function_at(0));
        let mut definer = engine.instantiate(&definer.build()).unwrap();
        let counter = [links::global(&definer, "counter")];
        // What it has when the importer begins, not when it was defined.
        definer.set_global(nth(0), ValRaw::i32(30)).unwrap();
        let plus_one = [ConstOp::GlobalGet(nth(0)), ConstOp::Const(ValRaw::i32(1)), ConstOp::I32Add];
        let code =
            module().import_global(ValType::I32).global(ValType::I32, ConstExpr::new(plus_one)).build();
        // SAFETY: `definer` lives until the end.
        let imports = unsafe { Imports::new(&[], &[], &[], &counter) };
        let mut importer = engine.instantiate_with(&code, imports, None).unwrap();
        assert_eq!(importer.global(nth(1)), Ok(ValRaw::i32(31)));
        importer.set_global(nth(0), ValRaw::i32(40)).unwrap();
        assert_eq!(definer.global(nth(0)), Ok(ValRaw::i32(40)));
        assert_eq!(importer.global(nth(1)), Ok(ValRaw::i32(31)), "its own is computed once");
        engine.end(importer);
        assert_eq!(definer.global(nth(0)), Ok(ValRaw::i32(40)));
        engine.end(definer);
    });
}
