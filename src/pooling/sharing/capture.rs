//! Making an image of what a slot in use shows, and having the slot show that.
//!
//! ```text
//!   slot       | T                 | S     |    T, S: its own table, an image's
//!                | C  W  W' W' C |              W: its own; W': written; C: shared
//!   image      | C  C  F  F  C     | C ... |
//!   after      | T                 | S'    |    S': the new image's table
//!     Elastic    | C  W  F  F  C |              F: the very frames, shared from now on
//!     Fixed      | C  W  W  W  C |              F: copies of them
//! ```
//!
//! Only what was written since the slot began to show its last image is new. The
//! rest is that image's, so that captures of captures share it. The slot is then
//! paired with the new image: taken back it shows what was captured, and who asks
//! for that next finds it ready.
//!
//! Where frames leave the slot all CPUs forget that they could be written there:
//! one round, however many they are.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Format, Invalidation, PAGE_SIZE, Pages, PhysAddr};

use super::{
    super::{
        SlotId,
        slot::SlotState,
        slot_edits::Slot,
        slot_pool::{SlotBacking, SlotPool},
    },
    GROUP,
    granule::is_shared,
    write_fault::is_own,
};
use crate::{
    Error,
    vm::{Image, PageSource, Settled, Vm, pages},
};

impl SlotPool {
    /// An image of all that is accessible of a slot in use, which nobody writes
    /// meanwhile. Its handle is the caller's.
    pub(crate) fn capture<A: Arch>(&self, vm: &Vm<A>, id: SlotId) -> Result<Image, Error> {
        let (slot, mut state) = self.hold(vm, id)?;
        slot.record.forget(vm, vm.arch.current_cpu());
        if slot.record.pending.load(Ordering::Acquire) {
            slot.link_zeros(&mut state);
        }
        vm.await_marks();
        slot.loosen_in_use(&mut state);
        vm.zeros.make(vm)?;
        let last = slot.record.accessible.load(Ordering::Relaxed) / PAGE_SIZE;
        if last == 0 {
            return slot.image_of(&state, 0, 0);
        }
        let written = slot.count_written(&state, last);
        let more = slot.promise_capture(&state, last, written)?;
        // Until here, and if this fails, the slot is as it was.
        let image = slot.image_of(&state, last, written).inspect_err(|_| vm.arena.release(more))?;
        slot.record.promised.fetch_add(more, Ordering::AcqRel);
        slot.show_captured(&mut state, image, last);
        Ok(image)
    }
}

impl<A: Arch> Slot<'_, A> {
    /// Pages that show something else than the image, as far as that is known.
    fn count_written(&self, state: &SlotState, last: usize) -> usize {
        let mut written = 0;
        self.for_each_own(last, |nth, _, table| {
            let pages = ENTRIES_PER_TABLE.min(last - nth * ENTRIES_PER_TABLE);
            let is_new = |entry: &&AtomicU64| is_new::<A>(state, entry.load(Ordering::Acquire));
            written += self.vm.table(table)[..pages].iter().filter(is_new).count();
        });
        written
    }

    /// Sets aside what first writes will take of pages that are the slot's own now and
    /// will be shared. Returns how many frames that are, when there are also enough for
    /// the image itself.
    fn promise_capture(&self, state: &SlotState, last: usize, written: usize) -> Result<usize, Error> {
        let (arena, record) = (&self.vm.arena, self.record);
        let most = match self.pool.settings.backing {
            SlotBacking::Fixed { .. } => 0,
            SlotBacking::Strict => last,
            SlotBacking::PerInstance { pages } => pages,
        };
        let private = if state.sharing { record.private.load(Ordering::Relaxed) } else { last };
        let promised = record.promised.load(Ordering::Relaxed);
        let more = most.saturating_sub(private.saturating_sub(written)).saturating_sub(promised);
        // Its record, its tables with one that ends in their midst, its copies.
        let tables = last.div_ceil(ENTRIES_PER_TABLE);
        let shared = (0..tables).filter(|&nth| self.whole_shared_table(nth, last).is_some()).count();
        let image = 2 + tables - shared + self.copies(written);
        arena.set_aside(more + image)?;
        arena.release(image);
        Ok(more)
    }

    /// Pages of which the image gets a copy.
    fn copies(&self, written: usize) -> usize {
        if self.is_fixed() { written } else { 0 }
    }

    fn is_fixed(&self) -> bool {
        matches!(self.pool.settings.backing, SlotBacking::Fixed { .. })
    }

    /// The image, with all tables that the slot will link.
    fn image_of(&self, state: &SlotState, last: usize, written: usize) -> Result<Image, Error> {
        let vm = self.vm;
        let table = |nth| self.whole_shared_table(nth, last);
        let source = |page| self.source(state, page);
        let fill = |page, to: PhysAddr| {
            let Some(own) = pages::shown_frame::<A>(self.entry_of(page)) else { return false };
            // SAFETY: nobody writes the slot meanwhile, and the other frame was taken for
            // this page.
            unsafe { vm.arch.copy_frame(own, to) };
            !pages::is_zero(vm, to)
        };
        // SAFETY: what another image shows does not change, nor does from now on what this
        // slot gives away: it only shows it, and copies it on write.
        let image = unsafe { vm.build_image(0, last, self.copies(written), table, source, fill) }?;
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            let shared =
                self.directory_entry(nth).is_some_and(|entry| is_shared::<A>(entry.load(Ordering::Relaxed)));
            if shared && let Err(error) = vm.view(Some(image.record(vm)), nth, last) {
                image.drop_handle(vm);
                image.release(vm);
                return Err(error);
            }
        }
        Ok(image)
    }

    /// The directory entry of a granule that nobody wrote, if all of it is accessible: its
    /// table is the new image's too.
    fn whole_shared_table(&self, nth: usize, last: usize) -> Option<u64> {
        let entry = self.directory_entry(nth)?.load(Ordering::Acquire);
        ((nth + 1) * ENTRIES_PER_TABLE <= last && is_shared::<A>(entry)).then_some(entry)
    }

    /// Where the image's page is.
    fn source(&self, state: &SlotState, page: usize) -> PageSource {
        let entry = self.entry_of(page);
        if is_new::<A>(state, entry) && self.is_fixed() {
            return PageSource::Copy;
        }
        let shown = if is_own::<A>(entry) && !is_new::<A>(state, entry) {
            // As its image has it.
            self.record.image().and_then(|image| image.record(self.vm).frame_of(self.vm, page))
        } else {
            pages::shown_frame::<A>(entry).filter(|&frame| frame != self.vm.zeros.frame())
        };
        shown.map_or(PageSource::Zeros, PageSource::Frame)
    }

    fn entry_of(&self, page: usize) -> u64 {
        self.leaf(page).map_or(0, |leaf| leaf.load(Ordering::Acquire))
    }

    /// Has the slot show the image that was made of it.
    fn show_captured(&self, state: &mut SlotState, image: Image, last: usize) {
        let (vm, record) = (self.vm, self.record);
        if !state.sharing {
            self.adopt(state);
        }
        let shared = self.share_written(state, last);
        self.relink_shared(image, last);
        image.add_slot(vm);
        let before = record.take_image();
        record.set_image(Some(image));
        record.faulted.store(false, Ordering::Relaxed);
        state.version = image.record(vm).version.load(Ordering::Acquire);
        state.spoiled = false;
        vm.arch.publish();
        // Rights were taken away, and marks; nothing shows anything else.
        record.revoke(vm, Pages { start: self.base(), count: last });
        if shared > 0 {
            // Frames have left the slot, by which other CPUs may reach them still, to write.
            let _: Settled = record.settle(vm);
        }
        if let Some(before) = before {
            before.release(vm);
        }
    }

    /// What was written is the image's now, or as the image has it. Returns how many
    /// frames the slot has no longer.
    fn share_written(&self, state: &mut SlotState, last: usize) -> usize {
        let (vm, fixed) = (self.vm, self.is_fixed());
        let (mut shared, mut end) = (0, 0);
        self.for_each_own(last, |nth, _, table| {
            let mut groups = 0;
            for (at, entry) in vm.table(table).iter().enumerate() {
                let (old, page) = (entry.load(Ordering::Relaxed), nth * ENTRIES_PER_TABLE + at);
                if page < last && is_new::<A>(state, old) {
                    match pages::shown_frame::<A>(old) {
                        Some(frame) if !fixed => {
                            entry.store(
                                A::Format::present(frame, Access::CopyOnWrite, false),
                                Ordering::Release,
                            );
                            // The image is its owner, and no longer one more.
                            vm.arena.unshare(frame);
                            (shared, end) = (shared + 1, page + 1);
                        }
                        _ => entry.store(pages::cleaned::<A>(old), Ordering::Release),
                    }
                }
                let writable = pages::is_writable_or_written::<A>(entry.load(Ordering::Relaxed));
                groups |= u32::from(writable) << (at / GROUP);
            }
            self.set_groups(nth, table, groups);
        });
        vm.arena.lend(shared);
        self.record.frames.fetch_sub(shared, Ordering::Relaxed);
        self.record.private.fetch_sub(shared, Ordering::Relaxed);
        state.shared = state.shared.max(end);
        shared
    }

    /// Points granules that nobody wrote to the image's tables, which show the same.
    fn relink_shared(&self, image: Image, last: usize) {
        let (vm, granules) = (self.vm, last.div_ceil(ENTRIES_PER_TABLE));
        while !self.record.try_claim() {
            core::hint::spin_loop();
        }
        // They were built before.
        let view = |nth| vm.view(Some(image.record(vm)), nth, last).unwrap_or(0);
        let busy = A::Format::empty(pages::BUSY);
        let mut any = false;
        for nth in 0..granules {
            let Some(place) = self.directory_entry(nth) else { continue };
            let old = place.load(Ordering::Relaxed);
            if is_shared::<A>(old) && A::Format::needs_break(old, view(nth)) {
                place.store(busy, Ordering::Release);
                any = true;
            }
        }
        if any {
            vm.arch.invalidate_everywhere(Invalidation::tables(Pages { start: self.base(), count: last }));
        }
        for nth in 0..granules {
            let Some(place) = self.directory_entry(nth) else { continue };
            let old = place.load(Ordering::Relaxed);
            if old == busy || is_shared::<A>(old) {
                place.store(view(nth), Ordering::Release);
            }
        }
        self.record.unclaim();
    }
}

/// Whether an entry of a slot shows what its image does not.
fn is_new<A: Arch>(state: &SlotState, entry: u64) -> bool {
    is_own::<A>(entry) && (state.spoiled || pages::is_written::<A>(entry))
}
