//! What stands in tables: first values, and how compiled code reads them.

use alloc::boxed::Box;

use allotment::{
    Config,
    arch::VirtAddr,
    instance::{
        ConstExpr, ConstOp, DefinedTableIndex, ElementSegment, FuncIndex, GlobalIndex, Imports,
        SegmentElements, SegmentMode, TableElement, TableElementType, TableType, ValRaw, ValType,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{MIB, Machine, TestArch},
    in_every_way,
    links::{self, raw, table_at, word},
    module::{Engine, module, table},
};

const NULL: TableElement = TableElement::FuncRef(None);

pub(crate) fn initial_values<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let gc = TableType { element: TableElementType::GcRef, minimum: 3, maximum: None };
        let mut builder = module()
            .import_global(ValType::GcRef)
            .functions(2)
            .table(3, None)
            .table_type(gc)
            .table(2, None)
            // Over the initial value.
            .elements(0, 1, &[1]);
        let values = &mut builder.info.table_initial_values;
        values.insert(DefinedTableIndex::new(0), ConstExpr::new([ConstOp::RefFunc(FuncIndex::new(0))]));
        values.insert(DefinedTableIndex::new(1), ConstExpr::new([ConstOp::GlobalGet(GlobalIndex::new(0))]));
        values.insert(DefinedTableIndex::new(2), ConstExpr::new([ConstOp::RefNull]));
        let host = module().global(ValType::GcRef, ConstExpr::constant(ValRaw::i32(0x1234)));
        let host = host.export("g", links::global_at(0)).build();
        let host = engine.instantiate(&host).unwrap();
        let globals = [links::global(&host, "g")];
        // SAFETY: `host` lives until the end.
        let imports = unsafe { Imports::new(&[], &[], &[], &globals) };
        let mut instance = engine.instantiate_with(&builder.build(), imports, None).unwrap();
        let f = [0, 1].map(|nth| TableElement::FuncRef(instance.func_ref(FuncIndex::new(nth)).ok()));
        for (at, element) in [f[0], f[1], f[0]].into_iter().enumerate() {
            assert_eq!(instance.table_get(table(0), at as u64), Ok(element));
        }
        for at in 0..3 {
            assert_eq!(instance.table_get(table(1), at), Ok(TableElement::GcRef(0x1234)));
        }
        assert_eq!(instance.table_get(table(2), 1), Ok(NULL));
        engine.end(instance);
        engine.end(host);
    });
}

pub(crate) fn representation<A: TestArch>() {
    for lazy in [true, false] {
        let m = Machine::<A>::new(&Config::new().table_lazy_init(lazy), 4 * MIB);
        let engine = Engine::new(&m);
        let code = module().functions(2).table(4, None).elements(0, 0, &[0, 1]).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let base = instance.tables().values().next().unwrap().vmtable().base;
        let words = || [0, 1, 2, 3].map(|nth| word(&m, base.offset(8 * nth)));
        let f = [0, 1].map(|nth| instance.func_ref(FuncIndex::new(nth)).unwrap().0);
        let tag = u64::from(lazy);
        assert_eq!(words(), if lazy { [0; 4] } else { [f[0], f[1], 0, 0] });
        instance.table_get(table(0), 1).unwrap();
        instance.table_get(table(0), 2).unwrap();
        assert_eq!(words(), if lazy { [0, f[1] | 1, 1, 0] } else { [f[0], f[1], 0, 0] });
        instance.table_set(table(0), 0, NULL).unwrap();
        instance.table_set(table(0), 3, TableElement::FuncRef(Some(VirtAddr(f[0])))).unwrap();
        assert_eq!(words()[0], tag, "null is not what the image says");
        assert_eq!(words()[3], f[0] | tag);
        assert_eq!(instance.table_get(table(0), 0), Ok(NULL));
        engine.end(instance);
    }
}

pub(crate) fn gc_references<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let gc = TableType { element: TableElementType::GcRef, minimum: 6, maximum: None };
        let mut builder = module().table_type(gc);
        let mode = SegmentMode::Active(table(0), ConstExpr::constant(ValRaw::i32(1)));
        let numbers = [7, -1, 0].map(|number| ConstExpr::constant(ValRaw::i32(number)));
        let elements = SegmentElements::Expressions(Box::new(numbers));
        builder.info.elements.push(ElementSegment { mode, elements });
        let mut instance = engine.instantiate(&builder.build()).unwrap();
        let base = instance.tables().values().next().unwrap().vmtable().base;
        let numbers = || -> [u32; 6] {
            core::array::from_fn(|nth| u32::from_le_bytes(raw(engine.m, base.offset(4 * nth))))
        };
        assert_eq!(numbers(), [0, 7, u32::MAX, 0, 0, 0]);
        // Any number is a reference: none of its bits is ours.
        instance.table_fill(table(0), 3, TableElement::GcRef(1), 2).unwrap();
        instance.table_copy(table(0), 4, table(0), 1, 2).unwrap();
        assert_eq!(numbers(), [0, 7, u32::MAX, 1, 7, u32::MAX]);
        assert_eq!(instance.table_get(table(0), 0), Ok(TableElement::GcRef(0)));
        assert_eq!(instance.table_get(table(0), 5), Ok(TableElement::GcRef(u32::MAX)));
        engine.end(instance);
    });
}

pub(crate) fn others_functions<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let definer = module().functions(2).table(4, None).elements(0, 0, &[0, 1]).export("t", table_at(0));
        let mut definer = engine.instantiate(&definer.build()).unwrap();
        let tables = [links::table(&definer, "t")];
        let user = module().import_table(TableType::functions(4, None)).functions(2).table(4, None);
        // Its own function goes into the other's table.
        let code = user.elements(0, 2, &[1]).build();
        // SAFETY: `definer` lives until the end.
        let imports = unsafe { Imports::new(&[], &tables, &[], &[]) };
        let mut user = engine.instantiate_with(&code, imports, None).unwrap();
        user.table_copy(table(1), 0, table(0), 0, 4).unwrap();
        let theirs = TableElement::FuncRef(definer.func_ref(FuncIndex::new(1)).ok());
        let own = TableElement::FuncRef(user.func_ref(FuncIndex::new(1)).ok());
        assert_ne!(theirs, own);
        for (at, element) in [(1, theirs), (2, own), (3, NULL)] {
            assert_eq!(user.table_get(table(1), at), Ok(element));
            assert_eq!(definer.table_get(table(0), at), Ok(element));
        }
        let TableElement::FuncRef(Some(reference)) = theirs else { unreachable!() };
        // SAFETY: its instance lives.
        assert_eq!(unsafe { user.read_func_ref(reference) }.unwrap().vmctx, definer.vmctx());
        engine.end(user);
        engine.end(definer);
    });
}
