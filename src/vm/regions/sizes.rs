//! How large the regions' records are, and where in the arena each array goes:
//! arithmetic.

use allotment_arch::PAGE_SIZE;

use super::{REGION_GRANULE, RegionRecord};
use crate::vm::address_space::AddressSpace;

/// How many of everything there is, by arithmetic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionSizes {
    pub(super) granules: usize,
    pub(super) records: usize,
}

impl RegionSizes {
    /// For `space` bytes of address space, filled from an arena of so many
    /// bytes. A region of any use has a table and a page: there are as many
    /// records as half the arena's frames can serve.
    pub(crate) fn new(space: usize, arena_bytes: u64) -> Self {
        let granules = space / REGION_GRANULE;
        let served = usize::try_from(arena_bytes / (4 * PAGE_SIZE as u64)).unwrap_or(usize::MAX);
        // A window without regions needs none.
        let fitting = granules.div_ceil(2);
        Self { granules, records: fitting.min(served.max(512)) }
    }

    /// Bytes of the arena that all of it takes.
    pub(crate) fn bytes(self) -> usize {
        self.places().end
    }

    pub(super) fn places(self) -> RegionPlaces {
        let (used, full) = AddressSpace::words(self.granules);
        let mut end = 0;
        let mut place = |bytes: usize| {
            let here = end;
            end += bytes.next_multiple_of(align_of::<RegionRecord>());
            here
        };
        RegionPlaces {
            used: place(used * size_of::<u64>()),
            full: place(full * size_of::<u64>()),
            begins: place(used * size_of::<u64>()),
            record_at: place(self.granules * size_of::<u32>()),
            records: place(self.records * size_of::<RegionRecord>()),
            end: place(0),
        }
    }
}

/// Where each array begins, in bytes from the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegionPlaces {
    pub(super) used: usize,
    pub(super) full: usize,
    pub(super) begins: usize,
    pub(super) record_at: usize,
    pub(super) records: usize,
    pub(super) end: usize,
}
