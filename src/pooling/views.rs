//! Slots, as they are shown to whoever wants to see them.

use core::sync::atomic::Ordering;

use super::{SlotPool, is_in_use};
use crate::SlotView;

impl SlotPool {
    /// Every slot, as it is when its turn comes.
    pub(crate) fn views(&self) -> impl Iterator<Item = SlotView> {
        (0..).zip(self.slots.as_slice()).map(|(slot, record)| {
            let state = record.state.lock();
            let generation = record.generation.load(Ordering::Relaxed);
            SlotView {
                pool: self.kind(),
                slot,
                base: self.base(slot),
                in_use: is_in_use(generation),
                generation,
                accessible: record.accessible.load(Ordering::Relaxed),
                resident: self.resident_bytes(record, &state),
                owner: record.owner(),
            }
        })
    }
}
