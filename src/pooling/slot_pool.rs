//! A pool of slots of one size: for linear memories, for tables, for stacks.
//!
//! ```text
//!   at rest      directory: 0 0 0                     nothing translates
//!                leaf:      | present ... | hidden .. | empty ...
//!
//!   in use       directory: T T 0                     T: linked leaf table
//!                leaf:      | present ... | hidden .. | empty ...
//!                           0        accessible
//! ```
//!
//! The premapped leaf tables of all slots are one array of entries, so that the
//! entry of page `p` of slot `s` is `leaf_tables[s * entries_per_slot + p]`: no
//! walk, no table to allocate. [`far`](super::far) has what lies beyond.
//!
//! Taking a slot back clears what was written and unlinks its leaf tables: one
//! store per 2 MiB. The entries stay as they are, so that a next user of the
//! same size only links them again. What nobody wrote costs nothing else, not
//! even an invalidation: what a CPU still caches of such a slot are the entries
//! that the next user gets. A smaller user has the rest taken away first.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use allotment_arch::{Arch, PAGE_SIZE, PhysAddr, Table, VirtAddr, page_ceil};
use spin::mutex::SpinMutexGuard;

use super::{
    Link, ModuleAffinityIndexAllocator, PoolKind, SlabLayout, SlotId, SlotRecord,
    decommit_queue::DecommitQueue, dormant::Dormant, is_in_use, sharing::Summary, slot::SlotState,
    slot_edits::Slot,
};
use crate::{
    Error, MemoryInModule,
    vm::{Image, Records, Vm, distance},
};

/// What a pool is made of, and how it treats its slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSettings {
    pub(crate) kind: PoolKind,
    /// Which of its kind.
    pub(crate) number: u8,
    pub(crate) layout: SlabLayout,
    pub(crate) backing: SlotBacking,
    /// Bytes of a slot at rest that keep their frames.
    pub(crate) keep_resident: usize,
    pub(crate) decommit_batch_size: usize,
    /// Whether contents are cleared when a slot is taken back.
    pub(crate) wipes: bool,
    /// Whether pages are marked as written before they are, so that no first write
    /// faults: for stacks, where the CPU does not mark.
    pub(crate) premarked: bool,
    /// Whether slots may [share](super::sharing) what nobody wrote.
    pub(crate) shares: bool,
    /// Whether some 32-bit address, in a memory of a slot, is neither accessible nor
    /// sure to become a trap, so that compiled code must check bounds.
    pub(crate) checks_bounds: bool,
    /// Whether they are filled with [`pages::POISON`] then, and cleared when the slot
    /// is taken anew.
    pub(crate) poison: bool,
    /// Whether contents are cleared by idle work, or when the slot is taken anew.
    pub(crate) clean_when_idle: bool,
}

/// Where the frames of a slot come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotBacking {
    /// Each slot owns as many as it has pages, from this one on.
    Fixed { first: PhysAddr },
    /// From the arena, for each page that becomes accessible.
    Strict,
    /// From the arena, for each page that is touched, up to so many.
    PerInstance { pages: usize },
}

#[derive(Debug)]
pub(crate) struct SlotPool {
    pub(super) start: VirtAddr,
    pub(super) settings: PoolSettings,
    pub(super) leaf_tables: PhysAddr,
    pub(super) slots: Records<SlotRecord>,
    /// For each premapped leaf table of a slot that shares, what in it may be writable.
    pub(super) summaries: Records<Summary>,
    pub(crate) index: ModuleAffinityIndexAllocator<Records<Link>, Records<AtomicU32>>,
    pub(super) queue: DecommitQueue,
    pub(super) dormant: Dormant,
    /// Slots that idle work is to look at.
    pub(super) unclean: AtomicUsize,
}

/// Where an address stands in the slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    /// Bytes from the slot's base.
    pub(crate) offset: usize,
    pub(crate) accessible: usize,
    pub(crate) owner: Option<MemoryInModule>,
    pub(crate) gc_heap: bool,
}

impl SlotPool {
    /// A pool of slots that nobody used yet, whose premapped leaf tables hold
    /// zeros.
    pub(crate) fn new(
        settings: PoolSettings,
        start: VirtAddr,
        leaf_tables: PhysAddr,
        slots: Records<SlotRecord>,
        summaries: Records<Summary>,
        index: ModuleAffinityIndexAllocator<Records<Link>, Records<AtomicU32>>,
    ) -> Self {
        Self {
            start,
            settings,
            leaf_tables,
            slots,
            summaries,
            index,
            queue: DecommitQueue::new(settings.decommit_batch_size),
            dormant: Dormant::default(),
            unclean: AtomicUsize::new(0),
        }
    }

    pub(crate) fn layout(&self) -> &SlabLayout {
        &self.settings.layout
    }

    pub(crate) fn kind(&self) -> PoolKind {
        self.settings.kind
    }

    /// Which of its kind this is: 0, but for memory pools that were added.
    pub(crate) fn number(&self) -> usize {
        self.settings.number.into()
    }

    /// Whether compiled code must check bounds in any memory here.
    #[inline]
    pub(crate) fn checks_bounds(&self) -> bool {
        self.settings.checks_bounds
    }

    /// Takes a free slot for `owner`, with the first `bytes` of it accessible,
    /// for use on this CPU.
    #[inline]
    pub(crate) fn allocate<A: Arch>(
        &self,
        vm: &Vm<A>,
        owner: Option<MemoryInModule>,
        image: Option<Image>,
        bytes: usize,
    ) -> Result<SlotId, Error> {
        let (kind, limit) = (self.settings.kind, self.settings.layout.max_memory_size);
        let too_large = Error::MemoryTooLarge { requested: bytes, limit };
        let end = page_ceil(bytes).filter(|&end| end <= limit).ok_or(too_large)?;
        let cpu = vm.arch.current_cpu();
        let full = Error::PoolConcurrencyLimit { kind, limit: self.settings.layout.total_memories };
        let taken = self.index.alloc(cpu, owner).ok_or(full)?;
        let number = taken.slot;
        let record = &self.slots.as_slice()[number as usize];
        let slot = Slot { pool: self, vm, number, record };
        let mut state = record.state.lock();
        record.forget(vm, cpu);
        if let Err(error) = slot.open(&mut state, image, end / PAGE_SIZE) {
            let bytes = slot.resident_bytes(&state);
            drop(state);
            // One that was never used still was not.
            if taken.warm {
                self.index.free(number, bytes)
            } else {
                self.index.free_cold(number)
            };
            return Err(error);
        }
        record.set_owner(owner);
        let generation = record.generation.load(Ordering::Relaxed) + 1;
        record.generation.store(generation, Ordering::Release);
        Ok(SlotId { pool: self.settings.number, slot: number, generation })
    }

    /// Takes a slot back: nothing of it is accessible, and it reads as zeros for
    /// the next one. Does nothing for a stale id.
    #[inline]
    pub(crate) fn deallocate<A: Arch>(&self, vm: &Vm<A>, id: SlotId) {
        let Ok((slot, mut state)) = self.hold(vm, id) else { return };
        slot.close(&mut state);
        slot.record.generation.store(id.generation + 1, Ordering::Release);
        if slot.has_excess(&state) {
            drop(state);
            self.enqueue(vm, id.slot);
        } else {
            // Held still, so that whoever looks for idle frames finds them either
            // in a free slot or in one in use.
            self.index.free(id.slot, slot.resident_bytes(&state));
        }
    }

    /// Makes sure that this CPU caches nothing that the slot's former users
    /// left.
    pub(crate) fn arrive<A: Arch>(&self, vm: &Vm<A>, id: SlotId) -> Result<(), Error> {
        let record = self.record(id)?;
        if record.generation.load(Ordering::Acquire) != id.generation {
            return Err(Error::Stale { slot: id.slot });
        }
        record.forget(vm, vm.arch.current_cpu());
        Ok(())
    }

    /// Makes `[offset, offset + len)` accessible if no more is needed than to reveal pages
    /// that the slot has, in tables that are linked: most growth of a slot that was used
    /// before. If it is `false`, nothing happened: [`make_accessible`](Self::make_accessible)
    /// says why, or does what it takes.
    #[inline(always)]
    pub(crate) fn reveal_further<A: Arch>(&self, vm: &Vm<A>, id: SlotId, offset: usize, len: usize) -> bool {
        self.hold(vm, id).is_ok_and(|(slot, mut state)| slot.reveal_further(&mut state, offset, len))
    }

    /// Makes `[offset, offset + len)` accessible, where `offset` does not go
    /// beyond what is accessible already.
    pub(crate) fn make_accessible<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: SlotId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        let limit = self.settings.layout.max_memory_size;
        let too_large = Error::MemoryTooLarge { requested: offset.saturating_add(len), limit };
        let end = offset.checked_add(len).and_then(page_ceil).ok_or(too_large)?;
        if end > limit {
            return Err(too_large);
        }
        let (slot, mut state) = self.hold(vm, id)?;
        let accessible = slot.record.accessible.load(Ordering::Relaxed);
        if offset > accessible {
            return Err(Error::NotAPrefix { offset, accessible });
        }
        if end <= accessible {
            return Ok(());
        }
        let last = end / PAGE_SIZE;
        if accessible == 0 && (state.sharing || (self.is_sparse() && slot.begins_sharing(&state, last))) {
            if slot.can_share_zeros(last) {
                return slot.open_sharing(&mut state, None, last);
            }
            slot.make_fresh(&mut state);
        }
        if state.sharing && slot.grow_into_parked(&mut state, last) {
            return Ok(());
        }
        if state.linked == 0 && !state.sharing && slot.reopen(&mut state, last) {
            return Ok(());
        }
        slot.extend(&mut state, last)
    }

    /// Takes access away from everything at or above `keep` bytes, a multiple
    /// of the page, and clears it.
    #[cfg(feature = "wasmtime-platform")]
    pub(crate) fn make_inaccessible<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: SlotId,
        keep: usize,
    ) -> Result<(), Error> {
        let (slot, mut state) = self.hold(vm, id)?;
        slot.shrink(&mut state, keep / PAGE_SIZE);
        Ok(())
    }

    /// Clears everything from `offset` on, a multiple of the page. What was
    /// accessible still is.
    #[cfg(feature = "wasmtime-platform")]
    pub(crate) fn erase<A: Arch>(&self, vm: &Vm<A>, id: SlotId, offset: usize) -> Result<(), Error> {
        let (slot, mut state) = self.hold(vm, id)?;
        let last = state.present;
        if state.linked > 0 && offset / PAGE_SIZE < last {
            slot.shrink(&mut state, offset / PAGE_SIZE);
            // Every page that had a frame has it still.
            slot.extend(&mut state, last)?;
        }
        Ok(())
    }

    /// The image that a slot shows or waits for.
    #[cfg(feature = "wasmtime-platform")]
    #[inline]
    pub(crate) fn image_of(&self, slot: u32) -> Option<Image> {
        self.slots.as_slice().get(slot as usize)?.image()
    }

    /// Who has a slot, or had it last.
    #[cfg(feature = "wasmtime-platform")]
    #[inline]
    pub(crate) fn owner_of(&self, slot: u32) -> Option<MemoryInModule> {
        self.slots.as_slice().get(slot as usize)?.owner()
    }

    /// Has a slot in use be nobody's, in what is reported.
    #[cfg(feature = "wasmtime-platform")]
    #[inline]
    pub(crate) fn disown(&self, slot: u32) {
        if let Some(record) = self.slots.as_slice().get(slot as usize) {
            record.set_owner(None);
        }
    }

    /// Slots that somebody has.
    pub(crate) fn in_use(&self) -> usize {
        self.index.used().saturating_sub(self.queued() + self.dormant())
    }

    /// Slots that wait for their frames to be taken.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Says that a slot is a GC heap's, or no longer.
    pub(crate) fn mark_gc_heap(&self, id: SlotId, enable: bool) {
        if let Ok(record) = self.record(id) {
            record.gc_heap.store(enable, Ordering::Relaxed);
        }
    }

    /// Address of a slot's first byte.
    pub(crate) fn base(&self, slot: u32) -> VirtAddr {
        self.start.offset(self.settings.layout.base(slot as usize))
    }

    /// The slot whose base comes before `address`, as its holder names it, and the
    /// bytes from there. One subtraction and one division, no lock.
    #[cfg(any(feature = "wasmtime-platform", feature = "instance"))]
    #[inline]
    pub(crate) fn find(&self, address: VirtAddr) -> Option<(SlotId, usize)> {
        let (slot, offset) = self.settings.layout.locate(distance(self.start, address)?)?;
        let generation = self.slots.as_slice().get(slot)?.generation.load(Ordering::Acquire);
        let pool = self.settings.number;
        Some((SlotId { pool, slot: u32::try_from(slot).ok()?, generation }, offset))
    }

    /// Whether first writes may fail for want of a frame.
    pub(crate) fn is_sparse(&self) -> bool {
        matches!(self.settings.backing, SlotBacking::PerInstance { .. })
    }

    /// Where `address` stands, if it is in the slab and not in the guard
    /// before the first slot. One subtraction and one division, no lock.
    pub(crate) fn locate(&self, address: VirtAddr) -> Option<Position> {
        let (slot, offset) = self.settings.layout.locate(distance(self.start, address)?)?;
        let position = self.position_of(u32::try_from(slot).ok()?)?;
        Some(Position { offset, ..position })
    }

    /// What is known of a slot, for its first byte.
    pub(crate) fn position_of(&self, slot: u32) -> Option<Position> {
        let record = self.slots.as_slice().get(slot as usize)?;
        Some(Position {
            slot,
            generation: record.generation.load(Ordering::Acquire),
            offset: 0,
            accessible: record.accessible.load(Ordering::Acquire),
            owner: record.owner(),
            gc_heap: record.gc_heap.load(Ordering::Relaxed),
        })
    }

    /// Whether `address` is in the slab at all.
    #[inline]
    pub(crate) fn contains(&self, address: VirtAddr) -> bool {
        distance(self.start, address).is_some_and(|offset| offset < self.settings.layout.total)
    }

    /// The premapped entries of a slot.
    #[inline(always)]
    pub(super) fn premapped<'a, A: Arch>(&self, vm: &'a Vm<A>, slot: usize) -> &'a [AtomicU64] {
        let tables = self.settings.layout.premapped_tables;
        let frame = self.leaf_tables.offset(slot * tables * PAGE_SIZE);
        // SAFETY: the carve set these contiguous tables aside for this slot,
        // for good; only atomics are used on them.
        unsafe { Table::new(&vm.arch, frame, tables) }.entries()
    }

    fn record(&self, id: SlotId) -> Result<&SlotRecord, Error> {
        let stale = Error::Stale { slot: id.slot };
        let record = self.slots.as_slice().get(id.slot as usize).ok_or(stale)?;
        if is_in_use(id.generation) { Ok(record) } else { Err(stale) }
    }

    /// Holds a slot for editing, if `id` still names the one who has it.
    #[inline]
    pub(super) fn hold<'p, A: Arch>(
        &'p self,
        vm: &'p Vm<A>,
        id: SlotId,
    ) -> Result<(Slot<'p, A>, SpinMutexGuard<'p, SlotState>), Error> {
        let record = self.record(id)?;
        let mut state = record.state.lock();
        if record.generation.load(Ordering::Relaxed) != id.generation {
            return Err(Error::Stale { slot: id.slot });
        }
        let slot = Slot { pool: self, vm, number: id.slot, record };
        if record.detached.load(Ordering::Relaxed) {
            slot.note_detached(&mut state);
        }
        Ok((slot, state))
    }

    /// A slot that the caller took from the index, or looks at under its lock.
    pub(super) fn slot<'p, A: Arch>(&'p self, vm: &'p Vm<A>, number: u32) -> Slot<'p, A> {
        Slot { pool: self, vm, number, record: &self.slots.as_slice()[number as usize] }
    }
}
