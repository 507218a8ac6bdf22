//! The slots for linear memories.
//!
//! ```text
//!   slot:   | accessible      | hidden, has frames | empty              |
//!   entry:    present           hidden               0
//!   page:   0 ............ accessible ......... resident ...... max_memory_size
//! ```
//!
//! The leaf tables of all slots are one array of entries, so that the entry of
//! page `p` of slot `s` is `leaf_tables[s * entries_per_slot + p]`: no walk, no
//! table to allocate. A slot that is released keeps its frames, hidden and
//! holding zeros, and the next memory in it is revealed with one store a page.
//! When the arena has no more frames, those that no slot uses now are taken back.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use allotment_arch::{Arch, Invalidation, PAGE_SIZE, Pages, PhysAddr, Table, VirtAddr, page_ceil};
use spin::{Mutex, MutexGuard};

use super::SlabLayout;
use crate::{
    Error, PoolKind, SlotView,
    vm::{Epoch, Records, Vm, distance, pages},
};

#[derive(Debug)]
pub(crate) struct MemoryPool {
    start: VirtAddr,
    layout: SlabLayout,
    leaf_tables: PhysAddr,
    slots: Records<SlotRecord>,
    free: Mutex<FreeSlots>,
}

/// Free slots, the one released last on top: its frames are warm.
#[derive(Debug)]
struct FreeSlots {
    stack: Records<u32>,
    depth: usize,
}

/// What is known of a slot beside its page tables.
#[derive(Debug, Default)]
pub(crate) struct SlotRecord {
    /// Raised whenever the slot is given out or taken back: odd while in use.
    generation: AtomicU32,
    /// Bytes that can be accessed, from the slot's base.
    accessible: AtomicUsize,
    /// The epoch in which something of the slot was last taken away.
    revoked: AtomicU64,
    /// The CPU that has forgotten everything of that, by whatever means.
    clean_on: AtomicUsize,
    /// Held while the slot's entries are edited. Holds how many of its pages,
    /// from the first, have frames.
    resident: Mutex<usize>,
}

impl SlotRecord {
    fn is_in_use(&self) -> bool {
        is_in_use(self.generation.load(Ordering::Relaxed))
    }

    /// Whether `cpu` caches nothing that was taken away from the slot.
    #[inline]
    fn is_clean_on<A: Arch>(&self, vm: &Vm<A>, cpu: usize) -> bool {
        self.clean_on.load(Ordering::Relaxed) == cpu
            || vm.epochs.has_forgotten(cpu, Epoch(self.revoked.load(Ordering::Relaxed)))
    }

    /// Makes this CPU forget what was taken away from the slot, unless it has.
    #[inline]
    fn forget<A: Arch>(&self, vm: &Vm<A>) {
        let cpu = vm.arch.current_cpu();
        if !self.is_clean_on(vm, cpu) {
            vm.epochs.invalidate_local(&vm.arch, cpu, Invalidation::EVERYTHING);
        }
    }

    /// Notes that `pages` of the slot were taken away, and makes this CPU
    /// forget them. The caller holds the slot.
    fn revoke<A: Arch>(&self, vm: &Vm<A>, pages: Pages) {
        let cpu = vm.arch.current_cpu();
        // Asked before this revocation: what is left of earlier ones is more
        // than `pages`.
        let clean = self.is_clean_on(vm, cpu);
        let stale = if clean { Invalidation::leaves(pages) } else { Invalidation::EVERYTHING };
        let epoch = vm.epochs.revoke();
        vm.epochs.invalidate_local(&vm.arch, cpu, stale);
        self.revoked.store(epoch.0, Ordering::Relaxed);
        self.clean_on.store(cpu, Ordering::Relaxed);
    }
}

/// Whether a slot of this generation is given out.
pub(crate) fn is_in_use(generation: u32) -> bool {
    !generation.is_multiple_of(2)
}

/// A slot that is in use, as its holder names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Where an address stands in the slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// Bytes from the slot's base.
    pub(crate) offset: usize,
    pub(crate) accessible: usize,
}

impl MemoryPool {
    /// A pool of free slots. `free` has a place for each.
    pub(crate) fn new(
        start: VirtAddr,
        layout: SlabLayout,
        leaf_tables: PhysAddr,
        slots: Records<SlotRecord>,
        free: Records<u32>,
    ) -> Self {
        let depth = layout.total_memories;
        Self { start, layout, leaf_tables, slots, free: Mutex::new(FreeSlots { stack: free, depth }) }
    }

    pub(crate) fn layout(&self) -> &SlabLayout {
        &self.layout
    }

    /// Slots that nobody uses.
    pub(crate) fn free_slots(&self) -> usize {
        self.free.lock().depth
    }

    /// Takes a free slot, nothing of it accessible, for use on this CPU.
    pub(crate) fn allocate<A: Arch>(&self, vm: &Vm<A>) -> Result<SlotId, Error> {
        let slot = {
            let mut free = self.free.lock();
            let full = Error::OutOfSlots { limit: self.layout.total_memories };
            free.depth = free.depth.checked_sub(1).ok_or(full)?;
            free.stack.as_slice()[free.depth]
        };
        let record = &self.slots.as_slice()[slot as usize];
        record.forget(vm);
        let generation = record.generation.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(SlotId { slot, generation })
    }

    /// Makes sure that this CPU caches nothing that the slot's former users
    /// left.
    pub(crate) fn arrive<A: Arch>(&self, vm: &Vm<A>, id: SlotId) -> Result<(), Error> {
        let stale = Error::Stale { slot: id.slot };
        let record = self.slots.as_slice().get(id.slot as usize).ok_or(stale)?;
        if record.generation.load(Ordering::Acquire) != id.generation || !is_in_use(id.generation) {
            return Err(stale);
        }
        record.forget(vm);
        Ok(())
    }

    /// Takes a slot back: nothing of it is accessible and it reads as zeros.
    /// Its frames stay with it. Does nothing for a stale id.
    pub(crate) fn deallocate<A: Arch>(&self, vm: &Vm<A>, id: SlotId) {
        {
            let Ok((record, _editing)) = self.hold(id) else { return };
            self.shrink(vm, id.slot, record, 0);
            record.generation.store(id.generation.wrapping_add(1), Ordering::Release);
        }
        let mut free = self.free.lock();
        let depth = free.depth;
        if let Some(place) = free.stack.as_mut_slice().get_mut(depth) {
            *place = id.slot;
            free.depth = depth + 1;
        }
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
        let limit = self.layout.max_memory_size;
        let too_large = Error::MemoryTooLarge { requested: offset.saturating_add(len), limit };
        let end = offset.checked_add(len).and_then(page_ceil).ok_or(too_large)?;
        if end > limit {
            return Err(too_large);
        }
        loop {
            let (record, resident) = self.hold(id)?;
            let accessible = record.accessible.load(Ordering::Relaxed);
            if offset > accessible {
                return Err(Error::NotAPrefix { offset, accessible });
            }
            if end <= accessible {
                return Ok(());
            }
            let (first, last) = (accessible / PAGE_SIZE, end / PAGE_SIZE);
            if last <= *resident {
                pages::reveal::<A>(self.entries(vm, id.slot, first, last));
                vm.arch.publish();
                record.accessible.store(end, Ordering::Release);
                return Ok(());
            }
            self.make_resident(vm, id.slot, resident, last)?;
        }
    }

    /// Gives pages below `last` their frames, or makes room for them: then the
    /// caller looks again. Apart from the path that has only to reveal.
    #[cold]
    #[inline(never)]
    fn make_resident<A: Arch>(
        &self,
        vm: &Vm<A>,
        slot: u32,
        mut resident: MutexGuard<'_, usize>,
        last: usize,
    ) -> Result<(), Error> {
        let missing = last - *resident;
        match vm.promise(missing) {
            Ok(mut frames) => {
                pages::fill::<A>(self.entries(vm, slot, *resident, last), &mut frames);
                *resident = last;
                Ok(())
            }
            Err(out_of_frames) => {
                // Not with the lock held: reclaiming takes those of other slots.
                drop(resident);
                if self.make_room(vm, missing) { Ok(()) } else { Err(out_of_frames) }
            }
        }
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
        let (record, _editing) = self.hold(id)?;
        self.shrink(vm, id.slot, record, keep);
        Ok(())
    }

    /// Clears everything from `offset` on, a multiple of the page. What was
    /// accessible still is.
    #[cfg(feature = "wasmtime-platform")]
    pub(crate) fn erase<A: Arch>(&self, vm: &Vm<A>, id: SlotId, offset: usize) -> Result<(), Error> {
        let (record, _editing) = self.hold(id)?;
        let accessible = record.accessible.load(Ordering::Relaxed);
        if offset < accessible {
            self.shrink(vm, id.slot, record, offset);
            pages::reveal::<A>(self.entries(vm, id.slot, offset / PAGE_SIZE, accessible / PAGE_SIZE));
            vm.arch.publish();
            record.accessible.store(accessible, Ordering::Release);
        }
        Ok(())
    }

    /// Frames that slots hold beyond what is accessible, and could give back.
    pub(crate) fn idle_frames(&self) -> usize {
        let idle = |record: &SlotRecord| {
            let resident = record.resident.lock();
            *resident - record.accessible.load(Ordering::Relaxed) / PAGE_SIZE
        };
        self.slots.as_slice().iter().map(idle).sum()
    }

    /// Every slot, as it is when its turn comes.
    pub(crate) fn views(&self) -> impl Iterator<Item = SlotView> {
        let slots = (0..).zip(self.slots.as_slice());
        slots.map(|(slot, record)| {
            let resident = record.resident.lock();
            SlotView {
                pool: PoolKind::Memory,
                slot,
                base: self.base(slot),
                in_use: record.is_in_use(),
                generation: record.generation.load(Ordering::Relaxed).into(),
                accessible: record.accessible.load(Ordering::Relaxed),
                resident: *resident * PAGE_SIZE,
            }
        })
    }

    /// Address of a slot's first byte.
    pub(crate) fn base(&self, slot: u32) -> VirtAddr {
        self.start.offset(self.layout.base(slot as usize))
    }

    /// Where `address` stands, if it is in the slab and not in the guard
    /// before the first slot. One subtraction and one division, no lock.
    pub(crate) fn locate(&self, address: VirtAddr) -> Option<Position> {
        let (slot, offset) = self.layout.locate(distance(self.start, address)?)?;
        let record = self.slots.as_slice().get(slot)?;
        Some(Position {
            slot: u32::try_from(slot).ok()?,
            generation: record.generation.load(Ordering::Acquire),
            offset,
            accessible: record.accessible.load(Ordering::Acquire),
        })
    }

    /// Whether `address` is in the slab at all.
    pub(crate) fn contains(&self, address: VirtAddr) -> bool {
        distance(self.start, address).is_some_and(|offset| offset < self.layout.total)
    }

    /// The entry of the page at `address`, if it has a leaf table. No lock.
    #[inline]
    pub(crate) fn entry<'a, A: Arch>(&self, vm: &'a Vm<A>, address: VirtAddr) -> Option<&'a AtomicU64> {
        let (slot, offset) = self.layout.locate(distance(self.start, address)?)?;
        let frame = self.leaf_tables.offset(slot * self.layout.tables_per_slot * PAGE_SIZE);
        // SAFETY: as in `entries`.
        let table = unsafe { Table::new(&vm.arch, frame, self.layout.tables_per_slot) };
        table.entries().get(offset / PAGE_SIZE)
    }

    /// Holds a slot for editing, if `id` still names the one who has it.
    fn hold(&self, id: SlotId) -> Result<(&SlotRecord, MutexGuard<'_, usize>), Error> {
        let stale = Error::Stale { slot: id.slot };
        let record = self.slots.as_slice().get(id.slot as usize).ok_or(stale)?;
        let resident = record.resident.lock();
        let generation = record.generation.load(Ordering::Relaxed);
        if generation != id.generation || !is_in_use(generation) {
            return Err(stale);
        }
        Ok((record, resident))
    }

    /// Hides, invalidates and clears what is accessible from `keep` on. The
    /// caller holds the slot.
    fn shrink<A: Arch>(&self, vm: &Vm<A>, slot: u32, record: &SlotRecord, keep: usize) {
        let accessible = record.accessible.load(Ordering::Relaxed);
        if keep >= accessible {
            return;
        }
        let (first, last) = (keep / PAGE_SIZE, accessible / PAGE_SIZE);
        let run = self.entries(vm, slot, first, last);
        record.accessible.store(keep, Ordering::Release);
        vm.await_marks();
        let hidden = pages::hide::<A>(run);
        if hidden.stale == pages::Stale::Yes {
            let start = self.base(slot).offset(keep);
            record.revoke(vm, Pages { start, count: last - first });
        }
        if hidden.written {
            // SAFETY: this CPU caches nothing of the run. What others cache is
            // used by nobody: a CPU arrives before it uses a slot.
            unsafe { pages::scrub(vm, run) };
        }
    }

    /// After a promise of `needed` frames failed: takes idle frames back, and
    /// says whether asking again is worth it.
    pub(crate) fn make_room<A: Arch>(&self, vm: &Vm<A>, needed: usize) -> bool {
        let short = needed.saturating_sub(vm.arena.available());
        // Another thread may have taken back what this one needs.
        self.reclaim(vm, short) > 0 || vm.arena.available() >= needed
    }

    /// Takes frames that slots do not use back into the arena, about `wanted`
    /// of them. Returns how many.
    fn reclaim<A: Arch>(&self, vm: &Vm<A>, wanted: usize) -> usize {
        let mut reclaimed = 0;
        // Those of free slots first: who holds a slot is likelier to grow.
        for in_use in [false, true] {
            for (slot, record) in self.slots.as_slice().iter().enumerate() {
                if reclaimed >= wanted {
                    return reclaimed;
                }
                let mut resident = record.resident.lock();
                let accessible = record.accessible.load(Ordering::Relaxed) / PAGE_SIZE;
                if record.is_in_use() != in_use || *resident == accessible {
                    continue;
                }
                let keep = accessible.max(resident.saturating_sub(wanted - reclaimed));
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "slots are numbered with u32 at the carve"
                )]
                let run = self.entries(vm, slot as u32, keep, *resident);
                let revoked = Epoch(record.revoked.load(Ordering::Relaxed));
                let settled = vm.epochs.settle_since(&vm.arch, revoked);
                // SAFETY: what is not accessible was never shown, or `shrink`
                // scrubbed it; and we hold the slot.
                reclaimed += unsafe { pages::strip(vm, run, settled) };
                *resident = keep;
            }
        }
        reclaimed
    }

    /// The entries of pages `first..last` of a slot.
    fn entries<'a, A: Arch>(&self, vm: &'a Vm<A>, slot: u32, first: usize, last: usize) -> &'a [AtomicU64] {
        let tables = self.layout.tables_per_slot;
        let frame = self.leaf_tables.offset(slot as usize * tables * PAGE_SIZE);
        // SAFETY: the carve set these contiguous tables aside for this slot,
        // for good; only atomics are used on them.
        let table = unsafe { Table::new(&vm.arch, frame, tables) };
        &table.entries()[first..last]
    }
}
