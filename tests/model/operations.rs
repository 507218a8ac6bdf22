//! Random operations: which, and where.

use core::{fmt, ops::Range};

use allotment::arch::{Access, Entry, PAGE_SIZE, Pages, PhysAddr, VirtAddr};

use crate::{
    common::TestArch,
    pages::{GRANULE, GRANULES, Granule, PAGES},
    random::Random,
    world::{LENT, TABLES, World},
};

/// Pages by number, which may lie outside the window or be misaligned.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    first: isize,
    pub(crate) count: usize,
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
    pub(crate) fn of(first: usize, count: usize) -> Self {
        Self { first: first.cast_signed(), count, bytes: 0 }
    }

    pub(crate) fn one(n: usize) -> Self {
        Self::of(n, 1)
    }

    pub(crate) fn pages(self, start: VirtAddr) -> Pages {
        let first = (self.first * PAGE_SIZE.cast_signed()) as u64;
        Pages { start: VirtAddr(start.0.wrapping_add(first)).offset(self.bytes), count: self.count }
    }

    /// Its numbers, if it lies in the window.
    pub(crate) fn inside(self) -> Range<usize> {
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
    pub(crate) fn alike(&self, span: Span) -> Span {
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
}
