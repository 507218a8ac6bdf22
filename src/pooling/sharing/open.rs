//! Opening a slot that shares.

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages};

use super::{
    super::{slot::SlotState, slot_edits::Slot, slot_pool::SlotBacking},
    granule::{Attempt, own_table},
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
        } else if last < state.present {
            self.cut(state, last);
        }
        self.promise_sharing(last)
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
        let mut own = 0;
        self.for_each_own(state.present, |nth, _, table| {
            let start = nth * ENTRIES_PER_TABLE;
            let (first, end) = (last.saturating_sub(start), ENTRIES_PER_TABLE.min(state.present - start));
            if first < end {
                let entries = self.vm.table(table);
                let is_own =
                    |entry: &&core::sync::atomic::AtomicU64| is_own::<A>(entry.load(Ordering::Relaxed));
                own += entries[first..end].iter().filter(is_own).count();
                if first > 0 {
                    pages::hide_at_rest::<A>(&entries[first..]);
                }
            }
        });
        if last < state.shared {
            (state.shared, state.resident) = (last, last);
        }
        self.record.private.fetch_sub(own, Ordering::Relaxed);
        state.present = last;
        // Where zeros were shared growth may show frames of the slot's own.
        self.replaced_at_rest(cut);
    }

    /// Sets aside what first writes may take: for each page that is accessible and not
    /// the slot's own, and for tables beyond the premapped ones.
    #[inline]
    pub(super) fn promise_sharing(&self, last: usize) -> Result<(), Error> {
        let record = self.record;
        let most = match self.pool.settings.backing {
            SlotBacking::Fixed { .. } => return Ok(()),
            SlotBacking::Strict => last,
            SlotBacking::PerInstance { pages } => pages,
        };
        let pages = most.saturating_sub(record.private.load(Ordering::Relaxed));
        let tables = self.missing_own_tables(last);
        self.vm.arena.set_aside(pages + tables)?;
        record.promised.store(pages, Ordering::Release);
        record.promised_tables.store(tables, Ordering::Release);
        Ok(())
    }

    /// Granules before page `last` that have neither a table since the carve nor one of the
    /// slot's own from the arena.
    fn missing_own_tables(&self, last: usize) -> usize {
        let far = self.pool.settings.layout.premapped_tables..last.div_ceil(ENTRIES_PER_TABLE);
        if far.is_empty() || self.record.far_tables.load(Ordering::Relaxed) == 0 {
            return far.len();
        }
        // Others may be parked beyond what is accessible: they are no help below.
        let own = |nth: &usize| {
            let place = self.directory_entry(*nth);
            place.is_some_and(|place| own_table::<A>(place.load(Ordering::Relaxed)).is_some())
        };
        far.len() - far.filter(own).count()
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
            let promised = &self.record.promised;
            let promised_tables = &self.record.promised_tables;
            let held = promised.load(Ordering::Relaxed) + promised_tables.load(Ordering::Relaxed);
            self.unpromise();
            return Err(error.beside(held));
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
        let own = place.load(Ordering::Relaxed) != 0;
        let entry = if own { A::Format::table(self.near_table(0)) } else { self.vm.view(image, 0, last)? };
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
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            let Some(place) = self.directory_entry(nth) else { continue };
            let entry = match own_table::<A>(place.load(Ordering::Relaxed)) {
                Some(table) => A::Format::table(table),
                None => self.vm.view(image, nth, last)?,
            };
            place.store(entry, Ordering::Release);
        }
        Ok(())
    }

    /// Makes the pages that former instances wrote the slot's own before this one does,
    /// as far as they are promised.
    #[cold]
    #[inline(never)]
    fn make_working_set_own(&self, state: &mut SlotState, image: &ImageRecord, last: usize) {
        state.version = image.version.load(Ordering::Acquire);
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
