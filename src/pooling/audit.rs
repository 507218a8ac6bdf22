//! Looking at a slot at rest: that nothing of its last user is left.

use allotment_arch::{Arch, Entry, Format, PAGE_SIZE, PhysAddr};

use super::{slot::SlotState, slot_edits::Slot};

/// Contents of larger slots are sampled: every so many pages.
const SAMPLED_ABOVE: usize = (16 << 20) / PAGE_SIZE;
const SAMPLE: usize = 61;

impl<A: Arch> Slot<'_, A> {
    /// Panics unless every page of the slot that is not to be wiped holds zeros
    /// and no mark, and the scalars beside the tables agree with them.
    pub(super) fn audit(&self, state: &SlotState) {
        use core::sync::atomic::Ordering;

        let slot = self.number;
        assert_eq!(state.linked, 0, "slot {slot} at rest has linked tables");
        let (mut frames, mut page) = (0, 0);
        self.for_each_run(0, self.near_pages(), |run| {
            for entry in run {
                let entry = entry.load(Ordering::Relaxed);
                let (frame, written) = match A::Format::decode(entry) {
                    Entry::Empty { .. } => (None, false),
                    Entry::Hidden { frame, written, .. } => {
                        assert!(page >= state.present, "page {page} of slot {slot} is hidden, not present");
                        (Some(frame), written)
                    }
                    Entry::Present { frame, written, .. } => {
                        let known = page < state.present || page < state.retained;
                        assert!(known, "page {page} of slot {slot} is present at rest");
                        (Some(frame), written)
                    }
                };
                if let Some(frame) = frame {
                    frames += 1;
                    assert!(page < state.top, "page {page} of slot {slot} has a frame above the top");
                    if self.pool.settings.wipes && page >= state.unwiped {
                        assert!(
                            !written || self.pool.settings.premarked,
                            "page {page} of slot {slot} is marked as written at rest"
                        );
                        if state.top <= SAMPLED_ABOVE || page.is_multiple_of(SAMPLE) {
                            self.assert_zero(frame, page);
                        }
                    }
                } else {
                    assert!(page >= state.resident, "page {page} of slot {slot} lost its frame");
                }
                page += 1;
            }
        });
        if state.far == 0 && !matches!(self.pool.settings.backing, super::SlotBacking::Fixed { .. }) {
            assert_eq!(frames, self.record.frames.load(Ordering::Relaxed), "frames of slot {slot}");
        }
    }

    fn assert_zero(&self, frame: PhysAddr, page: usize) {
        let words = self.vm.arch.physical(frame).cast::<u64>();
        for nth in 0..PAGE_SIZE / size_of::<u64>() {
            // SAFETY: a frame is a page of memory that can be reached there.
            let word = unsafe { words.add(nth) };
            // SAFETY: as above; nobody uses a slot at rest.
            let word = unsafe { word.read() };
            assert_eq!(word, 0, "slot {} shows its last user's bytes on page {page}", self.number);
        }
    }
}
