//! Giving frames and access, and taking them.

use alloc::vec::Vec;

use allotment::arch::{Access, Entry, Invalidation, PhysAddr, Scope, VirtAddr};

use crate::{
    common::TestArch,
    world::{World, present},
};

pub(crate) fn map<A: TestArch>() {
    let w = World::<A>::new();
    let before = w.space.available_frames();
    // The end of one table, all of another, a directory's end, and a beginning.
    let edit = w.map(500, 600, 0, Access::ReadWrite);
    assert_eq!((edit.entries, edit.tables), (600, 3));
    assert_eq!(edit.invalidation(), Invalidation::NOTHING, "nothing was there to be cached");
    w.space.settle(edit);
    assert_eq!(w.space.available_frames(), before - 3);
    for n in [500, 511, 512, 1023, 1024, 1099] {
        assert_eq!(w.entry(n), present(w.frame(n - 500), Access::ReadWrite));
        w.store(n, 7).unwrap();
        assert_eq!(w.load(n), Ok(7));
    }
    for n in [499, 1100] {
        assert_eq!(w.entry(n), Entry::NONE);
        w.load(n).unwrap_err();
    }
    // Beside it, with the tables that are there, and nothing at all.
    let edit = w.map(1100, 10, 600, Access::Read);
    assert_eq!((edit.entries, edit.tables), (10, 1));
    w.space.settle(edit);
    let edit = w.map(400, 0, 0, Access::Read);
    assert_eq!((edit.entries, edit.tables), (0, 0));
    w.space.settle(edit);
    assert_eq!(w.space.available_frames(), before - 3);
    w.store(1100, 1).unwrap_err();

    // SAFETY: the frames are the test's.
    let edit = unsafe { w.space.map_hidden(w.pages(2000, 2), |n| w.frame(700 + n)) }.unwrap();
    w.space.settle(edit);
    w.load(2000).unwrap_err();
    assert_eq!(w.entry(2001), Entry::Hidden { frame: w.frame(701), written: false, shared: false });
    // SAFETY: as above.
    w.space.settle(unsafe { w.space.reveal(w.pages(2000, 2)) }.unwrap());
    w.store(2001, 1).unwrap();
}

pub(crate) fn map_one<A: TestArch>() {
    let w = World::<A>::new();
    let zero = w.frame(0);
    // SAFETY: nobody writes the frame.
    let edit = unsafe { w.space.map_one(w.pages(100, 1500), zero, Access::CopyOnWrite) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (1500, 4));
    w.space.settle(edit);
    for n in [100, 511, 1024, 1599] {
        assert_eq!(w.entry(n), present(zero, Access::CopyOnWrite));
        w.store(n, 1).unwrap_err();
        assert_eq!(w.load(n), Ok(0));
        w.forget();
    }
    assert_eq!(w.harvest(0, 2048), (Vec::new(), 0), "what cannot be written was looked at");
    // Hidden and revealed it is still shared.
    // SAFETY: as above.
    w.space.settle(unsafe { w.space.hide(w.pages(100, 2)) }.unwrap());
    assert_eq!(w.entry(101), Entry::Hidden { frame: zero, written: false, shared: true });
    // SAFETY: as above.
    w.space.settle(unsafe { w.space.reveal(w.pages(100, 2)) }.unwrap());
    assert_eq!(w.entry(101), present(zero, Access::CopyOnWrite));
    w.store(101, 1).unwrap_err();
}

pub(crate) fn protect<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(0, 2000, 0, Access::ReadWrite);
    for n in [299, 300, 1500, 1501] {
        w.store(n, 5).unwrap();
    }
    // SAFETY: the pages are the test's.
    let edit = unsafe { w.space.protect(w.pages(300, 1201), Access::Read) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (1201, 3));
    assert_eq!(edit.invalidation().scope(), Scope::Everything);
    w.space.settle(edit);
    for n in [300, 1500] {
        w.store(n, 6).unwrap_err();
        assert_eq!(w.load(n), Ok(5));
        assert_eq!(
            w.entry(n),
            Entry::Present { frame: w.frame(n), access: Access::Read, written: true },
            "the mark was lost"
        );
    }
    for n in [299, 1501] {
        w.store(n, 6).unwrap();
    }
    // Again: nothing to do. A few pages: just those. Hidden ones as well.
    // SAFETY: as above.
    let again = unsafe { w.space.protect(w.pages(300, 1201), Access::Read) }.unwrap();
    assert_eq!((again.entries, again.tables, again.invalidation()), (0, 3, Invalidation::NOTHING));
    w.space.settle(again);
    // SAFETY: as above.
    w.space.settle(unsafe { w.space.hide(w.pages(310, 1)) }.unwrap());
    // SAFETY: as above.
    let few = unsafe { w.space.protect(w.pages(300, 20), Access::ReadWrite) }.unwrap();
    assert_eq!((few.entries, few.tables), (20, 1));
    w.space.settle(few);
    w.store(300, 7).unwrap();
    w.store(310, 7).unwrap();
    // SAFETY: as above.
    let code = unsafe { w.space.protect(w.pages(300, 20), Access::ReadExecute) }.unwrap();
    let pages = w.pages(300, 20);
    assert_eq!(code.invalidation(), Invalidation::leaves(pages));
    w.space.settle(code);
    w.store(300, 8).unwrap_err();
    assert_eq!(w.load(300), Ok(7));
}

pub(crate) fn hide_and_reveal<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(0, 1100, 0, Access::ReadWrite);
    w.mapped(1100, 4, 1100, Access::Read);
    w.mapped(1104, 4, 1104, Access::ReadExecute);
    w.store(510, 9).unwrap();
    let before = w.entries(0, 1200);
    // Empty pages are passed over, at both ends of the tables.
    // SAFETY: the pages are the test's.
    let edit = unsafe { w.space.hide(w.pages(505, 700)) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (603, 3));
    assert_eq!(edit.invalidation().scope(), Scope::Everything);
    w.space.settle(edit);
    for n in [505, 510, 1024, 1099, 1100, 1107] {
        w.load(n).unwrap_err();
        assert!(matches!(w.entry(n), Entry::Hidden { shared: false, .. }));
    }
    assert_eq!(w.entry(510), Entry::Hidden { frame: w.frame(510), written: true, shared: false });
    assert_eq!(w.load(504), Ok(0));
    // SAFETY: as above.
    let again = unsafe { w.space.hide(w.pages(505, 700)) }.unwrap();
    assert_eq!((again.entries, again.invalidation()), (0, Invalidation::NOTHING));
    w.space.settle(again);
    // SAFETY: as above.
    let edit = unsafe { w.space.reveal(w.pages(505, 603)) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (603, 3));
    assert_eq!(edit.invalidation(), Invalidation::NOTHING, "a hidden page is not cached");
    w.space.settle(edit);
    let mut after = w.entries(0, 1200);
    for n in 1104..1108 {
        assert_eq!(after[n], present(w.frame(n), Access::Read), "what was code comes back readable");
        after[n] = before[n];
    }
    assert_eq!(after, before);
    assert_eq!(w.load(510), Ok(9));
    w.store(1099, 3).unwrap();
    w.store(1100, 3).unwrap_err();
}

pub(crate) fn state<A: TestArch>() {
    let w = World::<A>::new();
    let before = w.space.available_frames();
    // SAFETY: the pages are the test's, here and below.
    let edit = unsafe { w.space.set_state(w.pages(0, 2000), 0) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (0, 0));
    w.space.settle(edit);
    assert_eq!(w.space.available_frames(), before, "a state of 0 took a table");
    // SAFETY: see above.
    let edit = unsafe { w.space.set_state(w.pages(510, 5), 14) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (5, 2));
    assert_eq!(edit.invalidation(), Invalidation::NOTHING);
    w.space.settle(edit);
    let states: Vec<u8> = (508..517).map(|n| w.space.state(w.page(n)).unwrap()).collect();
    assert_eq!(states, [0, 0, 14, 14, 14, 14, 14, 0, 0]);
    w.load(510).unwrap_err();
    assert!(!w.space.write_fault(w.page(510)));
    // Unmapping leaves them, mapping does not.
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.unmap(w.pages(508, 9), |_, _, _| panic!("no frame")) }.unwrap());
    assert_eq!(w.space.state(w.page(510)), Ok(14));
    w.mapped(510, 1, 0, Access::Read);
    assert_eq!(w.load(510), Ok(0));
}

pub(crate) fn unmap<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(500, 30, 0, Access::ReadWrite);
    // SAFETY: nobody writes the frame.
    let zero = unsafe { w.space.map_one(w.pages(530, 2), w.frame(99), Access::CopyOnWrite) }.unwrap();
    w.space.settle(zero);
    w.store(511, 4).unwrap();
    assert_eq!(w.load(530), Ok(0));
    // Not settled on purpose: the frames must not come out before it is.
    // SAFETY: the pages are the test's.
    let hidden = unsafe { w.space.hide(w.pages(505, 10)) }.unwrap();
    let mut out = Vec::new();
    let keep = |page, frame, own| {
        // On a machine that watches this fails while anybody has it cached.
        if own {
            // SAFETY: the frame has come out.
            unsafe { w.space.arch().zero_frame(frame) };
        }
        out.push((page, frame, own));
    };
    // SAFETY: as above.
    let edit = unsafe { w.space.unmap(w.pages(501, 2000), keep) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (31, 2));
    assert_eq!(edit.invalidation(), Invalidation::NOTHING, "it is settled already");
    w.space.settle(edit.and(hidden));
    let own = (501..530).map(|n| (w.page(n), w.frame(n - 500), true));
    let shared = [530, 531].map(|n| (w.page(n), w.frame(99), false));
    let expected: Vec<(VirtAddr, PhysAddr, bool)> = own.chain(shared).collect();
    assert_eq!(out, expected);
    w.load(501).unwrap_err();
    w.store(500, 1).unwrap();
    assert!((501..600).all(|n| w.entry(n) == Entry::NONE));
    // Nothing but what another edit hid, and did not settle.
    w.mapped(600, 1, 700, Access::ReadWrite);
    w.store(600, 1).unwrap();
    // SAFETY: as above.
    let hidden = unsafe { w.space.hide(w.pages(600, 1)) }.unwrap();
    let keep = |_, frame, _| {
        // SAFETY: the frame has come out.
        unsafe { w.space.arch().zero_frame(frame) };
    };
    // SAFETY: as above.
    w.space.settle(unsafe { w.space.unmap(w.pages(600, 1), keep) }.unwrap());
    w.space.settle(hidden);
    // The tables are still there.
    let before = w.space.available_frames();
    w.mapped(501, 29, 1, Access::ReadWrite);
    assert_eq!(w.space.available_frames(), before);
    assert_eq!(w.load(511), Ok(0));
}

pub(crate) fn replace<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(10, 2, 0, Access::ReadWrite);
    w.store(10, 1).unwrap();
    // SAFETY: page and frame are the test's, here and below.
    let edit = unsafe { w.space.replace(w.page(10), w.frame(7), Access::ReadWrite) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (1, 1));
    let edit = edit.took_nothing().unwrap_err();
    assert_eq!(w.space.settle(edit), Some(w.frame(0)));
    assert_eq!(w.load(10), Ok(0));
    w.store(10, 2).unwrap();
    w.store(11, 3).unwrap();
    assert_eq!(w.harvest(0, 512).0, [(10, 2)]);

    // A copy on write: nothing of the page's own comes out.
    // SAFETY: see above.
    let zero = unsafe { w.space.map_one(w.pages(600, 2), w.frame(99), Access::CopyOnWrite) }.unwrap();
    w.space.settle(zero);
    assert_eq!(w.load(600), Ok(0));
    // SAFETY: see above.
    let edit = unsafe { w.space.replace(w.page(600), w.frame(8), Access::ReadWrite) }.unwrap();
    w.space.settle_here(edit.took_nothing().unwrap());
    w.store(600, 6).unwrap();
    assert_eq!(w.load(600), Ok(6));
    assert_eq!(w.load(601), Ok(0));
    assert_eq!(w.harvest(512, 512), ([(600, 1)].to_vec(), 1));

    // An empty page, in a table that is not there yet; and a hidden one.
    // SAFETY: see above.
    let edit = unsafe { w.space.replace(w.page(5000), w.frame(9), Access::Read) }.unwrap();
    assert_eq!(w.space.settle(edit), None);
    assert_eq!(w.load(5000), Ok(0));
    // SAFETY: see above.
    let hidden = unsafe { w.space.hide(w.pages(5000, 1)) }.unwrap();
    let settled = w.space.invalidations().everywhere;
    // SAFETY: see above.
    let edit = unsafe { w.space.replace(w.page(5000), w.frame(10), Access::Read) }.unwrap();
    let forgotten = w.space.invalidations().everywhere > settled;
    assert!(edit.invalidation().covers(w.page(5000)) || forgotten, "what hid the page may not be settled");
    assert_eq!(w.space.settle(edit), Some(w.frame(9)));
    w.space.settle(hidden);
}
