//! Which memory gets which slot.

use alloc::vec::Vec;
use core::ptr::NonNull;

use allotment::{CompiledModuleId, MemoryRequest};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, pool, pooled},
    world::pooling,
};

const SLOTS: usize = 6;

fn of(module: u64, index: u32) -> MemoryRequest {
    MemoryRequest::new(2 * PAGE).module(CompiledModuleId(module), index)
}

fn machine<A: TestArch>(warm: u32) -> Machine<A> {
    let pools = pool(SLOTS, MIB).max_memories_per_module(2).max_unused_warm_slots(warm);
    Machine::new(&pooled(pools).region_space(1 << 30), 4 * MIB)
}

/// Where a memory of this request is, which is not kept.
fn place<A: TestArch>(m: &Machine<A>, request: MemoryRequest) -> NonNull<u8> {
    let memory = m.allocator.allocate_memory(request).unwrap();
    let base = memory.base();
    m.allocator.deallocate_memory(memory);
    base
}

pub(crate) fn modules<A: TestArch>() {
    let m = machine::<A>(100);
    let all = [(1, 0), (1, 1), (2, 0), (3, 0)];
    let held = all.map(|(module, index)| m.allocator.allocate_memory(of(module, index)).unwrap());
    let bases: Vec<_> = held.iter().map(allotment::Memory::base).collect();
    held.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    for (nth, (module, index)) in all.into_iter().enumerate().rev() {
        assert_eq!(place(&m, of(module, index)), bases[nth], "memory {index} of module {module}");
    }
    // None of them is for another one, as long as there are unused slots.
    assert!(!bases.contains(&place(&m, of(4, 0))));

    m.allocator.purge_module(CompiledModuleId(1));
    m.allocator.purge_module(CompiledModuleId(99));
    assert_eq!(pooling(&m).unused_warm_memories, 5, "what is kept is still kept");
    let first = m.allocator.allocate_memory(of(1, 0)).unwrap();
    assert!(!bases[..2].contains(&first.base()), "a module that was purged has its slot still");
    assert_eq!(place(&m, of(2, 0)), bases[2], "another module was purged");
    // What is in use when its module goes is not taken away.
    m.store(&first, 5, 5).unwrap();
    m.allocator.purge_module(CompiledModuleId(1));
    assert_eq!(m.load(&first, 5), Ok(5));
    m.allocator.deallocate_memory(first);
    assert_eq!(m.allocator.metrics().memories, 0);
}

pub(crate) fn warm_slots<A: TestArch>() {
    // As few slots as possible; three; all.
    for (most, used) in [(0, 1), (3, 3), (u32::MAX, SLOTS)] {
        let m = machine::<A>(most);
        let bases: Vec<_> = (0..2 * SLOTS as u64).map(|module| place(&m, of(module, 0))).collect();
        let mut distinct = bases.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), used, "with {most} warm slots");
        assert_eq!(pooling(&m).unused_warm_memories as usize, used);
        // The oldest one is next, in turns.
        for (nth, base) in bases.iter().enumerate() {
            assert_eq!(*base, bases[nth % used], "memory {nth} with {most} warm slots");
        }
        // The last one is still its module's.
        assert_eq!(place(&m, of(2 * SLOTS as u64 - 1, 0)), bases[2 * SLOTS - 1]);
    }
}

pub(crate) fn switched<A: TestArch>() {
    for poison in [false, true] {
        let pools = pool(1, MIB).poison(poison);
        let m = Machine::<A>::new(&pooled(pools).region_space(1 << 30), 4 * MIB);
        for (round, module) in [1, 2, 1, 1, 3, 1, 2, 2].into_iter().enumerate() {
            let pages = 1 + round * 3 % 5;
            let request = MemoryRequest::new(pages * PAGE).module(CompiledModuleId(module), 0);
            let mut memory = m.allocator.allocate_memory(request).unwrap();
            memory.grow_to((pages + 2) * PAGE).unwrap();
            for byte in (0..(pages + 2) * PAGE).step_by(64) {
                assert_eq!(m.load(&memory, byte as i64), Ok(0), "{byte:#x} in round {round}, {poison}");
                if byte % PAGE < PAGE / 2 && !(byte / PAGE + round).is_multiple_of(3) {
                    m.store(&memory, byte as i64, 0xfe).unwrap();
                }
            }
            m.assert_ends_at(&memory, (pages + 2) * PAGE);
            m.allocator.deallocate_memory(memory);
        }
    }
}
