//! Giving back what a slot at rest has of its own, and ending its pairing.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr};

use super::{
    super::{
        slot::SlotState,
        slot_edits::Slot,
        slot_pool::{SlotBacking, SlotPool},
    },
    write_fault::is_own,
};
use crate::vm::{Image, Settled, Vm, pages};

impl SlotPool {
    /// Has no slot at rest be paired with an image that has no handle any more. Those in
    /// use end their pairing when they are taken back.
    pub(crate) fn end_pairings<A: Arch>(&self, vm: &Vm<A>, image: Image) {
        for (number, record) in (0..).zip(self.slots.as_slice()) {
            if record.image() != Some(image) {
                continue;
            }
            let mut state = record.state.lock();
            if !record.is_in_use() && record.image() == Some(image) {
                self.slot(vm, number).make_fresh(&mut state);
            }
        }
    }
}

impl<A: Arch> Slot<'_, A> {
    /// Has a slot at rest be as if nobody had used it yet: no image, no own table, no
    /// frame of the arena.
    pub(in crate::pooling) fn make_fresh(&self, state: &mut SlotState) {
        let record = self.record;
        if state.present == 0 && state.top == 0 && state.far == 0 && !state.sharing {
            return;
        }
        let last = state.present.max(state.top);
        if state.sharing && state.far > 0 {
            self.unlink_directories();
        }
        self.replaced_at_rest(Pages { start: self.base(), count: last });
        if !matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) {
            let settled = record.settle(self.vm);
            if state.sharing {
                self.strip_sharing(state, 0, settled);
                self.remove_directories(state, settled);
            } else {
                // SAFETY: the slot is at rest, and was before `settled`.
                unsafe { self.strip(state, 0, settled) };
            }
        }
        self.clear_near_tables(state);
        self.note_clean();
        record.sharing.store(false, Ordering::Release);
        record.private.store(0, Ordering::Relaxed);
        record.own_beyond.store(0, Ordering::Relaxed);
        let image = record.take_image();
        *state = SlotState { closes: state.closes, ..SlotState::default() };
        state.version = 0;
        if let Some(image) = image {
            image.release(self.vm);
        }
    }

    /// Ends a pairing with an image that nobody has a handle for any more, or with one
    /// that the slot does not show as it should.
    #[inline]
    pub(super) fn end_stale_pairing(&self, state: &mut SlotState) {
        if self.record.detached.load(Ordering::Relaxed) {
            self.note_detached(state);
            state.linked = 0;
        }
        let dead = self.record.image().is_some_and(|image| !image.has_handle(self.vm));
        if dead || state.spoiled {
            self.make_fresh(state);
        }
    }

    /// Forgets that pages of a slot at rest showed what they did. On aarch64
    /// everywhere: no CPU may have the old beside the new.
    pub(super) fn replaced_at_rest(&self, pages: Pages) {
        let other = |frame| A::Format::present(PhysAddr(frame), Access::CopyOnWrite, false);
        if A::Format::needs_break(other(PAGE_SIZE as u64), other(2 * PAGE_SIZE as u64)) {
            self.vm.arch.invalidate_everywhere(Invalidation::tables(pages));
        }
        self.record.revoke(self.vm, pages);
    }

    /// Gives the arena all own frames but the first `keep` of them, and the tables that
    /// have none then. What they showed is shared again. Returns how many frames that
    /// were, tables included.
    ///
    /// The slot is at rest, and was before `settled`.
    pub(in crate::pooling) fn strip_sharing(
        &self,
        state: &mut SlotState,
        keep: usize,
        settled: Settled,
    ) -> usize {
        let (vm, record) = (self.vm, self.record);
        let image = record.image().map(|image| image.record(vm));
        let (mut kept, mut private, mut stripped, mut tables) = (0, 0, 0, 0);
        let present = state.present;
        self.for_each_own(state.top, |nth, place, table| {
            let master = image.and_then(|image| vm.table_of(image.master(nth)?));
            let mut left = 0;
            for (at, entry) in vm.table(table).iter().enumerate() {
                let old = entry.load(Ordering::Relaxed);
                let page = nth * ENTRIES_PER_TABLE + at;
                let Some(own) = pages::shown_frame::<A>(old).filter(|_| is_own::<A>(old)) else { continue };
                if kept < keep {
                    kept += 1;
                    left += 1;
                    private += usize::from(page < present);
                    continue;
                }
                let shown =
                    master.and_then(|master| pages::shown_frame::<A>(master[at].load(Ordering::Relaxed)));
                let shown = shown.unwrap_or(vm.zeros.frame());
                let again = A::Format::present(shown, Access::CopyOnWrite, false);
                entry.store(if page < present { again } else { 0 }, Ordering::Relaxed);
                // SAFETY: it came from the arena, no CPU knows it any more, and it has just
                // left its only entry.
                unsafe { vm.arena.give_back_stained(&vm.arch, own, settled) };
                stripped += 1;
            }
            if left > 0 {
                return;
            }
            tables += self.give_up_table(nth, place, table, settled);
        });
        record.frames.fetch_sub(stripped, Ordering::Relaxed);
        record.private.store(private, Ordering::Relaxed);
        if stripped > 0 {
            (state.shared, state.resident) = (present, present);
            // What the image knows to be written is to be made ready anew.
            state.version = 0;
            // Others may still have what is shared again beside what was.
            self.replaced_at_rest(Pages { start: self.base(), count: present });
        }
        stripped + tables
    }

    /// Gives the arena about `wanted` frames of a slot in use: such as its own pages beyond
    /// what is accessible have, from former users, and tables that nothing is left in.
    /// Returns how many.
    ///
    /// The slot is held, and what is not accessible was not before `settled`.
    pub(in crate::pooling) fn strip_inaccessible(
        &self,
        state: &mut SlotState,
        wanted: usize,
        settled: Settled,
    ) -> usize {
        let (mut stripped, mut tables) = (0, 0);
        let used = state.present;
        self.for_each_own(state.top, |nth, place, table| {
            let first = used.saturating_sub(nth * ENTRIES_PER_TABLE).min(ENTRIES_PER_TABLE);
            for entry in &self.vm.table(table)[first..] {
                if stripped + tables >= wanted {
                    return;
                }
                let old = entry.load(Ordering::Relaxed);
                let own = pages::shown_frame::<A>(old).filter(|_| is_own::<A>(old));
                entry.store(0, Ordering::Relaxed);
                if let Some(own) = own {
                    // SAFETY: the page is not accessible, no CPU knows the frame any more, and
                    // it has just left its only entry.
                    unsafe { self.give_back(own, settled) };
                    stripped += 1;
                }
            }
            if first == 0 {
                tables += self.give_up_table(nth, place, table, settled);
            }
        });
        self.record.frames.fetch_sub(stripped, Ordering::Relaxed);
        state.resident = state.resident.min(used);
        stripped + tables
    }

    /// Parts with an own table that is not linked and has no own page. Returns how many
    /// frames the arena has back.
    fn give_up_table(&self, nth: usize, place: &AtomicU64, table: PhysAddr, settled: Settled) -> usize {
        let record = self.record;
        self.set_groups(nth, table, 0);
        place.store(0, Ordering::Relaxed);
        record.own_beyond.fetch_sub(usize::from(nth > 0), Ordering::Relaxed);
        if self.is_near(nth) {
            // A user who does not share finds his pages in it.
            // SAFETY: the table is linked nowhere, and we hold the slot.
            unsafe { self.vm.arch.zero_frame(table) };
            return 0;
        }
        record.far_tables.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: nobody finds the table any more, nor has since `settled`.
        unsafe { self.give_back(table, settled) };
        1
    }

    /// Gives the arena a frame back.
    ///
    /// # Safety
    ///
    /// It came from the arena, and has been nobody's since before `settled`.
    unsafe fn give_back(&self, frame: PhysAddr, settled: Settled) {
        // SAFETY: by this function's contract.
        unsafe { self.vm.arena.give_back_stained(&self.vm.arch, frame, settled) };
    }

    /// Clears what is left in leaf tables that the slot has since the carve.
    fn clear_near_tables(&self, state: &SlotState) {
        let last = state.top.max(state.present);
        let near = self.pool.settings.layout.premapped_tables;
        for nth in 0..near.min(last.div_ceil(ENTRIES_PER_TABLE)) {
            let Some(place) = self.directory_entry(nth) else { continue };
            if state.sharing && place.load(Ordering::Relaxed) == 0 {
                continue;
            }
            place.store(0, Ordering::Release);
            // SAFETY: the table is linked nowhere, and its frames are the slot's since the
            // carve, or went back.
            unsafe { self.vm.arch.zero_frame(self.near_table(nth)) };
            self.set_groups(nth, self.near_table(nth), 0);
            self.streaks(nth).store(0, Ordering::Relaxed);
        }
    }
}
