//! Slots at rest that their last user may have back at once.
//!
//! ```text
//!                 put_to_sleep              rouse: somebody else needs slots or frames
//!     in use  ─────────────────>  dormant  ────────────────────────────────────────────> free
//!             <─────────────────
//!                    wake
//! ```
//!
//! An instance that ends leaves its slots dormant, and the next one of the same
//! module wakes them: neither asks the index which slot is next. Nothing
//! else about them is special. They are as clean as free ones, and unlinked;
//! counts show them as unused; whoever finds no free slot, or no frame, rouses them
//! all.

use core::sync::atomic::{AtomicUsize, Ordering};

use allotment_arch::Arch;
#[cfg(feature = "instance")]
use allotment_arch::PAGE_SIZE;

#[cfg(feature = "instance")]
use super::{SlotId, slot_edits::Slot};
use super::{SlotPool, SlotRecord};
use crate::vm::Vm;
#[cfg(feature = "instance")]
use crate::{Error, vm::Image};

/// How many slots of a pool are dormant, and what they hold.
#[derive(Debug, Default)]
pub(super) struct Dormant {
    count: AtomicUsize,
    bytes_resident: AtomicUsize,
}

impl SlotPool {
    /// Takes a slot back as [`deallocate`](Self::deallocate) does, but for whoever
    /// keeps the id that this returns. `None` if that has nothing to wait for: the
    /// slot is to give frames back first, or `id` is stale.
    #[cfg(feature = "instance")]
    #[inline(always)]
    pub(crate) fn put_to_sleep<A: Arch>(&self, vm: &Vm<A>, id: SlotId) -> Option<SlotId> {
        let (slot, mut state) = self.hold(vm, id).ok()?;
        slot.close(&mut state);
        let generation = id.generation + 1;
        slot.record.generation.store(generation, Ordering::Release);
        if slot.has_excess(&state) {
            drop(state);
            self.enqueue(vm, id.slot);
            return None;
        }
        slot.record.dormant.store(true, Ordering::Relaxed);
        self.dormant.count.fetch_add(1, Ordering::SeqCst);
        self.dormant.bytes_resident.fetch_add(slot.resident_bytes(&state), Ordering::Relaxed);
        Some(SlotId { generation, ..id })
    }

    /// Takes a dormant slot for the owner that it had, with the first `bytes` of it
    /// accessible, as many as it was allocated with, for use on this CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] if it is dormant no longer, and those of
    /// [`allocate`](Self::allocate); it is as before then.
    #[cfg(feature = "instance")]
    #[inline(always)]
    pub(crate) fn wake<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: SlotId,
        image: Option<Image>,
        bytes: usize,
    ) -> Result<SlotId, Error> {
        let limit = self.settings.layout.max_memory_size;
        if bytes > limit {
            return Err(Error::MemoryTooLarge { requested: bytes, limit });
        }
        let stale = Error::Stale { slot: id.slot };
        let record = self.slots.as_slice().get(id.slot as usize).ok_or(stale)?;
        let mut state = record.state.lock();
        let same = record.generation.load(Ordering::Relaxed) == id.generation;
        if !same || !record.dormant.load(Ordering::Relaxed) {
            return Err(stale);
        }
        let slot = Slot { pool: self, vm, number: id.slot, record };
        let resident = slot.resident_bytes(&state);
        record.forget(vm, vm.arch.current_cpu());
        slot.open(&mut state, image, bytes.div_ceil(PAGE_SIZE))?;
        record.dormant.store(false, Ordering::Relaxed);
        self.dormant.count.fetch_sub(1, Ordering::SeqCst);
        self.dormant.bytes_resident.fetch_sub(resident, Ordering::Relaxed);
        let generation = id.generation + 1;
        record.generation.store(generation, Ordering::Release);
        Ok(SlotId { generation, ..id })
    }

    /// Makes one dormant slot free, for whoever. Does nothing if it is not dormant.
    #[cfg(feature = "instance")]
    pub(crate) fn rouse_one<A: Arch>(&self, vm: &Vm<A>, id: SlotId) {
        self.queue.while_busy(|| usize::from(self.make_free_if_dormant(vm, id.slot, Some(id.generation))));
    }

    /// Makes all dormant slots free. Returns how many that were.
    #[cold]
    pub(crate) fn rouse<A: Arch>(&self, vm: &Vm<A>) -> usize {
        if self.dormant() == 0 {
            return 0;
        }
        self.queue.while_busy(|| {
            let all = 0..self.slots.as_slice().len();
            all.filter(|&slot| {
                let number = u32::try_from(slot).unwrap_or(u32::MAX);
                self.make_free_if_dormant(vm, number, None)
            })
            .count()
        })
    }

    fn make_free_if_dormant<A: Arch>(&self, vm: &Vm<A>, number: u32, generation: Option<u64>) -> bool {
        let Some(record) = self.slots.as_slice().get(number as usize) else { return false };
        if !record.dormant.load(Ordering::Relaxed) {
            return false;
        }
        let state = record.state.lock();
        let now = record.generation.load(Ordering::Relaxed);
        if generation.is_some_and(|generation| generation != now)
            || !record.dormant.swap(false, Ordering::Relaxed)
        {
            return false;
        }
        let bytes = self.slot(vm, number).resident_bytes(&state);
        self.dormant.count.fetch_sub(1, Ordering::SeqCst);
        self.dormant.bytes_resident.fetch_sub(bytes, Ordering::Relaxed);
        // Held still, as in `deallocate`.
        self.index.free(number, bytes)
    }

    /// Counts what a slot at rest has resident, if it is dormant and that changed. The
    /// caller holds it.
    pub(super) fn note_resident(&self, record: &SlotRecord, before: usize, now: usize) {
        if record.dormant.load(Ordering::Relaxed) {
            self.dormant.bytes_resident.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Slots that are dormant.
    pub(crate) fn dormant(&self) -> usize {
        self.dormant.count.load(Ordering::SeqCst)
    }

    /// Slots that nobody uses and that were used before.
    pub(crate) fn unused_warm_slots(&self) -> usize {
        self.index.unused_warm_slots() + self.dormant()
    }

    /// Bytes that are resident in slots that nobody uses.
    pub(crate) fn unused_bytes_resident(&self) -> usize {
        self.index.unused_bytes_resident() + self.dormant.bytes_resident.load(Ordering::Relaxed)
    }
}
