//! What pages hold: words that say whose they are.

use alloc::{boxed::Box, collections::BTreeMap};
use core::ops::Range;

use crate::common::PAGE;

/// Words of a page.
pub(crate) const WORDS: usize = PAGE / 8;

pub(crate) type Page = [u64; WORDS];

/// What an image shows, without the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents {
    pub(crate) seed: u64,
    /// Its pages, in the memory.
    pub(crate) first: usize,
    pub(crate) end: usize,
}

impl Contents {
    pub(crate) const ZEROS: Self = Self { seed: 0, first: 0, end: 0 };

    pub(crate) fn pages(&self) -> Range<usize> {
        self.first..self.end
    }

    /// The word at `at` of a page. Some pages are zeros within the image too.
    pub(crate) fn word(&self, page: usize, at: usize) -> u64 {
        if !self.pages().contains(&page) || page as u64 % 5 == self.seed % 7 {
            return 0;
        }
        (self.seed << 40 | (page as u64) << 16 | at as u64) ^ 0x1a6e_0000_0000_0000
    }
}

/// What a tenant should see: its image over zeros, and its marks over both.
pub(crate) struct Expected {
    pub(crate) contents: Contents,
    written: BTreeMap<usize, Box<Page>>,
}

impl Expected {
    pub(crate) fn new(contents: Contents) -> Self {
        Self { contents, written: BTreeMap::new() }
    }

    /// A page that is about to be written.
    pub(crate) fn page_mut(&mut self, page: usize) -> &mut Page {
        let contents = self.contents;
        let shown = || Box::new(core::array::from_fn(|at| contents.word(page, at)));
        self.written.entry(page).or_insert_with(shown)
    }

    pub(crate) fn written(&self) -> impl Iterator<Item = usize> {
        self.written.keys().copied()
    }

    pub(crate) fn count_written(&self) -> usize {
        self.written.len()
    }

    /// The first word of a page that is not as it should be: where, and what it should be.
    pub(crate) fn wrong(&self, page: usize, found: &Page) -> Option<(usize, u64)> {
        let differs = |at: usize, expected: u64| (found[at] != expected).then_some((at, expected));
        match self.written.get(&page) {
            Some(expected) => (0..WORDS).find_map(|at| differs(at, expected[at])),
            None => (0..WORDS).find_map(|at| differs(at, self.contents.word(page, at))),
        }
    }
}
