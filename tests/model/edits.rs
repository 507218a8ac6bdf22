//! One operation after the other, on the model and on the machine.

use alloc::vec::Vec;
use core::cell::RefCell;

use allotment::{
    arch::{Access, Entry, PAGE_SIZE, Pages, PhysAddr},
    space::{Edit, SpaceError},
};

use crate::{
    common::TestArch,
    operations::{Operation, Operation::*, Span},
    pages::{GRANULE, GRANULES, Granule, PAGES, frame_of, is_shared},
    world::World,
};

impl<A: TestArch> World<'_, A> {
    /// One step: an operation on a CPU, on model and machine.
    pub(crate) fn step(&mut self, operation: Operation) {
        let start = self.map.start;
        match operation {
            Map(span, access) => {
                let Some(frames) = self.take(span.count.min(PAGES)) else { return };
                let written = false;
                let expected = self.map.map(span.pages(start), &frames, |frame| Entry::Present {
                    frame,
                    access,
                    written,
                });
                // SAFETY: the frames are the test's, and nobody is at these pages.
                let real = unsafe { self.space.map(span.pages(start), |n| frames[n], access) };
                self.kept(real, expected, &frames);
            }
            MapHidden(span) => {
                let Some(frames) = self.take(span.count.min(PAGES)) else { return };
                let (written, shared) = (false, false);
                let expected = self.map.map(span.pages(start), &frames, |frame| Entry::Hidden {
                    frame,
                    written,
                    shared,
                });
                // SAFETY: as above.
                let real = unsafe { self.space.map_hidden(span.pages(start), |n| frames[n]) };
                self.kept(real, expected, &frames);
            }
            MapBad(span, bad) => {
                let frames = alloc::vec![bad; span.count];
                let expected = self.map.map(span.pages(start), &frames, |_| Entry::NONE);
                // SAFETY: nothing is mapped.
                let real = unsafe { self.space.map(span.pages(start), |_| bad, Access::Read) };
                self.edited(real, expected);
            }
            MapOne(span, access, lent) => self.map_one(span, access, lent),
            Protect(span, access) => {
                if access == Access::ReadWrite && self.lends(span) {
                    return;
                }
                let expected = self.map.protect(span.pages(start), access);
                // SAFETY: nobody is at these pages.
                let real = unsafe { self.space.protect(span.pages(start), access) };
                self.edited(real, expected);
            }
            Hide(span) => {
                let expected = self.map.hide(span.pages(start));
                // SAFETY: as above.
                let real = unsafe { self.space.hide(span.pages(start)) };
                self.edited(real, expected);
            }
            Reveal(span) => {
                let expected = self.map.reveal(span.pages(start));
                // SAFETY: as above.
                let real = unsafe { self.space.reveal(span.pages(start)) };
                self.edited(real, expected);
            }
            SetState(span, state) => {
                let expected = self.map.set_state(span.pages(start), state);
                // SAFETY: as above.
                let real = unsafe { self.space.set_state(span.pages(start), state) };
                self.edited(real, expected);
            }
            Unmap(span) => self.unmap(span),
            Replace(span, access) => {
                let Some(frames) = self.take(1) else { return };
                self.replace(span, frames[0], access);
            }
            ReplaceSame(span, access) => {
                let shown = self.shown_by(span.inside()).next();
                if let Some(frame) = shown.filter(|&frame| !self.is_lent(frame)) {
                    let first = self.alike(span);
                    if self.shown_by(first.inside()).next() == Some(frame) {
                        self.replace(first, frame, access);
                    }
                }
            }
            ReplaceByLent(span, access, lent) => self.replace(span, self.lent(lent), access),
            Copy(span) => self.copy_on_write(span),
            Harvest(span) => {
                let expected = self.map.harvest(span.pages(start));
                let found = RefCell::new(Vec::new());
                // SAFETY: as above.
                let real =
                    unsafe { self.space.harvest(span.pages(start), |pages| found.borrow_mut().push(pages)) };
                self.reported(&expected, &found.into_inner());
                self.edited(real, expected.map(|_| ()));
            }
            Peek(span) => {
                let expected = self.map.peek(span.pages(start));
                let mut found = Vec::new();
                let real = self.space.peek(span.pages(start), |pages| found.push(pages));
                self.reported(&expected, &found);
                self.edited(real.map(|()| Edit::NOTHING), expected.map(|_| ()));
            }
            Refill => {
                let expected = self.map.refill();
                let real = self.reserve.refill();
                self.edited(real.map(|()| Edit::NOTHING), expected);
            }
            Share(..) | Unshare(_) | MakePrivate(_) | FormRun(_) | BreakRun(_) | FormBlock(_)
            | SplitBlock(_) => self.step_above(operation),
            ShareEmptied(span, nth) => {
                self.unmap(span);
                self.step(SetState(span, 0));
                self.step_above(Share(span, nth));
            }
            EvenRun(span, access) => {
                self.unmap(span);
                self.step(Map(span, access));
                self.step(FormRun(span));
            }
            EvenBlock(span, access) => {
                // All frames are needed for it.
                (0..GRANULES).for_each(|g| self.unmap(Span::of(g * GRANULE, GRANULE)));
                self.forget_all();
                self.step(Map(span, access));
                if self.random.percent(70) {
                    self.step(FormBlock(span));
                }
            }
            Load(n) => self.load(n),
            Store(n, byte) => self.store(n, byte),
            Settle => self.settle(),
            SettleHere => self.settle_here(),
            ForgetAll => self.forget_all(),
            Check => self.check(),
        }
    }

    /// The operations on more than pages.
    fn step_above(&mut self, operation: Operation) {
        let page = |span: Span| span.pages(self.map.start).start;
        let (expected, real) = match operation {
            Share(span, nth) => {
                let page = page(span);
                // SAFETY: nobody is at these pages, and the table is of this space.
                let real = unsafe { self.space.share(page, &self.tables[nth]) };
                (self.map.share(page, &self.shown[nth]), real)
            }
            Unshare(span) => {
                let page = page(span);
                // SAFETY: as above.
                (self.map.unshare(page), unsafe { self.space.unshare(page) })
            }
            MakePrivate(span) => {
                let page = page(span);
                // SAFETY: as above.
                (self.map.make_private(page), unsafe { self.reserve.make_private(page) })
            }
            FormRun(span) => {
                let page = page(span);
                // SAFETY: as above.
                (self.map.form_run(page), unsafe { self.space.form_run(page) })
            }
            BreakRun(span) => {
                let page = page(span);
                // SAFETY: as above.
                (self.map.break_run(page), unsafe { self.space.break_run(page) })
            }
            FormBlock(span) => {
                let page = page(span);
                // SAFETY: as above.
                (self.map.form_block(page), unsafe { self.space.form_block(page) })
            }
            SplitBlock(span) => {
                let page = page(span);
                // SAFETY: as above.
                (self.map.split_block(page), unsafe { self.space.split_block(page) })
            }
            other => unreachable!("{other:?} is on pages"),
        };
        self.edited(real, expected);
    }

    /// Whether pages show a frame that others show too, and entries do not say
    /// so: such pages must not become writable.
    fn lends(&self, span: Span) -> bool {
        self.map.pages[span.inside()]
            .iter()
            .any(|&entry| !is_shared(entry) && frame_of(entry).is_some_and(|frame| self.is_lent(frame)))
    }

    fn map_one(&mut self, span: Span, access: Access, lent: usize) {
        let (pages, frame) = (span.pages(self.map.start), self.lent(lent));
        let expected = if matches!(access, Access::CopyOnWrite | Access::Read) {
            let written = false;
            let frames = alloc::vec![frame; span.count];
            self.map.map(pages, &frames, |frame| Entry::Present { frame, access, written })
        } else {
            Err(SpaceError::NotShareable { access })
        };
        // SAFETY: nobody writes the frame.
        let real = unsafe { self.space.map_one(pages, frame, access) };
        self.edited(real, expected);
    }

    fn unmap(&mut self, span: Span) {
        let pages = span.pages(self.map.start);
        let expected = self.map.unmap(pages);
        let out = RefCell::new(Vec::new());
        let frame = |page, frame, own| out.borrow_mut().push((page, frame, own));
        // SAFETY: nobody is at these pages.
        let real = unsafe { self.space.unmap(pages, frame) };
        let out = out.into_inner();
        self.trace.agree("what came out", &out, &expected.clone().unwrap_or_default());
        self.edited(real, expected.map(|_| ()));
        // Every CPU has forgotten them, whether the edit is settled or not.
        out.into_iter().for_each(|(_, frame, _)| self.release(frame, true));
    }

    fn replace(&mut self, span: Span, frame: PhysAddr, access: Access) {
        let page = span.pages(self.map.start).start;
        let before = self.map.numbers(Pages { start: page, count: 1 }).ok();
        let before = before.and_then(|numbers| frame_of(self.map.pages[numbers.start]));
        let expected = self.map.replace(page, frame, access);
        // SAFETY: nobody is at the page, and the frame is nobody else's.
        let real = unsafe { self.space.replace(page, frame, access) };
        match (real, expected) {
            (Ok(edit), Ok(expected)) => {
                if !self.is_lent(frame) {
                    self.keep(&[frame]);
                }
                match edit.took_nothing() {
                    Ok(edit) => {
                        self.trace.agree("the frame that comes out", &None, &expected);
                        self.batch(edit);
                        // What was shared comes out to nobody; some CPU may use it.
                        before
                            .into_iter()
                            .filter(|&old| old != frame)
                            .for_each(|old| self.release(old, false));
                    }
                    Err(edit) => {
                        let taken = self.space.settle(edit);
                        self.trace.agree("the frame that comes out", &taken, &expected);
                        taken.into_iter().for_each(|frame| self.release(frame, true));
                    }
                }
            }
            (real, expected) => {
                self.trace.agree("the answer", &real.map(|_| ()), &expected.map(|_| ()));
            }
        }
    }

    /// What a handler does for the first write to a page that is copied then.
    fn copy_on_write(&mut self, span: Span) {
        let n = span.inside().start;
        let granule = self.map.granules[n / GRANULE];
        let Entry::Present { frame: old, access: Access::CopyOnWrite, .. } = self.map.pages[n] else {
            return;
        };
        let Some(frames) = self.take(1) else { return };
        if granule == Granule::Shared {
            self.step_above(MakePrivate(Span::one(n)));
        }
        self.copy(old, frames[0]);
        self.replace(Span::one(n), frames[0], Access::ReadWrite);
        if self.random.percent(70) {
            self.settle_here();
        }
        let byte = self.random.byte();
        self.store(n, byte);
    }

    /// Compares what was reported with the pages that the model found.
    fn reported(&self, expected: &Result<Vec<usize>, SpaceError>, found: &[Pages]) {
        let mut whole: Vec<Pages> = Vec::new();
        for &n in expected.as_ref().map_or(&[][..], |found| found) {
            let page = self.map.page(n);
            match whole.last_mut() {
                Some(last) if last.start.offset(last.count * PAGE_SIZE) == page => last.count += 1,
                _ => whole.push(Pages { start: page, count: 1 }),
            }
        }
        self.trace.agree("what was written", &found, &&*whole);
    }

    /// The outcome of an edit that shows `frames`.
    fn kept(
        &mut self,
        real: Result<Edit, SpaceError>,
        expected: Result<(), SpaceError>,
        frames: &[PhysAddr],
    ) {
        if expected.is_ok() {
            self.keep(frames);
        }
        self.edited(real, expected);
    }

    fn edited(&mut self, real: Result<Edit, SpaceError>, expected: Result<(), SpaceError>) {
        match (real, expected) {
            (Ok(edit), Ok(())) => self.batch(edit),
            (real, expected) => self.trace.agree("the answer", &real.map(|_| ()), &expected),
        }
    }

    /// Settles an edit now, or later with others.
    fn batch(&mut self, edit: Edit) {
        let pending = core::mem::replace(&mut self.pending, Edit::NOTHING);
        self.pending = pending.and(edit);
        if self.random.percent(40) {
            self.settle();
        }
    }
}
