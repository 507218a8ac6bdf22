//! Growth, in place and by a move.

use allotment::{Config, Error, FaultAccess, FaultRegion, MemoryRequest, Verdict, arch::VirtAddr};

use crate::{
    base,
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, cpus, on},
    machine, share_zeros, small,
};

pub(crate) fn unchanged_pointer<A: TestArch>() {
    // As much as Wasmtime's test of the same: nothing reserved, five pages for
    // growth.
    const EXTRA: usize = 5;
    let config: Config = small().memory_reservation(0).memory_reservation_for_growth(EXTRA * WASM_PAGE);
    let m = Machine::<A>::new(&config, 16 * MIB);
    share_zeros(&m, &[10 * WASM_PAGE]);
    let before = m.allocator.metrics();
    let mut memory = m.allocator.allocate_memory(10 * WASM_PAGE).unwrap();
    let mut pages = 10;
    for _ in 0..3 {
        let at = base(&memory);
        assert_eq!(memory.capacity(), (pages + EXTRA) * WASM_PAGE);
        for _ in 0..EXTRA {
            pages += 1;
            memory.grow_to(pages * WASM_PAGE).unwrap();
            assert_eq!(base(&memory), at, "it moved before it had to");
            m.assert_ends_at(&memory, pages * WASM_PAGE);
        }
        pages += 1;
        memory.grow_to(pages * WASM_PAGE).unwrap();
        assert_ne!(base(&memory), at, "there was no room left where it was");
        m.assert_ends_at(&memory, pages * WASM_PAGE);
    }
    memory.grow_to(WASM_PAGE).unwrap();
    assert_eq!(memory.size(), pages * WASM_PAGE, "a size that is not larger changes nothing");
    assert_eq!(m.allocator.metrics().regions, before.regions + 1, "old ranges are still there");
    m.allocator.deallocate_memory(memory);
    assert_eq!(m.allocator.metrics(), before);
}

pub(crate) fn contents<A: TestArch>() {
    let m = machine::<A>();
    share_zeros(&m, &[3 * MIB / 2, 5 * MIB, 2 * MIB + PAGE]);
    let before = m.allocator.metrics();
    // Ends inside a leaf table that moves, at the end of one, and is nothing.
    for (size, larger) in [(3 * MIB / 2, 5 * MIB), (2 * MIB, 4 * MIB), (0, 3 * MIB), (PAGE, 2 * MIB + PAGE)] {
        let mut memory = m.allocator.allocate_memory(size).unwrap();
        // Two of three pages are written.
        let tag = |page: usize| [0, 0x11, 0x77][page / PAGE % 3];
        for page in (0..size).step_by(PAGE).filter(|&page| tag(page) != 0) {
            m.store(&memory, page as i64 + 7, tag(page)).unwrap();
        }
        let at = base(&memory);
        memory.grow_to(larger).unwrap();
        assert_ne!(base(&memory), at);
        for page in (0..larger).step_by(PAGE) {
            let expected = if page < size { tag(page) } else { 0 };
            assert_eq!(m.load(&memory, page as i64 + 7), Ok(expected), "page {page:#x} of {size:#x}");
            assert_eq!(m.load(&memory, page as i64), Ok(0));
        }
        m.allocator.deallocate_memory(memory);
        assert_eq!(m.allocator.metrics(), before);
        // A page that lost its mark would come back as it was.
        let next = m.allocator.allocate_memory(larger).unwrap();
        for page in (0..larger).step_by(PAGE) {
            assert_eq!(m.load(&next, page as i64 + 7), Ok(0), "a written page was not known to be");
        }
        m.allocator.deallocate_memory(next);
    }
}

pub(crate) fn old_range<A: TestArch>() {
    let m = machine::<A>();
    share_zeros(&m, &[MIB]);
    let before = m.allocator.metrics();
    let mut memory = m.allocator.allocate_memory(MIB).unwrap();
    let old = base(&memory);
    // Every CPU has cached it, and what leads there.
    let pages = || (0..MIB).step_by(64 * PAGE).map(|page| old.offset(page));
    for cpu in 0..cpus() {
        on(m.allocator.arch(), cpu, || {
            m.allocator.arrive(&memory).unwrap();
            for page in pages() {
                m.store_at(page, 0x33).unwrap();
            }
        });
    }
    memory.grow_to(MIB + 1).unwrap();
    for cpu in 0..cpus() {
        on(m.allocator.arch(), cpu, || {
            for page in pages() {
                m.load_at(page).expect_err("the old range was readable");
                m.store_at(page, 1).expect_err("the old range was writable");
                let new = VirtAddr(base(&memory).0 + (page.0 - old.0));
                assert_eq!(m.load_at(new), Ok(0x33));
            }
        });
    }
    let Verdict::Trap(report) = m.allocator.fault(old, FaultAccess::Read) else { panic!("no trap") };
    assert_eq!(report.region, FaultRegion::Region, "nobody has the old range");
    // The old range is the next one's: the first fit.
    let next = m.allocator.allocate_memory(MIB).unwrap();
    assert_eq!(base(&next), old);
    assert_eq!(m.load(&next, 0), Ok(0));
    assert_eq!(m.load(&memory, 0), Ok(0x33));
    m.allocator.deallocate_memory(memory);
    m.allocator.deallocate_memory(next);
    assert_eq!(m.allocator.metrics(), before);
}

pub(crate) fn fixed<A: TestArch>() {
    for may_move in [false, true] {
        let m = Machine::<A>::new(&small().memory_may_move(may_move), 16 * MIB);
        let mut memory = m.allocator.allocate_memory(PAGE).unwrap();
        let at = base(&memory);
        memory.grow_to(MIB).unwrap();
        assert_eq!(base(&memory), at);
        let grown = memory.grow_to(MIB + 1);
        if may_move {
            assert_eq!(grown, Ok(()));
            assert_ne!(base(&memory), at);
        } else {
            assert_eq!(grown, Err(Error::BeyondCapacity { requested: MIB + 1, capacity: MIB }));
            assert_eq!((base(&memory), memory.size()), (at, MIB));
            m.assert_ends_at(&memory, MIB);
        }
        m.allocator.deallocate_memory(memory);
    }
}

pub(crate) fn shared<A: TestArch>() {
    let m = machine::<A>();
    let request = MemoryRequest::new(PAGE).shared(true);
    assert_eq!(m.allocator.allocate_memory(request).unwrap_err(), Error::SharedMemory, "not asked for");
    let m = Machine::<A>::new(&small().shared_memory(true), 16 * MIB);
    let request = MemoryRequest::new(PAGE).maximum(3 * MIB).shared(true);
    let mut memory = m.allocator.allocate_memory(request).unwrap();
    let at = base(&memory);
    memory.grow_to(3 * MIB).unwrap();
    assert_eq!(base(&memory), at, "a shared memory moved");
    m.assert_ends_at(&memory, 3 * MIB);
    m.allocator.deallocate_memory(memory);
    let mut memory = m.allocator.allocate_memory(MemoryRequest::new(PAGE).shared(true)).unwrap();
    let beyond = Error::BeyondCapacity { requested: MIB + 1, capacity: MIB };
    assert_eq!(memory.grow_to(MIB + 1), Err(beyond));
    m.allocator.deallocate_memory(memory);
}
