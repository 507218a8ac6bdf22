//! Tables that become larger.

use allotment::{
    Config,
    instance::{FuncIndex, Imports, TableElement, TableElementType, TableType, cranelift_entity::EntityRef},
};

use crate::{
    common::{MIB, Machine, TestArch, pooled},
    few, in_every_way,
    links::{self, table_at},
    module::{Engine, module, table},
};

const NULL: TableElement = TableElement::FuncRef(None);

pub(crate) fn maximum<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module().table(2, Some(5)).build();
        let mut instance = engine.instantiate(&code).unwrap();
        for (delta, before) in
            [(0, Some(2)), (1, Some(2)), (3, None), (u64::MAX, None), (2, Some(3)), (1, None)]
        {
            assert_eq!(instance.table_grow(table(0), delta, NULL, None), Ok(before), "by {delta}");
        }
        assert_eq!(instance.table_grow(table(0), 0, NULL, None), Ok(Some(5)));
        assert_eq!(instance.table_size(table(0)), Ok(5));
        instance.table_set(table(0), 4, NULL).unwrap();
        instance.table_set(table(0), 5, NULL).unwrap_err();
        engine.end(instance);

        // One that begins with nothing, and may have nothing.
        let code = module().table(0, Some(0)).table(0, None).build();
        let mut instance = engine.instantiate(&code).unwrap();
        assert_eq!(instance.table_size(table(0)), Ok(0));
        instance.table_get(table(0), 0).unwrap_err();
        assert_eq!(instance.table_grow(table(0), 1, NULL, None), Ok(None));
        assert_eq!(instance.table_grow(table(1), 1, NULL, None), Ok(Some(0)));
        assert_eq!(instance.table_get(table(1), 0), Ok(NULL));
        engine.end(instance);
    });
}

pub(crate) fn slots<A: TestArch>() {
    for element in [TableElementType::Func, TableElementType::GcRef] {
        let m = Machine::<A>::new(&pooled(few()), 4 * MIB);
        let engine = Engine::new(&m);
        let null = TableElement::null(element);
        let code = module().table_type(TableType { element, minimum: 1, maximum: None }).build();
        for _ in 0..3 {
            let mut instance = engine.instantiate(&code).unwrap();
            assert_eq!(instance.tables().values().next().unwrap().capacity(), 512);
            assert_eq!(instance.table_grow(table(0), 512, null, None), Ok(None));
            assert_eq!(instance.table_grow(table(0), 511, null, None), Ok(Some(1)));
            assert_eq!(instance.table_grow(table(0), 1, null, None), Ok(None));
            instance.table_fill(table(0), 0, null, 512).unwrap();
            engine.end(instance);
        }
        // On demand the same goes on.
        let m = Machine::<A>::new(&Config::new(), 4 * MIB);
        let engine = Engine::new(&m);
        let mut instance = engine.instantiate(&code).unwrap();
        assert_eq!(instance.table_grow(table(0), 511, null, None), Ok(Some(1)));
        assert_eq!(instance.table_grow(table(0), 10_000, null, None), Ok(Some(512)));
        instance.table_fill(table(0), 0, null, 10_512).unwrap();
        engine.end(instance);
    }
}

pub(crate) fn first_values<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let gc = TableType { element: TableElementType::GcRef, minimum: 1, maximum: None };
        // Its image says nothing of what comes later at the same indices.
        let code = module().functions(2).table(2, None).table_type(gc).elements(0, 0, &[0, 0]).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let f = TableElement::FuncRef(Some(instance.func_ref(FuncIndex::new(1)).unwrap()));
        let first = TableElement::FuncRef(Some(instance.func_ref(FuncIndex::new(0)).unwrap()));
        for (init, before) in [(f, 2), (NULL, 4), (f, 6)] {
            assert_eq!(instance.table_grow(table(0), 2, init, None), Ok(Some(before)));
        }
        for (at, element) in [first, first, f, f, NULL, NULL, f, f].into_iter().enumerate() {
            assert_eq!(instance.table_get(table(0), at as u64), Ok(element), "element {at}");
        }
        for (number, before) in [(7, 1), (0, 3), (u32::MAX, 5)] {
            let init = TableElement::GcRef(number);
            assert_eq!(instance.table_grow(table(1), 2, init, None), Ok(Some(before)));
        }
        for (at, number) in [0, 7, 7, 0, 0, u32::MAX, u32::MAX].into_iter().enumerate() {
            assert_eq!(
                instance.table_get(table(1), at as u64),
                Ok(TableElement::GcRef(number)),
                "element {at}"
            );
        }
        engine.end(instance);
    });
}

pub(crate) fn imported<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let definer = module().functions(1).table(2, Some(9)).export("t", table_at(0)).build();
        let mut definer = engine.instantiate(&definer).unwrap();
        let tables = [links::table(&definer, "t")];
        // SAFETY: `definer` lives until the end.
        let imports = unsafe { Imports::new(&[], &tables, &[], &[]) };
        // A table of its own, so that the numbers differ.
        let code =
            module().import_table(TableType::functions(2, Some(9))).functions(1).table(1, None).build();
        let mut user = engine.instantiate_with(&code, imports, None).unwrap();
        let f = TableElement::FuncRef(Some(user.func_ref(FuncIndex::new(0)).unwrap()));
        assert_eq!(user.table_grow(table(0), 3, f, None), Ok(Some(2)));
        assert_eq!(definer.table_size(table(0)), Ok(5));
        assert_eq!(definer.table_get(table(0), 4), Ok(f));
        assert_eq!(definer.table_grow(table(0), 4, NULL, None), Ok(Some(5)));
        assert_eq!(user.table_size(table(0)), Ok(9));
        assert_eq!(user.table_grow(table(0), 1, NULL, None), Ok(None));
        assert_eq!(user.table_size(table(1)), Ok(1), "its own is as it was");
        user.table_set(table(0), 8, f).unwrap();
        assert_eq!(definer.table_get(table(0), 8), Ok(f));
        engine.end(user);
        engine.end(definer);
    });
}
