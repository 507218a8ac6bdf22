//! Several CPUs at once, each with memories of its own.

use allotment::{CompiledModuleId, FaultAccess, FaultRegion, MemoryRequest, Verdict};

use crate::{
    base,
    common::{MIB, Machine, PAGE, TestArch, together},
    numbers::Random,
    small,
};

const WORKERS: usize = 3;
const ROUNDS: usize = if cfg!(miri) { 3 } else { 100 };

pub(crate) fn tenants<A: TestArch>() {
    let config = small().memory_reservation(8 * PAGE).memory_reservation_for_growth(PAGE);
    let m = Machine::<A>::new(&config, 4 * MIB);
    let before = m.allocator.metrics();
    together(WORKERS, |worker| {
        let mut random = Random::new(worker as u64);
        for _ in 0..ROUNDS {
            one(&m, &mut random, worker);
        }
    });
    assert_eq!(m.allocator.metrics(), before);
}

/// A memory that grows, mostly by a move, while others come and go.
fn one<A: TestArch>(m: &Machine<A>, random: &mut Random, worker: usize) {
    let mine = u8::try_from(worker).unwrap() + 1;
    let index = u32::from(mine);
    let request = MemoryRequest::new(PAGE).module(CompiledModuleId(9), index);
    let mut memory = m.allocator.allocate_memory(request).expect("there are frames for every worker");
    let mut marked = 0;
    for _ in 0..3 {
        let pages = memory.size() / PAGE + random.below(20);
        memory.grow_to(pages * PAGE).expect("there are frames for every worker");
        for page in 0..pages {
            let expected = if page < marked { mine } else { 0 };
            assert_eq!(m.load(&memory, (page * PAGE) as i64), Ok(expected), "somebody else was here");
            m.store(&memory, (page * PAGE) as i64, mine).unwrap();
        }
        marked = pages;
        // Found without a lock while others edit what it is found by.
        let beyond = base(&memory).offset(memory.capacity());
        let Verdict::Trap(report) = m.allocator.fault(beyond, FaultAccess::Read) else { panic!("no trap") };
        assert_eq!(report.module, Some(CompiledModuleId(9)));
        assert_eq!(report.region, FaultRegion::GuardAfter(Some(index)), "{report}");
        assert_eq!(report.slot.map(|range| range.accessible), Some(pages * PAGE));
    }
    m.allocator.deallocate_memory(memory);
}
