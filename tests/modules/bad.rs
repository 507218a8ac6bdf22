//! One thing wrong at a time.

use alloc::{boxed::Box, string::ToString, vec, vec::Vec};

use allotment::{
    Config,
    instance::{
        BadModule, ConstExpr, ConstOp, DefinedTableIndex, ElementSegment, EntityIndex, FuncIndex,
        FuncRefIndex, FunctionType, GlobalIndex, GlobalType, MAX_OPERANDS, MemoryType, Module, ModuleInfo,
        SegmentElements, SegmentMode, TableElement, VMSharedTypeIndex, ValRaw, ValType,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch},
    module::{Engine, memory, module, table},
};

/// A module with one of everything, and two functions.
fn whole() -> ModuleInfo {
    let number = || ConstExpr::constant(ValRaw::i32(0));
    let builder = module().functions(2).memory(1, None).table(1, None).global(ValType::I32, number());
    let mut info = builder.data(0, 0, b"x").elements(0, 0, &[0]).info;
    info.functions.push(FunctionType { signature: VMSharedTypeIndex(0), func_ref: None });
    info
}

/// What is said of the module that differs from a whole one by `change`.
fn refused(change: impl FnOnce(&mut ModuleInfo)) -> BadModule {
    let mut info = whole();
    Module::new(info.clone()).expect("without the change it is whole");
    change(&mut info);
    Module::new(info).map(|_| ()).expect_err("the change is wrong")
}

fn get(global: usize) -> ConstExpr {
    ConstExpr::new([ConstOp::GlobalGet(GlobalIndex::new(global))])
}

pub(crate) fn missing() {
    let missing = |what, index, count| BadModule::Missing { what, index, count };
    let export = |what| refused(|info| _ = info.exports.insert("x".to_string(), what));
    assert_eq!(export(EntityIndex::Function(FuncIndex::new(3))), missing("function", 3, 3));
    assert_eq!(export(EntityIndex::Table(table(1))), missing("table", 1, 1));
    assert_eq!(export(EntityIndex::Memory(memory(1))), missing("memory", 1, 1));
    assert_eq!(export(EntityIndex::Global(GlobalIndex::new(1))), missing("global", 1, 1));

    let to = |nth: u32| SegmentMode::Active(memory(nth), ConstExpr::constant(ValRaw::i32(0)));
    let data = |mode: SegmentMode<_>| {
        refused(|info| info.data.values_mut().for_each(|segment| segment.mode = mode.clone()))
    };
    assert_eq!(data(to(1)), missing("memory", 1, 1));
    assert_eq!(data(SegmentMode::Active(memory(0), get(9))), missing("global", 9, 1));

    let elements =
        |change: fn(&mut ElementSegment)| refused(|info| info.elements.values_mut().for_each(change));
    let elsewhere = elements(|segment| {
        segment.mode = SegmentMode::Active(table(u32::MAX - 1), ConstExpr::constant(ValRaw::i32(0)));
    });
    assert_eq!(elsewhere, missing("table", u32::MAX as usize - 1, 1));
    let at = elements(|segment| segment.mode = SegmentMode::Active(table(0), get(1)));
    assert_eq!(at, missing("global", 1, 1));
    let nobody = elements(|segment| {
        segment.elements = SegmentElements::Functions(Box::new([FuncIndex::new(0), FuncIndex::new(4)]));
    });
    assert_eq!(nobody, missing("function", 4, 3));
    // Passive ones too: somebody may copy them.
    let nobody = elements(|segment| {
        segment.mode = SegmentMode::Passive;
        segment.elements = SegmentElements::Expressions(Box::new([get(2)]));
    });
    assert_eq!(nobody, missing("global", 2, 1));

    let value = |nth, value| {
        refused(|info| {
            info.table_initial_values.insert(DefinedTableIndex::new(nth), value);
        })
    };
    assert_eq!(value(1, get(0)), missing("defined table", 1, 1));
    assert_eq!(value(0, get(1)), missing("global", 1, 1));
    let start = refused(|info| info.start = Some(FuncIndex::new(3)));
    assert_eq!(start, missing("function", 3, 3));
    let place = refused(|info| {
        info.functions.values_mut().for_each(|function| function.func_ref = Some(FuncRefIndex::new(2)));
    });
    assert_eq!(place, missing("function reference", 2, 2));
}

pub(crate) fn counts() {
    let large = |what, value, limit| BadModule::TooLarge { what, value, limit };
    assert_eq!(refused(|info| info.num_imported_functions = 4), large("imported functions", 4, 3));
    assert_eq!(refused(|info| info.num_imported_tables = 2), large("imported tables", 2, 1));
    assert_eq!(refused(|info| info.num_imported_memories = 2), large("imported memories", 2, 1));
    assert_eq!(refused(|info| info.num_imported_globals = 2), large("imported globals", 2, 1));
    let max = usize::MAX;
    assert_eq!(refused(|info| info.num_imported_globals = max), large("imported globals", max as u64, 1));
    // A global without a first value, and a value without a global.
    let more = GlobalType { content: ValType::I64, mutable: false };
    assert_eq!(refused(|info| _ = info.globals.push(more)), large("defined globals", 2, 1));
    let value = ConstExpr::constant(ValRaw::i32(0));
    assert_eq!(refused(|info| _ = info.global_initializers.push(value)), large("global initializers", 2, 1));
    let odd = MemoryType { page_size_log2: 17, ..MemoryType::new(1, None) };
    assert_eq!(refused(|info| _ = info.memories.push(odd)), large("logarithm of a page size", 17, 16));
    let odd = MemoryType { page_size_log2: u8::MAX, ..odd };
    assert_eq!(refused(|info| _ = info.memories.push(odd)), large("logarithm of a page size", 255, 16));
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is wrong")]
    let backwards = refused(|info| info.data.values_mut().for_each(|segment| segment.data = 2..1));
    assert_eq!(backwards, large("start of a data segment", 2, 1));
    for refs in [1 << 27, usize::MAX / 32, usize::MAX] {
        let context = refused(|info| info.num_func_refs = refs);
        let BadModule::TooLarge { what: "context in bytes", value, limit } = context else {
            panic!("{context}")
        };
        assert!(limit == u64::from(u32::MAX) && value > limit, "{refs} references: {context}");
    }
}

pub(crate) fn references() {
    let without = BadModule::NotReferable { function: 2 };
    let function = FuncIndex::new(2);
    let reference = || ConstExpr::new([ConstOp::RefFunc(function)]);
    let exported = refused(|info| _ = info.exports.insert("f".to_string(), EntityIndex::Function(function)));
    assert_eq!(exported, without);
    let global = refused(|info| info.global_initializers.values_mut().for_each(|value| *value = reference()));
    assert_eq!(global, without);
    for elements in [
        SegmentElements::Functions(Box::new([function])),
        SegmentElements::Expressions(Box::new([reference()])),
    ] {
        let segment = ElementSegment { mode: SegmentMode::Declared, elements };
        assert_eq!(refused(|info| _ = info.elements.push(segment)), without);
    }
    let value = refused(|info| _ = info.table_initial_values.insert(DefinedTableIndex::new(0), reference()));
    assert_eq!(value, without);
    // To start with it nothing refers to it.
    let mut info = whole();
    info.start = Some(function);
    Module::new(info).unwrap();
    // A place is one function's.
    let twice = refused(|info| info.functions[function].func_ref = Some(FuncRefIndex::new(1)));
    assert_eq!(twice, BadModule::SharedFuncRef { place: 1, first: 1, second: 2 });
}

pub(crate) fn expressions() {
    let one = ConstOp::Const(ValRaw::i32(1));
    let add = ConstOp::I32Add;
    let deep = |operands: usize| {
        let mut ops = vec![one; operands];
        ops.extend(vec![add; operands - 1]);
        ops
    };
    let with = |ops: Vec<ConstOp>| {
        let mut info = whole();
        info.global_initializers.values_mut().for_each(|value| *value = ConstExpr::new(ops.clone()));
        Module::new(info).map(|_| ())
    };
    for ops in [vec![one], vec![one, one, add], deep(MAX_OPERANDS), vec![ConstOp::RefNull]] {
        assert_eq!(with(ops.clone()), Ok(()), "{ops:?}");
    }
    // As long as it likes, as long as it is not deep.
    let mut long = vec![one];
    long.extend([one, add].repeat(1000));
    assert_eq!(with(long), Ok(()));
    for ops in [
        vec![],
        vec![add],
        vec![one, add],
        vec![one, one],
        vec![one, one, add, add],
        vec![add, one, one],
        deep(MAX_OPERANDS + 1),
        vec![one; 1000],
    ] {
        assert_eq!(with(ops.clone()), Err(BadModule::UnbalancedExpression { ops: ops.len() }), "{ops:?}");
    }
}

pub(crate) fn order_of_globals() {
    let with = |values: [usize; 3]| {
        let mut info = ModuleInfo { num_imported_globals: 1, ..ModuleInfo::default() };
        (0..4).for_each(|_| _ = info.globals.push(GlobalType { content: ValType::I32, mutable: false }));
        info.global_initializers.extend(values.map(get));
        Module::new(info).map(|_| ())
    };
    assert_eq!(with([0, 1, 2]), Ok(()));
    assert_eq!(with([0, 0, 0]), Ok(()));
    let missing = |index, count| Err(BadModule::Missing { what: "global", index, count });
    assert_eq!(with([1, 0, 0]), missing(1, 1), "itself");
    assert_eq!(with([0, 3, 0]), missing(3, 2), "a later one");
    assert_eq!(with([0, 1, 4]), missing(4, 3), "none");
}

/// A few bytes of wasm that ask for a million elements each, many times.
pub(crate) fn large_tables<A: TestArch>() {
    const MILLION: u64 = 1 << 20;
    let mut builder = module().functions(1);
    for _ in 0..100 {
        builder = builder.table(MILLION, None);
    }
    for number in 0..100 {
        builder = builder.elements(number, i32::try_from(MILLION).unwrap() - 1, &[0]);
    }
    // The first one may be worked out. All of them would be more than the machine has.
    Module::new(builder.info).unwrap();

    // Beyond what is worked out all is as below.
    let m = Machine::<A>::new(&Config::new(), 24 * MIB);
    let engine = Engine::new(&m);
    let far = i32::try_from(MILLION).unwrap();
    let code =
        module().functions(2).table(MILLION + 1, None).elements(0, 1, &[0]).elements(0, far, &[1]).build();
    let mut instance = engine.instantiate(&code).unwrap();
    for (at, function) in [(0, None), (1, Some(0)), (MILLION - 1, None), (MILLION, Some(1))] {
        let reference = function.map(|nth| instance.func_ref(FuncIndex::new(nth)).unwrap());
        assert_eq!(instance.table_get(table(0), at), Ok(TableElement::FuncRef(reference)), "element {at}");
    }
    engine.end(instance);
}
