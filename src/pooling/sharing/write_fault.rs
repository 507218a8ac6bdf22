//! First writes: the page gets a frame of the slot's own, which shows what the
//! shared one did.
//!
//! ```text
//!   fault ──> granule shared? ──> its own table, linked
//!               |
//!               v
//!             page shared? ──> busy ──> own frame ──> copied, or cleared ──> writable
//! ```
//!
//! Several CPUs may be at it: the one that turns the entry busy goes on, the
//! others have their instruction run again. No lock, no heap, no interrupt: on
//! aarch64 break-before-make is a broadcast, on x86_64 other CPUs forget when
//! they arrive.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Entry, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr, VirtAddr,
};

use super::{
    super::{
        SlotId, far,
        slot_edits::Slot,
        slot_pool::{SlotBacking, SlotPool},
    },
    granule::{Attempt, is_shared, own_table},
    larger::is_block,
};
pub(super) use crate::vm::copy_on_write::is_own;
use crate::{
    Error, FaultAccess,
    fault::permits,
    vm::{
        Vm,
        copy_on_write::{SharedPage, Touch},
        distance, pages,
    },
};

impl SlotPool {
    /// Answers a fault. No lock; one walk, from the directory's entry.
    #[inline]
    pub(crate) fn touch<'p, A: Arch>(
        &'p self,
        vm: &'p Vm<A>,
        address: VirtAddr,
        access: FaultAccess,
    ) -> Touch<'p> {
        let place = distance(self.start, address).and_then(|offset| self.settings.layout.locate(offset));
        let Some((number, offset)) = place else { return Touch::NotHere };
        let Some(record) = self.slots.as_slice().get(number) else { return Touch::NotHere };
        // The entries of a slot at rest may be present, under an unlinked table.
        if offset >= record.accessible.load(Ordering::Acquire) {
            return Touch::NotHere;
        }
        #[expect(clippy::cast_possible_truncation, reason = "slots are numbered with u32 at the carve")]
        let slot = Slot { pool: self, vm, number: number as u32, record };
        let page = offset / PAGE_SIZE;
        if record.sharing.load(Ordering::Acquire) {
            return slot.touch(page, access);
        }
        let entry = match self.premapped(vm, number).get(page) {
            Some(entry) => Some(entry),
            None => far::entry(vm, address),
        };
        match entry {
            Some(entry) if permits::<A>(entry.load(Ordering::Acquire), access) => Touch::Permitted(entry),
            _ => Touch::NotHere,
        }
    }

    /// Has writes to `[offset, offset + len)`, which is accessible, not fault: each page
    /// gets a frame of its own.
    pub(crate) fn prepare_write<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: SlotId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        // Holding the slot keeps it from being taken back; faults go on.
        let (slot, mut state) = self.hold(vm, id)?;
        let (first, last) = slot.check_range(offset, len)?;
        if !state.sharing || first == last {
            return Ok(());
        }
        if slot.record.pending.load(Ordering::Acquire) {
            slot.link_zeros(&mut state);
        }
        slot.check_commitment(first, last)?;
        for page in first..last {
            loop {
                match slot.make_page_own(page) {
                    Attempt::Done => break,
                    Attempt::Again => core::hint::spin_loop(),
                    Attempt::Exhausted => {
                        let needed = slot.count_shared(page, last);
                        return Err(Error::CommitmentExceeded { needed, available: 0 });
                    }
                }
            }
        }
        let pages = Pages { start: slot.base().offset(first * PAGE_SIZE), count: last - first };
        // What other CPUs made the slot's own meanwhile this one may cache still. It is no
        // revocation, which would end what their faults note at the same time.
        vm.arch.invalidate_local(Invalidation::tables(pages));
        Ok(())
    }

    /// Notes that `[offset, offset + len)` was written by other means than the slot's own
    /// mapping, after [`prepare_write`](Self::prepare_write) for it.
    pub(crate) fn note_written<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: SlotId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        let (slot, _state) = self.hold(vm, id)?;
        let (first, last) = slot.check_range(offset, len)?;
        for page in first..last {
            let leaf = slot.leaf(page).filter(|leaf| is_own::<A>(leaf.load(Ordering::Acquire)));
            if leaf.is_none() {
                return Err(Error::NotPrepared { offset: page * PAGE_SIZE });
            }
        }
        for leaf in (first..last).filter_map(|page| slot.leaf(page)) {
            pages::mark_written::<A>(leaf);
        }
        Ok(())
    }
}

impl<'p, A: Arch> Slot<'p, A> {
    /// A fault at a page that is accessible, of a slot that shares.
    #[inline]
    fn touch(&self, page: usize, access: FaultAccess) -> Touch<'p> {
        let nth = page / ENTRIES_PER_TABLE;
        let Some(place) = self.directory_entry(nth) else { return Touch::NotHere };
        let mut entry = place.load(Ordering::Acquire);
        let Some(entries) = self.vm.table_of(entry) else { return self.touch_unlinked(entry, access) };
        let mut leaf = &entries[page % ENTRIES_PER_TABLE];
        let mut old = leaf.load(Ordering::Acquire);
        let is_shared_page = |entry: u64| {
            let both = A::Format::PRESENT | A::Format::SHARED;
            entry & both == both
        };
        if !(is_shared_page(old) && access == FaultAccess::Write) {
            // In a shared table nothing can be written.
            return match permits::<A>(old, access) {
                true => Touch::Permitted(leaf),
                false if old == A::Format::empty(pages::BUSY) => Touch::Given,
                false => Touch::NotHere,
            };
        }
        if is_shared::<A>(entry) {
            match self.make_private(nth) {
                Attempt::Done => entry = place.load(Ordering::Acquire),
                other => return other.into(),
            }
            let Some(entries) = self.vm.table_of(entry) else { return Touch::Given };
            leaf = &entries[page % ENTRIES_PER_TABLE];
            old = leaf.load(Ordering::Acquire);
        }
        let Some(table) = own_table::<A>(entry) else { return Touch::Given };
        if !is_shared_page(old) {
            // Somebody else's this moment, or done.
            return Touch::Given;
        }
        self.make_own(page, table, leaf, old, PhysAddr(old & A::Format::FRAME), true).into()
    }

    /// The pages of a part that is accessible.
    fn check_range(&self, offset: usize, len: usize) -> Result<(usize, usize), Error> {
        let accessible = self.record.accessible.load(Ordering::Relaxed);
        let end = offset.checked_add(len).filter(|&end| end <= accessible);
        let end = end.ok_or(Error::OutOfBounds { offset, len, accessible })?;
        let first = offset / PAGE_SIZE;
        Ok((first, if len == 0 { first } else { end.div_ceil(PAGE_SIZE) }))
    }

    /// Refuses more pages than the instance may still make its own.
    fn check_commitment(&self, first: usize, last: usize) -> Result<(), Error> {
        if !matches!(self.pool.settings.backing, SlotBacking::PerInstance { .. }) {
            return Ok(());
        }
        loop {
            let (needed, available) =
                (self.count_shared(first, last), self.record.promised.load(Ordering::Acquire));
            if needed <= available {
                return Ok(());
            }
            // A fault may have had one of these pages meanwhile.
            if self.count_shared(first, last) == needed {
                return Err(Error::CommitmentExceeded { needed, available });
            }
        }
    }

    /// Pages of a range that are not the slot's own.
    fn count_shared(&self, first: usize, last: usize) -> usize {
        let own = |leaf: &&AtomicU64| is_own::<A>(leaf.load(Ordering::Relaxed));
        last - first - (first..last).filter_map(|page| self.leaf(page)).filter(own).count()
    }

    /// The leaf entry of a page, in whatever table its granule has, or the granule's if it
    /// is a block.
    #[inline]
    pub(in crate::pooling) fn leaf(&self, page: usize) -> Option<&'p AtomicU64> {
        let place = self.directory_entry(page / ENTRIES_PER_TABLE)?;
        let entry = place.load(Ordering::Acquire);
        match self.vm.table_of(entry) {
            Some(table) => Some(&table[page % ENTRIES_PER_TABLE]),
            None => is_block::<A>(entry).then_some(place),
        }
    }

    /// Makes a page the slot's own, if it is shared.
    pub(super) fn make_page_own(&self, page: usize) -> Attempt {
        let nth = page / ENTRIES_PER_TABLE;
        let Some(place) = self.directory_entry(nth) else { return Attempt::Again };
        let attempt = self.make_private(nth);
        let Some(table) = own_table::<A>(place.load(Ordering::Acquire)) else { return attempt };
        if attempt != Attempt::Done {
            return attempt;
        }
        let leaf = &self.vm.table(table)[page % ENTRIES_PER_TABLE];
        let old = leaf.load(Ordering::Acquire);
        match A::Format::decode(old) {
            Entry::Present { access: Access::CopyOnWrite, frame, .. } => {
                self.make_own(page, table, leaf, old, frame, false)
            }
            Entry::Empty { .. } => Attempt::Again,
            _ => Attempt::Done,
        }
    }

    /// Gives a page that shows the shared frame `shown` one of the slot's own.
    pub(super) fn make_own(
        &self,
        page: usize,
        table: PhysAddr,
        leaf: &AtomicU64,
        old: u64,
        shown: PhysAddr,
        written: bool,
    ) -> Attempt {
        let (vm, record) = (self.vm, self.record);
        let shared = SharedPage { start: self.base().offset(page * PAGE_SIZE), leaf, old, shown };
        let attempt = shared.make_own(vm, written, || {
            let own = self.frame_for(page)?;
            if let SlotBacking::Fixed { .. } = self.pool.settings.backing
                && shown == vm.zeros.frame()
            {
                // SAFETY: the frame is the slot's own, and its page busy: nobody else is at
                // it. One of the arena holds zeros.
                unsafe { vm.arch.zero_frame(own) };
            }
            let at = page % ENTRIES_PER_TABLE;
            self.mark_groups(page / ENTRIES_PER_TABLE, table, at, at + 1);
            Some(own)
        });
        if attempt != Attempt::Done {
            return attempt;
        }
        record.private.fetch_add(1, Ordering::Relaxed);
        if written {
            record.faulted.store(true, Ordering::Relaxed);
        }
        record.replaced(vm.arch.current_cpu());
        Attempt::Done
    }

    /// A frame for a page of the slot's own: its own since the carve, or one of those
    /// that were promised.
    pub(super) fn frame_for(&self, page: usize) -> Option<PhysAddr> {
        if let SlotBacking::Fixed { first } = self.pool.settings.backing {
            return Some(self.fixed_frame(first, page));
        }
        let one_less = |left: usize| left.checked_sub(1);
        self.record.promised.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).ok()?;
        self.record.frames.fetch_add(1, Ordering::Relaxed);
        Some(self.vm.arena.take(&self.vm.arch))
    }

    /// The frame of a page whose slot owns as many as it has pages, from `first` on.
    #[inline]
    pub(super) fn fixed_frame(&self, first: PhysAddr, page: usize) -> PhysAddr {
        let pages = self.pool.settings.layout.max_memory_size / PAGE_SIZE;
        first.offset((self.number as usize * pages + page) * PAGE_SIZE)
    }
}
