//! What an edit did, and what is left to do.

use core::sync::atomic::AtomicU64;

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, Invalidation, PAGE_SIZE, Pages, VirtAddr};

use super::walk::Part;

/// What an edit did, and what must be invalidated before it is complete.
///
/// `T` is what the edit took out of the tables. It comes out of
/// [`Space::settle`](super::Space::settle) and nowhere else: after every CPU
/// has forgotten it.
#[derive(Debug)]
#[must_use = "settle it: until then CPUs may use what the edit took away"]
pub struct Edit<T = ()> {
    /// Entries that were written; a block counts as one.
    pub entries: usize,
    /// Leaf tables and blocks that were looked at.
    pub tables: usize,
    pub(super) invalidation: Invalidation,
    pub(super) taken: T,
}

impl Edit {
    /// An edit that changed nothing.
    pub const NOTHING: Self = Self { entries: 0, tables: 0, invalidation: Invalidation::NOTHING, taken: () };

    /// Both edits, to be settled at once.
    pub fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            tables: self.tables + other.tables,
            invalidation: self.invalidation.merge(other.invalidation),
            taken: (),
        }
    }
}

impl<T> Edit<T> {
    /// What CPUs may still have cached.
    pub const fn invalidation(&self) -> Invalidation {
        self.invalidation
    }
}

impl<T> Edit<Option<T>> {
    /// The edit without what it took out, if that is nothing: such an edit may
    /// be settled on this CPU alone.
    ///
    /// # Errors
    ///
    /// The edit as it was, if it took something out.
    pub fn took_nothing(self) -> Result<Edit, Self> {
        match self {
            Self { entries, tables, invalidation, taken: None } => {
                Ok(Edit { entries, tables, invalidation, taken: () })
            }
            took => Err(took),
        }
    }
}

/// An [`Edit`] in the making.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) entries: usize,
    pub(super) tables: usize,
    /// First and last page that CPUs may have cached otherwise.
    stale: Option<(VirtAddr, VirtAddr)>,
    reaches_tables: bool,
    /// Whether contiguous runs were hidden, which ends them.
    pub(super) ended_runs: bool,
}

impl Tally {
    /// So many tables were looked at, and nothing changed yet.
    pub(super) fn of_tables(tables: usize) -> Self {
        Self { tables, ..Self::default() }
    }

    /// A page's entry was replaced.
    #[inline]
    pub(super) fn leaf<A: Arch>(&mut self, page: VirtAddr, (old, new): (u64, u64)) {
        self.entries += 1;
        if A::Format::needs_invalidation(old, new) {
            self.stale(page, 1);
        }
    }

    /// `edit` replaces the entries of a part, and says what stood there and does
    /// now. Pages come in order, so that the first and the last are known.
    #[inline]
    pub(super) fn leaves<A: Arch>(
        &mut self,
        part: Part<'_>,
        table: &[AtomicU64],
        mut edit: impl FnMut(VirtAddr, &AtomicU64) -> Option<(u64, u64)>,
    ) {
        let (mut entries, mut first, mut last) = (0, usize::MAX, 0);
        let mut page = part.pages.start;
        for (nth, entry) in part.entries(table).iter().enumerate() {
            if let Some((old, new)) = edit(page, entry) {
                entries += 1;
                if A::Format::needs_invalidation(old, new) {
                    first = first.min(nth);
                    last = nth;
                }
            }
            page = page.offset(PAGE_SIZE);
        }
        self.entries += entries;
        if first <= last {
            self.stale(part.pages.start.offset(first * PAGE_SIZE), last - first + 1);
        }
    }

    /// A block's entry was replaced; both as the entries of its first page.
    pub(super) fn block<A: Arch>(&mut self, granule: VirtAddr, (old, new): (u64, u64)) {
        self.entries += 1;
        if A::Format::needs_invalidation(old, new) {
            self.stale(granule, ENTRIES_PER_TABLE);
        }
    }

    /// The entry above a granule points to something else now.
    pub(super) fn table(&mut self, granule: VirtAddr) {
        self.entries += 1;
        self.reaches_tables = true;
        self.stale(granule, ENTRIES_PER_TABLE);
    }

    /// CPUs may have cached `count` pages from `page` on otherwise.
    #[inline]
    pub(super) fn stale(&mut self, page: VirtAddr, count: usize) {
        let last = page.offset((count - 1) * PAGE_SIZE);
        self.stale = Some(match self.stale {
            None => (page, last),
            Some((first, before)) => (first.min(page), before.max(last)),
        });
    }

    pub(super) fn invalidation(&self) -> Invalidation {
        let Some((start, last)) = self.stale else { return Invalidation::NOTHING };
        let bytes = usize::try_from(last.0 - start.0).unwrap_or(usize::MAX - PAGE_SIZE);
        let pages = Pages { start, count: bytes / PAGE_SIZE + 1 };
        if self.reaches_tables { Invalidation::tables(pages) } else { Invalidation::leaves(pages) }
    }

    /// Nothing is left to invalidate.
    pub(super) fn settled(&mut self) {
        self.stale = None;
        self.reaches_tables = false;
    }

    pub(super) fn done(self) -> Edit {
        self.done_with(())
    }

    pub(super) fn done_with<T>(self, taken: T) -> Edit<T> {
        let Self { entries, tables, .. } = self;
        Edit { entries, tables, invalidation: self.invalidation(), taken }
    }
}
