//! Taking frames from slots: of what they may not keep, in batches; and of what
//! they could, when somebody else needs it.
//!
//! ```text
//!   deallocate ──> keeps all it has ─────────────────────> free
//!             '──> has more than it may keep ──> queue
//!                                                  | a batch is full, or something ran out
//!                                                  v
//!                         every CPU forgets, once ──> frames and far tables go back ──> free
//! ```
//!
//! A frame that leaves a slot must be forgotten by every CPU first, which costs
//! an interrupt to each on x86_64. So slots wait for one another; one that waits
//! cannot be taken.

use core::sync::atomic::{AtomicUsize, Ordering, fence};

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Invalidation, PAGE_SIZE};
use heapless::Vec;
use spin::mutex::SpinMutex;

use super::{
    PoolKind, SlotRecord,
    slot::SlotState,
    slot_edits::Slot,
    slot_pool::{SlotBacking, SlotPool},
};
use crate::vm::{Settled, Vm, pages};

/// Slots whose frames are taken after one shootdown when frames run out.
const RECLAIM_BATCH: usize = 32;
/// Parts of the queue, so that CPUs do not wait for one another.
const SHARDS: usize = 16;

/// Slots that wait for their frames to be taken, linked through their records.
#[derive(Debug)]
pub(super) struct DecommitQueue {
    batch: usize,
    /// Slots that wait, in all shards.
    waiting: AtomicUsize,
    /// Batches that are being worked on, and in no list meanwhile.
    busy: AtomicUsize,
    /// Batches that were.
    done: AtomicUsize,
    shards: [Shard; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(SpinMutex<Waiting>);

/// The last one that came, as its number and one, and how many there are.
#[derive(Debug, Default)]
struct Waiting {
    last: u32,
    count: usize,
}

impl DecommitQueue {
    pub(super) fn new(batch: usize) -> Self {
        let [waiting, busy, done] = [0; 3].map(AtomicUsize::new);
        Self { batch, waiting, busy, done, shards: Default::default() }
    }

    /// Waits until no batch is being worked on that somebody had taken out
    /// before.
    pub(super) fn await_batches(&self) {
        while self.busy.load(Ordering::SeqCst) > 0 {
            core::hint::spin_loop();
        }
    }

    /// Slots that wait. Takes no lock.
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Runs `work`, which takes slots out of their lists and gives them back:
    /// who misses them meanwhile can wait for it. It says what it found, 0 if
    /// nothing.
    pub(super) fn while_busy(&self, work: impl FnOnce() -> usize) -> usize {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let found = work();
        if found > 0 {
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Takes all that wait out of a shard.
    fn take(&self, waiting: &mut Waiting) -> Waiting {
        self.waiting.fetch_sub(waiting.count, Ordering::SeqCst);
        core::mem::take(waiting)
    }
}

impl SlotPool {
    pub(super) fn await_batches(&self) {
        self.queue.await_batches();
    }

    /// Has a slot at rest give back what it may not keep, soon.
    #[cold]
    #[inline(never)]
    pub(super) fn enqueue<A: Arch>(&self, vm: &Vm<A>, slot: u32) {
        let shard = &self.queue.shards[vm.arch.current_cpu() % SHARDS];
        {
            let mut waiting = shard.0.lock();
            self.slots.as_slice()[slot as usize].next_queued.store(waiting.last, Ordering::Relaxed);
            waiting.last = slot + 1;
            waiting.count += 1;
            self.queue.waiting.fetch_add(1, Ordering::SeqCst);
            if waiting.count < self.queue.batch {
                return;
            }
        }
        self.flush_shard(vm, shard);
    }

    /// Pages of a slot at rest that keep their frames. None where an instance may
    /// touch so many: those that its predecessors touched would be of no use
    /// to it, and count.
    fn keep(&self) -> usize {
        match self.settings.backing {
            SlotBacking::PerInstance { .. } => 0,
            _ => self.settings.keep_resident / PAGE_SIZE,
        }
    }

    /// Has all that wait give back what they may not keep. Returns how many
    /// slots that were.
    pub(crate) fn flush<A: Arch>(&self, vm: &Vm<A>) -> usize {
        self.queue.shards.iter().map(|shard| self.flush_shard(vm, shard)).sum()
    }

    /// Whether a slot may be free by now, after all were taken: those that wait
    /// come back, and those that another CPU works on this moment.
    pub(super) fn make_free<A: Arch>(&self, vm: &Vm<A>) -> bool {
        let done = self.queue.done.load(Ordering::SeqCst);
        if self.rouse(vm) > 0 || self.flush(vm) > 0 {
            return true;
        }
        self.await_batches();
        // A slot that is given back is free, or waits, or is dormant, or is worked on,
        // or was. It goes from each to a later one, so it is looked for in this order. One that
        // is gone again by then is missed by the next try too, which says so.
        if self.index.used() < self.index.capacity() {
            return true;
        }
        fence(Ordering::SeqCst);
        if self.queue.waiting.load(Ordering::SeqCst) > 0 || self.dormant() > 0 {
            return true;
        }
        self.await_batches();
        self.queue.done.load(Ordering::SeqCst) != done
    }

    fn flush_shard<A: Arch>(&self, vm: &Vm<A>, shard: &Shard) -> usize {
        self.queue.while_busy(|| {
            let batch = self.queue.take(&mut shard.0.lock());
            let count = batch.count;
            self.decommit(vm, batch);
            count
        })
    }

    fn decommit<A: Arch>(&self, vm: &Vm<A>, batch: Waiting) {
        if batch.count == 0 {
            return;
        }
        let settled = vm.settle(Invalidation::EVERYTHING);
        let mut next = batch.last;
        while let Some(number) = next.checked_sub(1) {
            let slot = self.slot(vm, number);
            next = slot.record.next_queued.load(Ordering::Relaxed);
            let bytes = {
                let mut state = slot.record.state.lock();
                // SAFETY: the slot is at rest, and `settled` came after that.
                unsafe { slot.strip(&mut state, self.keep(), settled) };
                slot.resident_bytes(&state)
            };
            // Also with nothing left it is whose it was: its next user finds tables.
            self.index.free(number, bytes);
        }
    }

    /// Takes about `wanted` frames from slots that do not use them: from those
    /// that wait for it anyway, from free ones, the least recently used first,
    /// and from what others have beyond what is accessible. Returns how many.
    pub(crate) fn reclaim<A: Arch>(&self, vm: &Vm<A>, wanted: usize) -> usize {
        let before = vm.arena.available();
        self.rouse(vm);
        self.flush(vm);
        if matches!(self.settings.backing, SlotBacking::Fixed { .. }) {
            return 0;
        }
        let mut reclaimed = vm.arena.available().saturating_sub(before);
        while reclaimed < wanted {
            let taken = self.queue.while_busy(|| self.reclaim_free(vm, wanted - reclaimed));
            if taken == 0 {
                break;
            }
            reclaimed += taken;
        }
        if reclaimed < wanted {
            reclaimed += self.reclaim_in_use(vm, wanted - reclaimed);
        }
        reclaimed
    }

    fn reclaim_free<A: Arch>(&self, vm: &Vm<A>, wanted: usize) -> usize {
        let mut slots = Vec::<u32, RECLAIM_BATCH>::new();
        let mut expected = 0;
        while expected < wanted && !slots.is_full() {
            let Some((slot, bytes)) = self.index.take_least_recently_used() else { break };
            expected += bytes / PAGE_SIZE;
            let _ = slots.push(slot);
        }
        if slots.is_empty() {
            return 0;
        }
        let settled = vm.settle(Invalidation::EVERYTHING);
        let mut reclaimed = 0;
        for number in slots {
            let slot = self.slot(vm, number);
            {
                let mut state = slot.record.state.lock();
                // SAFETY: the slot was free, hence at rest, before `settled`.
                reclaimed += unsafe { slot.strip(&mut state, 0, settled) };
            }
            // The last to be taken, and not the first as its module's youngest.
            self.index.free_cold(number);
        }
        reclaimed
    }

    /// From slots in use, what grew there for former users and is not accessible.
    fn reclaim_in_use<A: Arch>(&self, vm: &Vm<A>, wanted: usize) -> usize {
        let mut reclaimed = 0;
        for number in 0..self.settings.layout.total_memories {
            if reclaimed >= wanted {
                break;
            }
            #[expect(clippy::cast_possible_truncation, reason = "slots are numbered with u32 at the carve")]
            let slot = self.slot(vm, number as u32);
            let mut state = slot.record.state.lock();
            let inaccessible = self.inaccessible_frames(slot.record, &state);
            if inaccessible > 0 && Self::is_empty(slot.record, &state) {
                slot.make_fresh(&mut state);
                reclaimed += inaccessible;
                continue;
            }
            if inaccessible > 0 {
                let settled = slot.record.settle(vm);
                reclaimed += slot.strip_inaccessible(&mut state, wanted - reclaimed, settled);
                continue;
            }
            // Far tables are in use; pages in them leave with the tables.
            let last = state.top.min(slot.near_pages());
            // Of an empty memory nothing is linked: all that is present is not.
            let used = if state.linked == 0 { 0 } else { state.present };
            if !slot.record.is_in_use() || state.sharing || used >= last {
                continue;
            }
            let keep = used.max(last.saturating_sub(wanted - reclaimed));
            // What was accessible to former users was revoked before this one came.
            let settled = slot.record.settle(vm);
            let run = slot.near(keep, last);
            // SAFETY: what is not accessible is not used, and we hold the slot.
            let stripped = unsafe { pages::strip_at_rest(vm, run, settled) };
            slot.record.frames.fetch_sub(stripped, Ordering::Relaxed);
            state.present = state.present.min(keep);
            state.retained = state.retained.min(keep);
            state.resident = state.resident.min(keep);
            if state.top == last {
                state.top = keep;
            }
            reclaimed += stripped;
        }
        reclaimed
    }

    #[inline]
    pub(super) fn resident_bytes(&self, record: &SlotRecord, state: &SlotState) -> usize {
        let pages = match self.settings.backing {
            SlotBacking::Fixed { .. } if state.sharing => record.private.load(Ordering::Relaxed),
            SlotBacking::Fixed { .. } => state.resident,
            _ => record.frames.load(Ordering::Relaxed),
        };
        pages * PAGE_SIZE
    }

    /// Whether nothing of a slot in use is accessible: what it keeps is of use only if it
    /// is to show the same image again.
    fn is_empty(record: &SlotRecord, state: &SlotState) -> bool {
        record.is_in_use() && state.linked == 0 && record.accessible.load(Ordering::Relaxed) == 0
    }

    /// Frames in pages of a slot in use that shares, such as are its own and not
    /// accessible. None where they count as what the instance wrote.
    fn inaccessible_frames(&self, record: &SlotRecord, state: &SlotState) -> usize {
        if state.sharing && Self::is_empty(record, state) {
            return record.frames.load(Ordering::Relaxed)
                + record.far_tables.load(Ordering::Relaxed)
                + state.far;
        }
        if self.is_sparse() || !state.sharing || !record.is_in_use() {
            return 0;
        }
        // In this order: a fault that comes meanwhile adds to both.
        let frames = record.frames.load(Ordering::Acquire);
        let pages = frames.saturating_sub(record.private.load(Ordering::Relaxed));
        // Each accessible granule has a table, or is promised one: what is more lies behind.
        let granules = state.present.div_ceil(ENTRIES_PER_TABLE);
        let far = granules.saturating_sub(self.settings.layout.premapped_tables);
        let tables = record.far_tables.load(Ordering::Acquire);
        let behind = (tables + record.promised_tables.load(Ordering::Relaxed)).saturating_sub(far);
        pages + behind.min(tables)
    }

    /// Frames that slots hold beyond what is accessible, and could give back.
    pub(crate) fn idle_frames(&self) -> usize {
        if matches!(self.settings.backing, SlotBacking::Fixed { .. }) {
            return 0;
        }
        let idle = |record: &SlotRecord| {
            let state = record.state.lock();
            let frames = record.frames.load(Ordering::Relaxed);
            if state.sharing {
                // In use its tables are its own, at rest it keeps its directories.
                let tables = record.far_tables.load(Ordering::Relaxed);
                return if record.is_in_use() {
                    self.inaccessible_frames(record, &state)
                } else {
                    frames + tables
                };
            }
            if state.linked == 0 {
                // Its far tables go back with its frames.
                return frames + state.far;
            }
            frames.saturating_sub(state.present)
        };
        self.slots.as_slice().iter().map(idle).sum()
    }
}

impl<A: Arch> Slot<'_, A> {
    /// Whether a slot at rest has more than it may keep.
    #[inline]
    pub(super) fn has_excess(&self, state: &SlotState) -> bool {
        if state.sharing {
            return self.record.frames.load(Ordering::Relaxed) > self.pool.keep();
        }
        match self.pool.settings.backing {
            SlotBacking::Fixed { .. } => false,
            _ => state.far > 0 || state.top > self.pool.keep(),
        }
    }

    /// Bytes that a slot at rest keeps.
    #[inline]
    pub(super) fn resident_bytes(&self, state: &SlotState) -> usize {
        self.pool.resident_bytes(self.record, state)
    }

    /// Gives the arena all frames but those of `keep` pages, and the far tables.
    /// Memories and tables keep their first pages, stacks their last: what is
    /// used most. Returns how many frames that were, tables included.
    ///
    /// # Safety
    ///
    /// The slot is at rest, and has been since before `settled`.
    pub(super) unsafe fn strip(&self, state: &mut SlotState, keep: usize, settled: Settled) -> usize {
        if state.sharing {
            return self.strip_sharing(state, keep, settled);
        }
        let mut stripped = 0;
        if state.far > 0 {
            let near = self.near_pages();
            let frames = self.remove_far(settled);
            self.record.frames.fetch_sub(frames, Ordering::Relaxed);
            stripped += frames + state.far;
            state.far = 0;
            state.present = state.present.min(near);
            state.retained = state.retained.min(near);
            state.resident = state.resident.min(near);
            state.top = state.top.min(near);
            state.unwiped = state.unwiped.min(near);
        }
        if matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) || state.top <= keep {
            return stripped;
        }
        let run = match self.pool.settings.kind {
            PoolKind::Stacks => {
                let top = state.top;
                pages::hide_at_rest::<A>(self.near(0, state.present));
                (state.present, state.retained, state.resident) = (0, 0, 0);
                state.top = if keep == 0 { 0 } else { top };
                self.near(0, top - keep)
            }
            _ => {
                let run = self.near(keep, state.top);
                state.present = state.present.min(keep);
                state.retained = state.retained.min(keep);
                state.resident = state.resident.min(keep);
                state.unwiped = state.unwiped.min(keep);
                state.top = keep;
                run
            }
        };
        // SAFETY: by this function's contract.
        let frames = unsafe { pages::strip_at_rest(self.vm, run, settled) };
        self.record.frames.fetch_sub(frames, Ordering::Relaxed);
        stripped + frames
    }
}
