//! Pages that are revealed from the first on.

use alloc::vec::Vec;

use allotment::{
    arch::{Access, Entry, Invalidation},
    space::{Premapped, SpaceError},
};

use crate::{common::TestArch, world::World};

/// Hidden pages, whose frames begin with the one of the same number.
fn hidden<A: TestArch>(w: &World<A>, first: usize, count: usize) {
    // SAFETY: pages and frames are the test's.
    let edit = unsafe { w.space.map_hidden(w.pages(first, count), |n| w.frame(n)) };
    w.space.settle(edit.unwrap());
}

pub(crate) fn prefix<A: TestArch>() {
    let w = World::<A>::new();
    hidden(&w, 500, 12);
    hidden(&w, 512, 512);
    // SAFETY: only this value edits the pages.
    let mut run = unsafe { w.space.premapped(w.pages(512, 40)) }.unwrap();
    assert_eq!((run.pages(), run.revealed()), (w.pages(512, 40), 0));
    w.load(512).unwrap_err();
    for (to, below) in [(16, 0), (17, 16), (17, 17), (5, 17), (40, 17)] {
        run.reveal_to(to).unwrap();
        assert_eq!(run.revealed(), to.max(below));
        (below..to).for_each(|n| w.store(512 + n, 1).unwrap());
        w.load(511).unwrap_err();
        w.load(512 + run.revealed()).unwrap_err();
        w.store(512 + run.revealed() - 1, 1).unwrap();
    }
    // SAFETY: nobody uses the pages.
    let edit = unsafe { run.hide_from(8) };
    assert_eq!((edit.entries, edit.tables), (32, 1));
    assert_eq!(edit.invalidation(), Invalidation::leaves(w.pages(520, 32)));
    w.space.settle(edit);
    w.load(520).unwrap_err();
    assert_eq!(w.load(519), Ok(1));
    assert!((520..552).all(|n| matches!(w.entry(n), Entry::Hidden { written: true, .. })), "a mark was lost");
    // SAFETY: as above.
    let nothing = unsafe { run.hide_from(8) };
    assert_eq!((nothing.entries, nothing.invalidation()), (0, Invalidation::NOTHING));
    w.space.settle(nothing);
    run.reveal_to(9).unwrap();
    assert_eq!(w.load(520), Ok(1), "contents are another page's");
    w.load(521).unwrap_err();
}

pub(crate) fn marks<A: TestArch>() {
    let w = World::<A>::new();
    hidden(&w, 512, 512);
    // SAFETY: only this value edits the pages, and `harvest`.
    let mut run = unsafe { w.space.premapped(w.pages(512, 512)) }.unwrap();
    run.reveal_to(3).unwrap();
    w.store(513, 7).unwrap();
    // SAFETY: nobody uses the pages.
    w.space.settle(unsafe { run.hide_from(0) });
    assert_eq!(w.harvest(512, 512).0, [(513, 1)]);
    // The table says now that nothing below may be written.
    assert_eq!(w.harvest(512, 512), ([].to_vec(), 0));
    run.reveal_to(3).unwrap();
    w.store(514, 7).unwrap();
    assert_eq!(w.harvest(512, 512).0, [(514, 1)], "the table still says so");

    run.reveal_to(20).unwrap();
    let harvest = |run: &mut Premapped<'_, A>| {
        let mut found = Vec::new();
        let edit = run.harvest(|pages| found.push((pages.start, pages.count)));
        assert_eq!(edit.entries, found.iter().map(|&(_, count)| count).sum::<usize>());
        w.space.settle(edit);
        found
    };
    assert_eq!(harvest(&mut run), []);
    [513, 514, 520, 531].into_iter().for_each(|n| w.store(n, 1).unwrap());
    assert_eq!(harvest(&mut run), [(w.page(513), 2), (w.page(520), 1), (w.page(531), 1)]);
    assert_eq!(harvest(&mut run), []);
    w.store(520, 2).unwrap();
    // SAFETY: nobody uses the pages.
    w.space.settle(unsafe { run.hide_from(0) });
    assert_eq!(
        harvest(&mut run),
        [(w.page(520), 1)],
        "a hidden page lost its mark, or one was not forgotten"
    );
}

pub(crate) fn refused<A: TestArch>() {
    let w = World::<A>::new();
    hidden(&w, 512, 16);
    w.mapped(528, 1, 100, Access::Read);
    let refused = |first, count| {
        // SAFETY: it is refused.
        unsafe { w.space.premapped(w.pages(first, count)) }.map(drop).unwrap_err()
    };
    assert_eq!(refused(512, 17), SpaceError::InUse { page: w.page(528) });
    assert_eq!(refused(529, 1), SpaceError::NoFrame { page: w.page(529) });
    assert_eq!(refused(2048, 1), SpaceError::NoFrame { page: w.page(2048) });
    assert_eq!(refused(512, 0), SpaceError::NoFrame { page: w.page(512) });
    assert_eq!(refused(512, 513), SpaceError::SeveralTables { page: w.page(1024) });
    // SAFETY: only this value edits the pages.
    let mut run = unsafe { w.space.premapped(w.pages(512, 16)) }.unwrap();
    assert_eq!(run.reveal_to(17), Err(SpaceError::NoFrame { page: w.page(528) }));
    assert_eq!(run.revealed(), 0);
    w.load(512).unwrap_err();
    run.reveal_to(16).unwrap();
    assert_eq!(w.load(527), Ok(0));
}
