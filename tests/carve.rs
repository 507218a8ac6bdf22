//! Carving: what fits is planned, what does not is refused by name and size.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "carve/x86_64_types.rs"]
mod x86_64_types;

extern crate alloc;

use alloc::string::ToString;

use allotment::{
    Allocator, CarveError, Config, ConfigError, Error, FaultAccess, Verdict,
    arch::{Access, FrameSource, PhysAddr, VirtAddr},
    boot::{NoArena, arena, largest_arena},
};
use common::{MIB, Machine, TestArch, load_at, pool, pooled, small, store_at};

harness::tests! {
    fn the_plan_says_where_everything_is() {
        on_every_machine!(plan);
    }

    fn an_arena_too_small_names_both_sizes() {
        on_every_machine!(arena_too_small);
    }

    fn a_window_too_small_names_both_sizes() {
        on_every_machine!(window_too_small);
    }

    fn a_window_in_use_is_refused() {
        on_every_machine!(window_in_use);
    }

    fn ranges_that_make_no_sense_are_refused() {
        on_every_machine!(ranges);
    }

    fn contradictory_sizes_are_refused() {
        on_every_machine!(contradiction);
    }

    fn sizes_beyond_any_address_space_are_refused() {
        on_every_machine!(enormous);
    }

    fn an_arena_that_no_entry_can_name_is_refused() {
        on_every_machine!(unreachable_arena);
    }

    fn nothing_at_all_can_be_carved() {
        on_every_machine!(nothing);
    }

    fn one_frame_is_given_once() {
        on_every_machine!(one_frame);
    }

    fn a_window_may_begin_at_any_multiple_of_2_mib() {
        on_every_machine!(odd_window);
    }

    fn a_window_may_lie_in_the_lower_half() {
        on_every_machine!(lower_window);
    }

    fn tables_may_come_from_the_kernel() {
        on_every_machine!(tables_of_the_kernel);
    }

    fn a_kernel_without_enough_tables_has_them_back() {
        on_every_machine!(too_few_tables);
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn a_kernel_that_ignores_read_only_pages_is_refused() {
        x86_64_types::without_write_protection();
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn a_kernel_whose_first_memory_type_is_not_write_back_is_refused() {
        x86_64_types::with_uncached_memory();
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn the_types_of_the_crate_x86_64_fit() {
        x86_64_types::fit();
    }

    fn an_arena_is_found_in_a_memory_map() {
        memory_map();
    }

    fn the_entries_of_the_root_stay_as_they_were_carved() {
        on_every_machine!(lasting_root);
    }

    fn a_window_may_end_at_the_top_of_the_address_space() {
        on_every_machine!(top_window);
    }
}

fn plan<A: TestArch>() {
    let m = Machine::<A>::new(&small(), 16 * MIB);
    let plan = m.allocator.plan();
    assert_eq!(plan.memories.slab.total_memories, 4);
    assert_eq!(plan.memories.slab.max_memory_size, 4 * MIB);
    assert!(plan.memories.first >= plan.window.start);
    assert!(plan.memories.first.offset(4 * plan.memories.slab.stride) <= plan.window.end);
    let arena = plan.arena.end.0 - plan.arena.start.0;
    let sum = (plan.overhead + plan.frames * 4096) as u64;
    assert_eq!(sum, arena, "every byte of the arena is accounted for");
    assert_eq!(m.allocator.metrics().available_frames, plan.frames);
}

fn arena_too_small<A: TestArch>() {
    let config = pooled(pool(100, 64 * MIB).premapped_tables(32));
    let Err(CarveError::ArenaTooSmall { needed, available }) = Machine::<A>::try_new(&config, 4 * MIB) else {
        panic!("100 slots of 64 MiB need 12 MiB of leaf tables");
    };
    assert_eq!(available, 4 * MIB as u64);
    assert!(needed > 100 * 32 * 4096, "{needed}");
    // With just as much as was asked for it works.
    let m = Machine::<A>::new(&config, usize::try_from(needed).unwrap().next_multiple_of(MIB));
    assert!(m.allocator.metrics().available_frames > 0);
}

fn window_too_small<A: TestArch>() {
    let (arch, window, arena) = A::machine(16 * MIB);
    let half = VirtAddr(window.start.0 + (64 << 30));
    // SAFETY: the machine is this test's.
    let refused = unsafe { Allocator::new(arch, window.start..half, arena, &small()) }.map(drop).unwrap_err();
    let CarveError::WindowTooSmall { needed, available } = refused else { panic!("{refused}") };
    assert_eq!(available, 64 << 30);
    assert!(needed > available);
}

fn window_in_use<A: TestArch>() {
    let (arch, window, arena) = A::machine(16 * MIB);
    let root = arch.physical(arch.root(window.start)).cast::<u64>();
    let top = allotment::arch::index(window.start, arch.levels() - 1);
    let entry = <A::Format as allotment::arch::Format>::table(arena.start);
    // SAFETY: the root is a table of 512 entries.
    let entry_place = unsafe { root.add(top) };
    // SAFETY: nothing uses that entry yet.
    unsafe { entry_place.write(entry) };
    // SAFETY: the machine is this test's.
    let refused = unsafe { Allocator::new(arch, window.clone(), arena, &small()) }.map(drop).unwrap_err();
    assert_eq!(refused, CarveError::WindowInUse { address: window.start, index: top, entry });
    assert!(refused.to_string().contains(&alloc::format!("entry {top}, for {}", window.start)), "{refused}");
}

fn ranges<A: TestArch>() {
    let refuse = |edit: fn(&mut core::ops::Range<VirtAddr>, &mut core::ops::Range<PhysAddr>)| {
        let (arch, mut window, mut arena) = A::machine(16 * MIB);
        edit(&mut window, &mut arena);
        // SAFETY: the machine is this test's.
        unsafe { Allocator::new(arch, window, arena, &small()) }.map(drop).unwrap_err()
    };
    let error = refuse(|window, _| window.start.0 += 4096);
    assert!(matches!(error, CarveError::Misaligned { what: "window", alignment: 0x20_0000, .. }));
    let error = refuse(|_, arena| arena.start.0 += 1);
    assert!(matches!(error, CarveError::Misaligned { what: "arena", alignment: 4096, .. }));
    let error = refuse(|window, _| window.start = VirtAddr(0x0000_8000_0000_0000));
    assert!(matches!(error, CarveError::WindowNotCanonical { .. }));
    let error = refuse(|window, _| window.end = window.start);
    assert!(matches!(error, CarveError::WindowNotCanonical { .. }));
    // What no half holds names how large one is.
    let (arch, _, arena) = A::machine(16 * MIB);
    let bits = arch.half_bits();
    let beyond = VirtAddr(1 << (bits - 1))..VirtAddr((1 << bits) + (1 << 30));
    // SAFETY: the machine is this test's.
    let error = unsafe { Allocator::new(arch, beyond, arena, &small()) }.map(drop).unwrap_err();
    assert!(matches!(error, CarveError::WindowNotCanonical { half_bits, .. } if half_bits == bits));
    let error = refuse(|_, arena| arena.end = arena.start);
    assert!(matches!(error, CarveError::ArenaTooSmall { available: 0, .. }));
}

fn contradiction<A: TestArch>() {
    let config = pooled(pool(1, 2 * MIB)).memory_reservation(MIB);
    let refused = Machine::<A>::try_new(&config, 16 * MIB).map(drop).unwrap_err();
    let contradiction =
        ConfigError::MemoryLargerThanReservation { max_memory_size: 2 * MIB, memory_reservation: MIB };
    assert_eq!(refused, CarveError::Config(contradiction));
}

fn enormous<A: TestArch>() {
    const MOST: usize = usize::MAX;
    let refuse = |config: Config| Machine::<A>::try_new(&config, 16 * MIB).map(drop).unwrap_err();
    for space in [MOST, MOST - (1 << 30), 1 << 63, 1 << 48] {
        let refused = refuse(small().region_space(space));
        assert!(
            matches!(
                refused,
                CarveError::Config(ConfigError::TooLarge { knob: "region_space", .. })
                    | CarveError::WindowTooSmall { .. }
            ),
            "{refused}"
        );
    }
    refuse(small().region_space(MOST - (1 << 30)).memory_guard_size(1 << 60));
    refuse(pooled(pool(4, MOST)).memory_reservation(MOST));
    refuse(pooled(pool(4, 0)).memory_reservation(MOST).memory_guard_size(0));
    refuse(small().memory_guard_size(MOST));
    refuse(pooled(pool(MOST, 4 * MIB)));
    refuse(pooled(pool(1 << 30, 4 * MIB)));
}

fn unreachable_arena<A: TestArch>() {
    // No entry has room for these frame addresses, or, hidden, would not name
    // memory; with the last, sums wrap.
    for start in [0x000c << 48, 1 << 52, 1 << 60, u64::MAX - 0xf_ffff] {
        let (arch, window, _) = A::machine(16 * MIB);
        let arena = PhysAddr(start)..PhysAddr(start + 0xf_f000);
        // SAFETY: the machine is this test's, and it is refused.
        let refused = unsafe { Allocator::new(arch, window, arena, &small()) }.map(drop).unwrap_err();
        assert!(matches!(refused, CarveError::ArenaOutOfReach { .. }), "{refused}");
    }
}

fn nothing<A: TestArch>() {
    for config in [
        Config::new().region_space(0),
        pooled(pool(0, 4 * MIB)),
        pooled(pool(0, 4 * MIB)).region_space(0),
        pooled(pool(0, 4 * MIB)).region_space(0).guard_before_linear_memory(false),
        pooled(pool(4, 0)),
        pooled(pool(4, 0)).memory_reservation(0).memory_guard_size(0),
        pooled(pool(4, 0)).memory_reservation(0).memory_guard_size(0).region_space(0),
    ] {
        let m = Machine::<A>::new(&config, 16 * MIB);
        let before = m.allocator.metrics();
        let limit = config_total(&before);
        for _ in 0..limit {
            let mut memory = m.allocator.allocate_memory(0).unwrap();
            assert_eq!(memory.grow_to(1), Err(Error::MemoryTooLarge { requested: 1, limit: 0 }));
            m.load(&memory, 0).expect_err("a memory of nothing was readable");
            let _ = m.verdict(&memory, -1);
            m.allocator.deallocate_memory(memory);
        }
        m.allocator.allocate_memory(1).expect_err("nothing can have a byte");
        let window = m.allocator.plan().window.clone();
        for address in [window.start, VirtAddr(window.end.0 - 1), window.end, VirtAddr(0), VirtAddr(u64::MAX)]
        {
            assert_ne!(m.allocator.fault(address, FaultAccess::Read), Verdict::Resume);
            assert!(!m.allocator.is_code(address));
        }
        if let Ok(region) = m.allocator.reserve_region(0) {
            // SAFETY: nobody uses the region.
            unsafe { m.allocator.release_region(region, 0) }.unwrap();
        }
        assert_eq!(m.allocator.metrics(), before);
    }
}

fn config_total(metrics: &allotment::Metrics) -> usize {
    metrics.memories + metrics.free_memories
}

fn one_frame<A: TestArch>() {
    let config = pooled(pool(2, 4 * MIB));
    let Err(CarveError::ArenaTooSmall { needed, .. }) = Machine::<A>::try_new(&config, 4096) else {
        panic!("tables and records in one page");
    };
    let m = Machine::<A>::new(&config, usize::try_from(needed).unwrap());
    assert_eq!(m.allocator.metrics().available_frames, 1);
    let mut memory = m.allocator.allocate_memory(1).unwrap();
    let none = Error::OutOfFrames { needed: 1, available: 0 };
    assert_eq!(memory.grow_to(4097), Err(none));
    assert_eq!(m.allocator.allocate_memory(1).map(drop).unwrap_err(), none);
    m.assert_ends_at(&memory, 4096);
    let region = m.allocator.reserve_region(1).unwrap();
    // SAFETY: nobody uses the region.
    let refused = unsafe { m.allocator.protect_region(region, 1, Some(Access::Read)) };
    assert_eq!(refused, Err(Error::OutOfFrames { needed: 2, available: 0 }));
    m.allocator.deallocate_memory(memory);
    let other = m.allocator.allocate_memory(1).unwrap();
    assert_eq!(m.load(&other, 4095), Ok(0), "the frame came with its previous contents");
    m.allocator.deallocate_memory(other);
    assert_eq!(m.allocator.metrics().available_frames, 1);
}

fn odd_window<A: TestArch>() {
    const GIB: usize = 1 << 30;
    for (skipped, config) in [
        (2 * MIB, pooled(pool(0, 4 * MIB)).region_space(GIB)),
        (GIB - 2 * MIB, small().region_space(2 * GIB)),
        (512 * MIB, small().region_space(GIB).memory_guard_size(2 * GIB)),
    ] {
        let (arch, window, arena) = A::machine(16 * MIB);
        let window = window.start.offset(skipped)..window.end;
        // SAFETY: the machine is this test's.
        let allocator = unsafe { Allocator::new(arch, window, arena, &config) }.unwrap();
        use_last_page_of_regions(&allocator, allocator.plan().window.start);
    }
}

fn lower_window<A: TestArch>() {
    let (arch, _, arena) = A::machine(16 * MIB);
    // With 5 levels the kernel has all of what 4 can reach, with 3 there is no more.
    let window = match arch.levels() {
        5 => VirtAddr(0x0050_0000_0000_0000)..VirtAddr(0x0050_0080_0000_0000),
        3 => VirtAddr(0x0010_0000_0000)..VirtAddr(0x0080_0000_0000),
        _ => VirtAddr(0x5000_0000_0000)..VirtAddr(0x5080_0000_0000),
    };
    arch.use_window(window.clone());
    // SAFETY: the machine is this test's, and nothing is there.
    let allocator = unsafe { Allocator::new(arch, window.clone(), arena, &small()) };
    let m = Machine::of(allocator.unwrap());
    let memory = m.allocator.allocate_memory(MIB).unwrap();
    assert!(window.contains(&VirtAddr(memory.base().as_ptr() as u64)));
    m.assert_ends_at(&memory, MIB);
    m.load(&memory, -1).unwrap_err();
    m.allocator.deallocate_memory(memory);
}

/// Also when a memory has directories of its own: a second root would not have them.
fn lasting_root<A: TestArch>() {
    const GIB: usize = 1 << 30;
    // The first memory begins 4 MiB before a directory's end, in tables of which one is carved.
    let pools = pooled(pool(2, 16 * MIB).premapped_tables(1)).guard_before_linear_memory(true);
    let m = Machine::<A>::new(&pools.region_space(GIB).memory_guard_size(GIB - 4 * MIB), 32 * MIB);
    let entries = || {
        let arch = m.allocator.arch();
        let root = arch.physical(arch.root(m.allocator.plan().window.start)).cast::<[u64; 512]>();
        // SAFETY: the root is a table of 512 entries, which only this test's calls edit.
        unsafe { root.read() }
    };
    let carved = entries();
    let mut memories = [0, 1].map(|_| m.allocator.allocate_memory(MIB).unwrap());
    for memory in &mut memories {
        memory.grow_to(12 * MIB).unwrap();
        m.store(memory, 12 * MIB as i64 - 1, 1).unwrap();
    }
    assert_eq!(entries(), carved);
    for memory in memories {
        m.allocator.deallocate_memory(memory);
    }
    assert_eq!(entries(), carved);
}

fn top_window<A: TestArch>() {
    const GIB: usize = 1 << 30;
    let (arch, _, arena) = A::machine(16 * MIB);
    let window = VirtAddr(0xffff_ff80_0020_0000)..VirtAddr(0xffff_ffff_ffe0_0000);
    arch.use_window(window.clone());
    let config = pooled(pool(1, 4 * MIB))
        .memory_reservation(64 * MIB)
        .region_space(511 * GIB)
        .memory_guard_size(2 * MIB);
    // SAFETY: the machine is this test's.
    let allocator = unsafe { Allocator::new(arch, window, arena, &config) }.unwrap();
    use_last_page_of_regions(&allocator, VirtAddr(0xffff_ff80_0020_0000));
    let m = Machine::of(allocator);
    let memory = m.allocator.allocate_memory(4 * MIB).unwrap();
    m.assert_ends_at(&memory, 4 * MIB);
    m.allocator.deallocate_memory(memory);
}

/// Fills the address space of regions, and uses the last page of it.
fn use_last_page_of_regions<A: TestArch>(allocator: &Allocator<A>, first: VirtAddr) {
    let before = allocator.metrics();
    // From large to small, whatever fits: the last granule is a guard.
    let mut bytes = 1usize << 39;
    let mut space = 0;
    while bytes >= 2 * MIB {
        match allocator.reserve_region(bytes - 2 * MIB) {
            Ok(start) => {
                assert_eq!(start, first.offset(space), "first fit left a hole");
                space += bytes;
            }
            Err(_) => bytes /= 2,
        }
    }
    let last = first.offset(space - 2 * MIB - 4096);
    // SAFETY: nobody uses the region.
    unsafe { allocator.protect_region(last, 4096, Some(Access::ReadWrite)) }.unwrap();
    assert_eq!(load_at(allocator, last), Ok(0), "the last page of the regions cannot be used");
    store_at(allocator, last.offset(4095), 1).unwrap();
    // Release needs what was reserved: what fitted, in the same order.
    let mut at = first;
    let mut bytes = 1usize << 39;
    while at.0 < first.0 + space as u64 {
        // SAFETY: nobody uses the region.
        match unsafe { allocator.release_region(at, bytes - 2 * MIB) } {
            Ok(()) => at = at.offset(bytes),
            Err(_) => bytes /= 2,
        }
    }
    assert_eq!(allocator.metrics(), before, "frames were lost");
}

/// A kernel's frames: the first pages of what will be the arena.
struct Frames {
    next: PhysAddr,
    left: usize,
    taken: usize,
    back: usize,
}

// SAFETY: pages of a range that is the test's alone, each given once.
unsafe impl FrameSource for Frames {
    fn allocate_frame(&mut self) -> Option<PhysAddr> {
        self.left = self.left.checked_sub(1)?;
        self.taken += 1;
        let frame = self.next;
        self.next = frame.offset(4096);
        Some(frame)
    }

    unsafe fn deallocate_frame(&mut self, _frame: PhysAddr) {
        self.back += 1;
    }
}

fn with_frames<A: TestArch>(left: usize) -> (Result<Allocator<A>, CarveError>, Frames) {
    let (arch, window, arena) = A::machine(16 * MIB);
    let mut frames = Frames { next: arena.start, left, taken: 0, back: 0 };
    let rest = arena.start.offset(MIB)..arena.end;
    // SAFETY: the machine is the test's, and the source is not the arena.
    let allocator = unsafe { Allocator::with_tables(arch, window, rest, &small(), &mut frames) };
    (allocator, frames)
}

fn tables_of_the_kernel<A: TestArch>() {
    let without = Machine::<A>::new(&small(), 15 * MIB);
    let (allocator, frames) = with_frames::<A>(256);
    let m = Machine::of(allocator.unwrap());
    let saved = without.allocator.plan().overhead - m.allocator.plan().overhead;
    assert_eq!(frames.taken * 4096, saved, "tables are in the arena still");
    assert!(frames.taken > 0 && frames.back == 0);
    let memory = m.allocator.allocate_memory(MIB).unwrap();
    m.assert_ends_at(&memory, MIB);
    assert_eq!(m.load(&memory, 0), Ok(0));
    m.allocator.deallocate_memory(memory);
}

fn too_few_tables<A: TestArch>() {
    let (_, frames) = with_frames::<A>(256);
    let enough = frames.taken;
    let (allocator, frames) = with_frames::<A>(enough - 1);
    let error = CarveError::OutOfTableFrames { needed: enough, available: enough - 1 };
    assert_eq!(allocator.err(), Some(error));
    assert_eq!((frames.taken, frames.back), (enough - 1, enough - 1));
}

fn memory_map() {
    const MAP: [core::ops::Range<u64>; 5] = [
        0..0x9_fc00,
        0x10_0000..0x80_0000,
        0x80_0000..0x100_0000,
        0x200_0800..0x300_0800,
        0x400_0000..0x400_0000,
    ];
    // Two that touch are one; edges inside pages are left out.
    assert_eq!(largest_arena(MAP), Ok(PhysAddr(0x200_1000)..PhysAddr(0x300_0000)));
    assert_eq!(arena(MAP, 0xf0_0000), Ok(PhysAddr(0x210_0000)..PhysAddr(0x300_0000)));
    assert_eq!(arena(MAP[..3].iter().cloned(), 1), Ok(PhysAddr(0xff_f000)..PhysAddr(0x100_0000)));
    let none = NoArena { requested: 0x200_0000, largest: 0xff_f000 };
    assert_eq!(arena(MAP, 0x200_0000), Err(none));
    assert_eq!(arena(MAP, u64::MAX).unwrap_err().requested, u64::MAX);
    assert!(arena(MAP, 0).is_err() && largest_arena(core::iter::once(0..4096)).is_err());
}
