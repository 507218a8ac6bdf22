//! Memories with a range of their own that share what nobody wrote: images, and
//! zeros.
//!
//! ```text
//!   directory:   | T | S | S | T | 0        S: a table that every memory of the image
//!                  |                           shares, or all of zeros
//!                | C C W C ... |            T: the region's own; C is copied on write
//! ```
//!
//! A first write finds the region without a lock, and *claims* it: nobody else
//! replaces anything in it meanwhile, and it does not end. What it takes was
//! promised when the page became accessible.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Entry, Format, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, Upper, VirtAddr,
};

use super::{RegionId, RegionRecord, Regions, tables};
use crate::{
    Error,
    vm::{
        Vm,
        copy_on_write::{Attempt, SharedPage, is_own, is_shared, make_table_own},
        pages,
    },
};

/// A region that is held, or claimed.
pub(super) struct Sharing<'r, A> {
    pub(super) vm: &'r Vm<A>,
    pub(super) record: &'r RegionRecord,
    base: VirtAddr,
}

impl Regions {
    /// Answers a fault in what is accessible of a region that shares. No lock. `None` if
    /// it is none that becomes allowed.
    pub(crate) fn touch<A: Arch>(&self, vm: &Vm<A>, address: VirtAddr, write: bool) -> Option<Attempt> {
        let position = self.locate(address)?;
        let offset = usize::try_from(position.offset).ok().filter(|&offset| offset < position.reach)?;
        let record = self.records.as_slice().get(position.id.record as usize)?;
        if !record.is_lazy() {
            return None;
        }
        let Some(_claim) = record.try_claim() else { return Some(Attempt::Again) };
        // It may have ended before it was claimed.
        if !record.is(position.id) || !record.is_lazy() {
            return None;
        }
        self.sharing(vm, record).touch(offset / PAGE_SIZE, write)
    }

    /// Has writes to the pages `[offset, offset + len)`, which are accessible, not fault:
    /// each gets a frame of its own.
    pub(crate) fn prepare_write<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: RegionId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        let (record, _editing) = self.hold(id)?;
        let (first, last) = pages_of(offset, len);
        if !record.is_lazy() || first == last {
            return Ok(());
        }
        let region = self.sharing(vm, record);
        for page in first..last {
            let _claim = record.claim();
            if region.make_page_own(page) == Attempt::Exhausted {
                return Err(Error::OutOfFrames { needed: last - page, available: 0 });
            }
        }
        // There was no fault: this CPU may have cached what was shared.
        record.revoked.revoke(vm, Pages { start: region.page(first), count: last - first });
        Ok(())
    }

    /// Notes that the pages `[offset, offset + len)` were written by other means than
    /// their own mapping, after [`prepare_write`](Self::prepare_write) for them.
    pub(crate) fn note_written<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: RegionId,
        offset: usize,
        len: usize,
    ) -> Result<(), Error> {
        let (record, _editing) = self.hold(id)?;
        let region = self.sharing(vm, record);
        let (first, last) = pages_of(offset, len);
        for page in first..last {
            let leaf = region.leaf(page).filter(|leaf| is_own::<A>(leaf.load(Ordering::Acquire)));
            if leaf.is_none() {
                return Err(Error::NotPrepared { offset: page * PAGE_SIZE });
            }
        }
        for leaf in (first..last).filter_map(|page| region.leaf(page)) {
            let _ = pages::mark_written::<A>(leaf);
        }
        Ok(())
    }

    /// Makes sure that this CPU caches nothing of what others have replaced in a region.
    pub(crate) fn arrive<A: Arch>(&self, vm: &Vm<A>, id: RegionId) -> Result<(), Error> {
        self.check(id)?;
        if let Some(record) = self.records.as_slice().get(id.record as usize) {
            record.revoked.forget(vm, vm.arch.current_cpu());
        }
        Ok(())
    }

    pub(super) fn sharing<'r, A: Arch>(&self, vm: &'r Vm<A>, record: &'r RegionRecord) -> Sharing<'r, A> {
        Sharing { vm, record, base: self.base(&record.extent()) }
    }
}

impl<'r, A: Arch> Sharing<'r, A> {
    fn touch(&self, page: usize, write: bool) -> Option<Attempt> {
        let place = self.directory_entry(page / ENTRIES_PER_TABLE)?;
        if !write {
            // Reads fault only while an entry is replaced: which is over by now.
            return None;
        }
        if is_shared::<A>(place.load(Ordering::Acquire)) {
            match self.make_private_claimed(place, self.page(page)) {
                Attempt::Done => {}
                other => return Some(other),
            }
        }
        Some(self.make_own(&self.shared_page(page)?, true))
    }

    /// Makes a page the region's own, if it is shared. The caller has claimed it.
    fn make_page_own(&self, page: usize) -> Attempt {
        let Some(place) = self.directory_entry(page / ENTRIES_PER_TABLE) else { return Attempt::Done };
        if is_shared::<A>(place.load(Ordering::Acquire))
            && self.make_private_claimed(place, self.page(page)) == Attempt::Exhausted
        {
            return Attempt::Exhausted;
        }
        // What was copied from an image is to be cleared in the end.
        self.shared_page(page)
            .map_or(Attempt::Done, |shared| self.make_own(&shared, shared.shown != self.vm.zeros.frame()))
    }

    /// Gives a granule a table of its own that shows the same, if it has a shared one.
    /// `within` is any address of it.
    pub(super) fn make_private(&self, place: &AtomicU64, within: VirtAddr) {
        let _claim = self.record.claim();
        if is_shared::<A>(place.load(Ordering::Acquire)) {
            let _ = self.make_private_claimed(place, within);
        }
    }

    fn make_private_claimed(&self, place: &AtomicU64, within: VirtAddr) -> Attempt {
        let (vm, record) = (self.vm, self.record);
        let Upper::Table { frame: shared, .. } = A::Format::upper(1, place.load(Ordering::Acquire)) else {
            return Attempt::Done;
        };
        let Some(own) = self.take_promised() else { return Attempt::Exhausted };
        let start = VirtAddr(within.0 & !(TABLE_SPAN as u64 - 1));
        // SAFETY: the table was just taken, and who else would change the entry has no
        // claim.
        unsafe { make_table_own(vm, place, start, shared, own) };
        record.revoked.replaced(vm.arch.current_cpu());
        Attempt::Done
    }

    fn make_own(&self, shared: &SharedPage<'_>, written: bool) -> Attempt {
        let attempt = shared.make_own(self.vm, written, || self.take_promised());
        if attempt == Attempt::Done {
            self.record.revoked.replaced(self.vm.arch.current_cpu());
        }
        attempt
    }

    /// A frame of zeros of those that were promised.
    fn take_promised(&self) -> Option<PhysAddr> {
        let one_less = |left: usize| left.checked_sub(1);
        self.record.promised.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).ok()?;
        Some(self.vm.arena.take(&self.vm.arch))
    }

    /// A page of an own table, if it is shared.
    fn shared_page(&self, page: usize) -> Option<SharedPage<'r>> {
        let leaf = self.leaf(page)?;
        let old = leaf.load(Ordering::Acquire);
        let Entry::Present { access: Access::CopyOnWrite, frame: shown, .. } = A::Format::decode(old) else {
            return None;
        };
        Some(SharedPage { start: self.page(page), leaf, old, shown })
    }

    /// The leaf entry of a page, in whatever table its granule has.
    pub(super) fn leaf(&self, page: usize) -> Option<&'r AtomicU64> {
        let entry = self.directory_entry(page / ENTRIES_PER_TABLE)?.load(Ordering::Acquire);
        Some(&self.vm.table_of(entry)?[page % ENTRIES_PER_TABLE])
    }

    /// The directory's entry for granule `nth`.
    pub(super) fn directory_entry(&self, nth: usize) -> Option<&'r AtomicU64> {
        tables::directory_entry(self.vm, self.base.offset(nth * TABLE_SPAN))
    }

    pub(super) fn page(&self, page: usize) -> VirtAddr {
        self.base.offset(page * PAGE_SIZE)
    }
}

/// The pages of a part in bytes.
fn pages_of(offset: usize, len: usize) -> (usize, usize) {
    let first = offset / PAGE_SIZE;
    (first, if len == 0 { first } else { (offset + len).div_ceil(PAGE_SIZE) })
}
