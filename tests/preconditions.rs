//! What an embedder may have got wrong before the carve: each is refused by name, with what is
//! there instead, before anything is written; and its twin, where it is right, is not.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[cfg(target_os = "none")]
#[path = "preconditions/kernel.rs"]
mod kernels;
#[path = "preconditions/ranges.rs"]
mod ranges;

use alloc::string::ToString;
use core::ops::Range;

#[cfg(not(target_os = "none"))]
use allotment::arch::{Aarch64, X86_64};
use allotment::{
    Allocator, CarveError, Config,
    arch::{Arch, FrameSource, Occupant, PhysAddr, VirtAddr},
};
use common::{MIB, PAGE, TestArch, pool, pooled, small};

harness::tests! {
    fn an_arena_with_live_tables_is_refused() {
        on_every_machine!(live_tables);
    }

    fn frames_that_cannot_be_tables_are_refused_and_given_back() {
        on_every_machine!(bad_frames);
    }

    fn an_arena_beyond_the_bits_of_physical_addresses_is_refused() {
        on_every_machine!(too_many_bits);
    }

    fn a_window_is_found_where_the_root_is_empty() {
        on_every_machine!(ranges::found_window);
    }

    fn what_is_taken_is_left_out_of_usable_memory() {
        ranges::without_taken();
    }

    #[cfg(not(target_os = "none"))]
    fn a_mapped_page_0_is_refused() {
        emulated::null_page::<X86_64>();
        emulated::null_page::<Aarch64>();
    }

    #[cfg(not(target_os = "none"))]
    fn an_arena_with_any_table_of_the_kernels_is_refused() {
        emulated::deeper_table::<X86_64>();
        emulated::deeper_table::<Aarch64>();
    }

    #[cfg(target_os = "none")]
    fn an_arena_in_the_running_kernel_is_refused() {
        kernels::in_use();
    }

    #[cfg(target_os = "none")]
    fn an_arena_whose_alias_has_a_fault_in_its_midst_is_refused() {
        kernels::aliases();
    }

    #[cfg(target_os = "none")]
    fn a_cpu_that_is_not_counted_is_refused() {
        kernels::unknown_cpu();
    }
}

/// As little as there can be.
fn tiny() -> Config {
    pooled(pool(0, 0)).region_space(0)
}

fn refused<A: Arch>(arch: A, window: Range<VirtAddr>, arena: Range<PhysAddr>) -> CarveError {
    // SAFETY: it is refused, and the machine is the test's.
    let refused = unsafe { Allocator::new(arch, window, arena, &tiny()) }.map(drop).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("; "), "{said:?} does not say what to do");
    refused
}

fn live_tables<A: TestArch>() {
    let (arch, window, arena) = A::machine(16 * MIB);
    let root = arch.root(window.start);
    let over_root = root..PhysAddr(root.0 + 8 * MIB as u64);
    let error = refused(arch, window, over_root.clone());
    let CarveError::ArenaInUse { address, by: Occupant::PageTable, .. } = error else { panic!("{error}") };
    assert!(over_root.contains(&address), "{error}");
    assert!(!arena.contains(&address), "the twin's arena has it as well");
    let (arch, window, arena) = A::machine(16 * MIB);
    // SAFETY: the machine is the test's.
    let accepted = unsafe { Allocator::new(arch, window, arena, &tiny()) };
    assert!(accepted.is_ok(), "{:?}", accepted.err());
}

/// Gives what it is told to, and counts what it has back.
struct Odd {
    frames: [PhysAddr; 2],
    given: usize,
    back: usize,
}

// SAFETY: not a promise that it keeps: it is refused.
unsafe impl FrameSource for Odd {
    fn allocate_frame(&mut self) -> Option<PhysAddr> {
        let frame = self.frames[self.given.min(1)];
        self.given += 1;
        Some(frame)
    }

    unsafe fn deallocate_frame(&mut self, frame: PhysAddr) {
        assert!(self.frames.contains(&frame));
        self.back += 1;
    }
}

fn bad_frames<A: TestArch>() {
    let bad: [fn(PhysAddr) -> PhysAddr; 5] = [
        |good| good.offset(PAGE + 8),
        |_| PhysAddr(0),
        |_| PhysAddr(1 << 60),
        // In the arena.
        |good| good.offset(2 * MIB),
        // The one that it gave before.
        |good| good,
    ];
    for bad in bad {
        let (arch, window, arena) = A::machine(16 * MIB);
        let first = arena.start;
        let mut source = Odd { frames: [first, bad(first)], given: 0, back: 0 };
        let rest = arena.start.offset(MIB)..arena.end;
        // SAFETY: it is refused, and the machine is the test's.
        let error = unsafe { Allocator::with_tables(arch, window, rest, &small(), &mut source) };
        let error = error.map(drop).unwrap_err();
        assert_eq!(error, CarveError::BadTableFrame { frame: bad(first) });
        // The bad one is not used, not even to be given back.
        assert_eq!((source.given, source.back), (2, 1), "{error}");
    }
}

fn too_many_bits<A: TestArch>() {
    let (arch, window, _) = A::machine(16 * MIB);
    let start = PhysAddr(1 << arch.physical_bits());
    let error = refused(arch, window, start..start.offset(16 * MIB));
    assert!(matches!(error, CarveError::ArenaOutOfReach { .. }), "{error}");
}

#[cfg(not(target_os = "none"))]
mod emulated {
    use allotment::{
        Allocator, CarveError,
        arch::{
            Occupant, PhysAddr, VirtAddr,
            emulated::{Emulated, Mmu},
        },
    };

    use super::{MIB, refused, tiny};

    const WINDOW: core::ops::Range<VirtAddr> =
        VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000);

    /// A machine whose kernel has a page at `mapped`, and its memory before that.
    fn machine<F: Mmu>(mapped: VirtAddr) -> (Emulated<F>, core::ops::Range<PhysAddr>) {
        let mut machine = Emulated::new(16 * MIB);
        let before = machine.free_memory();
        machine.map_foreign(mapped, 1);
        machine.guard_window(WINDOW);
        (machine, before)
    }

    pub(super) fn null_page<F: Mmu>() {
        let (machine, _) = machine::<F>(VirtAddr(0));
        let arena = machine.free_memory();
        let error = refused(machine, WINDOW, arena.clone());
        let CarveError::NullPageMapped { physical } = error else { panic!("{error}") };
        assert!(physical >= arena.end, "{error}");
    }

    pub(super) fn deeper_table<F: Mmu>() {
        for mapped in [0x7000_0020_0000, 0xffff_8000_4000_0000].map(VirtAddr) {
            let (kernel, all) = machine::<F>(mapped);
            let free = kernel.free_memory();
            let error = refused(kernel, WINDOW, all);
            let CarveError::ArenaInUse { address, by: Occupant::PageTable, at } = error else {
                panic!("{error}")
            };
            assert!(address >= free.end, "{error}");
            // The first one found is next to the root.
            assert_eq!(at, VirtAddr(mapped.0 >> 39 << 39), "{error}");
            let (kernel, _) = machine::<F>(mapped);
            // SAFETY: the machine is the test's.
            unsafe { Allocator::new(kernel, WINDOW, free, &tiny()) }.unwrap();
        }
    }
}
