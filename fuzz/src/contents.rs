//! What a tenant has written: by page, and zero where it has not.

use crate::amount::PAGE;

pub(crate) type Page = [u8; PAGE];

const ZERO: Page = [0; PAGE];

/// The bytes of some pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// `None` for a page that was never written.
    pages: Vec<Option<Box<Page>>>,
}

impl Contents {
    /// So many pages of zeros.
    pub(crate) fn new(pages: usize) -> Self {
        Self { pages: vec![None; pages] }
    }

    /// Pages.
    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Has so many pages from now on, the new ones zero.
    pub(crate) fn resize(&mut self, pages: usize) {
        self.pages.resize(pages, None);
    }

    /// Zeros from now on.
    pub(crate) fn erase(&mut self, page: usize) {
        self.pages[page] = None;
    }

    /// All bytes of a page.
    pub(crate) fn page(&self, page: usize) -> &Page {
        self.pages[page].as_deref().unwrap_or(&ZERO)
    }

    /// Has these bytes from now on.
    pub(crate) fn set(&mut self, page: usize, bytes: Box<Page>) {
        self.pages[page] = Some(bytes);
    }

    pub(crate) fn is_written(&self, page: usize) -> bool {
        self.pages[page].is_some()
    }

    pub(crate) fn store(&mut self, at: usize, mark: u8) {
        self.pages[at / PAGE].get_or_insert_with(|| Box::new(ZERO))[at % PAGE] = mark;
    }
}
