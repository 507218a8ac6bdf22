//! Ranges of elements: whole, or not at all.

use alloc::vec::Vec;

use allotment::{
    TableRequest,
    instance::{
        ElemIndex, FuncIndex, Instance, InstanceError, Table, TableElement, TableElementType, TableIndex,
        TableType, Trap, cranelift_entity::EntityRef,
    },
};

use crate::{
    common::TestArch,
    in_every_way,
    module::{Engine, module, table},
};

const NULL: TableElement = TableElement::FuncRef(None);

fn function<A: TestArch>(instance: &Instance<'_, A>, number: usize) -> TableElement {
    TableElement::FuncRef(Some(instance.func_ref(FuncIndex::new(number)).unwrap()))
}

fn elements<A: TestArch>(instance: &mut Instance<'_, A>, table: TableIndex) -> Vec<TableElement> {
    let size = instance.table_size(table).unwrap();
    (0..size).map(|at| instance.table_get(table, at).unwrap()).collect()
}

pub(crate) fn overlaps<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module().functions(5).table(8, None).elements(0, 0, &[0, 1, 2, 3, 4]).build();
        for (to, from, len, expected) in [
            (1, 0, 4, [0, 0, 1, 2, 3, 9, 9, 9]),
            (0, 1, 4, [1, 2, 3, 4, 4, 9, 9, 9]),
            (3, 0, 5, [0, 1, 2, 0, 1, 2, 3, 4]),
            (2, 2, 3, [0, 1, 2, 3, 4, 9, 9, 9]),
            (8, 8, 0, [0, 1, 2, 3, 4, 9, 9, 9]),
        ] {
            let mut instance = engine.instantiate(&code).unwrap();
            instance.table_copy(table(0), to, table(0), from, len).unwrap();
            let expected =
                expected.map(|number| if number == 9 { NULL } else { function(&instance, number) });
            assert_eq!(elements(&mut instance, table(0)), expected, "{len} from {from} to {to}");
            engine.end(instance);
        }
    });
}

pub(crate) fn whole_or_not<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module()
            .functions(3)
            .table(4, None)
            .table(2, None)
            .elements(0, 1, &[0, 1])
            .passive_elements(&[2, 2, 2])
            .build();
        let mut instance = engine.instantiate(&code).unwrap();
        let (f, segment) = (function(&instance, 2), ElemIndex::new(1));
        let out = Err(InstanceError::Trap(Trap::TableOutOfBounds));
        let before = elements(&mut instance, table(0));
        let far = [
            (3, 2),
            (4, 1),
            (5, 0),
            (0, 5),
            (u64::MAX, 1),
            (1, u64::MAX),
            (u64::MAX, u64::MAX),
            (1 << 32, 1),
        ];
        for (at, len) in far {
            assert_eq!(instance.table_fill(table(0), at, f, len), out, "fill {len} at {at}");
            assert_eq!(instance.table_copy(table(0), at, table(0), 0, len), out, "copy {len} to {at}");
            assert_eq!(instance.table_copy(table(0), 0, table(0), at, len), out, "copy {len} from {at}");
            assert_eq!(instance.table_init(table(0), segment, at, 0, len), out, "init {len} to {at}");
            assert_eq!(instance.table_init(table(0), segment, 0, at, len), out, "init {len} from {at}");
        }
        assert_eq!(instance.table_copy(table(1), 0, table(0), 0, 3), out, "the other one is smaller");
        for at in [4, 1 << 32, u64::MAX] {
            assert_eq!(instance.table_get(table(0), at).map(|_| ()), out);
            assert_eq!(instance.table_set(table(0), at, f), out);
        }
        assert_eq!(elements(&mut instance, table(0)), before);
        assert_eq!(elements(&mut instance, table(1)), [NULL; 2]);

        // What just fits, does; and nothing fits anywhere up to the end.
        instance.table_fill(table(0), 4, f, 0).unwrap();
        instance.table_copy(table(0), 4, table(1), 2, 0).unwrap();
        instance.table_init(table(0), segment, 4, 3, 0).unwrap();
        assert_eq!(elements(&mut instance, table(0)), before);
        instance.table_init(table(0), segment, 1, 0, 3).unwrap();
        assert_eq!(elements(&mut instance, table(0)), [NULL, f, f, f]);
        instance.table_copy(table(1), 0, table(0), 2, 2).unwrap();
        assert_eq!(elements(&mut instance, table(1)), [f, f]);
        instance.table_fill(table(0), 2, NULL, 2).unwrap();
        assert_eq!(elements(&mut instance, table(0)), [NULL, f, NULL, NULL]);
        // A dropped segment has no elements, and no elements can be copied of it.
        instance.elem_drop(segment).unwrap();
        assert_eq!(instance.table_init(table(0), segment, 0, 0, 1), out);
        instance.table_init(table(0), segment, 0, 0, 0).unwrap();
        instance.elem_drop(segment).unwrap();
        engine.end(instance);
    });
}

pub(crate) fn types<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let gc = TableType { element: TableElementType::GcRef, minimum: 3, maximum: None };
        let code = module().functions(1).table(3, None).table_type(gc).elements(0, 0, &[0]).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let f = function(&instance, 0);
        for (number, wrong, right) in [(0, TableElement::GcRef(1), f), (1, f, TableElement::GcRef(1))] {
            let index = table(number);
            let before = elements(&mut instance, index);
            let refused = |error| matches!(error, Some(InstanceError::NotFound { .. }));
            assert!(refused(instance.table_set(index, 0, wrong).err()));
            assert!(refused(instance.table_fill(index, 0, wrong, 3).err()));
            assert!(refused(instance.table_fill(index, 0, wrong, 0).err()));
            assert!(refused(instance.table_grow(index, 1, wrong, None).err()));
            assert!(refused(instance.table_grow(index, 0, wrong, None).err()));
            assert!(refused(instance.table_copy(index, 0, table(1 - number), 0, 1).err()));
            assert_eq!(elements(&mut instance, index), before);
            instance.table_set(index, 2, right).unwrap();
            assert_eq!(instance.table_get(index, 2), Ok(right));
        }
        engine.end(instance);
    });
}

/// A table that was made for smaller elements than it is said to have.
pub(crate) fn sizes<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let ty = TableType::functions(100, None);
        let pools = engine.pools();
        let made = |bytes| {
            let table =
                engine.m.allocator.allocate_table(TableRequest::new(100).element_size(bytes)).unwrap();
            if pools { Table::Static { ty, table } } else { Table::Dynamic { ty, table } }
        };
        let (mut whole, mut narrow) = (made(8), made(1));
        whole.set(99, NULL).unwrap();
        assert_eq!(whole.get(99).unwrap().unwrap_or(NULL), NULL);
        let refused = InstanceError::NotFound { what: "element of that size", index: 1 };
        // Seven of its hundred bytes would be somebody else's.
        assert_eq!(narrow.set(99, NULL), Err(refused));
        assert_eq!(narrow.fill(0, NULL, 100), Err(refused));
        assert_eq!(narrow.get(0), Err(refused));
        for table in [whole, narrow] {
            let (Table::Static { table, .. } | Table::Dynamic { table, .. }) = table else { continue };
            engine.m.allocator.deallocate_table(table);
        }
    });
}
