//! Initialisation that traps half-way.

use allotment::instance::{InstanceError, MemoryIndex, ModuleInfo, Trap, cranelift_entity::EntityRef};

use crate::{
    common::{TestArch, WASM_PAGE},
    world::{
        MARK, all_counts, allocate, assert_pristine, code, data_at, deallocate, description, each_strategy,
        functions_at, warm_up, works,
    },
};

const SEGMENTS: usize = 6;
const LENGTH: usize = 300;
const MARKS: core::ops::Range<usize> = 5..5 + LENGTH;

pub(crate) fn nth<A: TestArch>() {
    let mut data = b"hello".to_vec();
    data.resize(MARKS.end, MARK);
    each_strategy::<A>(|m, engine| {
        let usual = code(description(), 1, data.clone());
        warm_up(&**engine, &usual);
        let before = all_counts(m);
        // The first half are of elements. The last is that none is wrong.
        for wrong in 0..=2 * SEGMENTS {
            let code = code(with_wrong(wrong), 1, data.clone());
            let mut handle = allocate(&**engine, &code).unwrap();
            assert_pristine(m, &mut handle);
            let trap = match wrong {
                _ if wrong < SEGMENTS => Err(InstanceError::Trap(Trap::TableOutOfBounds)),
                _ if wrong < 2 * SEGMENTS => Err(InstanceError::Trap(Trap::MemoryOutOfBounds)),
                _ => Ok(()),
            };
            assert_eq!(handle.initialize(), trap, "segment {wrong}");
            // Those before it are there, and it is not, nor those after it.
            for nth in 0..SEGMENTS {
                let mut bytes = [0; LENGTH];
                handle.read_memory(MemoryIndex::new(nth % 2), place(nth) as u64, &mut bytes).unwrap();
                let expected = if SEGMENTS + nth < wrong { MARK } else { 0 };
                assert!(bytes.iter().all(|&byte| byte == expected), "segment {nth} of {wrong}");
            }
            deallocate(&**engine, handle);
            assert_eq!(all_counts(m), before, "segment {wrong}");
            works(m, &**engine, &usual);
        }
    });
}

fn place(nth: usize) -> usize {
    3000 + 9000 * nth
}

fn with_wrong(wrong: usize) -> ModuleInfo {
    let mut info = description();
    for nth in 0..SEGMENTS {
        let offset = if nth == wrong { 599 } else { 20 + 90 * nth };
        info.elements.push(functions_at(i32::try_from(offset).unwrap(), &[0, 1]));
        let memory = nth % 2;
        let size = WASM_PAGE * (memory + 1);
        let offset = if SEGMENTS + nth == wrong { size - LENGTH + 1 } else { place(nth) };
        info.data.push(data_at(memory, i32::try_from(offset).unwrap(), MARKS));
    }
    info
}
