//! Memories whose pages are bytes.

use allotment::instance::{Export, MemoryType};

use crate::{
    common::{MIB, TestArch},
    in_both_ways,
    links::memory_at,
    module::{Engine, bytes, memory, module},
};

fn of(minimum: u64, maximum: Option<u64>) -> MemoryType {
    MemoryType { page_size_log2: 0, ..MemoryType::new(minimum, maximum) }
}

pub(crate) fn of_bytes<A: TestArch>() {
    in_both_ways(
        |config| config,
        |engine: &Engine<'_, A>| {
            let code = module().memory_type(of(1, Some(5000))).build();
            for _ in 0..3 {
                let mut instance = engine.instantiate(&code).unwrap();
                let mut size = 1;
                for delta in [0, 1, 2, 4092, 1, 100] {
                    assert_eq!(instance.memory_grow(memory(0), delta, None), Ok(Some(size)), "by {delta}");
                    size += delta;
                    assert_eq!(instance.memory_size(memory(0)), Ok(size));
                    assert_eq!(bytes(&instance, memory(0), size - 1, 1), [0]);
                    instance.write_memory(memory(0), size - 1, b"x").unwrap();
                    instance.write_memory(memory(0), size, b"x").unwrap_err();
                }
                for delta in [5001 - size, 1 << 32, u64::MAX] {
                    assert_eq!(instance.memory_grow(memory(0), delta, None), Ok(None), "by {delta}");
                }
                assert_eq!(instance.memory_grow(memory(0), 5000 - size, None), Ok(Some(size)));
                assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(None));
                engine.end(instance);
            }
            // One byte that stays one.
            let mut instance = engine.instantiate(&module().memory_type(of(1, Some(1))).build()).unwrap();
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(None));
            assert_eq!(instance.memory_grow(memory(0), 0, None), Ok(Some(1)));
            engine.end(instance);
            // As many bytes as addresses name are too many for a slot, and for these frames.
            engine.instantiate(&module().memory_type(of(u32::MAX.into(), None)).build()).unwrap_err();
            engine.instantiate(&module().memory_type(of((1 << 32) + 1, None)).build()).unwrap_err();
        },
    );
}

/// No guard begins within a page, so that code must compare.
pub(crate) fn end_of_bytes<A: TestArch>() {
    in_both_ways(
        |config| config,
        |engine: &Engine<'_, A>| {
            // Each is as the one before left the slot, and shorter or longer.
            for size in [6, 5, 4096, 5, 8191, 0, 4097] {
                let mut instance =
                    engine.instantiate(&module().id(None).memory_type(of(size, None)).build()).unwrap();
                assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(true));
                assert_eq!(instance.memory_definition(memory(0)).unwrap().current_length, size);
                let mut all = alloc::vec![1; usize::try_from(size).unwrap()];
                instance.read_memory(memory(0), 0, &mut all).unwrap();
                assert!(all.iter().all(|&byte| byte == 0), "{size} bytes");
                instance.memory_fill(memory(0), 0, 0xff, size).unwrap();
                instance.memory_fill(memory(0), 0, 0xff, size + 1).unwrap_err();
                instance.memory_copy(memory(0), 0, memory(0), size, 1).unwrap_err();
                engine.end(instance);
            }
        },
    );
}

pub(crate) fn types<A: TestArch>() {
    in_both_ways(
        |config| config,
        |engine: &Engine<'_, A>| {
            for ty in [
                MemoryType::new(1, None),
                MemoryType::new(0, Some(7)),
                of(9, Some(MIB as u64)),
                MemoryType { memory64: true, ..MemoryType::new(2, Some(1 << 40)) },
                MemoryType { memory64: true, ..of(3, None) },
            ] {
                let code = module().memory_type(ty).export("m", memory_at(0)).build();
                let mut instance = engine.instantiate(&code).unwrap();
                assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(ty.minimum)));
                let defined = instance.memories().values().next().unwrap();
                assert_eq!(*defined.ty(), ty, "as declared, whatever it has now");
                assert_eq!((defined.size(), defined.maximum()), (ty.minimum + 1, ty.maximum));
                assert_eq!(defined.byte_size() as u64, (ty.minimum + 1) << ty.page_size_log2);
                match instance.lookup("m").unwrap() {
                    Some(Export::Memory { ty: exported, .. }) => assert_eq!(exported, ty),
                    other => panic!("{other:?}"),
                }
                engine.end(instance);
            }
        },
    );
}
