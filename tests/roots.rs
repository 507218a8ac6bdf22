//! Several roots: those that have the window, and one that was made before it.

#![cfg_attr(target_os = "none", no_std, no_main)]

mod common;

use core::ops::Range;

use allotment::{
    Allocator, CarveError, FaultAccess, FaultRegion, Verdict,
    arch::{Format, PhysAddr, VirtAddr, index},
};
use common::{MIB, Machine, PAGE, TestArch, at, small};

harness::tests! {
    fn a_root_that_is_made_after_the_carve_has_the_window() {
        on_every_machine!(made_after);
    }

    fn a_root_that_is_older_than_the_window_is_told_of() {
        on_every_machine!(made_before);
    }

    fn a_root_that_is_older_can_be_given_the_window() {
        on_every_machine!(shared);
    }

    fn a_root_with_something_else_there_is_left_alone() {
        on_every_machine!(in_use);
    }
}

fn made_after<A: TestArch>() {
    let (arch, window, arena, root) = with_spare_frame::<A>();
    let m = carved(arch, window.clone(), arena);
    copy_root(m.allocator.arch(), window.start, root);
    let mut memory = m.allocator.allocate_memory(PAGE * 16).unwrap();
    m.store(&memory, 5, 1).unwrap();
    m.allocator.arch().with_root(root, || {
        assert_eq!(m.load(&memory, 5), Ok(1));
        m.store(&memory, 6, 2).unwrap();
        // What is mapped from here on is below what was copied.
        memory.grow_to(32 * PAGE).unwrap();
        m.assert_ends_at(&memory, 32 * PAGE);
    });
    assert_eq!(m.load(&memory, 6), Ok(2));
    m.assert_ends_at(&memory, 32 * PAGE);
}

fn made_before<A: TestArch>() {
    let (arch, window, arena, root) = with_spare_frame::<A>();
    copy_root(&arch, window.start, root);
    let m = carved(arch, window, arena);
    let memory = m.allocator.allocate_memory(PAGE * 16).unwrap();
    m.store(&memory, 5, 1).unwrap();
    let code = m.allocator.reserve_region(PAGE).unwrap();
    // SAFETY: nobody has anything there.
    unsafe { m.allocator.protect_region(code, PAGE, Some(allotment::arch::Access::Read)) }.unwrap();
    let said = |address, access| match m.allocator.fault(address, access) {
        Verdict::Trap(report) => report.region,
        verdict => panic!("{verdict:?}"),
    };
    m.allocator.arch().with_root(root, || {
        // Both end, rather than being tried again for ever.
        m.load(&memory, 5).unwrap_err();
        m.store(&memory, 5, 1).unwrap_err();
        assert_eq!(said(at(&memory, 5), FaultAccess::Read), FaultRegion::NotInRoot);
        assert_eq!(said(code, FaultAccess::Read), FaultRegion::NotInRoot);
        // What may not be accessed is what it is in any root.
        assert_eq!(said(at(&memory, 16 * 4096), FaultAccess::Read), FaultRegion::Memory(None));
    });
    assert_eq!(m.load(&memory, 5), Ok(1), "in the root that has the window");
    assert_eq!(m.allocator.fault(code, FaultAccess::Read), Verdict::Resume);
}

fn shared<A: TestArch>() {
    let (arch, window, arena, root) = with_spare_frame::<A>();
    copy_root(&arch, window.start, root);
    let m = carved(arch, window, arena);
    let memory = m.allocator.allocate_memory(PAGE * 16).unwrap();
    m.allocator.arch().with_root(root, || {
        m.store(&memory, 5, 1).unwrap_err();
        // Also while it is in use; and a second time nothing happens.
        for _ in 0..2 {
            // SAFETY: a copy of the machine's own root, which nobody edits.
            unsafe { m.allocator.share_window(root) }.unwrap();
            m.store(&memory, 5, 1).unwrap();
        }
    });
    assert_eq!(m.load(&memory, 5), Ok(1));
}

fn in_use<A: TestArch>() {
    let (arch, window, arena, root) = with_spare_frame::<A>();
    copy_root(&arch, window.start, root);
    let m = carved(arch, window.clone(), arena.clone());
    // The last of the window's entries, as one that another table is below.
    let arch = m.allocator.arch();
    let (span, last) = (1u64 << (12 + 9 * (arch.levels() - 1)), VirtAddr(window.end.0 - 1));
    let entry = entry_of(arch, last, root);
    // SAFETY: a table of the test's own, which no CPU uses.
    unsafe { entry.write(A::Format::table(arena.start)) };
    // SAFETY: as above.
    let refused = unsafe { m.allocator.share_window(root) };
    let address = VirtAddr(last.0 & !(span - 1)).max(window.start);
    let index = (last.0 / span % 512) as usize;
    assert_eq!(
        refused,
        Err(CarveError::WindowInUse { address, index, entry: A::Format::table(arena.start) })
    );
    // Nothing has changed: of several entries the first ones neither.
    if address > window.start {
        // SAFETY: as above.
        assert_eq!(unsafe { entry_of(arch, window.start, root).read() }, 0);
    }
    // SAFETY: as above.
    unsafe { entry.write(0) };
    // SAFETY: as above.
    unsafe { m.allocator.share_window(root) }.unwrap();
}

/// A machine of which one frame is for a root.
fn with_spare_frame<A: TestArch>() -> (A, Range<VirtAddr>, Range<PhysAddr>, PhysAddr) {
    let (arch, window, arena) = A::machine(16 * MIB);
    let root = PhysAddr(arena.end.0 - PAGE as u64);
    (arch, window, arena.start..root, root)
}

fn carved<A: TestArch>(arch: A, window: Range<VirtAddr>, arena: Range<PhysAddr>) -> Machine<A> {
    // SAFETY: every test has a machine, window and arena of its own.
    Machine::of(unsafe { Allocator::new(arch, window, arena, &small()) }.unwrap())
}

/// Makes `root` a copy of the root that the window is below.
fn copy_root<A: TestArch>(arch: &A, window: VirtAddr, root: PhysAddr) {
    let (from, to) = (arch.physical(arch.root(window)), arch.physical(root));
    // SAFETY: two tables, the second of which is nobody's yet.
    unsafe { from.copy_to_nonoverlapping(to, PAGE) };
}

/// A root's entry for an address.
fn entry_of<A: TestArch>(arch: &A, address: VirtAddr, root: PhysAddr) -> core::ptr::NonNull<u64> {
    // SAFETY: a table has 512 entries.
    unsafe { arch.physical(root).cast::<u64>().add(index(address, arch.levels() - 1)) }
}
