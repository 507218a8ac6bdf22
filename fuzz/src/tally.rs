//! How often what happened: a model that is never put to the test agrees with
//! everything.

use core::{array, cell::Cell};

/// What a sequence may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An allocator was carved.
    Carved,
    /// A memory was allocated.
    Memory,
    /// So in a slot that had a tenant before.
    Reused,
    /// A memory grew.
    Grown,
    /// All slots were taken.
    OutOfSlots,
    /// A memory wanted more frames than there were.
    OutOfFrames,
    /// A call by a handle of a memory that was gone was refused.
    Stale,
    /// A table or a stack was allocated.
    Other,
    /// Pages of a region were given access.
    Region,
    /// A region wanted more frames than there were.
    RegionOutOfFrames,
    /// An access trapped.
    Trap,
    /// A page of a tenant was read and compared.
    Page,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Carved,
        Self::Memory,
        Self::Reused,
        Self::Grown,
        Self::OutOfSlots,
        Self::OutOfFrames,
        Self::Stale,
        Self::Other,
        Self::Region,
        Self::RegionOutOfFrames,
        Self::Trap,
        Self::Page,
    ];
}

/// Counts of events.
#[derive(Clone, Debug)]
pub struct Tally([Cell<u64>; Event::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self(array::from_fn(|_| Cell::new(0)))
    }
}

impl Tally {
    /// How often `event` happened.
    #[must_use]
    pub fn of(&self, event: Event) -> u64 {
        self.0[event as usize].get()
    }

    /// Counts another sequence's events too.
    pub fn add(&self, other: &Self) {
        for (count, more) in self.0.iter().zip(&other.0) {
            count.set(count.get() + more.get());
        }
    }

    pub(crate) fn note(&self, event: Event) {
        let count = &self.0[event as usize];
        count.set(count.get() + 1);
    }
}
