//! Growth of a slot that shares.
//!
//! ```text
//!   before   | S | tail |
//!   after    | S | own table ...          part of a granule: frames at once
//!            | S | own    | zero | zero |  whole granules: zeros, until they are written
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN,
};

use super::{
    super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking},
    granule::{Attempt, is_shared, own_table},
    write_fault::is_own,
};
use crate::{
    Error,
    vm::{ImageRecord, Promise, pages},
};

/// A growth's part in one granule.
#[derive(Clone, Copy, Debug)]
struct Part<'p> {
    nth: usize,
    place: &'p AtomicU64,
    /// The own table, linked or parked.
    own: Option<PhysAddr>,
    /// Pages, within the granule.
    first: usize,
    end: usize,
    /// Whether its pages are shared until they are written.
    lazy: bool,
}

/// What a growth needs.
#[derive(Debug, Default)]
struct Need {
    /// Frames now, tables included.
    frames: usize,
    /// Frames that first writes may take.
    promised: usize,
    /// And tables.
    promised_tables: usize,
}

impl<'p, A: Arch> Slot<'p, A> {
    /// Notes that hidden pages of the slot's own, in the first granules, can be written
    /// again: groups that nobody wrote for long are no longer noted.
    #[inline(always)]
    pub(in crate::pooling) fn note_revealed(&self, first: usize, last: usize) {
        let nth = first / ENTRIES_PER_TABLE;
        let start = nth * ENTRIES_PER_TABLE;
        if last - start <= ENTRIES_PER_TABLE {
            self.mark_groups(nth, self.near_table(nth), first - start, last - start);
        } else {
            self.mark_many(first, last);
        }
        self.record.private.fetch_add(last - first, Ordering::Relaxed);
    }

    /// Notes the same of pages in several granules.
    #[cold]
    fn mark_many(&self, first: usize, last: usize) {
        for nth in first / ENTRIES_PER_TABLE..last.div_ceil(ENTRIES_PER_TABLE) {
            let start = nth * ENTRIES_PER_TABLE;
            let (first, last) = (first.max(start) - start, last.min(start + ENTRIES_PER_TABLE) - start);
            self.mark_groups(nth, self.near_table(nth), first, last);
        }
    }

    /// Growth in a granule whose table is parked, by pages that former users made the
    /// slot's own: nothing is to be promised, and no other table to be looked at. `false`
    /// if it is not that.
    pub(in crate::pooling) fn grow_into_parked(&self, state: &mut SlotState, last: usize) -> bool {
        let (first, nth) = (state.present, state.linked);
        // Nothing is linked of a slot that waits for what it is to show; and where each page
        // counts that an instance may write, own ones do.
        let own = state.shared <= first && last <= state.resident && !self.pool.is_sparse();
        if !own || nth == 0 || first != nth * ENTRIES_PER_TABLE || last > first + ENTRIES_PER_TABLE {
            return false;
        }
        let Some(place) = self.directory_entry(nth) else { return false };
        let Some(table) = own_table::<A>(place.load(Ordering::Relaxed)) else { return false };
        let (run, behind) = self.vm.table(table).split_at(last - first);
        // Noted before any can be written.
        self.mark_groups(nth, table, 0, run.len());
        // It was parked with whatever its last user could access.
        pages::reveal_some::<A>(run);
        pages::hide_at_rest::<A>(behind);
        place.store(A::Format::table(table), Ordering::Release);
        self.record.private.fetch_add(run.len(), Ordering::Relaxed);
        self.vm.arch.publish();
        (state.present, state.linked) = (last, nth + 1);
        self.record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        true
    }

    /// Makes pages up to `last` accessible, which is more than now.
    #[cold]
    #[inline(never)]
    pub(in crate::pooling) fn grow_sharing(&self, state: &mut SlotState, last: usize) -> Result<(), Error> {
        let (vm, record) = (self.vm, self.record);
        if !state.sharing {
            vm.zeros.make(vm)?;
            if let SlotBacking::PerInstance { pages } = self.pool.settings.backing {
                // What is left of its bound, as if it had been opened so.
                let left = pages.saturating_sub(state.present);
                vm.arena.set_aside(left)?;
                record.promised.fetch_add(left, Ordering::AcqRel);
            }
            self.adopt(state);
        }
        let image = record.image().map(|image| image.record(vm));
        let from = state.present;
        self.make_directories(state, from, last)?;
        // Asked once: others may fill or empty the arena meanwhile.
        let zeros = self.can_share_zeros(ENTRIES_PER_TABLE);
        let revealed = if self.pool.is_sparse() { self.settle_own(state, last, zeros) } else { 0 };
        // Counted and built first, so that running out changes nothing.
        let mut need = Need::default();
        for part in self.parts(from, last, zeros) {
            self.count(&part, &mut need);
            if part.lazy
                && part.own.is_none()
                && let Err(error) = vm.view(image, part.nth, part.end())
            {
                // What the image keeps no more tails for a table of the slot's own shows.
                if !self.can_have_own(part.nth, &error) || part.first == 0 {
                    return Err(error);
                }
                self.make_private_in_use(part.nth);
            }
        }
        if let SlotBacking::PerInstance { pages } = self.pool.settings.backing {
            // One that did not share until now has no promise yet; one that was shrunk
            // finds pages again that are its own.
            let own = record.private.load(Ordering::Relaxed) + revealed;
            need.promised += pages.saturating_sub(own + record.promised.load(Ordering::Relaxed));
        }
        // Both at once: who makes room for the one alone would find it there, again and
        // again.
        let later = need.promised + need.promised_tables;
        let mut frames = vm.promise(need.frames + later)?;
        frames.set_aside(later);
        record.promised.fetch_add(need.promised, Ordering::AcqRel);
        record.promised_tables.fetch_add(need.promised_tables, Ordering::AcqRel);
        let mut any_lazy = false;
        for part in self.parts(from, last, zeros) {
            any_lazy |= part.lazy;
            if part.lazy { self.grow_lazily(&part, image) } else { self.grow_at_once(&part, &mut frames) }
        }
        state.linked = last.div_ceil(ENTRIES_PER_TABLE);
        state.present = last;
        state.resident = state.resident.max(last);
        state.top = state.top.max(last);
        if any_lazy {
            (state.shared, state.resident) = (last, last);
        }
        vm.arch.publish();
        record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        Ok(())
    }

    /// Has a plain slot in use share from now on: all that it has is its own.
    pub(super) fn adopt(&self, state: &mut SlotState) {
        let present = state.present;
        let (mut beyond, mut far) = (0, 0);
        self.for_each_own(state.top.max(present), |nth, _, table| {
            let last = ENTRIES_PER_TABLE.min(present.saturating_sub(nth * ENTRIES_PER_TABLE));
            self.set_groups(nth, table, 0);
            if last > 0 {
                self.mark_groups(nth, table, 0, last);
            }
            beyond += usize::from(nth > 0);
            far += usize::from(!self.is_near(nth));
        });
        // What former users left beyond is in tables that are not linked. They are parked,
        // so that whoever looks for the slot's own frames finds them.
        let left =
            present.div_ceil(ENTRIES_PER_TABLE)..state.top.min(self.near_pages()).div_ceil(ENTRIES_PER_TABLE);
        for nth in left {
            let (Some(place), table) = (self.directory_entry(nth), self.near_table(nth)) else { continue };
            self.set_groups(nth, table, 0);
            self.mark_groups(nth, table, 0, ENTRIES_PER_TABLE);
            place.store(A::Format::hidden(table, false), Ordering::Release);
            beyond += usize::from(nth > 0);
        }
        state.far -= far.min(state.far);
        (state.sharing, state.shared) = (true, 0);
        state.linked = present.div_ceil(ENTRIES_PER_TABLE);
        let record = self.record;
        record.private.store(present, Ordering::Relaxed);
        record.own_beyond.store(beyond, Ordering::Relaxed);
        record.far_tables.store(far, Ordering::Relaxed);
        record.set_image(None);
        record.sharing.store(true, Ordering::Release);
    }

    /// The parts of pages `from..last`, one for each granule. Whether `zeros` are there
    /// to be shared decides which are lazy.
    fn parts(
        &self,
        from: usize,
        last: usize,
        zeros: bool,
    ) -> impl Iterator<Item = Part<'p>> + use<'p, '_, A> {
        let sparse = matches!(self.pool.settings.backing, SlotBacking::PerInstance { .. });
        (from / ENTRIES_PER_TABLE..last.div_ceil(ENTRIES_PER_TABLE)).filter_map(move |nth| {
            let place = self.directory_entry(nth)?;
            let start = nth * ENTRIES_PER_TABLE;
            let (first, end) = (from.max(start) - start, last.min(start + ENTRIES_PER_TABLE) - start);
            let own = own_table::<A>(place.load(Ordering::Acquire));
            let whole = end - first == ENTRIES_PER_TABLE;
            Some(Part { nth, place, own, first, end, lazy: sparse || (zeros && whole && own.is_none()) })
        })
    }

    fn count(&self, part: &Part<'_>, need: &mut Need) {
        let pages = part.end - part.first;
        let new_far = part.own.is_none() && part.first == 0 && !self.is_near(part.nth);
        match self.pool.settings.backing {
            SlotBacking::Fixed { .. } => {}
            // How many it may have is promised as a whole.
            SlotBacking::PerInstance { .. } => {}
            SlotBacking::Strict if part.lazy => need.promised += pages,
            SlotBacking::Strict => need.frames += pages - self.count_own_of(part),
        }
        *(if part.lazy { &mut need.promised_tables } else { &mut need.frames }) += usize::from(new_far);
    }

    /// Pages of a part that are the slot's own already, from when they were accessible.
    fn count_own_of(&self, part: &Part<'_>) -> usize {
        let Some(table) = part.own else { return 0 };
        let run = &self.vm.table(table)[part.first..part.end];
        run.iter().filter(|entry| is_own::<A>(entry.load(Ordering::Relaxed))).count()
    }

    /// Counts the own pages that growth shows again, of a slot whose instance may have so
    /// many. If there are more behind none is: those could not be written, and count.
    fn settle_own(&self, state: &mut SlotState, last: usize, zeros: bool) -> usize {
        let record = self.record;
        let own = self.parts(state.present, last, zeros).map(|part| self.count_own_of(&part)).sum();
        let hidden = record.frames.load(Ordering::Acquire);
        let hidden = hidden.saturating_sub(record.private.load(Ordering::Relaxed));
        if own == hidden {
            return own;
        }
        // What was accessible was revoked when it was taken away.
        let settled = record.settle(self.vm);
        self.strip_inaccessible(state, usize::MAX, settled);
        0
    }

    /// Pages that are shared until somebody writes them.
    fn grow_lazily(&self, part: &Part<'_>, image: Option<&ImageRecord>) {
        let Some(table) = part.own else {
            if let Ok(view) = self.vm.view(image, part.nth, part.end()) {
                self.replace_shared(part, view);
            }
            return;
        };
        let zero = A::Format::present(self.vm.zeros.frame(), Access::CopyOnWrite, false);
        let mut own = 0;
        for entry in &self.vm.table(table)[part.first..part.end] {
            let old = entry.load(Ordering::Relaxed);
            own += usize::from(is_own::<A>(old));
            let new = if pages::has_frame::<A>(old) { pages::revealed::<A>(old) } else { zero };
            entry.store(new, Ordering::Release);
        }
        if own > 0 {
            self.mark_groups(part.nth, table, part.first, part.end);
            self.record.private.fetch_add(own, Ordering::Relaxed);
        }
        self.link_own(part, table);
    }

    /// Points a granule to a shared table, from none or one that shows less.
    fn replace_shared(&self, part: &Part<'_>, view: u64) {
        let old = part.place.load(Ordering::Relaxed);
        if A::Format::needs_break(old, view) {
            part.place.store(A::Format::empty(pages::BUSY), Ordering::Release);
            let start = self.base().offset(part.nth * TABLE_SPAN);
            let stale = Invalidation::tables(Pages { start, count: ENTRIES_PER_TABLE });
            self.vm.arch.invalidate_everywhere(stale);
        }
        part.place.store(view, Ordering::Release);
    }

    /// Pages that get frames of their own now.
    fn grow_at_once(&self, part: &Part<'_>, frames: &mut Promise<'_, A>) {
        let Some(table) = part.own.or_else(|| self.own_table_for(part, frames)) else { return };
        for (at, entry) in (part.first..).zip(&self.vm.table(table)[part.first..part.end]) {
            let old = entry.load(Ordering::Relaxed);
            let new = if is_own::<A>(old) {
                pages::revealed::<A>(old)
            } else {
                let page = part.nth * ENTRIES_PER_TABLE + at;
                let Some(frame) = self.cleared_frame(page, frames) else { return };
                A::Format::present(frame, Access::ReadWrite, false)
            };
            entry.store(new, Ordering::Release);
        }
        self.mark_groups(part.nth, table, part.first, part.end);
        self.record.private.fetch_add(part.end - part.first, Ordering::Relaxed);
        self.link_own(part, table);
    }

    /// Links an own table that is parked, or new. What follows the part in it is not
    /// accessible.
    fn link_own(&self, part: &Part<'_>, table: PhysAddr) {
        if part.place.load(Ordering::Relaxed) & A::Format::PRESENT == 0 {
            pages::hide_at_rest::<A>(&self.vm.table(table)[part.end..]);
            part.place.store(A::Format::table(table), Ordering::Release);
        }
    }

    /// A table of the slot's own for a granule that has a shared one, or none.
    fn own_table_for(&self, part: &Part<'_>, frames: &mut Promise<'_, A>) -> Option<PhysAddr> {
        if is_shared::<A>(part.place.load(Ordering::Acquire)) {
            self.make_private_in_use(part.nth);
            return own_table::<A>(part.place.load(Ordering::Acquire));
        }
        let near = self.is_near(part.nth);
        let table = if near { self.near_table(part.nth) } else { frames.take()? };
        // SAFETY: the table is linked nowhere, and we hold the slot.
        unsafe { self.vm.arch.zero_frame(table) };
        self.set_groups(part.nth, table, 0);
        self.record.own_beyond.fetch_add(usize::from(part.nth > 0), Ordering::Relaxed);
        self.record.far_tables.fetch_add(usize::from(!near), Ordering::Relaxed);
        Some(table)
    }

    /// Gives granule `nth` an own table, where there was no fault.
    fn make_private_in_use(&self, nth: usize) {
        while self.make_private(nth) == Attempt::Again {
            core::hint::spin_loop();
        }
        // This CPU may have cached the pointer to the shared one.
        let start = self.base().offset(nth * TABLE_SPAN);
        self.record.revoke(self.vm, Pages { start, count: 1 });
    }

    /// A frame of zeros for a page.
    fn cleared_frame(&self, page: usize, frames: &mut Promise<'_, A>) -> Option<PhysAddr> {
        if let SlotBacking::Fixed { first } = self.pool.settings.backing {
            let frame = self.fixed_frame(first, page);
            // SAFETY: the frame is this page's own, and its page shows another or none.
            unsafe { self.vm.arch.zero_frame(frame) };
            return Some(frame);
        }
        let frame = frames.take()?;
        self.record.frames.fetch_add(1, Ordering::Relaxed);
        Some(frame)
    }
}

impl Part<'_> {
    /// The page of the memory after its last.
    fn end(&self) -> usize {
        self.nth * ENTRIES_PER_TABLE + self.end
    }
}
