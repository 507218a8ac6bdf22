//! Random operations on three tables, one of them another instance's, beside the
//! same on plain lists.

use alloc::{boxed::Box, vec, vec::Vec};

use allotment::instance::{
    ConstExpr, ConstOp, DefinedTableIndex, ElemIndex, ElementSegment, FuncIndex, GlobalIndex, Imports,
    Instance, InstanceError, SegmentElements, SegmentMode, TableElement, TableType, Trap, ValRaw, ValType,
    cranelift_entity::EntityRef,
};

use crate::{
    common::TestArch,
    in_every_way, links,
    links::table_at,
    module::{Code, Engine, module, table},
    plain::{Cell, Outcome, Plain, Said, Step, World},
    random::Random,
};

/// Functions of the instance that has the first table are numbered from here on.
const OTHERS: u32 = 100;

fn definer() -> Code {
    module().functions(2).table(6, None).elements(0, 0, &[0, 1]).export("t", table_at(0)).build()
}

fn user() -> Code {
    let function = |number| ConstOp::RefFunc(FuncIndex::new(number));
    let expr = |ops: &[ConstOp]| ConstExpr::new(ops);
    let number = |value| ConstOp::Const(ValRaw::i32(value));
    let mut builder = module()
        .import_table(TableType::functions(6, None))
        .functions(4)
        .table(10, Some(20))
        .table(4, None)
        .global(ValType::FuncRef, expr(&[function(3)]))
        // Known from the start: into the table's image.
        .elements(1, 2, &[0, 1, 2])
        .elements(1, 4, &[3]);
    let elements = SegmentElements::Expressions(Box::new([
        expr(&[function(2)]),
        expr(&[ConstOp::RefNull]),
        expr(&[ConstOp::GlobalGet(GlobalIndex::new(0))]),
    ]));
    builder.info.elements.push(ElementSegment { mode: SegmentMode::Passive, elements });
    // Not known, and so copied, with all that follow.
    let sum = expr(&[number(1), number(2), ConstOp::I32Add]);
    let mut builder = builder
        .element_segment(SegmentMode::Active(table(0), sum), &[0, 3])
        .elements(1, 9, &[2])
        .element_segment(SegmentMode::Declared, &[1])
        .passive_elements(&[3, 2, 1, 0, 3, 2, 1, 0]);
    builder.info.table_initial_values.insert(DefinedTableIndex::new(1), expr(&[function(1)]));
    builder.build()
}

/// What the same module makes of plain lists.
fn plain() -> World {
    let (none, other) = (None, |number| Some(OTHERS + number));
    let first = vec![other(0), other(1), none, Some(0), Some(3), none];
    let mut second = vec![none; 10];
    for (at, function) in [(2, 0), (3, 1), (4, 3), (9, 2)] {
        second[at] = Some(function);
    }
    let tables = vec![
        Plain { cells: first, maximum: None },
        Plain { cells: second, maximum: Some(20) },
        Plain { cells: vec![Some(1); 4], maximum: None },
    ];
    let passive = vec![Some(2), none, Some(3)];
    let long = [3, 2, 1, 0, 3, 2, 1, 0].map(Some).to_vec();
    // Active and declared ones are dropped.
    World { tables, segments: vec![vec![], vec![], passive, vec![], vec![], vec![], long] }
}

pub(crate) fn random_steps<A: TestArch>() {
    let (rounds, steps) = if cfg!(target_os = "none") { (2, 200) } else { (4, 400) };
    in_every_way(|engine: &Engine<'_, A>| {
        for seed in 0..rounds {
            sequence(engine, seed, steps);
        }
    });
}

fn sequence<A: TestArch>(engine: &Engine<'_, A>, seed: u64, steps: usize) {
    let definer = engine.instantiate(&definer()).unwrap();
    let tables = [links::table(&definer, "t")];
    // SAFETY: `definer` lives until the end.
    let imports = unsafe { Imports::new(&[], &tables, &[], &[]) };
    let mut user = engine.instantiate_with(&user(), imports, None).unwrap();
    let functions = |instance: &Instance<'_, A>, count, first| -> Vec<_> {
        let reference = |nth| instance.func_ref(FuncIndex::from_u32(nth)).unwrap();
        (0..count).map(|nth| (reference(nth), first + nth)).collect()
    };
    let known = [functions(&user, 4, 0), functions(&definer, 2, OTHERS)].concat();
    let names = Names(known);

    let (mut random, mut plain) = (Random::new(seed), plain());
    for nth in 0..steps {
        let step = choose(&mut random, &plain);
        let (done, expected) = (run(&mut user, &names, step), plain.step(step));
        assert_eq!(done, expected, "step {nth} of seed {seed}: {step:?}");
    }
    for (number, expected) in plain.tables.iter().enumerate() {
        let index = table(u32::try_from(number).unwrap());
        assert_eq!(user.table_size(index), Ok(expected.cells.len() as u64));
        for (at, &cell) in expected.cells.iter().enumerate() {
            let found = names.cell(user.table_get(index, at as u64).unwrap());
            assert_eq!(found, cell, "element {at} of table {number} after seed {seed}");
        }
    }
    engine.end(user);
    engine.end(definer);
}

/// Addresses of references, and the numbers of their functions.
struct Names(Vec<(allotment::arch::VirtAddr, u32)>);

impl Names {
    fn cell(&self, element: TableElement) -> Cell {
        let TableElement::FuncRef(reference) = element else { panic!("{element:?} in a table of functions") };
        let number = |at| self.0.iter().find(|(known, _)| *known == at).map(|&(_, number)| number);
        reference.map(|at| number(at).unwrap_or_else(|| panic!("{at} is no function's")))
    }

    fn element(&self, cell: Cell) -> TableElement {
        let of = |number| self.0.iter().find(|(_, known)| *known == number).unwrap().0;
        TableElement::FuncRef(cell.map(of))
    }
}

fn choose(random: &mut Random, plain: &World) -> Step {
    let table = random.below(plain.tables.len());
    let size = plain.tables[table].cells.len();
    // Mostly inside, at times at an edge or far away.
    let mut index = |size: usize| match random.below(40) {
        0 => u64::MAX,
        1 => u64::from(u32::MAX),
        2 => size as u64 + 1,
        3 => size as u64,
        _ => random.below(size.max(1)) as u64,
    };
    let (at, len) = (index(size), index(size / 2 + 1));
    let (segment, to_table) = (random.below(plain.segments.len()), random.below(plain.tables.len()));
    let to = random.below(plain.tables[to_table].cells.len() + 1) as u64;
    let cell = random.pick(&[None, Some(0), Some(1), Some(2), Some(3), Some(OTHERS), Some(OTHERS + 1)]);
    match random.below(100) {
        0..30 => Step::Get { table, at },
        30..45 => Step::Set { table, at, cell },
        45..55 => Step::Fill { table, at, cell, len },
        55..75 => Step::Copy { to_table, to, from_table: table, from: at, len },
        75..90 => Step::Init { table, segment, to: at, from: len % 5, len: random.below(4) as u64 },
        90 => Step::Drop { segment },
        91 => Step::Grow { table, delta: u64::MAX - random.below(30) as u64, cell },
        _ if size > 60 => Step::Grow { table, delta: 0, cell },
        _ => Step::Grow { table, delta: random.below(4) as u64, cell },
    }
}

fn run<A: TestArch>(user: &mut Instance<'_, A>, names: &Names, step: Step) -> Outcome {
    let index = |number: usize| table(u32::try_from(number).unwrap());
    let nothing = |done: Result<(), InstanceError>| done.map(|()| Said::Nothing);
    let done = match step {
        Step::Get { table, at } => {
            user.table_get(index(table), at).map(|element| Said::Element(names.cell(element)))
        }
        Step::Set { table, at, cell } => nothing(user.table_set(index(table), at, names.element(cell))),
        Step::Fill { table, at, cell, len } => {
            nothing(user.table_fill(index(table), at, names.element(cell), len))
        }
        Step::Copy { to_table, to, from_table, from, len } => {
            nothing(user.table_copy(index(to_table), to, index(from_table), from, len))
        }
        Step::Init { table, segment, to, from, len } => {
            nothing(user.table_init(index(table), ElemIndex::new(segment), to, from, len))
        }
        Step::Drop { segment } => nothing(user.elem_drop(ElemIndex::new(segment))),
        Step::Grow { table, delta, cell } => {
            user.table_grow(index(table), delta, names.element(cell), None).map(Said::Size)
        }
    };
    match done {
        Ok(said) => Some(said),
        Err(InstanceError::Trap(Trap::TableOutOfBounds)) => None,
        Err(error) => panic!("{step:?}: {error}"),
    }
}
