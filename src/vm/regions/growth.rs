//! Making a region accessible that only grows: at once, or shared until it is
//! written.
//!
//! ```text
//!   begins with   | I | I | tail |                          an image, over zeros
//!   grows         | I | I | own  | zero | zero | own |
//!                           parts of granules: frames at once
//!                                  whole ones: zeros
//! ```
//!
//! Each page and each table is paid for when it becomes accessible: what is shared
//! for now leaves its frames promised to the region.

use core::sync::atomic::Ordering;

use allotment_arch::{Access, Arch, ENTRIES_PER_TABLE, Format, PAGE_SIZE, Pages, PhysAddr};

use super::{RegionId, RegionRecord, Regions, missing, pages_within, sharing::Sharing, tables};
use crate::{
    Error,
    vm::{
        Image, ImageRecord, Promise, Vm,
        copy_on_write::{EAGER_PAGES, is_shared, own_table},
    },
};

impl Regions {
    /// Makes the first `bytes` of a new region accessible, rounded up to pages. They
    /// show `image` over zeros, which ends there or before.
    pub(crate) fn open<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: RegionId,
        image: Option<Image>,
        bytes: usize,
    ) -> Result<(), Error> {
        let (record, _editing) = self.hold(id)?;
        let to = pages_within(bytes, record.extent().bytes)?;
        let mut frames = vm.promise(missing(0, to))?;
        record.revoked.begin(vm.arch.current_cpu());
        let region = self.sharing(vm, record);
        let pays = image.is_some() || to > EAGER_PAGES * PAGE_SIZE;
        if record.is_lazy() && pays && vm.zeros.make(vm).is_ok() {
            region.begin(image, to / PAGE_SIZE, &mut frames);
            record.promised.store(frames.hand_over(), Ordering::Release);
            record.set_reach(to);
            return Ok(());
        }
        self.extend_held(vm, record, to, frames);
        if let Some(image) = image {
            region.copy_in(image.record(vm));
        }
        Ok(())
    }

    /// Makes the first `bytes` of a region readable and writable, rounded up to
    /// pages, and the rest of it stays as it is.
    pub(crate) fn extend<A: Arch>(&self, vm: &Vm<A>, id: RegionId, bytes: usize) -> Result<(), Error> {
        let (record, _editing) = self.hold(id)?;
        let to = pages_within(bytes, record.extent().bytes)?;
        let frames = vm.promise(missing(record.reach(), to))?;
        self.extend_held(vm, record, to, frames);
        Ok(())
    }

    /// The same for who holds the region; `frames` are as many as are missing.
    pub(super) fn extend_held<A: Arch>(
        &self,
        vm: &Vm<A>,
        record: &RegionRecord,
        to: usize,
        mut frames: Promise<'_, A>,
    ) {
        let reach = record.reach();
        if to > reach {
            self.sharing(vm, record).grow(reach / PAGE_SIZE, to / PAGE_SIZE, &mut frames);
            record.promised.fetch_add(frames.hand_over(), Ordering::AcqRel);
            record.set_reach(to);
        }
    }
}

impl<A: Arch> Sharing<'_, A> {
    /// Has the first `last` pages show `image` over zeros. Of `frames`, those are left
    /// that first writes may take.
    fn begin(&self, image: Option<Image>, last: usize, frames: &mut Promise<'_, A>) {
        if let Some(image) = image {
            image.add_slot(self.vm);
        }
        self.record.image.set(image);
        let image = image.map(|image| image.record(self.vm));
        if let Some(image) = image {
            self.record.begun.store(image.begin(), Ordering::Relaxed);
            self.make_working_set_own(image, last, frames);
        }
        for nth in 0..last.div_ceil(ENTRIES_PER_TABLE) {
            let Some(place) = self.directory_entry(nth) else { continue };
            let entry = match own_table::<A>(place.load(Ordering::Relaxed)) {
                Some(table) => A::Format::table(table),
                None => match self.vm.view(image, nth, last) {
                    Ok(view) => view,
                    // One of a size that too few others have.
                    Err(_) => match self.fill_table(image, nth, last, frames) {
                        Some(table) => A::Format::table(table),
                        None => continue,
                    },
                },
            };
            place.store(entry, Ordering::Release);
        }
        self.vm.arch.publish();
    }

    /// Gives pages that former instances wrote frames before this one does, in tables
    /// that are not linked yet.
    fn make_working_set_own(&self, image: &ImageRecord, last: usize, frames: &mut Promise<'_, A>) {
        for page in image.working_set.lock().pages().filter(|&page| page < last) {
            let Some(place) = self.directory_entry(page / ENTRIES_PER_TABLE) else { return };
            let parked = own_table::<A>(place.load(Ordering::Relaxed));
            let table =
                parked.or_else(|| self.fill_table(Some(image), page / ENTRIES_PER_TABLE, last, frames));
            let (Some(table), Some(own)) = (table, frames.take()) else { return };
            place.store(A::Format::hidden(table, false), Ordering::Relaxed);
            let shown = image.frame_of(self.vm, page);
            if let Some(shown) = shown {
                // SAFETY: an image's frame does not change, and the other was just taken.
                unsafe { self.vm.arch.copy_frame(shown, own) };
            }
            // What was copied is to be cleared in the end.
            let entry = A::Format::present(own, Access::ReadWrite, shown.is_some());
            self.vm.table(table)[page % ENTRIES_PER_TABLE].store(entry, Ordering::Relaxed);
        }
    }

    /// A table for granule `nth` that shows what all share, up to page `last`.
    fn fill_table(
        &self,
        image: Option<&ImageRecord>,
        nth: usize,
        last: usize,
        frames: &mut Promise<'_, A>,
    ) -> Option<PhysAddr> {
        let table = frames.take()?;
        let master = image.and_then(|image| self.vm.table_of(image.master(nth)?));
        let zero = A::Format::present(self.vm.zeros.frame(), Access::CopyOnWrite, false);
        let pages = last - nth * ENTRIES_PER_TABLE;
        for (at, entry) in self.vm.table(table).iter().enumerate().take(pages) {
            entry.store(master.map_or(zero, |master| master[at].load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        Some(table)
    }

    /// Makes pages `first..last` accessible. Of `frames`, those are left that first
    /// writes may take.
    fn grow(&self, first: usize, last: usize, frames: &mut Promise<'_, A>) {
        let vm = self.vm;
        let pages = Pages { start: self.page(first), count: last - first };
        for (place, part) in tables::granules(vm, pages) {
            let old = place.load(Ordering::Relaxed);
            if part.count == ENTRIES_PER_TABLE && old == 0 && self.record.is_lazy()
                // Without a frame for what all share the pages have their own.
                && let Ok(()) = vm.zeros.make(vm)
                && let Ok(view) = vm.zeros.view(vm, ENTRIES_PER_TABLE)
            {
                place.store(view, Ordering::Release);
                continue;
            }
            if is_shared::<A>(old) {
                // There was no fault: this CPU may have cached the pointer to the shared one.
                self.make_private(place, part.start);
                self.record.revoked.revoke(vm, Pages { start: part.start, count: 1 });
            }
            tables::extend(vm, place, part, frames);
        }
        vm.arch.publish();
    }

    /// Copies an image into a region that shares nothing, and that nobody uses yet.
    fn copy_in(&self, image: &ImageRecord) {
        for page in image.first()..image.end() {
            let leaf = self.leaf(page).zip(image.frame_of(self.vm, page));
            if let Some((leaf, shown)) = leaf
                && let Some(own) = A::Format::decode(leaf.load(Ordering::Relaxed)).own_frame()
            {
                // SAFETY: an image's frame does not change; nobody uses the other yet.
                unsafe { self.vm.arch.copy_frame(shown, own) };
                let _ = crate::vm::pages::mark_written::<A>(leaf);
            }
        }
    }
}
