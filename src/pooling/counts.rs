//! Things that are counted, and nothing else: instances and GC heaps.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::PoolKind;
use crate::Error;

/// How many of a kind there are, and may be.
#[derive(Debug)]
pub(crate) struct Count {
    kind: PoolKind,
    limit: usize,
    live: AtomicUsize,
}

impl Count {
    pub(crate) fn new(kind: PoolKind, limit: usize) -> Self {
        Self { kind, limit, live: AtomicUsize::new(0) }
    }

    #[cfg(feature = "instance")]
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// One more, if there may be.
    pub(crate) fn increment(&self) -> Result<(), Error> {
        let more = |live: usize| (live < self.limit).then_some(live + 1);
        let full = |_| Error::PoolConcurrencyLimit { kind: self.kind, limit: self.limit };
        self.live.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).map(drop).map_err(full)
    }

    /// One fewer. Nothing happens when there is none.
    pub(crate) fn decrement(&self) {
        let _ = self.live.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |live| live.checked_sub(1));
    }
}
