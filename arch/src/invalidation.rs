//! What CPUs may still have cached after an edit.
//!
//! ```text
//!   edit, edit, edit ──merge──> Invalidation ──> this CPU, or every CPU
//!                                  |
//!                  nothing | one run of pages | everything
//! ```
//!
//! A batch is kept as the one run that covers all of it. Where that run is
//! longer than [`LIMIT`](Invalidation::LIMIT) pages, everything is
//! invalidated: on both architectures that is cheaper than so many single
//! invalidations, and what was lost is walked again in a few accesses.

use crate::{PAGE_SIZE, Pages, VirtAddr};

/// What must be invalidated before what an edit took away may be relied on.
///
/// Edits compute it from the old and the new entry, so that it says no more
/// than must be. Hand it to [`Arch::invalidate_local`](crate::Arch::invalidate_local)
/// or [`Arch::invalidate_everywhere`](crate::Arch::invalidate_everywhere).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "until it is carried out, CPUs may use what the edit took away"]
pub struct Invalidation {
    scope: Scope,
    tables: bool,
}

/// Which addresses an [`Invalidation`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// None: nothing that could be cached was taken away.
    Nothing,
    /// These pages.
    Pages(Pages),
    /// All of them.
    Everything,
}

impl Invalidation {
    /// Most pages that are invalidated one by one.
    pub const LIMIT: usize = 64;

    /// Nothing was taken away.
    pub const NOTHING: Self = Self { scope: Scope::Nothing, tables: false };

    /// Everything, tables included.
    pub const EVERYTHING: Self = Self { scope: Scope::Everything, tables: true };

    /// Translations of `pages`; the tables above them did not change.
    pub const fn leaves(pages: Pages) -> Self {
        Self::of(pages, false)
    }

    /// Translations of `pages` and pointers to tables on the way to them.
    pub const fn tables(pages: Pages) -> Self {
        Self::of(pages, true)
    }

    const fn of(pages: Pages, tables: bool) -> Self {
        if pages.count == 0 {
            return Self::NOTHING;
        }
        let scope = if pages.count > Self::LIMIT { Scope::Everything } else { Scope::Pages(pages) };
        Self { scope, tables }
    }

    /// Both.
    pub fn merge(self, other: Self) -> Self {
        let scope = match (self.scope, other.scope) {
            (Scope::Nothing, scope) | (scope, Scope::Nothing) => scope,
            (Scope::Everything, _) | (_, Scope::Everything) => Scope::Everything,
            (Scope::Pages(a), Scope::Pages(b)) => hull(a, b).map_or(Scope::Everything, Scope::Pages),
        };
        Self { scope, tables: self.tables || other.tables }
    }

    /// The addresses.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether cached pointers to tables are stale as well, and not only
    /// translations.
    #[must_use]
    pub const fn reaches_tables(&self) -> bool {
        self.tables
    }

    /// Whether nothing has to be done.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self.scope, Scope::Nothing)
    }

    /// Whether a translation of `address` is among what is invalidated.
    #[must_use]
    pub const fn covers(&self, address: VirtAddr) -> bool {
        match self.scope {
            Scope::Nothing => false,
            Scope::Pages(pages) => address.0.wrapping_sub(pages.start.0) < (pages.count * PAGE_SIZE) as u64,
            Scope::Everything => true,
        }
    }
}

/// The run that covers both, unless it is too long.
fn hull(a: Pages, b: Pages) -> Option<Pages> {
    let start = a.start.min(b.start);
    let last = |pages: Pages| pages.start.offset((pages.count - 1) * PAGE_SIZE);
    let bytes = last(a).max(last(b)).0 - start.0;
    let count = usize::try_from(bytes).ok()? / PAGE_SIZE + 1;
    (count <= Invalidation::LIMIT).then_some(Pages { start, count })
}

#[cfg(test)]
mod tests {
    use super::{Invalidation, Scope};
    use crate::{PAGE_SIZE, Pages, VirtAddr};

    fn pages(first: usize, count: usize) -> Pages {
        Pages { start: VirtAddr(0xffff_9000_0000_0000).offset(first * PAGE_SIZE), count }
    }

    #[test]
    fn a_batch_is_the_run_that_covers_it() {
        let merged = Invalidation::leaves(pages(3, 2)).merge(Invalidation::leaves(pages(10, 1)));
        assert_eq!(merged.scope(), Scope::Pages(pages(3, 8)));
        assert!(!merged.reaches_tables());
        assert!(merged.merge(Invalidation::tables(pages(4, 1))).reaches_tables());
        assert!(merged.covers(pages(10, 1).start) && !merged.covers(pages(11, 1).start));
        assert!(!merged.covers(pages(2, 1).start));
    }

    #[test]
    fn nothing_adds_nothing() {
        let some = Invalidation::leaves(pages(7, 1));
        assert_eq!(Invalidation::NOTHING.merge(some), some);
        assert_eq!(some.merge(Invalidation::NOTHING), some);
        assert!(Invalidation::leaves(pages(7, 0)).is_nothing());
        assert!(!Invalidation::NOTHING.covers(pages(0, 1).start));
    }

    #[test]
    fn beyond_the_limit_everything_goes() {
        assert_eq!(
            Invalidation::leaves(pages(0, Invalidation::LIMIT)).scope(),
            Scope::Pages(pages(0, Invalidation::LIMIT))
        );
        assert_eq!(Invalidation::leaves(pages(0, Invalidation::LIMIT + 1)).scope(), Scope::Everything);
        let far =
            Invalidation::leaves(pages(0, 1)).merge(Invalidation::leaves(pages(Invalidation::LIMIT, 1)));
        assert_eq!(far.scope(), Scope::Everything);
        assert_eq!(
            Invalidation::EVERYTHING.merge(Invalidation::leaves(pages(0, 1))),
            Invalidation::EVERYTHING
        );
    }
}
