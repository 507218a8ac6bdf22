//! Blocks of 2 MiB and contiguous runs.

use alloc::vec::Vec;

use allotment::{
    arch::{Access, Entry, Format, Invalidation},
    space::{Edit, SpaceError},
};

use crate::{
    common::TestArch,
    world::{World, present},
};

/// Two granules of pages that could be blocks.
fn even<A: TestArch>() -> World<A> {
    let w = World::<A>::new();
    w.mapped(512, 1024, 0, Access::ReadWrite);
    w
}

fn form<A: TestArch>(w: &World<A>, granule: usize) -> Edit {
    // SAFETY: the granule is the test's.
    unsafe { w.space.form_block(w.granule(granule)) }.unwrap()
}

fn written<A: TestArch>(w: &World<A>, first: usize, count: usize) -> usize {
    let marked = |entry: &Entry| {
        matches!(entry, Entry::Present { written: true, .. } | Entry::Hidden { written: true, .. })
    };
    w.entries(first, count).iter().filter(|entry| marked(entry)).count()
}

pub(crate) fn block<A: TestArch>() {
    let w = even::<A>();
    let frames = w.space.available_frames();
    let pages = w.entries(512, 1024);
    w.store(1024 + 9, 1).unwrap();
    w.forget();
    for (granule, all) in [(1, 0), (2, 512)] {
        let edit = form(&w, granule);
        assert_eq!((edit.entries, edit.tables), (1, 1));
        assert_eq!(edit.invalidation(), Invalidation::NOTHING, "the table went back before it was forgotten");
        w.space.settle(edit);
        assert_eq!(written(&w, granule * 512, 512), all, "any mark is one of the block");
    }
    assert_eq!(w.entries(512, 512), pages[..512]);
    assert_eq!(w.space.available_frames(), frames + 2);
    let again = form(&w, 1);
    assert_eq!((again.entries, again.tables), (0, 0));
    w.space.settle(again);
    for granule in [1, 2] {
        // SAFETY: the granules are the test's, here and below.
        let edit = unsafe { w.space.split_block(w.granule(granule)) }.unwrap();
        assert_eq!((edit.entries, edit.tables), (1, 1));
        w.space.settle(edit);
    }
    assert_eq!(w.entries(512, 512), pages[..512]);
    assert_eq!(written(&w, 1024, 512), 512, "split pages lost the block's mark");
    assert_eq!(w.space.available_frames(), frames);
    // SAFETY: see above.
    let again = unsafe { w.space.split_block(w.granule(1)) }.unwrap();
    assert_eq!((again.entries, again.tables), (0, 0));
    w.space.settle(again);
    assert_eq!(w.load(1024 + 9), Ok(1));
    w.store(512, 1).unwrap();
    assert_eq!(w.harvest(512, 1024).0, [(512, 1), (1024, 512)]);
}

pub(crate) fn part_of_a_block<A: TestArch>() {
    let w = even::<A>();
    w.space.settle(form(&w, 1).and(form(&w, 2)));
    let frames = w.space.available_frames();
    // SAFETY: the pages are the test's, here and below.
    let edit = unsafe { w.space.protect(w.pages(600, 500), Access::Read) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (502, 2), "two blocks are split, and 500 pages edited");
    w.space.settle(edit);
    assert_eq!(w.space.available_frames(), frames - 2);
    for (n, access) in
        [(599, Access::ReadWrite), (600, Access::Read), (1099, Access::Read), (1100, Access::ReadWrite)]
    {
        assert_eq!(w.entry(n), present(w.frame(n - 512), access));
    }
    w.store(1100, 1).unwrap();
    w.store(1099, 1).unwrap_err();
    assert_eq!(w.harvest(0, 2048), ([(1100, 1)].to_vec(), 2));

    // A hidden block, and a part of it that is emptied.
    let w = even::<A>();
    w.space.settle(form(&w, 1));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.hide(w.pages(512, 512)) }.unwrap());
    let mut out = Vec::new();
    // SAFETY: see above.
    let edit = unsafe { w.space.unmap(w.pages(1022, 1), |_, frame, own| out.push((frame, own))) }.unwrap();
    w.space.settle(edit);
    assert_eq!(out, [(w.frame(510), true)]);
    assert_eq!(w.entry(1022), Entry::NONE);
    for n in [512, 1021, 1023] {
        assert_eq!(w.entry(n), Entry::Hidden { frame: w.frame(n - 512), written: false, shared: false });
    }
    // The same of a block that CPUs may still have, as what hid it is not settled: its pages, of which one
    // comes back, are not cached beside it.
    let w = even::<A>();
    w.space.settle(form(&w, 1));
    w.store(600, 1).unwrap();
    // SAFETY: see above.
    let hidden = unsafe { w.space.hide(w.pages(512, 512)) }.unwrap();
    // SAFETY: see above.
    let revealed = unsafe { w.space.reveal(w.pages(600, 1)) }.unwrap();
    w.store(600, 2).unwrap();
    w.space.settle(hidden.and(revealed));
    w.load(601).unwrap_err();
    let w = even::<A>();
    w.space.settle(form(&w, 1).and(form(&w, 2)));
    // What becomes writable in a part is found by the harvest.
    w.space.settle(form(&w, 2));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.hide(w.pages(1024, 512)) }.unwrap());
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.reveal(w.pages(1100, 2)) }.unwrap());
    w.store(1101, 1).unwrap();
    assert_eq!(w.harvest(0, 2048).0, [(1101, 1)]);
    let w = even::<A>();
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.protect(w.pages(512, 512), Access::Read) }.unwrap());
    w.space.settle(form(&w, 1));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.protect(w.pages(600, 1), Access::ReadWrite) }.unwrap());
    w.store(600, 1).unwrap();
    assert_eq!(w.harvest(512, 512).0, [(600, 1)]);
    // A harvest that would clear the mark of pages that it does not report.
    let w = even::<A>();
    w.store(700, 1).unwrap();
    w.space.settle(form(&w, 1));
    assert_eq!(w.peek(600, 10), [(600, 10)]);
    assert_eq!(w.harvest(600, 10).0, [(600, 10)]);
    assert_eq!(w.peek(0, 2048), [(512, 88), (610, 414)]);
}

pub(crate) fn whole_block<A: TestArch>() {
    let w = even::<A>();
    w.store(512 + 5, 1).unwrap();
    w.space.settle(form(&w, 1));
    let frames = w.space.available_frames();
    let whole = w.pages(512, 512);
    assert_eq!(w.harvest(0, 2048).0, [(512, 512)]);
    assert_eq!(written(&w, 512, 512), 0);
    let one = |edit: Edit| {
        assert_eq!((edit.entries, edit.tables), (1, 1));
        w.space.settle(edit);
    };
    // SAFETY: the pages are the test's, here and below.
    one(unsafe { w.space.protect(whole, Access::Read) }.unwrap());
    assert_eq!(w.entry(1023), present(w.frame(511), Access::Read));
    // SAFETY: see above.
    one(unsafe { w.space.protect(whole, Access::ReadWrite) }.unwrap());
    // SAFETY: see above.
    one(unsafe { w.space.hide(whole) }.unwrap());
    assert_eq!(w.entry(1023), Entry::Hidden { frame: w.frame(511), written: false, shared: false });
    w.load(1023).unwrap_err();
    // SAFETY: see above.
    one(unsafe { w.space.reveal(whole) }.unwrap());
    assert_eq!(w.entry(513), present(w.frame(1), Access::ReadWrite));
    let mut out = Vec::new();
    // SAFETY: see above.
    one(unsafe { w.space.unmap(whole, |page, frame, own| out.push((page, frame, own))) }.unwrap());
    let expected: Vec<_> = (0..512).map(|n| (w.page(512 + n), w.frame(n), true)).collect();
    assert_eq!(out, expected);
    assert_eq!(w.space.available_frames(), frames);
    assert!(w.entries(512, 512).iter().all(|&entry| entry == Entry::NONE));
}

pub(crate) fn uneven<A: TestArch>() {
    let w = World::<A>::new();
    // Granule 1 misses a page, 2 has another access, 3 another frame, 4 begins
    // at an odd frame, 5 is empty.
    w.mapped(512, 511, 0, Access::ReadWrite);
    w.mapped(1024, 511, 512, Access::Read);
    w.mapped(1535, 1, 1023, Access::ReadWrite);
    w.mapped(1536, 511, 1024, Access::Read);
    w.mapped(2047, 1, 0, Access::Read);
    w.mapped(2048, 512, 1, Access::Read);
    let (entries, frames) = (w.entries(0, 4096), w.space.available_frames());
    let uneven = |n| SpaceError::Uneven { page: w.page(n) };
    let none = |n| SpaceError::NoFrame { page: w.page(n) };
    for (granule, error) in
        [(1, none(1023)), (2, uneven(1535)), (3, uneven(2047)), (4, uneven(2048)), (5, none(2560))]
    {
        // SAFETY: it is refused.
        assert_eq!(unsafe { w.space.form_block(w.granule(granule)) }.map(drop), Err(error));
    }
    // SAFETY: it is refused.
    assert_eq!(unsafe { w.space.split_block(w.granule(5)) }.map(drop), Err(none(2560)));
    if A::Format::RUN > 1 {
        for (n, error) in [(1008, none(1023)), (1520, uneven(1535)), (2048, uneven(2048)), (2560, none(2560))]
        {
            // SAFETY: it is refused.
            assert_eq!(unsafe { w.space.form_run(w.page(n)) }.map(drop), Err(error));
        }
        let address = w.page(1025);
        // SAFETY: it is refused.
        let refused = unsafe { w.space.form_run(address) }.map(drop);
        assert_eq!(refused, Err(SpaceError::Misaligned { address, alignment: 0x1_0000 }));
    }
    assert_eq!(w.hinted(0, 4096), 0);
    assert_eq!(w.entries(0, 4096), entries);
    assert_eq!(w.space.available_frames(), frames);
    // Twins that fit.
    w.mapped(1023, 1, 511, Access::ReadWrite);
    w.space.settle(form(&w, 1));
}

/// Makes runs of pages 512 to 575, where there is such a thing.
fn runs<A: TestArch>() -> World<A> {
    let w = even::<A>();
    let length = A::Format::RUN;
    for n in [512, 528, 544, 560] {
        // SAFETY: the pages are the test's.
        let edit = unsafe { w.space.form_run(w.page(n)) }.unwrap();
        assert_eq!((edit.entries, edit.tables), if length == 1 { (0, 0) } else { (16, 1) });
        assert_eq!(edit.invalidation(), Invalidation::NOTHING);
        w.space.settle(edit);
    }
    assert_eq!(w.hinted(0, 1024), if length == 1 { 0 } else { 64 });
    w
}

pub(crate) fn run<A: TestArch>() {
    let exists = A::Format::RUN > 1;
    let hints = |count| if exists { count } else { 0 };
    let w = runs::<A>();
    for n in [512, 527, 575] {
        w.store(n, 1).unwrap();
        assert_eq!(w.load(n), Ok(1));
    }
    // A part: the runs that it cuts are broken, those between are hidden.
    // SAFETY: the pages are the test's, here and below.
    w.space.settle(unsafe { w.space.hide(w.pages(527, 18)) }.unwrap());
    assert_eq!(w.hinted(512, 16), 0);
    assert_eq!(w.hinted(528, 32), 0);
    assert_eq!(w.hinted(560, 16), hints(16));
    assert_eq!((w.load(512), w.load(526)), (Ok(1), Ok(0)));
    w.load(527).unwrap_err();
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.reveal(w.pages(527, 18)) }.unwrap());
    assert_eq!(w.load(527), Ok(1));
    // Rights of a whole run.
    // SAFETY: see above.
    let edit = unsafe { w.space.protect(w.pages(560, 16), Access::Read) }.unwrap();
    assert_eq!(edit.entries, 16 + hints(16), "a hint is taken away by break-before-make");
    w.space.settle(edit);
    assert_eq!(w.hinted(560, 16), 0);
    w.store(560, 2).unwrap_err();
    assert_eq!(w.load(575), Ok(1));
    // Broken, and formed again.
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.form_run(w.page(560)) }.unwrap());
    assert_eq!(w.hinted(560, 16), hints(16));
    // SAFETY: see above.
    let edit = unsafe { w.space.break_run(w.page(560)) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (hints(16), hints(1)));
    w.space.settle(edit);
    assert_eq!(w.hinted(512, 64), 0);
    // Another frame in the middle of one.
    let w = runs::<A>();
    assert_eq!(w.load(520), Ok(0));
    // SAFETY: see above.
    let edit = unsafe { w.space.replace(w.page(520), w.frame(2000), Access::ReadWrite) }.unwrap();
    assert_eq!(w.space.settle(edit), Some(w.frame(8)));
    assert_eq!((w.hinted(512, 16), w.hinted(528, 48)), (0, hints(48)));
    w.store(520, 3).unwrap();
    assert_eq!(w.load(520), Ok(3));
}

pub(crate) fn marked_run<A: TestArch>() {
    let w = runs::<A>();
    if A::Format::RUN == 1 {
        w.store(517, 1).unwrap();
        assert_eq!(w.harvest(0, 1024).0, [(517, 1)]);
        return;
    }
    if w.space.arch().hardware_dirty() {
        w.store(517, 1).unwrap();
        assert_eq!(w.peek(0, 1024), [(512, 16)]);
        assert_eq!(w.peek(520, 4), [(520, 4)]);
        assert_eq!(w.harvest(0, 1024).0, [(512, 16)]);
        assert_eq!(w.hinted(512, 64), 64);
        w.store(530, 1).unwrap();
        // A part of it: it is broken, and what was not asked about stays marked.
        assert_eq!(w.harvest(530, 2).0, [(530, 2)]);
        assert_eq!(w.hinted(512, 64), 48);
        assert_eq!(w.peek(0, 1024), [(528, 2), (532, 12)]);
    } else {
        // No CPU says which of its pages was written: from the beginning, all.
        assert_eq!(w.harvest(0, 1024).0, [(512, 64)]);
        assert_eq!(w.hinted(512, 64), 0);
        w.store(517, 1).unwrap();
        assert_eq!(w.harvest(0, 1024).0, [(517, 1)]);
    }
}

pub(crate) fn block_translates<A: TestArch>() {
    let w = even::<A>();
    w.store(512 + 3, 3).unwrap();
    w.space.settle(form(&w, 1));
    assert_eq!((w.load(512 + 3), w.load(1023)), (Ok(3), Ok(0)));
    assert_eq!(w.harvest(0, 2048).0, [(512, 512)]);
    assert_eq!(w.harvest(0, 2048).0, []);
    w.store(1023, 9).unwrap();
    assert_eq!(w.harvest(0, 2048).0, [(512, 512)]);
    // SAFETY: the pages are the test's, here and below.
    w.space.settle(unsafe { w.space.hide(w.pages(512, 512)) }.unwrap());
    w.load(1023).unwrap_err();
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.reveal(w.pages(512, 512)) }.unwrap());
    assert_eq!(w.load(1023), Ok(9));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.protect(w.pages(512, 512), Access::Read) }.unwrap());
    w.store(1023, 1).unwrap_err();
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.protect(w.pages(600, 1), Access::ReadWrite) }.unwrap());
    w.store(600, 1).unwrap();
    w.store(601, 1).unwrap_err();
    assert_eq!((w.load(512 + 3), w.load(1023)), (Ok(3), Ok(9)));
    assert_eq!(w.harvest(0, 2048).0, [(600, 1)]);
}
