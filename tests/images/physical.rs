//! Images of physical memory, and of what is mapped.

use allotment::{
    Allocator, Error,
    arch::{Access, PhysAddr, VirtAddr},
};

use crate::common::{MIB, Machine, PAGE, TestArch, small, store_at};

const PAGES: usize = 3;

/// A machine whose arena is the second half of the test's memory, and the first half.
fn machine<A: TestArch>() -> (Machine<A>, PhysAddr) {
    let (arch, window, arena) = A::machine(32 * MIB);
    let own = arena.start;
    // SAFETY: the machine is the test's.
    let allocator = unsafe { Allocator::new(arch, window, own.offset(16 * MIB)..arena.end, &small()) };
    (Machine::of(allocator.unwrap()), own)
}

pub(crate) fn frames<A: TestArch>() {
    let (m, own) = machine::<A>();
    for page in 0..PAGES {
        let bytes = m.allocator.arch().physical(own.offset(page * PAGE));
        // SAFETY: a page of the test's.
        unsafe { bytes.write_bytes(u8::try_from(page + 1).unwrap(), PAGE) };
    }
    let before = m.allocator.metrics().available_frames;
    // SAFETY: nobody changes them.
    let image = unsafe { m.allocator.image_of_frames(PAGE, own, PAGES * PAGE) }.unwrap();
    let memory = m.allocator.allocate_memory_from(&image, MIB).unwrap();
    for (page, expected) in [0, 1, 2, 3, 0].into_iter().enumerate() {
        assert_eq!(m.load(&memory, (page * PAGE + 7) as i64), Ok(expected));
    }
    m.store(&memory, PAGE as i64, 9).unwrap();
    // SAFETY: a page of the test's, which only is read.
    assert_eq!(unsafe { m.allocator.arch().physical(own).read() }, 1, "the store went through");
    m.allocator.deallocate_memory(memory);
    drop(image);
    m.allocator.idle_work(usize::MAX);
    assert!(m.allocator.metrics().available_frames + 64 > before);

    let arena = m.allocator.plan().arena.clone();
    let page_before = PhysAddr(arena.start.0 - PAGE as u64);
    for (frames, bytes) in [
        (arena.start, PAGE),
        (arena.start.offset(8 * MIB), PAGE),
        (page_before, 2 * PAGE),
        (page_before, 64 * MIB),
        (PhysAddr(arena.end.0 - PAGE as u64), 2 * PAGE),
        (PhysAddr(1 << 60), PAGE),
        (PhysAddr(u64::MAX - 4095), PAGE),
    ] {
        // SAFETY: it is refused.
        let refused = unsafe { m.allocator.image_of_frames(0, frames, bytes) }.map(drop);
        assert_eq!(refused, Err(Error::NotShowable { frames, bytes }));
    }
    // SAFETY: its twins, beside the arena: nobody changes them, and no memory shows them.
    drop(unsafe { m.allocator.image_of_frames(0, page_before, PAGE) }.unwrap());
}

pub(crate) fn mapped<A: TestArch>() {
    let (m, _) = machine::<A>();
    let memory = m.allocator.allocate_memory(PAGE).unwrap();
    m.store(&memory, 0, 42).unwrap();
    let refused = |start: VirtAddr| {
        // SAFETY: it is refused.
        let refused = unsafe { m.allocator.image_of_mapped(0, start, PAGE) }.map(drop);
        assert_eq!(refused, Err(Error::UnknownRange { address: start, bytes: PAGE }));
    };
    refused(VirtAddr(memory.base().as_ptr() as u64));
    // The same frame by the kernel's own map, where there is one.
    if A::ALIAS_IS_MAPPED {
        let arena = m.allocator.plan().arena.clone();
        let last = m.allocator.arch().physical(PhysAddr(arena.end.0 - PAGE as u64));
        refused(VirtAddr(last.as_ptr() as u64));
    }
    // Of a region it is, while it is read-only.
    let region = m.allocator.reserve_region(PAGE).unwrap();
    // SAFETY: the region is the test's, here and below.
    unsafe { m.allocator.protect_region(region, PAGE, Some(Access::ReadWrite)) }.unwrap();
    store_at(&m.allocator, region, 7).unwrap();
    refused(region);
    // SAFETY: as above.
    unsafe { m.allocator.protect_region(region, PAGE, Some(Access::Read)) }.unwrap();
    // SAFETY: nobody writes there.
    let image = unsafe { m.allocator.image_of_mapped(0, region, PAGE) }.unwrap();
    let shows = m.allocator.allocate_memory_from(&image, PAGE).unwrap();
    assert_eq!(m.load(&shows, 0), Ok(7));
    m.allocator.deallocate_memory(shows);
    m.allocator.deallocate_memory(memory);
}
