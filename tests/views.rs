//! Slots and regions as they are shown one by one: what is in use, accessible
//! and resident, and nothing that is not there.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use allotment::{
    CompiledModuleId, MemoryInModule, MemoryRequest, PoolKind, RegionView, SlotView, arch::Access,
};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, pooled, small, small_pool};

harness::tests! {
    fn a_slot_is_shown_as_it_is() {
        on_every_machine!(slots);
    }

    fn a_region_is_shown_as_it_is() {
        on_every_machine!(regions);
    }

    fn slots_of_every_pool_are_shown() {
        on_every_machine!(pools);
    }
}

fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&small(), 16 * MIB)
}

impl<A: TestArch> Machine<A> {
    /// The slots that were ever in use, after a look at all.
    fn used_slots(&self) -> ([Option<SlotView>; 4], usize) {
        let (mut used, mut count) = ([None; 4], 0);
        self.allocator.for_each_slot(|slot| {
            assert_eq!((slot.pool, slot.slot as usize), (PoolKind::Memories, count));
            used[count] = (slot.generation > 0).then_some(slot);
            count += 1;
        });
        (used, count)
    }

    /// The regions, first ones first.
    fn regions(&self) -> ([Option<RegionView>; 4], usize) {
        let (mut regions, mut count) = ([None; 4], 0);
        self.allocator.for_each_region(|region| {
            regions[count] = Some(region);
            count += 1;
        });
        (regions, count)
    }
}

fn slots<A: TestArch>() {
    let m = machine::<A>();
    assert_eq!(m.used_slots(), ([None; 4], 4));
    let mut memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    let other = m.allocator.allocate_memory(1).unwrap();
    memory.grow_to(3 * WASM_PAGE).unwrap();

    let ([Some(first), Some(second), None, None], _) = m.used_slots() else { panic!("not two slots") };
    assert_eq!(first.base.0, memory.base().as_ptr() as u64);
    assert_eq!((first.in_use, first.accessible, first.resident), (true, 3 * WASM_PAGE, 3 * WASM_PAGE));
    assert_eq!((second.in_use, second.accessible, second.resident), (true, PAGE, PAGE));

    m.allocator.deallocate_memory(memory);
    let ([Some(released), Some(kept), None, None], _) = m.used_slots() else { panic!("not two slots") };
    assert_eq!((released.in_use, released.accessible, released.resident), (false, 0, 3 * WASM_PAGE));
    assert_ne!(released.generation, first.generation);
    assert_eq!(kept, second);
    m.allocator.deallocate_memory(other);
}

fn regions<A: TestArch>() {
    let m = machine::<A>();
    assert_eq!(m.regions().1, 0);
    let one = m.allocator.reserve_region(5 * PAGE).unwrap();
    let two = m.allocator.reserve_region(3 * MIB).unwrap();
    let view = |n: usize| m.regions().0[n].unwrap();
    let sizes = |n: usize| (view(n).accessible, view(n).executable, view(n).resident);
    assert_eq!(m.regions().1, 2);
    assert_eq!((view(0).start, view(0).bytes), (one, 2 * MIB));
    assert_eq!((view(1).start, view(1).bytes), (two, 4 * MIB));
    assert_eq!(sizes(0), (0, 0, 0));

    let protect = |start, bytes, access| {
        // SAFETY: the test holds no reference into its regions.
        unsafe { m.allocator.protect_region(start, bytes, access) }.unwrap();
    };
    protect(one, 5 * PAGE, Some(Access::ReadWrite));
    protect(one, 2 * PAGE, Some(Access::ReadExecute));
    protect(one.offset(4 * PAGE), PAGE, None);
    assert_eq!(sizes(0), (4 * PAGE, 2 * PAGE, 5 * PAGE));
    // Across the border of two leaf tables.
    protect(two, 3 * MIB, Some(Access::Read));
    assert_eq!(sizes(1), (3 * MIB, 0, 3 * MIB));

    // SAFETY: nobody uses the region.
    unsafe { m.allocator.release_region(one, 5 * PAGE) }.unwrap();
    assert_eq!((m.regions().1, view(0).start), (1, two));
    // SAFETY: nobody uses the region.
    unsafe { m.allocator.release_region(two, 3 * MIB) }.unwrap();
    assert_eq!(m.regions().1, 0);
}

fn pools<A: TestArch>() {
    let m: Machine<A> = Machine::new(&pooled(small_pool().total_tables(2).total_stacks(1)), 16 * MIB);
    let module = CompiledModuleId(7);
    let memory = m.allocator.allocate_memory(MemoryRequest::new(PAGE).module(module, 1)).unwrap();
    let table = m.allocator.allocate_table(10).unwrap();
    let (mut memories, mut tables, mut stacks) = (0, 0, 0);
    m.allocator.for_each_slot(|slot| {
        let used = match slot.pool {
            PoolKind::Memories => {
                memories += 1;
                slot.base.0 == memory.base().as_ptr() as u64
            }
            PoolKind::Tables => {
                tables += 1;
                slot.base.0 == table.base().as_ptr() as u64
            }
            _ => {
                stacks += 1;
                false
            }
        };
        assert_eq!((slot.in_use, slot.accessible), (used, if used { PAGE } else { 0 }), "{slot:?}");
        let owner = (used && slot.pool == PoolKind::Memories).then_some(MemoryInModule { module, index: 1 });
        assert_eq!(slot.owner, owner);
    });
    assert_eq!((memories, tables, stacks), (4, 2, 1));
    m.allocator.deallocate_memory(memory);
    m.allocator.deallocate_table(table);
}
