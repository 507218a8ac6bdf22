//! Sizes and places, such that most are near something.

use arbitrary::Arbitrary;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// A number of bytes, of which something has `most`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Amount {
    Few(u8),
    /// Whole pages, sometimes one too many.
    Pages(u16),
    Bytes(u16, u16),
    Extreme(Extreme),
}

/// A number of bytes that may be too large.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Extreme {
    /// The most there can be, and so many bytes more or less.
    Most(i8),
    Wild(u64),
}

impl Amount {
    pub(crate) fn of(self, most: usize) -> usize {
        let pages = most / PAGE;
        match self {
            Self::Few(count) => usize::from(count) % 4 * PAGE,
            Self::Pages(count) => usize::from(count) % (pages + 2) * PAGE,
            Self::Bytes(count, bytes) => usize::from(count) % (pages + 1) * PAGE + usize::from(bytes) % PAGE,
            Self::Extreme(Extreme::Most(more)) => most.saturating_add_signed(more.into()),
            Self::Extreme(Extreme::Wild(bytes)) => usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }
}

/// A byte of something that has `size` of them.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Place {
    At(u16, u16),
    /// So many bytes before the end.
    Last(u8),
    /// So many bytes before a border between pages.
    Border(u16, u8),
}

impl Place {
    pub(crate) fn of(self, size: usize) -> usize {
        let pages = size.div_ceil(PAGE).max(1);
        let at = match self {
            Self::At(page, byte) => usize::from(page) % pages * PAGE + usize::from(byte) % PAGE,
            Self::Last(before) => size.saturating_sub(1 + usize::from(before)),
            Self::Border(page, before) => (usize::from(page) % pages * PAGE).saturating_sub(before.into()),
        };
        at.min(size.saturating_sub(1))
    }
}
