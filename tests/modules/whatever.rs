//! Descriptions by chance, mostly wrong ones. None of them has anything panic: a
//! module is refused, or its instances do whatever they are asked for.

use alloc::{boxed::Box, format, sync::Arc, vec::Vec};

use allotment::{
    CompiledModuleId, Config,
    instance::{
        ConstExpr, ConstOp, DataIndex, DataSegment, DefinedFuncIndex, DefinedTableIndex, ElemIndex,
        ElementSegment, EntityIndex, FuncIndex, FuncRefIndex, FunctionBody, FunctionType, GlobalIndex,
        GlobalType, Imports, Instance, InstanceAllocationRequest, MemoryType, Module, ModuleInfo,
        ModuleRuntimeInfo, SegmentElements, SegmentMode, StorePtr, TableElement, TableElementType, TableType,
        VMSharedTypeIndex, ValRaw, ValType, cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch, pool, pooled},
    module::{Code, Engine, body_of, memory, table},
    random::Random,
};

pub(crate) fn described<A: TestArch>() {
    let pools = pool(3, MIB).total_tables(3).total_core_instances(2).table_elements(512);
    let pools = pools.max_memories_per_module(3).max_tables_per_module(3);
    let rounds = 1000;
    for config in [pooled(pools), Config::new().shared_memory(true), Config::new().table_lazy_init(false)] {
        let m = Machine::<A>::new(&config, 8 * MIB);
        let engine = Engine::new(&m);
        let (mut whole, mut made, mut lived) = (0, 0, 0);
        for seed in 0..rounds {
            let mut random = Random::new(seed);
            let info = describe(&mut random);
            let Ok(module) = Module::new(info) else { continue };
            whole += 1;
            let code: Code = Arc::new(Described(module));
            let said = engine.instances.validate(code.module()).err().map(|error| format!("{error}"));
            let request = InstanceAllocationRequest {
                runtime_info: &code,
                imports: Imports::none(),
                host_state: Box::new(seed),
                store: StorePtr::empty(),
            };
            let allocated = engine.instances.allocate(request);
            assert!(said.is_none() || allocated.is_err(), "seed {seed}: {said:?}, and yet there is one");
            let Ok(mut instance) = allocated else { continue };
            made += 1;
            if instance.initialize().is_ok() {
                lived += 1;
                (0..30).for_each(|_| use_it(&mut random, &mut instance));
            }
            engine.end(instance);
        }
        let counts = (whole, made, lived);
        assert!(
            lived > rounds / 50 && whole > made && made > lived,
            "too much or little is wrong: {counts:?}"
        );
        let [memories, _, tables, ..] = engine.counts();
        assert_eq!([memories, tables], [0; 2], "something was left");
    }
}

struct Described(Module);

// SAFETY: nothing of it changes.
unsafe impl ModuleRuntimeInfo for Described {
    fn module(&self) -> &Module {
        &self.0
    }
    fn unique_id(&self) -> Option<CompiledModuleId> {
        None
    }
    fn function(&self, index: DefinedFuncIndex) -> FunctionBody {
        body_of(None, index.as_u32())
    }
    fn wasm_data(&self) -> &[u8] {
        b"some bytes of data"
    }
}

/// A number that is mostly small, at times one too large, and seldom absurd.
fn number(random: &mut Random) -> u64 {
    match random.below(60) {
        0 => u64::MAX >> random.below(64),
        1 => 1 << random.below(64),
        2..6 => random.below(70_000) as u64,
        _ => random.below(4) as u64,
    }
}

fn index(random: &mut Random) -> usize {
    if random.percent(97) { random.below(2) } else { usize::try_from(number(random) >> 33).unwrap() }
}

fn op(random: &mut Random) -> ConstOp {
    match random.below(20) {
        0 => ConstOp::GlobalGet(GlobalIndex::new(index(random))),
        1 => ConstOp::RefFunc(FuncIndex::new(index(random))),
        2 => ConstOp::RefNull,
        3 => ConstOp::I32Add,
        4 => ConstOp::I64Mul,
        5 => ConstOp::I64Sub,
        _ => ConstOp::Const(ValRaw::from(number(random))),
    }
}

fn expr(random: &mut Random) -> ConstExpr {
    let ops = if random.percent(95) { 1 } else { random.below(5) };
    ConstExpr::new((0..ops).map(|_| op(random)).collect::<Vec<_>>())
}

/// Often none, so that some of all these are whole.
fn some(random: &mut Random, most: usize) -> usize {
    if random.percent(50) { 0 } else { random.below(most + 1) }
}

fn describe(random: &mut Random) -> ModuleInfo {
    let mut info = ModuleInfo::default();
    for nth in 0..some(random, 3) {
        let place = if random.percent(95) { nth } else { index(random) };
        let func_ref = random.percent(90).then(|| FuncRefIndex::new(place));
        info.functions.push(FunctionType { signature: VMSharedTypeIndex(0), func_ref });
    }
    info.num_func_refs = if random.percent(95) { 3 } else { index(random) };
    for _ in 0..some(random, 3) {
        let element = random.pick(&[TableElementType::Func, TableElementType::Func, TableElementType::GcRef]);
        let maximum = random.percent(50).then(|| number(random));
        // On demand a table may well have as many elements as there are frames for.
        info.tables.push(TableType { element, minimum: number(random), maximum });
    }
    for _ in 0..some(random, 2) {
        info.table_initial_values.insert(DefinedTableIndex::new(index(random)), expr(random));
    }
    for _ in 0..some(random, 3) {
        let maximum = random.percent(70).then(|| number(random));
        let (page_size_log2, shared) = (random.pick(&[16, 16, 16, 0, 1, 40]), random.percent(10));
        let minimum = number(random);
        info.memories.push(MemoryType {
            minimum,
            maximum,
            page_size_log2,
            memory64: random.percent(20),
            shared,
        });
    }
    for _ in 0..some(random, 3) {
        info.globals.push(GlobalType { content: ValType::I64, mutable: true });
        if random.percent(97) {
            info.global_initializers.push(expr(random));
        }
    }
    for _ in 0..some(random, 3) {
        let start = random.below(19);
        let end = if random.percent(90) { start + random.below(19 - start) } else { index(random) };
        let mode = mode(random, memory(0), |at| memory(u32::try_from(at).unwrap()));
        info.data.push(DataSegment { mode, data: start..end });
    }
    for _ in 0..some(random, 3) {
        let mode = mode(random, table(0), |at| table(u32::try_from(at).unwrap()));
        let elements = if random.percent(50) {
            SegmentElements::Functions((0..random.below(4)).map(|_| FuncIndex::new(index(random))).collect())
        } else {
            SegmentElements::Expressions((0..random.below(4)).map(|_| expr(random)).collect())
        };
        info.elements.push(ElementSegment { mode, elements });
    }
    if random.percent(5) {
        let imported = random.pick(&[0, 1, 2, usize::MAX]);
        match random.below(4) {
            0 => info.num_imported_functions = imported,
            1 => info.num_imported_tables = imported,
            2 => info.num_imported_memories = imported,
            _ => info.num_imported_globals = imported,
        }
    }
    for name in ["a", "b"].into_iter().take(some(random, 2)) {
        let what = match random.below(4) {
            0 => EntityIndex::Function(FuncIndex::new(index(random))),
            1 => EntityIndex::Table(table(0)),
            2 => EntityIndex::Memory(memory(0)),
            _ => EntityIndex::Global(GlobalIndex::new(index(random))),
        };
        info.exports.insert(name.into(), what);
    }
    info.start = random.percent(5).then(|| FuncIndex::new(index(random)));
    info
}

fn mode<I>(random: &mut Random, first: I, nth: impl Fn(usize) -> I) -> SegmentMode<I> {
    match random.below(10) {
        0..3 => SegmentMode::Passive,
        3 => SegmentMode::Declared,
        4 => SegmentMode::Active(nth(index(random)), expr(random)),
        _ => SegmentMode::Active(first, ConstExpr::constant(ValRaw::i32(0))),
    }
}

/// Any operation, on anything. What it says does not matter here, only that it
/// does say something.
fn use_it<A: TestArch>(random: &mut Random, instance: &mut Instance<'_, A>) {
    let one = |random: &mut Random| u32::try_from(index(random)).unwrap();
    let (m, t) = (memory(one(random)), table(one(random)));
    let (data, elements) = (DataIndex::new(index(random)), ElemIndex::new(index(random)));
    let (a, b, len) = (number(random), number(random), number(random).min(100_000));
    let element = random.pick(&[TableElement::FuncRef(None), TableElement::GcRef(7)]);
    let global = GlobalIndex::new(index(random));
    match random.below(18) {
        0 => _ = instance.memory_grow(m, a, None),
        1 => _ = instance.memory_fill(m, a, 1, len),
        2 => _ = instance.memory_copy(m, a, memory(one(random)), b, len),
        3 => _ = instance.memory_init(m, data, a, b, len),
        4 => _ = instance.data_drop(data),
        5 => _ = instance.table_grow(t, a.min(100_000), element, None),
        6 => _ = instance.table_fill(t, a, element, len),
        7 => _ = instance.table_copy(t, a, table(one(random)), b, len),
        8 => _ = instance.table_init(t, elements, a, b, len),
        9 => _ = instance.elem_drop(elements),
        10 => _ = instance.table_get(t, a),
        11 => _ = instance.table_set(t, a, element),
        12 => _ = instance.global(global),
        13 => _ = instance.set_global(global, ValRaw::from(a)),
        14 => _ = instance.func_ref(FuncIndex::new(index(random))),
        15 => _ = instance.lookup("a"),
        16 => _ = instance.memory_size(m),
        _ => _ = instance.memory_needs_bounds_checks(m),
    }
}
