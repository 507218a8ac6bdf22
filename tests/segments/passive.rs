//! Segments that the module copies itself, and segments that are gone.

use allotment::instance::{
    ConstExpr, DataIndex, ElemIndex, InstanceError, SegmentMode, Trap, ValRaw, cranelift_entity::EntityRef,
};

use crate::{
    common::{TestArch, WASM_PAGE},
    in_every_way,
    module::{Engine, bytes, memory, module, table},
};

const OUT: Result<(), InstanceError> = Err(InstanceError::Trap(Trap::MemoryOutOfBounds));
const TABLE_OUT: Result<(), InstanceError> = Err(InstanceError::Trap(Trap::TableOutOfBounds));

pub(crate) fn data<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code =
            module().memory(1, None).memory(1, None).passive_data(b"before").passive_data(b"hello").build();
        let mut instance = engine.instantiate(&code).unwrap();
        let segment = DataIndex::new(1);
        for (to_memory, to, from, len) in [(0, 0, 0, 5), (0, 100, 1, 3), (1, 7, 4, 1), (0, 0, 5, 0)] {
            instance.memory_init(memory(to_memory), segment, to, from, len).unwrap();
        }
        assert_eq!(bytes(&instance, memory(0), 0, 6), b"hello\0");
        assert_eq!(bytes(&instance, memory(0), 99, 5), b"\0ell\0");
        assert_eq!(bytes(&instance, memory(1), 6, 3), b"\0o\0");
        let end = WASM_PAGE as u64;
        instance.memory_init(memory(0), segment, end - 5, 0, 5).unwrap();
        instance.memory_init(memory(0), segment, end, 0, 0).unwrap();
        instance.memory_fill(memory(0), 0, 0, end).unwrap();
        for (to, from, len) in [
            (end - 4, 0, 5),
            (end + 1, 0, 0),
            (0, 0, 6),
            (0, 5, 1),
            (0, 6, 0),
            (0, u64::MAX, 1),
            (0, 1, u64::MAX),
            (u64::MAX, 0, 5),
            (u64::MAX - 4, 0, 5),
        ] {
            assert_eq!(
                instance.memory_init(memory(0), segment, to, from, len),
                OUT,
                "{len} of {from} to {to}"
            );
        }
        assert_eq!(bytes(&instance, memory(0), 0, WASM_PAGE), [0; WASM_PAGE], "nothing of these was copied");
        engine.end(instance);
    });
}

pub(crate) fn dropped<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module()
            .functions(1)
            .memory(1, None)
            .table(1, None)
            .data(0, 0, b"active")
            .data_segment(SegmentMode::Declared, b"declared")
            .passive_data(b"passive")
            .elements(0, 0, &[0])
            .element_segment(SegmentMode::Active(table(0), ConstExpr::constant(ValRaw::i32(0))), &[])
            .element_segment(SegmentMode::Declared, &[0])
            .passive_elements(&[0])
            .build();
        for _ in 0..2 {
            let mut instance = engine.instantiate(&code).unwrap();
            for number in [0, 1] {
                let segment = DataIndex::new(number);
                assert_eq!(instance.memory_init(memory(0), segment, 0, 0, 1), OUT);
                instance.memory_init(memory(0), segment, 0, 0, 0).unwrap();
                // Once more is nothing.
                instance.data_drop(segment).unwrap();
            }
            for number in [0, 2] {
                let segment = ElemIndex::new(number);
                assert_eq!(instance.table_init(table(0), segment, 0, 0, 1), TABLE_OUT);
                instance.table_init(table(0), segment, 0, 0, 0).unwrap();
                instance.elem_drop(segment).unwrap();
            }
            let (data, elements) = (DataIndex::new(2), ElemIndex::new(3));
            instance.memory_init(memory(0), data, 0, 0, 7).unwrap();
            instance.table_init(table(0), elements, 0, 0, 1).unwrap();
            instance.data_drop(data).unwrap();
            assert_eq!(instance.memory_init(memory(0), data, 0, 0, 1), OUT);
            instance.table_init(table(0), elements, 0, 0, 1).unwrap();
            instance.elem_drop(elements).unwrap();
            assert_eq!(instance.table_init(table(0), elements, 0, 0, 1), TABLE_OUT);
            assert_eq!(bytes(&instance, memory(0), 0, 7), b"passive", "what was copied stays");
            engine.end(instance);
        }
    });
}

/// More than the bits of a word, data and elements side by side.
pub(crate) fn many<A: TestArch>() {
    const MANY: usize = 70;
    in_every_way(|engine: &Engine<'_, A>| {
        let mut builder = module().functions(1).memory(1, None).table(1, None);
        for _ in 0..MANY {
            builder = builder.passive_data(b"x").passive_elements(&[0]);
        }
        let mut instance = engine.instantiate(&builder.build()).unwrap();
        let gone = |number| number % 3 == 0 || number == 63 || number == 64;
        let gone_elements = |number| number % 5 == 0 || number == 58;
        (0..MANY).filter(|&nth| gone(nth)).for_each(|nth| instance.data_drop(DataIndex::new(nth)).unwrap());
        let elements = (0..MANY).filter(|&nth| gone_elements(nth));
        elements.for_each(|nth| instance.elem_drop(ElemIndex::new(nth)).unwrap());
        for nth in 0..MANY {
            let data = instance.memory_init(memory(0), DataIndex::new(nth), 0, 0, 1);
            assert_eq!(data.is_err(), gone(nth), "data segment {nth}");
            let elements = instance.table_init(table(0), ElemIndex::new(nth), 0, 0, 1);
            assert_eq!(elements.is_err(), gone_elements(nth), "element segment {nth}");
        }
        engine.end(instance);
    });
}
