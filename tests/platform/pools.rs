//! Engines of several reservations: each has its slots in a pool of its own.

use alloc::vec::Vec;
use core::ptr::NonNull;

use allotment::{
    CompiledModuleId, Config, Error, FaultAccess, FaultRegion, FaultReport, MemoryPoolConfig, PoolKind,
    Verdict,
    wasmtime::{GUARD_SIZE, PlatformError, RESERVATION, allocator_config},
};

use crate::{
    Calls, NONE, READ_WRITE, after,
    common::{MIB, PAGE, TestArch, WASM_PAGE, pool},
    flags,
    images::with,
    virt,
};

/// Reservations of the pools, the main one's first.
const RESERVATIONS: [usize; 3] = [RESERVATION, 64 * MIB, 1 << 30];
const SLOTS: [usize; 3] = [1, 2, 1];

fn config() -> Config {
    let [_, small, middle] = RESERVATIONS.map(|bytes| MemoryPoolConfig::new(bytes).max_memory_size(2 * MIB));
    let pools = pool(SLOTS[0], 4 * MIB);
    let pools =
        pools.memory_pool(small.total_memories(SLOTS[1])).memory_pool(middle.total_memories(SLOTS[2]));
    allocator_config().allocation_strategy(pools)
}

/// What an engine of this reservation maps.
const fn mapping(reservation: usize) -> usize {
    GUARD_SIZE + reservation + GUARD_SIZE
}

fn map<A: TestArch>(calls: &Calls<A>, reservation: usize) -> NonNull<u8> {
    after(calls.0.map(mapping(reservation), flags(NONE)).unwrap(), GUARD_SIZE)
}

fn unmap<A: TestArch>(calls: &Calls<A>, memory: NonNull<u8>, bytes: usize) -> Result<(), PlatformError> {
    calls.unmap(NonNull::new(memory.as_ptr().wrapping_sub(GUARD_SIZE)).unwrap(), bytes)
}

fn in_use<A: TestArch>(calls: &Calls<A>) -> [usize; 3] {
    [0, 1, 2].map(|number| calls.0.allocator().memory_pool_metrics(number).unwrap().memories)
}

fn report<A: TestArch>(calls: &Calls<A>, address: NonNull<u8>) -> FaultReport {
    match calls.0.allocator().fault(virt(address), FaultAccess::Write) {
        Verdict::Trap(report) => report,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn each_its_own<A: TestArch>() {
    with::<A>(&config(), |calls| {
        for round in 0..3 {
            let memories = RESERVATIONS.map(|bytes| map(calls, bytes));
            assert_eq!(in_use(calls), [1, 1, 1]);
            for (number, (memory, bytes)) in memories.into_iter().zip(RESERVATIONS).enumerate() {
                assert_eq!(calls.load(memory), None);
                calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
                calls.protect(after(memory, WASM_PAGE), 3 * WASM_PAGE, READ_WRITE).unwrap();
                for page in 0..4 * WASM_PAGE / PAGE {
                    let byte = after(memory, page * PAGE);
                    assert_eq!(calls.load(byte), Some(0), "page {page} of pool {number} in round {round}");
                    calls.store(byte, 0xd0).unwrap();
                }
                // Nothing else, as far as compiled code may reach.
                for offset in [4 * WASM_PAGE, 3 * MIB, bytes - 1, bytes, bytes + GUARD_SIZE - 1] {
                    assert_eq!(calls.load(after(memory, offset)), None, "{offset:#x} of pool {number}");
                    let said = report(calls, after(memory, offset));
                    let guard = offset >= bytes;
                    assert_eq!(said.region == FaultRegion::GuardAfter(None), guard, "{said}");
                    assert_eq!(said.slot.unwrap().memory_pool, number, "{said}");
                }
                let limit = if number == 0 { 4 * MIB } else { 2 * MIB };
                let error = calls.protect(after(memory, 4 * WASM_PAGE), limit, READ_WRITE).unwrap_err();
                assert_eq!(
                    error,
                    Error::MemoryTooLarge { requested: limit + 4 * WASM_PAGE, limit }.into(),
                    "pool {number}"
                );
                calls.remap(after(memory, WASM_PAGE), 3 * WASM_PAGE, READ_WRITE).unwrap();
                assert_eq!(calls.load(after(memory, WASM_PAGE)), Some(0));
                assert_eq!(calls.load(memory), Some(0xd0));
                calls.protect(after(memory, WASM_PAGE), 3 * WASM_PAGE, NONE).unwrap();
                assert_eq!(calls.load(after(memory, WASM_PAGE)), None);
                // Not by another one's size.
                unmap(calls, memory, mapping(bytes) + PAGE).unwrap_err();
                unmap(calls, memory, mapping(2 * RESERVATION)).unwrap_err();
            }
            for (memory, bytes) in memories.into_iter().zip(RESERVATIONS) {
                unmap(calls, memory, mapping(bytes)).unwrap();
                assert_eq!(calls.load(memory), None);
                unmap(calls, memory, mapping(bytes)).unwrap_err();
            }
            assert_eq!(in_use(calls), [0; 3]);
        }
    });
}

pub(crate) fn exhausted<A: TestArch>() {
    with::<A>(&config(), |calls| {
        let small = RESERVATIONS[1];
        let held: Vec<_> = (0..4).map(|_| map(calls, small)).collect();
        assert_eq!(in_use(calls), SLOTS);
        let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 4 };
        assert_eq!(calls.0.map(mapping(small), flags(NONE)), Err(full.into()));
        // A larger reservation is in no smaller slot.
        let full = Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: 1 };
        unmap(calls, held[0], mapping(small)).unwrap();
        assert_eq!(calls.0.map(mapping(RESERVATION), flags(NONE)), Err(full.into()));
        let again = map(calls, small);
        assert_eq!(again, held[0]);
        for &memory in &held {
            calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
            calls.store(memory, 3).unwrap();
            for offset in [WASM_PAGE, small - 1, small, small + GUARD_SIZE - 1] {
                assert_eq!(calls.load(after(memory, offset)), None);
            }
        }
        held.iter().for_each(|&memory| unmap(calls, memory, mapping(small)).unwrap());
        // No pool, no slot: a region.
        let other = map(calls, 2 * small);
        assert_eq!(in_use(calls), [0; 3]);
        calls.protect(other, WASM_PAGE, READ_WRITE).unwrap();
        calls.store(other, 1).unwrap();
        unmap(calls, other, mapping(2 * small)).unwrap();
    });
}

/// Guards that compiled code relies on: without them a slot is no mapping.
pub(crate) fn guardless<A: TestArch>() {
    let bytes = RESERVATIONS[1];
    let one = |bytes| MemoryPoolConfig::new(bytes).max_memory_size(MIB).total_memories(2);
    let short = GUARD_SIZE - 2 * MIB;
    for (bytes, one, slot) in [
        (bytes, one(bytes), 1),
        (bytes, one(bytes).memory_guard_size(short), 0),
        // Enough before the first slot, and a page too little after each.
        (bytes + PAGE, one(bytes + PAGE).memory_guard_size(short + PAGE), 0),
        (bytes, one(bytes).total_memories(0), 0),
    ] {
        let config = allocator_config().allocation_strategy(pool(1, MIB).memory_pool(one));
        with::<A>(&config, |calls| {
            let memory = map(calls, bytes);
            assert_eq!(calls.0.allocator().memory_pool_metrics(1).unwrap().memories, slot, "{config}");
            calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
            assert_eq!(calls.load(after(memory, WASM_PAGE - 1)), Some(0));
            assert_eq!(calls.load(after(memory, bytes + GUARD_SIZE - 1)), None);
            unmap(calls, memory, mapping(bytes)).unwrap();
        });
    }
}

/// Images, and who had which slot, in each pool.
pub(crate) fn images<A: TestArch>() {
    with::<A>(&config(), |calls| {
        let images = [0x10, 0x20].map(|seed| (calls.image(calls.data(seed)), seed));
        let run = |bytes: usize, nth: usize, named: bool| {
            let (image, seed) = images[nth];
            let work = || {
                let memory = map(calls, bytes);
                calls.protect(memory, 2 * WASM_PAGE, READ_WRITE).unwrap();
                calls.place(image, memory);
                calls.assert_shows(memory, Some(seed));
                calls.scribble(memory);
                unmap(calls, memory, mapping(bytes)).unwrap();
                memory
            };
            if named { calls.0.for_module(CompiledModuleId(nth as u64), work) } else { work() }
        };
        // In turns, by guess and by name; the small pool has a slot for each of the two.
        for named in [false, true] {
            for bytes in RESERVATIONS {
                for nth in [0, 1].repeat(3) {
                    run(bytes, nth, named);
                }
                let places = [0, 1].map(|nth| run(bytes, nth, named));
                (0..3).for_each(|_| assert_eq!([0, 1].map(|nth| run(bytes, nth, named)), places));
                assert_eq!(places[0] != places[1], bytes == RESERVATIONS[1], "{named}, {bytes:#x}");
            }
        }
        // Time after time the same, with two slots to choose from.
        let small = RESERVATIONS[1];
        let places = [0; 4].map(|nth| run(small, nth, false));
        assert!(places[1..].iter().all(|&place| place == places[1]), "{places:?}");
        // One engine after the other.
        for _ in 0..3 {
            for bytes in RESERVATIONS {
                run(bytes, 0, false);
            }
        }
        images.into_iter().for_each(|(image, _)| calls.free(image));
    });
}
