//! What was written.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use allotment::arch::{Access, Entry, Invalidation, PAGE_SIZE, Pages};

use crate::{
    common::{TestArch, together},
    world::{World, meet},
};

pub(crate) fn exact<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(400, 1300, 0, Access::ReadWrite);
    assert_eq!(w.harvest(0, 4096).0, []);
    let written = [400, 401, 510, 511, 512, 513, 800, 1023, 1024, 1699];
    for n in written {
        w.store(n, 1).unwrap();
    }
    assert_eq!(w.load(900), Ok(0));
    let all = [(400, 2), (510, 4), (800, 1), (1023, 2), (1699, 1)];
    assert_eq!(w.peek(0, 4096), all);
    assert_eq!(w.peek(401, 111), [(401, 1), (510, 2)], "beyond the range");
    assert_eq!(w.harvest(401, 111).0, [(401, 1), (510, 2)]);
    assert_eq!(w.peek(0, 4096), [(400, 1), (512, 2), (800, 1), (1023, 2), (1699, 1)]);
    let found = w.harvest(0, 4096);
    assert_eq!(found, ([(400, 1), (512, 2), (800, 1), (1023, 2), (1699, 1)].to_vec(), 4));
    assert_eq!(w.peek(0, 4096), []);
    // Once it is settled a write leaves its mark again; no byte was lost.
    for n in written {
        assert_eq!(w.load(n), Ok(1));
        w.store(n, 2).unwrap();
    }
    assert_eq!(w.harvest(0, 4096).0, all);
    // Read-only pages keep the mark that they had.
    w.store(600, 1).unwrap();
    // SAFETY: the pages are the test's.
    w.space.settle(unsafe { w.space.protect(w.pages(600, 1), Access::Read) }.unwrap());
    assert_eq!(w.harvest(0, 4096).0, [(600, 1)]);
    // The invalidation is of what was marked, and no more.
    w.store(700, 1).unwrap();
    // SAFETY: as above.
    let edit = unsafe { w.space.harvest(w.pages(0, 4096), |_| {}) }.unwrap();
    assert_eq!((edit.entries, edit.tables), (1, 4));
    assert_eq!(edit.invalidation(), Invalidation::leaves(w.pages(700, 1)));
    w.space.settle(edit);
}

pub(crate) fn summaries<A: TestArch>() {
    let w = World::<A>::new();
    // Eight tables, three of which can be written.
    w.mapped(0, 2048, 0, Access::Read);
    w.mapped(2049, 1, 2049, Access::ReadWrite);
    w.mapped(3000, 1, 2050, Access::ReadWrite);
    w.mapped(3500, 1, 2051, Access::Read);
    // SAFETY: the pages are the test's, here and below.
    w.space.settle(unsafe { w.space.map_hidden(w.pages(4000, 1), |_| w.frame(2052)) }.unwrap());
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.protect(w.pages(600, 1), Access::ReadWrite) }.unwrap());
    assert_eq!(w.harvest(0, 8192).1, 3);
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.reveal(w.pages(4000, 1)) }.unwrap());
    assert_eq!(w.harvest(0, 8192).1, 4);
    assert_eq!(w.harvest(512, 1024).1, 1);
    // Nothing writable any more: one harvest finds that out, if hiding does not.
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.hide(w.pages(2048, 1024)) }.unwrap());
    assert_eq!(w.harvest(0, 8192).1, 2);
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.protect(w.pages(600, 1), Access::Read) }.unwrap());
    assert_eq!(w.harvest(0, 8192).1, 2);
    assert_eq!(w.harvest(0, 8192).1, 1);
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.unmap(w.pages(3584, 512), |_, _, _| {}) }.unwrap());
    assert_eq!(w.harvest(0, 8192).1, 0);
    // What is hidden, looked at or emptied beside a writable page denies nothing.
    w.mapped(5120, 512, 2100, Access::ReadWrite);
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.hide(w.pages(5120, 10)) }.unwrap());
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.unmap(w.pages(5120, 5), |_, _, _| {}) }.unwrap());
    assert_eq!(w.harvest(5120, 10).0, []);
    w.store(5200, 1).unwrap();
    assert_eq!(w.harvest(0, 8192), ([(5200, 1)].to_vec(), 1));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.unmap(w.pages(5120, 512), |_, _, _| {}) }.unwrap());
    // A replaced page is no exception.
    // SAFETY: see above.
    let edit = unsafe { w.space.replace(w.page(4000), w.frame(2052), Access::ReadWrite) }.unwrap();
    w.space.settle(edit);
    w.store(4000, 1).unwrap();
    assert_eq!(w.harvest(0, 8192), ([(4000, 1)].to_vec(), 1));
}

pub(crate) fn hidden<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(0, 1024, 0, Access::ReadWrite);
    w.store(5, 1).unwrap();
    // SAFETY: the pages are the test's, here and below.
    w.space.settle(unsafe { w.space.hide(w.pages(0, 1024)) }.unwrap());
    assert_eq!(w.harvest(0, 1024), ([(5, 1)].to_vec(), 1), "a written page was hidden from the harvest");
    assert_eq!(w.harvest(0, 1024), ([].to_vec(), 0));
    // SAFETY: see above.
    w.space.settle(unsafe { w.space.reveal(w.pages(0, 1024)) }.unwrap());
    assert_eq!(w.load(5), Ok(1));
    assert_eq!(w.harvest(0, 1024), ([].to_vec(), 2));
    w.store(5, 2).unwrap();
    assert_eq!(w.harvest(0, 1024).0, [(5, 1)]);
}

/// One CPU writes while another one harvests.
pub(crate) fn while_written<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(0, 1024, 0, Access::ReadWrite);
    let found: [AtomicBool; 1024] = [const { AtomicBool::new(false) }; 1024];
    let note = |pages: Pages| {
        let first = usize::try_from(pages.start.0 - w.page(0).0).unwrap() / PAGE_SIZE;
        (first..first + pages.count).for_each(|n| found[n].store(true, Ordering::Relaxed));
    };
    let harvest = || {
        // SAFETY: the pages are the test's, and only one worker edits.
        w.space.settle(unsafe { w.space.harvest(w.pages(0, 1024), note) }.unwrap());
    };
    let race = |worker| {
        if worker == 0 {
            (0..1024).for_each(|n| w.store(n, 1).unwrap());
        } else {
            (0..50).for_each(|_| harvest());
        }
    };
    w.space.arch().racing(|| together(2, race));
    harvest();
    assert!(found.iter().all(|found| found.load(Ordering::Relaxed)), "a mark was lost");
}

/// One CPU writes a page while another one hides it.
pub(crate) fn hidden_while_written<A: TestArch>() {
    let w = World::<A>::new();
    w.mapped(0, 1024, 0, Access::ReadWrite);
    let stored: [AtomicBool; 1024] = [const { AtomicBool::new(false) }; 1024];
    let arrived = AtomicUsize::new(0);
    let race = |worker| {
        for (n, stored) in stored.iter().enumerate() {
            meet(&arrived, 2 * (n + 1));
            if worker == 0 {
                stored.store(w.store(n, 1).is_ok(), Ordering::Relaxed);
            } else {
                // SAFETY: the pages are the test's, and only one worker edits.
                w.space.settle(unsafe { w.space.hide(w.pages(n, 1)) }.unwrap());
            }
        }
    };
    w.space.arch().racing(|| together(2, race));
    for (n, stored) in stored.iter().enumerate() {
        let Entry::Hidden { written, .. } = w.entry(n) else { panic!("page {n} is not hidden") };
        assert!(written || !stored.load(Ordering::Relaxed), "the mark of page {n} was lost");
    }
}
