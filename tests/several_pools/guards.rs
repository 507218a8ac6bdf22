//! Where the slots of each pool end, and what is said of an access beyond.

use alloc::format;

use allotment::{CompiledModuleId, Error, FaultRegion};

use crate::{
    common::{PAGE, TestArch, WASM_PAGE},
    world::{POOLS, machine, of_pool, one_of_each, report},
};

pub(crate) fn ends<A: TestArch>() {
    let m = machine::<A>();
    let mut memories = one_of_each(&m);
    for (number, memory) in memories.iter_mut().enumerate() {
        let [reservation, guard, most, _] = POOLS[number];
        for size in [PAGE, WASM_PAGE, most / 2 + PAGE, most] {
            memory.grow_to(size).unwrap();
            m.assert_ends_at(memory, size);
        }
        let error = memory.grow_to(most + 1).unwrap_err();
        assert_eq!(error, Error::MemoryTooLarge { requested: most + 1, limit: most }, "pool {number}");
        // From the end of what is accessible to the end of the guard, and below.
        let end = reservation + guard;
        for offset in [most + PAGE, reservation - 1, reservation, end - 1] {
            let offset = i64::try_from(offset).unwrap();
            m.load(memory, offset).expect_err("beyond the memory");
            m.store(memory, offset, 1).expect_err("beyond the memory");
        }
        m.load(memory, -1).expect_err("before the memory");
        m.load(memory, -i64::try_from(guard).unwrap()).expect_err("before the memory");
        m.assert_ends_at(memory, most);
    }
    memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
}

pub(crate) fn reports<A: TestArch>() {
    let m = machine::<A>();
    for number in [0, 1, 2] {
        let [reservation, ..] = POOLS[number].map(|bytes| i64::try_from(bytes).unwrap());
        let module = CompiledModuleId(number as u64);
        let memory = m.allocator.allocate_memory(of_pool(number).module(module, 5)).unwrap();
        let page = i64::try_from(PAGE).unwrap();
        for (offset, region) in [
            (page, FaultRegion::Memory(Some(5))),
            (reservation - 1, FaultRegion::Memory(Some(5))),
            (reservation, FaultRegion::GuardAfter(Some(5))),
            (-1, FaultRegion::GuardBefore(Some(5))),
        ] {
            let said = report(&m, &memory, offset);
            let slot = said.slot.unwrap();
            // The guard before the slab's first slot is that slot's.
            assert_eq!((said.region, said.offset), (region, Some(offset)), "pool {number}: {said}");
            assert_eq!((slot.memory_pool, slot.accessible), (number, PAGE), "{said}");
            assert_eq!(said.module, Some(module));
            let named = if number == 0 { " of memories".into() } else { format!(" of memory pool {number}") };
            assert!(format!("{said}").contains(&named), "{said}");
        }
        m.assert_ends_at(&memory, PAGE);
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn bounds_checks<A: TestArch>() {
    let m = machine::<A>();
    let memories = one_of_each(&m);
    let needs = memories.each_ref().map(|memory| memory.needs_bounds_checks());
    assert_eq!(needs, [false, true, true]);
    memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
}
