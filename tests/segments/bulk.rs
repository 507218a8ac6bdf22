//! Ranges of bytes.

use alloc::{vec, vec::Vec};

use allotment::{
    Backing, Commit, Error,
    instance::{InstanceError, Trap},
};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pooled},
    few, in_every_way,
    module::{Engine, bytes, memory, module},
};

const OUT: Result<(), InstanceError> = Err(InstanceError::Trap(Trap::MemoryOutOfBounds));
const END: u64 = WASM_PAGE as u64;

pub(crate) fn whole_or_not<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module().memory(1, Some(2)).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let one = memory(0);
        for (at, len) in [
            (END, 1),
            (END - 1, 2),
            (END + 1, 0),
            (0, END + 1),
            (1 << 32, 1),
            (u64::MAX, 0),
            (u64::MAX, 1),
            (1, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(instance.memory_fill(one, at, 1, len), OUT, "fill {len} at {at}");
            assert_eq!(instance.memory_copy(one, at, one, 0, len), OUT, "copy {len} to {at}");
            assert_eq!(instance.memory_copy(one, 0, one, at, len), OUT, "copy {len} from {at}");
        }
        let mut two = [7; 2];
        assert_eq!(instance.read_memory(one, END - 1, &mut two), OUT);
        assert_eq!(two, [7; 2]);
        assert_eq!(instance.write_memory(one, END - 1, &two), OUT);
        assert_eq!(instance.write_memory(one, u64::MAX, &two), OUT);
        assert_eq!(bytes(&instance, one, 0, WASM_PAGE), [0; WASM_PAGE], "nothing was written");

        instance.memory_fill(one, 0, 1, END).unwrap();
        instance.write_memory(one, END - 2, &two).unwrap();
        instance.memory_copy(one, 0, one, END - 2, 2).unwrap();
        assert_eq!(bytes(&instance, one, 0, 3), [7, 7, 1]);
        // Growth moves the end.
        assert_eq!(instance.memory_grow(one, 1, None), Ok(Some(1)));
        instance.memory_fill(one, END - 1, 9, 2).unwrap();
        assert_eq!(bytes(&instance, one, END - 2, 4), [7, 9, 9, 0]);
        assert_eq!(instance.memory_fill(one, 2 * END, 9, 1), OUT);
        engine.end(instance);
    });
}

pub(crate) fn overlaps<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module().memory(1, None).build();
        let mut instance = engine.instantiate(&code).unwrap();
        let one = memory(0);
        // Small ones, and some over several pages.
        for (to, from, len) in
            [(1u64, 0u64, 8u64), (0, 1, 8), (3, 3, 8), (0, 4096, 8192), (5000, 100, 20_000)]
        {
            let pattern: Vec<u8> = (0..WASM_PAGE).map(|nth| (nth * 7 / 3).to_le_bytes()[0]).collect();
            instance.write_memory(one, 0, &pattern).unwrap();
            instance.memory_copy(one, to, one, from, len).unwrap();
            let mut expected = pattern;
            let [first, last, target] = [from, from + len, to].map(|at| usize::try_from(at).unwrap());
            expected.copy_within(first..last, target);
            assert_eq!(bytes(&instance, one, 0, WASM_PAGE), expected, "{len} from {from} to {to}");
        }
        engine.end(instance);
    });
}

pub(crate) fn across<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| {
        let code = module().memory(1, None).memory(2, None).data(1, 65534, b"copied").build();
        let mut instance = engine.instantiate(&code).unwrap();
        instance.memory_copy(memory(0), 10, memory(1), END - 2, 6).unwrap();
        assert_eq!(bytes(&instance, memory(0), 9, 8), b"\0copied\0");
        // Each end is its own memory's.
        assert_eq!(instance.memory_copy(memory(0), END - 2, memory(1), END - 2, 6), OUT);
        assert_eq!(instance.memory_copy(memory(1), 0, memory(0), END - 2, 6), OUT);
        instance.memory_copy(memory(1), 2 * END - 6, memory(0), 10, 6).unwrap();
        assert_eq!(bytes(&instance, memory(1), 2 * END - 6, 6), b"copied");
        assert_eq!(bytes(&instance, memory(0), END - 2, 2), [0; 2]);
        engine.end(instance);
    });
}

/// Nothing may be written, read or copied up to the end of a memory, of any size,
/// and wherever its slot ends.
pub(crate) fn nothing_at_the_end<A: TestArch>() {
    in_every_way(|engine: &Engine<'_, A>| up_to_the_end(engine, MIB));
    // Slots without anything between them: the end of one is the next one's start.
    for commit in [Commit::Strict, Commit::PerInstance(512)] {
        let pool = few().max_memory_size(2 * MIB).backing(Backing::Elastic(commit));
        let config = pooled(pool).memory_reservation(2 * MIB).memory_guard_size(0);
        let m = Machine::<A>::new(&config.guard_before_linear_memory(false), 8 * MIB);
        up_to_the_end(&Engine::new(&m), 2 * MIB);
    }
}

fn up_to_the_end<A: TestArch>(engine: &Engine<'_, A>, most: usize) {
    for pages in [0, 1, most as u64 / END] {
        let code = module().memory(pages, None).passive_data(b"").build();
        let mut instance = engine.instantiate(&code).unwrap();
        let (one, end) = (memory(0), pages * END);
        instance.memory_fill(one, end, 1, 0).unwrap();
        instance.memory_copy(one, end, one, end, 0).unwrap();
        instance.memory_copy(one, 0, one, end, 0).unwrap();
        instance.write_memory(one, end, &[]).unwrap();
        instance.read_memory(one, end, &mut []).unwrap();
        let segment = allotment::instance::DataIndex::from_u32(0);
        instance.memory_init(one, segment, end, 0, 0).unwrap();
        assert_eq!(instance.memory_fill(one, end, 1, 1), OUT);
        assert_eq!(instance.memory_fill(one, end + 1, 1, 0), OUT);
        engine.end(instance);
    }
}

/// What the host writes for an instance counts as the instance's.
pub(crate) fn promises<A: TestArch>() {
    const PROMISED: usize = 4;
    let touched = few().backing(Backing::Elastic(Commit::PerInstance(PROMISED)));
    let m = Machine::<A>::new(&pooled(touched), 8 * MIB);
    let engine = Engine::new(&m);
    let code = module().memory(2, None).build();
    for _ in 0..3 {
        let mut instance = engine.instantiate(&code).unwrap();
        let one = memory(0);
        instance.memory_fill(one, 0, 1, 2 * PAGE as u64).unwrap();
        let too_much = instance.memory_fill(one, 0, 2, 5 * PAGE as u64);
        let error = Error::CommitmentExceeded { needed: 3, available: 2 };
        assert_eq!(too_much, Err(InstanceError::Resource(error)));
        assert_eq!(bytes(&instance, one, 0, 2 * PAGE), [1; 2 * PAGE], "before anything is written");
        instance.memory_copy(one, 2 * PAGE as u64, one, 0, 2 * PAGE as u64).unwrap();
        assert_eq!(bytes(&instance, one, 0, 4 * PAGE), [1; 4 * PAGE]);
        let further = instance.write_memory(one, 4 * PAGE as u64, b"x");
        let error = Error::CommitmentExceeded { needed: 1, available: 0 };
        assert_eq!(further, Err(InstanceError::Resource(error)));
        instance.write_memory(one, 0, b"x").unwrap();
        engine.end(instance);
    }
    // A segment beyond the promise ends the instantiation, not the host.
    let data = vec![1; (PROMISED + 1) * PAGE];
    let code = module().memory(2, None).data(0, 0, &data).build();
    let mut counts = Vec::new();
    for _ in 0..3 {
        let error = engine.instantiate(&code).map(|_| ()).unwrap_err();
        assert_eq!(error, InstanceError::Resource(Error::CommitmentExceeded { needed: 5, available: 4 }));
        counts.push(engine.counts());
    }
    assert_eq!(counts[1..], [counts[0]; 2]);
}
