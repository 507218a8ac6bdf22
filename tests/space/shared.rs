//! Shared tables, and copies of them.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use allotment::{
    arch::{Access, Entry, Format, Invalidation, PhysAddr},
    space::{Edit, SharedTable, Space, SpaceError},
};

use crate::{
    common::{MIB, TestArch, together},
    world::{World, meet, present},
};

/// Pages 0 to 99 copied on write, from frame 10 on; the others empty.
fn image<A: TestArch>(w: &World<A>) -> SharedTable {
    for n in 0..100 {
        let byte = w.space.arch().physical(w.frame(10 + n));
        // SAFETY: the frame is the test's, and not mapped yet.
        unsafe { byte.write(u8::try_from(n).unwrap()) };
    }
    SharedTable::build(&w.space, |n| (n < 100).then(|| (w.frame(10 + n), Access::CopyOnWrite))).unwrap()
}

pub(crate) fn foreign<A: TestArch>() {
    let w = World::<A>::new();
    let (arch, window, arena) = A::machine(40 * MIB);
    // Elsewhere also on machines that begin at the same address.
    let arena = arena.start.offset(32 * MIB)..arena.end;
    // SAFETY: machine, window and arena are this test's.
    let other = unsafe { Space::new(arch, window.start..window.start.offset(1 << 30), arena) }.unwrap();
    let table = SharedTable::build(&other, |_| None).unwrap();
    let before = (w.space.available_frames(), other.available_frames());
    // SAFETY: the granules are the test's, here and below.
    let refused = unsafe { w.space.share(w.granule(1), &table) }.map(drop);
    assert!(matches!(refused, Err(SpaceError::ForeignTable { .. })), "{refused:?}");
    // SAFETY: see above.
    let refused = unsafe { w.space.replace_table(w.granule(1), Some(&table), |_, _, _| {}) }.map(drop);
    assert!(matches!(refused, Err(SpaceError::ForeignTable { .. })), "{refused:?}");
    w.load(512).unwrap_err();
    // SAFETY: no granule points to it.
    unsafe { w.space.free_table(table) };
    assert_eq!((w.space.available_frames(), other.available_frames()), before);
    let own = SharedTable::build(&other, |_| None).unwrap();
    // SAFETY: as above.
    other.settle(unsafe { other.share(other.window().start, &own) }.unwrap());
    // SAFETY: as above.
    other.settle(unsafe { other.unshare(other.window().start) }.unwrap());
    // SAFETY: as above.
    unsafe { other.free_table(own) };
    assert_eq!(other.available_frames(), before.1);
}

pub(crate) fn share<A: TestArch>() {
    let w = World::<A>::new();
    let before = w.space.available_frames();
    let table = image(&w);
    assert_eq!(w.space.available_frames(), before - 1);
    for granule in [1, 2, 7] {
        // SAFETY: the granules are the test's, here and below.
        let edit = unsafe { w.space.share(w.granule(granule), &table) }.unwrap();
        assert_eq!((edit.entries, edit.invalidation()), (1, Invalidation::NOTHING));
        w.space.settle(edit);
        for n in [0, 99] {
            assert_eq!(w.load(granule * 512 + n), Ok(u8::try_from(n).unwrap()));
            w.store(granule * 512 + n, 1).unwrap_err();
            assert_eq!(w.entry(granule * 512 + n), present(w.frame(10 + n), Access::CopyOnWrite));
        }
        w.load(granule * 512 + 100).unwrap_err();
        w.forget();
    }
    assert_eq!(w.space.available_frames(), before - 1, "sharing took a frame");
    // Another table in its place.
    let other = SharedTable::build(&w.space, |n| (n < 2).then(|| (w.frame(200), Access::Read))).unwrap();
    assert_eq!(w.load(512 + 1), Ok(1));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.share(w.granule(1), &other) }.unwrap());
    assert_eq!(w.load(512 + 1), Ok(0));
    w.load(512 + 99).unwrap_err();
    // And away.
    assert_eq!(w.load(7 * 512 + 3), Ok(3));
    for granule in [1, 2, 7] {
        // SAFETY: see above.
        let edit = unsafe { w.space.unshare(w.granule(granule)) }.unwrap();
        assert!(edit.invalidation().reaches_tables());
        w.space.settle(edit);
    }
    w.load(7 * 512 + 3).unwrap_err();
    // SAFETY: see above.
    let refused = unsafe { w.space.unshare(w.granule(1)) }.map(drop);
    assert_eq!(refused, Err(SpaceError::NotShared { page: w.granule(1) }));
    // SAFETY: no granule has it any more.
    unsafe { w.space.free_table(table) };
    // SAFETY: as above.
    unsafe { w.space.free_table(other) };
    assert_eq!(w.space.available_frames(), before);
    w.mapped(512, 512, 0, Access::Read);
    assert_eq!(w.load(512 + 50), Ok(40));
}

pub(crate) fn untouched<A: TestArch>() {
    let w = World::<A>::new();
    let table = image(&w);
    w.mapped(500, 12, 300, Access::ReadWrite);
    // SAFETY: the granules are the test's, here and below.
    w.space.settle(unsafe { w.space.share(w.granule(1), &table) }.unwrap());
    w.store(511, 1).unwrap();
    let (entries, frames) = (w.entries(0, 1600), w.space.available_frames());
    let space = &w.space;
    let (pages, granule) = (w.pages(500, 20), w.granule(1));
    let refused = Err(SpaceError::SharedTable { page: granule });
    // SAFETY: see above.
    assert_eq!(unsafe { space.hide(pages) }.map(drop), refused);
    // SAFETY: see above.
    assert_eq!(unsafe { space.reveal(pages) }.map(drop), refused);
    // SAFETY: see above.
    assert_eq!(unsafe { space.protect(pages, Access::Read) }.map(drop), refused);
    // SAFETY: see above.
    assert_eq!(unsafe { space.unmap(pages, |_, _, _| panic!("a frame came out")) }.map(drop), refused);
    let beyond = w.pages(512 + 100, 1);
    let inside = Err(SpaceError::SharedTable { page: beyond.start });
    // SAFETY: see above.
    assert_eq!(unsafe { space.map(beyond, |_| w.frame(0), Access::Read) }.map(drop), inside);
    // SAFETY: see above.
    assert_eq!(unsafe { space.set_state(beyond, 1) }.map(drop), inside);
    // SAFETY: see above.
    assert_eq!(unsafe { space.replace(beyond.start, w.frame(0), Access::Read) }.map(drop), inside);
    // SAFETY: see above.
    assert_eq!(unsafe { space.form_block(granule) }.map(drop), refused);
    // SAFETY: see above.
    assert_eq!(unsafe { space.split_block(granule) }.map(drop), refused);
    if A::Format::RUN > 1 {
        // SAFETY: see above.
        assert_eq!(unsafe { space.form_run(granule) }.map(drop), refused);
    }
    // SAFETY: see above.
    assert_eq!(unsafe { space.break_run(granule) }.map(drop), refused);
    assert_eq!(w.entries(0, 1600), entries);
    assert_eq!(space.available_frames(), frames);
    // What only asks passes it over.
    assert_eq!(w.harvest(0, 2048), ([(511, 1)].to_vec(), 1));
}

pub(crate) fn make_private<A: TestArch>() {
    let w = World::<A>::new();
    let table = image(&w);
    for granule in [1, 2] {
        // SAFETY: the granules are the test's, here and below.
        w.space.settle(unsafe { w.space.share(w.granule(granule), &table) }.unwrap());
    }
    let frames = w.space.available_frames();
    let reserve = w.space.reserve::<1>().unwrap();
    assert_eq!(w.space.available_frames(), frames - 1);
    assert_eq!(w.load(512 + 30), Ok(30));
    let shown = w.entries(512, 512);
    // SAFETY: see above.
    let edit = unsafe { reserve.make_private(w.page(512 + 30)) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (1, 1));
    w.space.settle_here(edit);
    assert!(reserve.is_empty());
    assert_eq!(w.entries(512, 512), shown);
    // Once is enough; elsewhere there is nothing to do.
    for page in [512, 600, 5000] {
        // SAFETY: see above.
        let again = unsafe { reserve.make_private(w.page(page)) }.unwrap();
        assert_eq!((again.entries, again.invalidation()), (0, Edit::NOTHING.invalidation()));
        w.space.settle(again);
    }
    // SAFETY: see above.
    let refused = unsafe { reserve.make_private(w.page(1024)) }.map(drop);
    assert_eq!(refused, Err(SpaceError::OutOfReserve { limit: 1 }));
    // The first write.
    // SAFETY: see above.
    let edit = unsafe { w.space.replace(w.page(512 + 30), w.frame(0), Access::ReadWrite) }.unwrap();
    w.space.settle_here(edit.took_nothing().unwrap());
    w.store(512 + 30, 77).unwrap();
    assert_eq!(w.load(512 + 30), Ok(77));
    w.forget();
    assert_eq!(w.load(1024 + 30), Ok(30), "the other granule sees the write");
    w.store(1024 + 30, 1).unwrap_err();
    assert_eq!(w.harvest(0, 2048), ([(512 + 30, 1)].to_vec(), 1));
    reserve.refill().unwrap();
    assert_eq!(reserve.len(), 1);
    assert_eq!(w.space.available_frames(), frames - 2);
    drop(reserve);
    assert_eq!(w.space.available_frames(), frames - 1);
    // A frame that was set aside and came back is a clean table.
    w.mapped(6000, 1, 500, Access::Read);
    assert_eq!(w.entry(6001), Entry::NONE);
}

pub(crate) fn over_an_empty_table<A: TestArch>() {
    let w = World::<A>::new();
    let table = image(&w);
    w.mapped(512 + 3, 1, 300, Access::Read);
    assert_eq!(w.load(512 + 3), Ok(0));
    let (entries, frames) = (w.entries(512, 512), w.space.available_frames());
    // SAFETY: the granules are the test's, here and below.
    let share = || unsafe { w.space.share(w.granule(1), &table) };
    assert_eq!(share().map(drop), Err(SpaceError::InUse { page: w.page(512 + 3) }));
    assert_eq!((w.entries(512, 512), w.space.available_frames()), (entries, frames));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.unmap(w.pages(512, 512), |_, _, _| {}) }.unwrap());
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.set_state(w.pages(520, 1), 1) }.unwrap());
    assert_eq!(share().map(drop), Err(SpaceError::InUse { page: w.page(520) }));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.set_state(w.pages(520, 1), 0) }.unwrap());
    let edit = share().unwrap();
    assert_eq!(edit.invalidation(), Invalidation::NOTHING, "the table went back before it was forgotten");
    w.space.settle(edit);
    assert_eq!(w.space.available_frames(), frames + 1);
    assert_eq!(w.load(512 + 3), Ok(3));
    let odd = w.page(512 + 1);
    // SAFETY: see above.
    let refused = unsafe { w.space.share(odd, &table) }.map(drop);
    assert_eq!(refused, Err(SpaceError::Misaligned { address: odd, alignment: 0x20_0000 }));
}

pub(crate) fn build_refused<A: TestArch>() {
    let w = World::<A>::new();
    let before = w.space.available_frames();
    let build = |frame: PhysAddr, access| {
        SharedTable::build(&w.space, |n| Some((if n == 300 { frame } else { w.frame(0) }, access))).map(drop)
    };
    for access in [Access::ReadWrite, Access::ReadExecute] {
        assert_eq!(build(w.frame(0), access), Err(SpaceError::NotShareable { access }));
    }
    let frame = w.frame(0).offset(1);
    assert_eq!(build(frame, Access::Read), Err(SpaceError::BadFrame { frame }));
    assert_eq!(w.space.available_frames(), before);
    // The frame came back clean.
    w.mapped(0, 1, 0, Access::Read);
    assert_eq!(w.entry(1), Entry::NONE);
}

pub(crate) fn replace_table<A: TestArch>() {
    let w = World::<A>::new();
    let table = image(&w);
    let frames = w.space.available_frames();
    w.mapped(512, 3, 300, Access::ReadWrite);
    // SAFETY: the granules and frames are the test's, here and below.
    w.space.settle(unsafe { w.space.map_one(w.pages(600, 1), w.frame(9), Access::CopyOnWrite) }.unwrap());
    // SAFETY: see above.
    let hidden = unsafe { w.space.hide(w.pages(513, 1)) }.unwrap();
    w.store(514, 1).unwrap();
    let mut out = Vec::new();
    let keep = |page, frame, own: bool| {
        if own {
            // SAFETY: the frame has come out.
            unsafe { w.space.arch().zero_frame(frame) };
        }
        out.push((page, frame, own));
    };
    // SAFETY: see above.
    let edit = unsafe { w.space.replace_table(w.granule(1), Some(&table), keep) }.unwrap();
    assert_eq!((edit.entries, edit.tables, edit.invalidation()), (1, 1, Invalidation::NOTHING));
    w.space.settle(edit.and(hidden));
    let came = |n, frame, own| (w.page(n), w.frame(frame), own);
    let expected = [came(512, 300, true), came(513, 301, true), came(514, 302, true), came(600, 9, false)];
    assert_eq!(out, expected);
    assert_eq!(w.space.available_frames(), frames, "the table did not come back");
    assert_eq!(w.load(514), Ok(2));
    // Back to nothing, and the same with nothing, and with a hidden block.
    let nothing = |granule: usize, out: &mut Vec<PhysAddr>| {
        let keep = |_, frame, own: bool| {
            assert!(own);
            out.push(frame);
        };
        // SAFETY: see above.
        w.space.settle(unsafe { w.space.replace_table(w.granule(granule), None, keep) }.unwrap());
    };
    let mut frames_out = Vec::new();
    for _ in 0..2 {
        nothing(1, &mut frames_out);
        assert!(frames_out.is_empty());
        w.load(514).unwrap_err();
    }
    w.mapped(512, 512, 512, Access::ReadWrite);
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.form_block(w.granule(1)) }.unwrap());
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.hide(w.pages(512, 512)) }.unwrap());
    nothing(1, &mut frames_out);
    assert!(frames_out.iter().copied().eq((512..1024).map(|n| w.frame(n))));
    assert_eq!(w.entry(512), Entry::NONE);
    assert_eq!(w.space.available_frames(), frames);
}

pub(crate) fn make_private_at_once<A: TestArch>() {
    const GRANULES: usize = 512;
    let w = World::<A>::new();
    let table = image(&w);
    for granule in 0..GRANULES {
        // SAFETY: the granules are the test's, here and below.
        w.space.settle(unsafe { w.space.share(w.granule(granule), &table) }.unwrap());
    }
    // Both may have taken a frame for the last one.
    let reserve = w.space.reserve::<{ GRANULES + 1 }>().unwrap();
    let (private, arrived) = (AtomicUsize::new(0), AtomicUsize::new(0));
    together(2, |_| {
        for granule in 0..GRANULES {
            meet(&arrived, 2 * (granule + 1));
            // SAFETY: see above.
            let edit = unsafe { reserve.make_private(w.page(granule * 512 + 7)) }.unwrap();
            private.fetch_add(edit.entries, Ordering::Relaxed);
            w.space.settle_here(edit);
        }
    });
    assert_eq!(private.into_inner(), GRANULES, "each granule is made private once");
    assert_eq!(reserve.len(), 1, "a frame was lost");
    assert_eq!(w.load((GRANULES - 1) * 512 + 7), Ok(7));
}

pub(crate) fn refilled_at_once<A: TestArch>() {
    const GRANULES: usize = 512;
    let w = World::<A>::new();
    let table = image(&w);
    for granule in 0..GRANULES {
        // SAFETY: the granules are the test's, here and below.
        w.space.settle(unsafe { w.space.share(w.granule(granule), &table) }.unwrap());
    }
    let frames = w.space.available_frames();
    let reserve = w.space.reserve::<2>().unwrap();
    let arrived = AtomicUsize::new(0);
    together(2, |_| {
        for granule in 0..GRANULES {
            reserve.refill().unwrap();
            meet(&arrived, 2 * (granule + 1));
            // SAFETY: see above.
            w.space.settle_here(unsafe { reserve.make_private(w.page(granule * 512 + 7)) }.unwrap());
        }
    });
    drop(reserve);
    assert_eq!(w.space.available_frames(), frames - GRANULES, "a frame was lost");
}
