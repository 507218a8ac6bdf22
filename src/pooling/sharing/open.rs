//! Opening a slot that shares.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages};

use super::{
    super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking},
    granule::{Attempt, own_table},
    larger::is_parked_block,
    write_fault::is_own,
};
use crate::{
    Error,
    vm::{Image, ImageRecord, pages},
};

impl<A: Arch> Slot<'_, A> {
    /// Makes the first `last` pages of a slot at rest accessible, which show `image`
    /// over zeros. The image ends there or before.
    #[inline]
    pub(in crate::pooling) fn open_sharing(
        &self,
        state: &mut SlotState,
        image: Option<Image>,
        last: usize,
    ) -> Result<(), Error> {
        self.prepare_sharing(state, image, last)?;
        self.link_sharing(state, last)
    }

    /// Makes a slot at rest accessible again if its last user left it just so, in one
    /// granule: the short way of [`open_sharing`](Self::open_sharing). If it is `false`
    /// nothing happened.
    #[inline(always)]
    pub(in crate::pooling) fn reopen_sharing(
        &self,
        state: &mut SlotState,
        image: Option<Image>,
        last: usize,
    ) -> bool {
        let record = self.record;
        let same = last == state.present && last.wrapping_sub(1) < ENTRIES_PER_TABLE;
        if !same || !state.sharing || state.unwiped > 0 || record.image() != image {
            return false;
        }
        let image = image.map(|image| image.record(self.vm));
        // Others may have written since what is to be made its own first.
        if image.is_some_and(|image| image.version.load(Ordering::Acquire) != state.version) {
            return false;
        }
        let Some(place) = self.directory_entry(0) else { return false };
        let parked = place.load(Ordering::Relaxed);
        let entry = match image {
            _ if parked != 0 => Some(self.own_link(0, parked)),
            Some(image) => self.vm.view(Some(image), 0, last).ok(),
            None => self.vm.zeros.find(self.vm, last),
        };
        let Some(entry) = entry else { return false };
        // One granule takes no table of the arena's, where the carve made the first.
        if !self.is_near(0) || self.promise_pages(last, 0).is_err() {
            return false;
        }
        place.store(entry, Ordering::Release);
        state.linked = 1;
        self.vm.arch.publish();
        record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        true
    }

    /// Has a slot at rest be paired with `image`, and ready for so many pages.
    #[inline]
    pub(super) fn prepare_sharing(
        &self,
        state: &mut SlotState,
        image: Option<Image>,
        last: usize,
    ) -> Result<(), Error> {
        let paired = state.sharing && self.record.image() == image;
        if !paired || last > state.present {
            self.pair(state, image, last);
        } else {
            if state.unwiped > 0 {
                self.clean(state, usize::MAX);
            }
            if last < state.present {
                self.cut(state, last);
            }
        }
        self.promise_sharing(last)
    }

    /// Whether `last` pages of zeros may be shared. The tables that show them come from
    /// the arena: a slot that has all its frames does without rather than fail.
    #[inline]
    pub(in crate::pooling) fn can_share_zeros(&self, last: usize) -> bool {
        let SlotBacking::Fixed { .. } = self.pool.settings.backing else { return true };
        let has = |pages| self.vm.zeros.view(self.vm, pages).is_ok();
        let tail = last.saturating_sub(1) % ENTRIES_PER_TABLE + 1;
        has(tail) && (last <= ENTRIES_PER_TABLE || has(ENTRIES_PER_TABLE))
    }

    /// Ends what the slot was, and pairs it with `image`.
    #[cold]
    #[inline(never)]
    fn pair(&self, state: &mut SlotState, image: Option<Image>, last: usize) {
        self.make_fresh(state);
        if let Some(image) = image {
            image.add_slot(self.vm);
        }
        self.record.set_image(image);
        self.record.sharing.store(true, Ordering::Release);
        state.sharing = true;
        (state.present, state.shared, state.resident, state.top) = (last, last, last, last);
    }

    /// Takes away the pages of a slot at rest from `last` on: growth is undone. Own
    /// tables behind stay parked.
    #[cold]
    #[inline(never)]
    pub(super) fn cut(&self, state: &mut SlotState, last: usize) {
        let cut = Pages { start: self.base().offset(last * PAGE_SIZE), count: state.present - last };
        self.loosen_range(state, last, state.present);
        let own = if last < state.shared {
            let own = self.count_own(last, state.present);
            (state.shared, state.resident) = (last, last);
            own
        } else {
            state.present - last
        };
        let (nth, first) = (last / ENTRIES_PER_TABLE, last % ENTRIES_PER_TABLE);
        let place = if first > 0 { self.directory_entry(nth) } else { None };
        if let Some(table) = place.and_then(|place| own_table::<A>(place.load(Ordering::Relaxed))) {
            pages::hide_at_rest::<A>(&self.vm.table(table)[first..]);
        }
        self.record.private.fetch_sub(own, Ordering::Relaxed);
        state.present = last;
        // Where zeros were shared growth may show frames of the slot's own.
        self.replaced_at_rest(cut);
    }

    /// Pages of a slot at rest that are its own, of `first..last`.
    fn count_own(&self, first: usize, last: usize) -> usize {
        let mut count = 0;
        self.for_each_own(last, |nth, _, table| {
            let start = nth * ENTRIES_PER_TABLE;
            let (first, end) = (first.saturating_sub(start), ENTRIES_PER_TABLE.min(last - start));
            let is_own = |entry: &&AtomicU64| is_own::<A>(entry.load(Ordering::Relaxed));
            count += self.vm.table(table).get(first..end).map_or(0, |run| run.iter().filter(is_own).count());
        });
        count
    }

    /// Sets aside what first writes may take: for each page that is accessible and not
    /// the slot's own, and for tables beyond the premapped ones.
    pub(super) fn promise_sharing(&self, last: usize) -> Result<(), Error> {
        let promised = &self.record.promised_tables;
        let tables = self.missing_far_tables(last).saturating_sub(promised.load(Ordering::Relaxed));
        self.promise_pages(last, tables)?;
        if tables > 0 && !matches!(self.pool.settings.backing, SlotBacking::Fixed { .. }) {
            promised.fetch_add(tables, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The same for pages, and so many tables, which the caller counts.
    #[inline(always)]
    fn promise_pages(&self, last: usize, tables: usize) -> Result<(), Error> {
        let record = self.record;
        let most = match self.pool.settings.backing {
            SlotBacking::Fixed { .. } => return Ok(()),
            SlotBacking::Strict => last,
            SlotBacking::PerInstance { pages } => pages,
        };
        // Own pages behind what is accessible are none that the instance can write.
        let pages = most.saturating_sub(record.private.load(Ordering::Relaxed));
        // Some of it may be promised from when it was accessible before.
        let pages = pages.saturating_sub(record.promised.load(Ordering::Relaxed));
        self.vm.arena.set_aside(pages + tables)?;
        record.promised.fetch_add(pages, Ordering::AcqRel);
        Ok(())
    }

    /// Granules beyond the premapped ones, before page `last`, that have no own table.
    /// Those behind may have some, of no use here.
    #[inline]
    fn missing_far_tables(&self, last: usize) -> usize {
        let (near, end) = (self.pool.settings.layout.premapped_tables, last.div_ceil(ENTRIES_PER_TABLE));
        if end <= near || self.record.far_tables.load(Ordering::Relaxed) == 0 {
            return end.saturating_sub(near);
        }
        let entry = |nth: usize| self.directory_entry(nth).map(|entry| entry.load(Ordering::Acquire));
        (near..end).filter(|&nth| entry(nth).and_then(own_table::<A>).is_none()).count()
    }

    /// Takes back what was promised of a slot in use to pages from `keep` on, which are not
    /// accessible any more. Never more, which might not be there by now.
    #[cfg(feature = "wasmtime-platform")]
    pub(super) fn promise_less(&self, keep: usize) {
        // What the instance may write it may still, wherever.
        if self.pool.settings.backing != SlotBacking::Strict {
            return;
        }
        let most = keep.saturating_sub(self.record.private.load(Ordering::Relaxed));
        let before = self.record.promised.fetch_min(most, Ordering::AcqRel);
        let tables = self.missing_far_tables(keep);
        let tables_before = self.record.promised_tables.fetch_min(tables, Ordering::AcqRel);
        self.vm.arena.release(before.saturating_sub(most) + tables_before.saturating_sub(tables));
    }

    /// Links the tables of a slot that is prepared. If it fails the slot is at rest
    /// again, and nothing is promised.
    #[inline]
    pub(super) fn link_sharing(&self, state: &mut SlotState, last: usize) -> Result<(), Error> {
        let image = self.record.image().map(|image| image.record(self.vm));
        let tables = last.div_ceil(ENTRIES_PER_TABLE);
        let linked = match tables {
            1 => self.link_first(image, last),
            _ => self.link_many(state, image, last),
        };
        if let Err(error) = linked {
            self.unlink(tables);
            return Err(error.beside(self.unpromise()));
        }
        state.linked = tables;
        self.vm.arch.publish();
        if let Some(image) = image
            && image.version.load(Ordering::Acquire) != state.version
        {
            self.make_working_set_own(state, image, last);
        }
        self.record.accessible.store(last * PAGE_SIZE, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn link_first(&self, image: Option<&ImageRecord>, last: usize) -> Result<(), Error> {
        let Some(place) = self.directory_entry(0) else { return Ok(()) };
        let parked = place.load(Ordering::Relaxed);
        let entry = if parked == 0 { self.view_or_own(image, 0, last)? } else { self.own_link(0, parked) };
        place.store(entry, Ordering::Release);
        Ok(())
    }

    fn link_many(
        &self,
        state: &mut SlotState,
        image: Option<&ImageRecord>,
        last: usize,
    ) -> Result<(), Error> {
        self.make_directories(state, 0, last)?;
        let (whole, tables) = (last / ENTRIES_PER_TABLE, last.div_ceil(ENTRIES_PER_TABLE));
        let zeros = self.vm.zeros.view(self.vm, ENTRIES_PER_TABLE)?;
        let tail = if whole < tables { self.tail_to_link(image, whole, last)? } else { 0 };
        if whole > 0 {
            self.link_first(image, last)?;
            if state.larger.blocks > 0 {
                self.link_blocks(whole);
            }
            self.link_whole(image, zeros, whole);
        }
        if whole < tables
            && let Some(place) = self.directory_entry(whole)
        {
            link_own_or::<A>(place, tail);
        }
        Ok(())
    }

    /// What links granule `nth`, in which what is accessible ends, if it has no own table.
    fn tail_to_link(&self, image: Option<&ImageRecord>, nth: usize, last: usize) -> Result<u64, Error> {
        let parked = |place: &AtomicU64| place.load(Ordering::Relaxed) != 0;
        if self.directory_entry(nth).is_some_and(parked) { Ok(0) } else { self.view_or_own(image, nth, last) }
    }

    /// What links a granule at rest that has no own table: one that others share; or, where
    /// the image keeps no more tails, one of its own.
    #[inline]
    fn view_or_own(&self, image: Option<&ImageRecord>, nth: usize, last: usize) -> Result<u64, Error> {
        let error = match self.vm.view(image, nth, last) {
            Ok(view) => return Ok(view),
            Err(error) => error,
        };
        let master = image.and_then(|image| image.master(nth));
        match master.and_then(|master| self.vm.table_of(master)) {
            Some(master) if self.can_have_own(nth, &error) => Ok(self.own_tail(nth, master, last)),
            _ => Err(error),
        }
    }

    /// Whether granule `nth` needs no shared table, for want of which there was this error.
    pub(super) fn can_have_own(&self, nth: usize, error: &Error) -> bool {
        matches!(error, Error::ImageSizes { .. }) && self.is_near(nth)
    }

    #[cold]
    fn own_tail(&self, nth: usize, master: &[AtomicU64], last: usize) -> u64 {
        let table = self.near_table(nth);
        let pages = last - nth * ENTRIES_PER_TABLE;
        let shown = |at: usize| if at < pages { master[at].load(Ordering::Relaxed) } else { 0 };
        pages::write_all(self.vm.table(table), shown);
        self.set_groups(nth, table, 0);
        self.record.own_beyond.fetch_add(usize::from(nth > 0), Ordering::Relaxed);
        A::Format::table(table)
    }

    /// Links the blocks among granules `1..whole`.
    #[cold]
    fn link_blocks(&self, whole: usize) {
        self.for_each_directory_run(1, whole, |start, run| {
            for (nth, place) in (start..).zip(run) {
                let parked = place.load(Ordering::Relaxed);
                if is_parked_block::<A>(parked) {
                    place.store(self.own_link(nth, parked), Ordering::Release);
                }
            }
        });
    }

    /// Links granules `1..whole`, whose pages are all accessible, and that are not blocks.
    fn link_whole(&self, image: Option<&ImageRecord>, zeros: u64, whole: usize) {
        let any_own = self.record.own_beyond.load(Ordering::Relaxed) > 0;
        let (from, masters) = image.map_or((0, &[][..]), ImageRecord::masters);
        self.for_each_directory_run(1, whole, |start, run| {
            // Zeros, the image, zeros; each entry is stored once, as the directory is live.
            let cut = |nth: usize| nth.clamp(start, start + run.len()) - start;
            let (first, end) = (cut(from), cut(from + masters.len()));
            let image = &masters[(start + first).saturating_sub(from).min(masters.len())..];
            let (before, rest) = run.split_at(first);
            let (within, after) = rest.split_at(end - first);
            if any_own {
                before.iter().chain(after).for_each(|place| link_own_or::<A>(place, zeros));
                let load = |master: &AtomicU64| master.load(Ordering::Relaxed);
                within.iter().zip(image).for_each(|(place, m)| link_own_or::<A>(place, load(m)));
            } else {
                before.iter().chain(after).for_each(|place| place.store(zeros, Ordering::Release));
                for (place, master) in within.iter().zip(image) {
                    place.store(master.load(Ordering::Relaxed), Ordering::Release);
                }
            }
        });
    }

    /// Makes the pages that former instances wrote the slot's own before this one does,
    /// as far as they are promised.
    #[cold]
    #[inline(never)]
    fn make_working_set_own(&self, state: &mut SlotState, image: &ImageRecord, last: usize) {
        state.version = image.version.load(Ordering::Acquire);
        if self.pool.is_sparse() {
            // What an instance may write is counted: others' pages are not to use it up.
            return;
        }
        let (mut first, mut end) = (usize::MAX, 0);
        for page in image.working_set.lock().pages().filter(|&page| page < last) {
            if self.make_page_own(page) != Attempt::Done {
                break;
            }
            (first, end) = (first.min(page), end.max(page + 1));
        }
        if first < end {
            let pages = Pages { start: self.base().offset(first * PAGE_SIZE), count: end - first };
            self.record.revoke(self.vm, pages);
        }
    }
}

/// Links the own table that a directory entry has parked, or else a shared one. A block
/// is linked.
#[inline(always)]
fn link_own_or<A: Arch>(place: &AtomicU64, shared: u64) {
    let parked = place.load(Ordering::Relaxed);
    if parked & A::Format::PRESENT != 0 {
        return;
    }
    let own = if parked == 0 { None } else { own_table::<A>(parked) };
    place.store(own.map_or(shared, A::Format::table), Ordering::Release);
}
