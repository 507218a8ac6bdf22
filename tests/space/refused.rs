//! What is refused, and that nothing changed then.

use allotment::{
    arch::{Access, PAGE_SIZE, Pages, VirtAddr},
    space::SpaceError,
};

use crate::{
    common::{MIB, TestArch},
    world::{WINDOW, World},
};

pub(crate) fn outside<A: TestArch>() {
    let w = World::<A>::new();
    let end = w.page(WINDOW);
    let before = VirtAddr(w.page(0).0 - PAGE_SIZE as u64);
    // SAFETY: the pages are the test's, or nobody's.
    let refuse = |start, count| unsafe { w.space.hide(Pages { start, count }) }.map(drop);
    let outside = |address| Err(SpaceError::OutsideWindow { address });
    assert_eq!(refuse(before, 1), outside(before));
    assert_eq!(refuse(before, 2), outside(before));
    assert_eq!(refuse(end, 1), outside(end));
    assert_eq!(refuse(w.page(WINDOW - 1), 2), outside(end));
    assert_eq!(refuse(w.page(0), WINDOW + 1), outside(end));
    for count in [usize::MAX, usize::MAX / PAGE_SIZE, usize::MAX / PAGE_SIZE + 2, 1 << 52] {
        assert_eq!(refuse(w.page(1), count), outside(end));
    }
    let last = VirtAddr(!0xfff);
    assert_eq!(refuse(last, 3), outside(last));
    assert_eq!(refuse(w.page(0), WINDOW), Ok(()));
    assert_eq!(refuse(w.page(WINDOW - 1), 1), Ok(()));
    let odd = w.page(3).offset(8);
    assert_eq!(refuse(odd, 1), Err(SpaceError::Misaligned { address: odd, alignment: PAGE_SIZE }));
    assert_eq!(w.space.entry(end).map(drop), outside(end));
    assert_eq!(w.space.peek(Pages { start: before, count: 1 }, |_| {}), outside(before));
    // SAFETY: as above.
    let refused = unsafe { w.space.harvest(Pages { start: end, count: 1 }, |_| {}) };
    assert_eq!(refused.map(drop), outside(end));
    assert!(!w.space.write_fault(before) && !w.space.write_fault(end) && !w.space.write_fault(VirtAddr(0)));
    // The last page of the window is one like any other.
    w.mapped(WINDOW - 1, 1, 0, Access::ReadWrite);
    w.store(WINDOW - 1, 1).unwrap();
    assert_eq!(w.load(WINDOW - 1), Ok(1));
}

pub(crate) fn map<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(700, 1, 0, Access::Read);
    let (entries, frames) = (w.entries(0, 3000), w.space.available_frames());
    let refuse = |frame: fn(&World<A>, usize) -> allotment::arch::PhysAddr, first| {
        // SAFETY: it is refused.
        unsafe { w.space.map(w.pages(first, 2000), |n| frame(&w, n), Access::Read) }.map(drop)
    };
    let in_use = Err(SpaceError::InUse { page: w.page(700) });
    assert_eq!(refuse(|w, n| w.frame(n), 0), in_use);
    // SAFETY: it is refused.
    let refused = unsafe { w.space.map_hidden(w.pages(0, 2000), |n| w.frame(n)) }.map(drop);
    assert_eq!(refused, in_use);
    // SAFETY: it is refused.
    assert_eq!(unsafe { w.space.set_state(w.pages(0, 2000), 3) }.map(drop), in_use);
    assert_eq!(w.space.state(w.page(700)), Err(SpaceError::InUse { page: w.page(700) }));
    let odd = w.frame(1999).offset(1);
    let bad = Err(SpaceError::BadFrame { frame: odd });
    assert_eq!(refuse(|w, n| w.frame(n).offset(n / 1999), 701), bad);
    let far = allotment::arch::PhysAddr(1 << 60);
    // SAFETY: it is refused.
    let refused = unsafe { w.space.replace(w.page(1), far, Access::Read) }.map(drop);
    assert_eq!(refused, Err(SpaceError::BadFrame { frame: far }));
    for access in [Access::ReadWrite, Access::ReadExecute] {
        // SAFETY: it is refused.
        let refused = unsafe { w.space.map_one(w.pages(0, 1), w.frame(0), access) }.map(drop);
        assert_eq!(refused, Err(SpaceError::NotShareable { access }));
    }
    // SAFETY: it is refused.
    let refused = unsafe { w.space.set_state(w.pages(0, 1), 15) }.map(drop);
    assert_eq!(refused, Err(SpaceError::StateTooLarge { state: 15, limit: 14 }));
    assert_eq!(w.entries(0, 3000), entries);
    assert_eq!(w.space.available_frames(), frames);
    w.mapped(701, 2000, 1, Access::Read);
}

pub(crate) fn access<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(0, 1000, 0, Access::ReadWrite);
    w.store(3, 1).unwrap();
    // SAFETY: nobody writes the frame.
    let zero = unsafe { w.space.map_one(w.pages(1000, 100), w.frame(1500), Access::CopyOnWrite) }.unwrap();
    w.space.settle(zero);
    // SAFETY: the pages are the test's, here and below.
    w.space.settle(unsafe { w.space.hide(w.pages(1050, 1)) }.unwrap());
    let before = w.entries(0, 1200);
    for access in [Access::ReadWrite, Access::Read, Access::ReadExecute] {
        // SAFETY: see above.
        let protect = |first, count| unsafe { w.space.protect(w.pages(first, count), access) }.map(drop);
        let shared = |n| Err(SpaceError::SharedFrame { page: w.page(n), access });
        assert_eq!(protect(0, 1100), shared(1000));
        assert_eq!(protect(1050, 1), shared(1050), "a hidden page forgot that it is shared");
        assert_eq!(protect(0, 1000 + 512), shared(1000));
    }
    let none = |n| Err(SpaceError::NoFrame { page: w.page(n) });
    // SAFETY: see above.
    assert_eq!(unsafe { w.space.reveal(w.pages(0, 1101)) }.map(drop), none(1100));
    // SAFETY: see above.
    assert_eq!(unsafe { w.space.protect(w.pages(0, 4000), Access::CopyOnWrite) }.map(drop), none(1100));
    // SAFETY: see above.
    assert_eq!(unsafe { w.space.reveal(w.pages(4000, 1)) }.map(drop), none(4000));
    assert_eq!(w.entries(0, 1200), before);
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.protect(w.pages(0, 1100), Access::CopyOnWrite) }.unwrap());
    w.store(3, 2).unwrap_err();
    assert_eq!(w.load(3), Ok(1));
    assert_eq!(w.harvest(0, 1200).0, [], "a shared page is marked as written");
}

pub(crate) fn out_of_frames<A: TestArch>() {
    let w = World::<A>::with_tables(MIB);
    let available = w.space.available_frames();
    let needed = available + 1;
    let every = |count| (0..count).map(|n| w.page(n * 512));
    // SAFETY: the pages are the test's, here and below.
    let refused = unsafe { w.space.set_state(w.pages(0, needed * 512), 1) }.map(drop);
    assert_eq!(refused, Err(SpaceError::OutOfFrames { needed, available }));
    assert_eq!(w.space.available_frames(), available);
    assert!(every(needed).all(|page| w.space.state(page) == Ok(0)));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.set_state(w.pages(0, available * 512), 1) }.unwrap());
    assert_eq!(w.space.available_frames(), 0);
    assert!(every(available).all(|page| w.space.state(page) == Ok(1)));
    // SAFETY: see above.
    let refused = unsafe { w.space.replace(w.granule(available), w.frame(0), Access::Read) };
    assert_eq!(refused.map(drop), Err(SpaceError::OutOfFrames { needed: 1, available: 0 }));
    let refused = w.space.reserve::<2>().map(drop);
    assert_eq!(refused, Err(SpaceError::OutOfFrames { needed: 2, available: 0 }));
}

pub(crate) fn out_of_frames_to_split<A: TestArch>() {
    let w = World::<A>::with_tables(MIB);
    w.mapped(512, 1024, 0, Access::ReadWrite);
    w.store(700, 1).unwrap();
    for granule in [1, 2] {
        // SAFETY: the pages are the test's, here and below.
        w.space.settle(unsafe { w.space.form_block(w.granule(granule)) }.unwrap());
    }
    let rest = w.pages(1536, (w.space.available_frames() - 1) * 512);
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.set_state(rest, 1) }.unwrap());
    assert_eq!(w.space.available_frames(), 1);
    let before = w.entries(512, 1024);
    let none = |needed| Err(SpaceError::OutOfFrames { needed, available: 1 });
    let cut = w.pages(600, 500);
    // SAFETY: see above.
    assert_eq!(unsafe { w.space.hide(cut) }.map(drop), none(2));
    // SAFETY: see above.
    assert_eq!(unsafe { w.space.protect(cut, Access::Read) }.map(drop), none(2));
    // SAFETY: see above.
    assert_eq!(unsafe { w.space.harvest(cut, |_| panic!("reported")) }.map(drop), none(2));
    // SAFETY: see above.
    assert_eq!(unsafe { w.space.unmap(cut, |_, _, _| panic!("a frame came out")) }.map(drop), none(2));
    assert_eq!(w.entries(512, 1024), before);
    assert_eq!(w.space.available_frames(), 1);
    // With what there is one can be split.
    assert_eq!(w.harvest(600, 424).0, [(600, 424)]);
    assert_eq!(w.space.available_frames(), 0);
    // SAFETY: see above.
    let refused = unsafe { w.space.split_block(w.granule(2)) }.map(drop);
    assert_eq!(refused, Err(SpaceError::OutOfFrames { needed: 1, available: 0 }));
    assert_eq!(w.peek(0, 2048), [(512, 88)]);
}
