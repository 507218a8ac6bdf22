//! Looking at a slot at rest that shares: that it shows the next user of its image what
//! it should, and nothing else.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, PhysAddr};

use super::{
    super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking},
    GROUP,
    larger::{Larger, STEADY, are_adjacent, is_parked_block},
    write_fault::is_own,
};
use crate::vm::pages;

/// Contents of larger slots are sampled: every so many pages.
const SAMPLED_ABOVE: usize = (16 << 20) / PAGE_SIZE;
const SAMPLE: usize = 61;

impl<A: Arch> Slot<'_, A> {
    /// Panics unless each own page holds what its image does, or zeros, has no mark or is
    /// still to be reset, and is in a group that the summary names; and the scalars agree
    /// with the tables.
    pub(in crate::pooling) fn audit_sharing(&self, state: &SlotState) {
        let (vm, slot, record) = (self.vm, self.number, self.record);
        assert_eq!(state.linked, 0, "slot {slot} at rest has linked tables");
        let image = record.image().map(|image| image.record(vm));
        let (mut private, mut frames, mut beyond) = (0, 0, 0);
        let mut larger = Larger::default();
        self.for_each_own(state.top, |nth, place, table| {
            beyond += usize::from(nth > 0);
            larger.runs += self.audit_runs(nth, table);
            larger.blocks += usize::from(self.audit_block(nth, place, table));
            let groups = self.groups(nth, table);
            let entries = vm.table(table);
            for (at, entry) in entries.iter().enumerate() {
                let entry = entry.load(Ordering::Relaxed);
                let page = nth * ENTRIES_PER_TABLE + at;
                let Some(frame) = pages::shown_frame::<A>(entry) else {
                    assert!(page >= state.present, "page {page} of slot {slot} shows nothing");
                    continue;
                };
                let shown = image.and_then(|image| image.frame_of(vm, page));
                if !is_own::<A>(entry) {
                    let expected = shown.unwrap_or(vm.zeros.frame());
                    assert!(frame == expected, "page {page} of slot {slot} shows another frame");
                    continue;
                }
                frames += 1;
                private += usize::from(page < state.present);
                if state.unwiped == 0 {
                    assert!(!pages::is_written::<A>(entry), "page {page} of slot {slot} is marked at rest");
                }
                let writable = pages::is_writable_or_written::<A>(entry);
                let named = groups & 1 << (at / GROUP) != 0;
                assert!(named || !writable, "page {page} of slot {slot} is in no group of the summary");
                // The CPU marks one page of a run for all of it.
                let group = &entries[at / GROUP * GROUP..][..GROUP];
                let left_for_later = pages::is_written::<A>(entry)
                    || (state.unwiped > 0 && Self::is_run(group) && pages::any_written::<A>(group));
                if !left_for_later && (state.top <= SAMPLED_ABOVE || page.is_multiple_of(SAMPLE)) {
                    self.assert_same(frame, shown, page);
                }
            }
        });
        assert_eq!(larger, state.larger, "translations of slot {slot} larger than a page");
        assert_eq!(private, record.private.load(Ordering::Relaxed), "own pages of slot {slot}");
        assert_eq!(beyond, record.own_beyond.load(Ordering::Relaxed), "own tables of slot {slot}");
        if !matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) {
            assert_eq!(frames, record.frames.load(Ordering::Relaxed), "frames of slot {slot}");
        }
    }

    /// The contiguous runs of an own table: each whole, and steady.
    fn audit_runs(&self, nth: usize, table: PhysAddr) -> usize {
        let (groups, _) = self.vm.table(table).as_chunks::<GROUP>();
        let hinted = |entry: &AtomicU64| entry.load(Ordering::Relaxed) & A::Format::RUN_HINT != 0;
        let mut runs = 0;
        for (at, group) in groups.iter().enumerate().filter(|(_, group)| group.iter().any(hinted)) {
            let is_whole = group.iter().all(hinted) && are_adjacent::<A>(group);
            let is_steady = self.streak(nth, at * GROUP) == STEADY;
            assert!(is_whole && is_steady, "run {at} of granule {nth} of slot {}", self.number);
            runs += 1;
        }
        runs
    }

    /// Whether an own table is linked as a block: all of it is the slot's then.
    fn audit_block(&self, nth: usize, place: &AtomicU64, table: PhysAddr) -> bool {
        let block = is_parked_block::<A>(place.load(Ordering::Relaxed));
        let is_whole = !block || (self.is_near(nth) && are_adjacent::<A>(self.vm.table(table)));
        assert!(is_whole, "the block of granule {nth} of slot {}", self.number);
        block
    }

    fn assert_same(&self, own: PhysAddr, shown: Option<PhysAddr>, page: usize) {
        for nth in 0..PAGE_SIZE / size_of::<u64>() {
            let word = |frame: PhysAddr| {
                let word = self.vm.arch.physical(frame.offset(nth * size_of::<u64>())).cast::<u64>();
                // SAFETY: a frame is memory that can be reached there, and nobody writes
                // a slot at rest or an image.
                unsafe { word.read() }
            };
            let expected = shown.map_or(0, word);
            assert_eq!(
                word(own),
                expected,
                "slot {} shows its last user's bytes on page {page}",
                self.number
            );
        }
    }
}
