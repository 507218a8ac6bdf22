//! What the tests of several pools share.

use allotment::{
    Backing, Commit, Config, FaultAccess, FaultReport, Memory, MemoryPoolConfig, MemoryRequest, Verdict,
};

use crate::common::{MIB, Machine, PAGE, TestArch, at, pool, pooled};

pub(crate) const GIB: usize = 1 << 30;

/// Address space, guard, most, and slots: of the main pool, and of those beside it.
pub(crate) const POOLS: [[usize; 4]; 3] =
    [[4 * GIB, 32 * MIB, 4 * MIB, 2], [8 * MIB, 2 * MIB, 2 * MIB, 3], [GIB, 32 * MIB, 8 * MIB, 2]];

/// The two that are not the main one.
pub(crate) fn further() -> [MemoryPoolConfig; 2] {
    [POOLS[1], POOLS[2]].map(|[reservation, guard, most, slots]| {
        MemoryPoolConfig::new(reservation)
            .memory_guard_size(guard)
            .max_memory_size(most)
            .total_memories(slots)
    })
}

pub(crate) fn config(backing: Backing) -> Config {
    let [small, middle] = further();
    pooled(pool(POOLS[0][3], POOLS[0][2]).backing(backing).memory_pool(small).memory_pool(middle))
}

/// One machine with all of [`POOLS`].
pub(crate) fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&config(Backing::Elastic(Commit::Strict)), 24 * MIB)
}

/// A memory of a page that only the pool of this number is the smallest for.
pub(crate) fn of_pool(number: usize) -> MemoryRequest {
    sized(number, PAGE)
}

/// The same of so many bytes.
pub(crate) fn sized(number: usize, bytes: usize) -> MemoryRequest {
    let [reservation, guard, most, _] = POOLS[number];
    MemoryRequest::new(bytes).maximum(most).reserved(reservation, guard)
}

/// One memory of each pool.
pub(crate) fn one_of_each<A: TestArch>(m: &Machine<A>) -> [Memory<'_, A>; 3] {
    [0, 1, 2].map(|number| {
        let memory = m.allocator.allocate_memory(of_pool(number)).unwrap();
        assert_eq!(pool_of(m, &memory), number);
        memory
    })
}

/// The number of the pool that a memory's slot is shown in.
pub(crate) fn pool_of<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>) -> usize {
    let (mut found, base) = (None, at(memory, 0));
    m.allocator.for_each_slot(|slot| {
        if slot.base == base {
            found = Some(slot.memory_pool);
        }
    });
    found.expect("the memory is in a slot")
}

/// What the allocator reports of an access that it refuses.
pub(crate) fn report<A: TestArch>(m: &Machine<A>, memory: &Memory<'_, A>, offset: i64) -> FaultReport {
    match m.allocator.fault(at(memory, offset), FaultAccess::Write) {
        Verdict::Trap(report) => report,
        other => panic!("{offset:#x}: {other:?}"),
    }
}
