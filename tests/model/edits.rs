//! Random edits: which, where, and what became of them.

use alloc::vec::Vec;
use core::{cell::RefCell, fmt, ops::Range};

use allotment::{
    arch::{Access, Entry, PAGE_SIZE, Pages, PhysAddr, VirtAddr},
    space::{Edit, SpaceError},
};

use crate::{
    common::TestArch,
    pages::{GRANULE, GRANULES, Granule, PAGES, frame_of, is_shared},
    random::Random,
    world::{LENT, TABLES, World},
};

/// Pages by number, which may lie outside the window or be misaligned.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    first: isize,
    count: usize,
    bytes: usize,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, count, bytes } = self;
        write!(f, "{first}+{count}")?;
        if *bytes > 0 { write!(f, " and {bytes} bytes") } else { Ok(()) }
    }
}

impl Span {
    fn of(first: usize, count: usize) -> Self {
        Self { first: first.cast_signed(), count, bytes: 0 }
    }

    fn one(n: usize) -> Self {
        Self::of(n, 1)
    }

    fn pages(self, start: VirtAddr) -> Pages {
        let first = (self.first * PAGE_SIZE.cast_signed()) as u64;
        Pages { start: VirtAddr(start.0.wrapping_add(first)).offset(self.bytes), count: self.count }
    }

    /// Its numbers, if it lies in the window.
    fn inside(self) -> Range<usize> {
        let first = usize::try_from(self.first).unwrap_or(PAGES).min(PAGES);
        first..(first + self.count).min(PAGES)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Map(Span, Access),
    MapHidden(Span),
    MapOne(Span, Access, usize),
    MapBad(Span, PhysAddr),
    Protect(Span, Access),
    Hide(Span),
    Reveal(Span),
    SetState(Span, u8),
    Unmap(Span),
    Replace(Span, Access),
    ReplaceSame(Span, Access),
    ReplaceByLent(Span, Access, usize),
    Copy(Span),
    Harvest(Span),
    Peek(Span),
    Share(Span, usize),
    ShareEmptied(Span, usize),
    Unshare(Span),
    MakePrivate(Span),
    Refill,
    FormRun(Span),
    BreakRun(Span),
    FormBlock(Span),
    SplitBlock(Span),
    /// As many adjacent frames, and one translation of them.
    EvenRun(Span, Access),
    EvenBlock(Span, Access),
    Load(usize),
    Store(usize, u8),
    Settle,
    SettleHere,
    ForgetAll,
    Check,
}

use Operation::*;

const OWN_ACCESS: [Access; 8] = [
    Access::ReadWrite,
    Access::ReadWrite,
    Access::ReadWrite,
    Access::ReadWrite,
    Access::Read,
    Access::ReadExecute,
    Access::CopyOnWrite,
    Access::ReadWrite,
];
const LENT_ACCESS: [Access; 3] = [Access::CopyOnWrite, Access::CopyOnWrite, Access::Read];

/// What a sequence is mostly about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Pages,
    Blocks,
}

/// A page near one of the two borders between granules.
fn near_border(random: &mut Random) -> usize {
    let border = (1 + random.below(GRANULES - 1)) * GRANULE;
    if random.percent(80) { border - 6 + random.below(12) } else { border - 32 + random.below(64) }
}

impl<A: TestArch> World<'_, A> {
    /// Pages to edit, mostly such as are all alike.
    fn span(&mut self, about: About) -> Span {
        let random = &mut self.random;
        let first = near_border(random);
        let whole = if about == About::Blocks { 30 } else { 6 };
        let kind = random.below(100);
        if kind < whole {
            return Span::of(random.below(GRANULES) * GRANULE, GRANULE);
        }
        match kind {
            0..72 => {
                let most = if random.percent(80) { 5 } else { 40 };
                let count = 1 + random.below(most);
                let span = Span::of(first, count);
                if random.percent(75) { self.alike(span) } else { span }
            }
            72..87 => Span::of(first / 16 * 16, 16),
            87..92 => Span::of(first, GRANULE + random.below(GRANULE / 2)),
            92..94 => Span::of(first, 0),
            94..96 => Span { first: -1 - random.below(3).cast_signed(), count: random.below(5), bytes: 0 },
            96..98 => Span::of(PAGES - 2 + random.below(4), 1 + random.below(4)),
            _ => Span { bytes: 1 + random.below(PAGE_SIZE - 1), ..Span::of(first, 2) },
        }
    }

    /// As many pages of a span as are in the same state as its first.
    fn alike(&self, span: Span) -> Span {
        let state = |n: usize| core::mem::discriminant(&self.map.pages[n]);
        let numbers = span.inside();
        let first = numbers.start;
        Span::of(first, numbers.take_while(|&n| state(n) == state(first)).count())
    }

    pub(crate) fn operation(&mut self, about: About) -> Operation {
        let span = self.span(about);
        let kind = self.random.below(100);
        let random = &mut self.random;
        let granule =
            if random.percent(95) { Span::of(random.below(GRANULES) * GRANULE, GRANULE) } else { span };
        let run = Span::of(near_border(random) / 16 * 16, 16);
        match kind {
            0..24 => return Load(near_border(random)),
            24..50 => return Store(near_border(random), random.byte()),
            50..52 => return Settle,
            52..54 => return SettleHere,
            54 => return ForgetAll,
            55..58 => return Check,
            58 => return if random.percent(50) { FormRun(run) } else { BreakRun(run) },
            59..61 => return EvenRun(run, random.pick(&OWN_ACCESS)),
            61..66 => return self.about_granule(granule, about),
            _ => {}
        }
        let entry = self.map.pages.get(span.inside().start).copied().unwrap_or(Entry::NONE);
        let random = &mut self.random;
        let (own, lent) = (random.pick(&OWN_ACCESS), random.pick(&LENT_ACCESS));
        match (random.below(100), entry) {
            (0..12, _) => Harvest(span),
            (12..14, _) => Peek(span),
            (14..20, _) => Unmap(span),
            (20..24, _) => Replace(span, own),
            (24..26, _) => ReplaceSame(span, own),
            (26..28, _) => ReplaceByLent(span, lent, random.below(LENT)),
            (28..30, _) => MakePrivate(span),
            (30..31, _) => MapOne(span, own, random.below(LENT)),
            (31..32, _) => {
                let frame = PhysAddr(random.pick(&[1 << 60, 0x4000_0800]));
                if random.percent(50) { MapBad(span, frame) } else { Map(span, own) }
            }
            (32..36, _) => Protect(span, own),
            (36..40, _) => Hide(span),
            (40..44, _) => Reveal(span),
            (_, Entry::Empty { .. }) => match random.below(12) {
                0 => SetState(span, random.byte() % 20),
                1 => SetState(span, 0),
                2 | 3 => MapHidden(span),
                4 | 5 => MapOne(span, lent, random.below(LENT)),
                _ => Map(span, own),
            },
            (_, Entry::Hidden { .. }) => {
                if random.percent(70) {
                    Reveal(span)
                } else {
                    Protect(span, own)
                }
            }
            (_, Entry::Present { access: Access::CopyOnWrite, .. }) => {
                if random.percent(80) {
                    Copy(span)
                } else {
                    Hide(span)
                }
            }
            (_, Entry::Present { .. }) => match random.below(8) {
                0..3 => Hide(span),
                3..5 => Protect(span, own),
                5 => Unmap(span),
                _ => Harvest(span),
            },
        }
    }

    fn about_granule(&mut self, granule: Span, about: About) -> Operation {
        let state = self.map.granules.get(granule.inside().start / GRANULE);
        let random = &mut self.random;
        if state == Some(&Granule::Shared) && random.percent(60) {
            return if random.percent(50) { Unshare(granule) } else { MakePrivate(granule) };
        }
        match (random.below(10), about) {
            (0, About::Blocks) => SplitBlock(granule),
            (1..4, About::Blocks) => FormBlock(granule),
            (4..7, About::Blocks) => EvenBlock(granule, random.pick(&OWN_ACCESS)),
            (0, About::Pages) => FormBlock(granule),
            (1, About::Pages) => SplitBlock(granule),
            (2, About::Pages) => Share(granule, random.below(TABLES)),
            (3..7, About::Pages) => ShareEmptied(granule, random.below(TABLES)),
            (7, _) => Refill,
            (8, _) => MakePrivate(granule),
            _ => Unshare(granule),
        }
    }

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
