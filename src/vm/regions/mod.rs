//! Address space that is no slot's: regions of any size, each with page tables
//! of its own.
//!
//! ```text
//!   | granule | granule | granule | granule | ...      2 MiB each
//!   | front   |<- base, bytes -->| guard    | next region ...
//!   used:  1  |  1         1     |  1       | 1
//!   begins: 1 |  0         0     |  0       | 1
//!   record: 7                                 2        of each that begins
//! ```
//!
//! A region takes whole granules, those of its guards included. What is mapped
//! in it is written in its page tables and nowhere else; leaf tables come from
//! the arena when access is first given, and go back with the region.
//!
//! From any address inside, [`Regions::locate`] finds the region's record
//! without a lock: backwards over the bitmap `begins` to the granule where it
//! begins, a word for each 128 MiB, so 33 for a memory of 4 GiB; from there by
//! an array. Each record has a lock of its own for edits. That of the address
//! space is held to find room and to give it back, and no longer.

mod growth;
mod plain;
mod record;
mod sharing;
mod sizes;
mod tables;
mod view;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use allotment_arch::{Arch, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, VirtAddr, page_ceil};
use spin::{Mutex, MutexGuard};

use super::{Records, Vm, address_space::AddressSpace, distance};
use crate::Error;

pub(crate) use plain::MAPPED_MEMORY;
use record::{Extent, RegionRecord};
pub(crate) use record::{Label, RegionId};
pub(crate) use sizes::RegionSizes;
pub(crate) use tables::entry;
pub use view::RegionView;

/// A region begins at a multiple of this many bytes.
pub(crate) const REGION_GRANULE: usize = TABLE_SPAN;

#[derive(Debug)]
pub(crate) struct Regions {
    start: VirtAddr,
    space: AddressSpace,
    /// A bit per granule: whether a region begins there.
    begins: Records<AtomicU64>,
    /// Which record a region has that begins at a granule.
    record_at: Records<AtomicU32>,
    records: Records<RegionRecord>,
    free: Mutex<FreeRecords>,
}

/// Records that no region has.
#[derive(Debug)]
struct FreeRecords {
    /// One that came back, plus 1. Each names the next.
    top: u32,
    /// Number of the first that was never used.
    fresh: u32,
    in_use: usize,
}

/// What to reserve. Sizes are bytes, of any number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    /// At least so much stays unmapped before the base.
    pub(crate) guard_before: usize,
    /// From the base: what may become accessible.
    pub(crate) bytes: usize,
    /// At least so much stays unmapped after that.
    pub(crate) guard_after: usize,
    pub(crate) label: Label,
    /// Whether pages may be shared until they are written.
    pub(crate) lazy: bool,
}

/// Where an address stands in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionPosition {
    pub(crate) id: RegionId,
    pub(crate) label: Label,
    /// Bytes from the base. Negative in the guard before.
    pub(crate) offset: i64,
    /// Bytes from the base that may become accessible.
    pub(crate) bytes: usize,
    /// Bytes from the base above which no page has a frame.
    pub(crate) reach: usize,
}

impl Regions {
    /// Nothing reserved in the address space from `start`.
    ///
    /// # Safety
    ///
    /// `sizes.bytes()` at `place`, which is aligned to pages, are the caller's
    /// to give away, and nothing else uses them from now on.
    pub(crate) unsafe fn new<A: Arch>(
        arch: &A,
        start: VirtAddr,
        sizes: RegionSizes,
        place: PhysAddr,
    ) -> Self {
        let places = sizes.places();
        let (used, full) = AddressSpace::words(sizes.granules);
        let zero = |_| AtomicU64::new(0);
        // SAFETY: `places` set each of these five apart in what is ours to use.
        let used_words = unsafe { Records::new(arch, place.offset(places.used), used, zero) };
        // SAFETY: see above.
        let full_words = unsafe { Records::new(arch, place.offset(places.full), full, zero) };
        // SAFETY: see above.
        let begins = unsafe { Records::new(arch, place.offset(places.begins), used, zero) };
        // SAFETY: see above.
        let record_at = unsafe { Records::as_found(arch, place.offset(places.record_at), sizes.granules) };
        // SAFETY: see above.
        let records = unsafe {
            Records::new(arch, place.offset(places.records), sizes.records, |_| RegionRecord::default())
        };
        let space = AddressSpace::new(sizes.granules, used_words, full_words);
        let free = Mutex::new(FreeRecords { top: 0, fresh: 0, in_use: 0 });
        Self { start, space, begins, record_at, records, free }
    }

    /// Whether `address` lies in this address space, reserved or not.
    pub(crate) fn contains(&self, address: VirtAddr) -> bool {
        self.granule(address).is_some()
    }

    /// Regions there are.
    pub(crate) fn in_use(&self) -> usize {
        self.free.lock().in_use
    }

    /// Bytes of the longest range that could be reserved, guards included.
    pub(crate) fn largest_free(&self) -> usize {
        self.space.longest_free() * REGION_GRANULE
    }

    /// Sets address space aside, nothing of it accessible. Returns the base,
    /// a multiple of 2 MiB, too.
    pub(crate) fn reserve(&self, wanted: &Reservation) -> Result<(RegionId, VirtAddr), Error> {
        let no_space = Error::OutOfAddressSpace { requested: wanted.bytes };
        let front = wanted.guard_before.div_ceil(REGION_GRANULE);
        let granules = wanted
            .bytes
            .checked_add(wanted.guard_after)
            .and_then(|bytes| bytes.div_ceil(REGION_GRANULE).max(1).checked_add(front))
            .ok_or(no_space)?;
        let number = self.take_record()?;
        let Some(first) = self.space.reserve(granules) else {
            self.give_record_back(number);
            return Err(no_space);
        };
        let extent = Extent { first, granules, front, bytes: wanted.bytes, label: wanted.label };
        let generation = self.records.as_slice()[number as usize].give_out(&extent, wanted.lazy);
        self.record_at.as_slice()[first].store(number, Ordering::Relaxed);
        // From here on others find the record.
        let (word, bit) = word_and_bit(first);
        self.begins.as_slice()[word].fetch_or(bit, Ordering::Release);
        Ok((RegionId { record: number, generation }, self.base(&extent)))
    }

    /// Ends a region: its frames, tables and address space are free again.
    pub(crate) fn release<A: Arch>(&self, vm: &Vm<A>, id: RegionId) -> Result<(), Error> {
        let (record, editing) = self.hold(id)?;
        self.dissolve(vm, id.record, record, editing);
        Ok(())
    }

    /// Moves all pages of a region to a new one, which then has `bytes`
    /// accessible. Nothing is copied, and what was shared is. The old one ends once
    /// that is done.
    ///
    /// Nobody uses the region during the call.
    pub(crate) fn relocate<A: Arch>(
        &self,
        vm: &Vm<A>,
        id: RegionId,
        wanted: &Reservation,
        bytes: usize,
    ) -> Result<(RegionId, VirtAddr), Error> {
        let (old, editing) = self.hold(id)?;
        let (extent, reach) = (old.extent(), old.reach());
        let to = pages_within(bytes, wanted.bytes)?;
        let (new_id, base) = self.reserve(wanted)?;
        // Nobody but this call knows the new region.
        let new = self.hold(new_id)?;
        let frames = match vm.promise(missing(reach, to)) {
            Ok(frames) => frames,
            Err(error) => {
                self.dissolve(vm, new_id.record, new.0, new.1);
                return Err(error);
            }
        };
        // From here on nothing fails.
        let pages = Pages { start: self.base(&extent), count: reach / PAGE_SIZE };
        old.close();
        old.set_reach(0);
        let settled = vm.settle(tables::unlink(vm, pages));
        tables::relink(vm, pages, base, settled);
        new.0.promised.store(old.promised.swap(0, Ordering::AcqRel), Ordering::Release);
        new.0.image.set(old.image.take());
        new.0.revoked.begin(vm.arch.current_cpu());
        new.0.set_reach(reach);
        self.extend_held(vm, new.0, to, frames);
        self.dissolve(vm, id.record, old, editing);
        Ok((new_id, base))
    }

    /// Where `address` stands, if it is in a region or its guards. No lock.
    pub(crate) fn locate(&self, address: VirtAddr) -> Option<RegionPosition> {
        let granule = self.granule(address)?;
        if !self.space.is_used(granule) {
            return None;
        }
        let first = self.begin_before(granule)?;
        let number = self.record_at.as_slice()[first].load(Ordering::Relaxed);
        let (generation, extent, reach) = self.records.as_slice().get(number as usize)?.snapshot()?;
        // Should the region have ended meanwhile, this may be another's.
        if extent.first != first || granule - first >= extent.granules {
            return None;
        }
        let offset = address.0.wrapping_sub(self.base(&extent).0).cast_signed();
        let id = RegionId { record: number, generation };
        Some(RegionPosition { id, label: extent.label, offset, bytes: extent.bytes, reach })
    }

    /// Marks all pages of a region as written, before they are.
    pub(crate) fn mark_written<A: Arch>(&self, vm: &Vm<A>, id: RegionId) {
        if let Ok((record, _editing)) = self.hold(id) {
            let start = self.base(&record.extent());
            let pages = Pages { start, count: record.reach() / PAGE_SIZE };
            tables::for_each_run(vm, pages, super::pages::mark_all_written::<A>);
        }
    }

    /// Whether a region is there still.
    pub(crate) fn check(&self, id: RegionId) -> Result<(), Error> {
        let record = self.records.as_slice().get(id.record as usize);
        record.filter(|record| record.is(id)).map(drop).ok_or(Error::Stale { slot: id.record })
    }

    /// Takes a region apart that the caller holds.
    fn dissolve<A: Arch>(&self, vm: &Vm<A>, number: u32, record: &RegionRecord, editing: MutexGuard<'_, ()>) {
        let (extent, reach) = (record.extent(), record.reach());
        let pages = Pages { start: self.base(&extent), count: reach / PAGE_SIZE };
        record.close();
        let settled = vm.settle(tables::unlink(vm, pages));
        let image = record.image.take();
        let begun = record.begun.load(Ordering::Relaxed);
        let learning = image.map(|image| image.record(vm)).filter(|image| image.is_noted(begun));
        tables::collect(vm, pages, settled, |page| {
            if let (Some(image), Some(offset)) = (learning, distance(pages.start, page)) {
                image.learn(offset / PAGE_SIZE);
            }
        });
        vm.arena.release(record.promised.swap(0, Ordering::AcqRel));
        if let Some(image) = image {
            image.release(vm);
        }
        // Nobody finds it any more, and then its place is free.
        let (word, bit) = word_and_bit(extent.first);
        self.begins.as_slice()[word].fetch_and(!bit, Ordering::Release);
        record.end();
        drop(editing);
        self.space.release(extent.first, extent.granules);
        self.give_record_back(number);
    }

    /// Holds a region for editing, if `id` still names it.
    fn hold(&self, id: RegionId) -> Result<(&RegionRecord, MutexGuard<'_, ()>), Error> {
        let stale = Error::Stale { slot: id.record };
        let record = self.records.as_slice().get(id.record as usize).ok_or(stale)?;
        let editing = record.editing.lock();
        if record.is(id) { Ok((record, editing)) } else { Err(stale) }
    }

    /// The last granule up to this one where a region begins.
    fn begin_before(&self, granule: usize) -> Option<usize> {
        let begins = self.begins.as_slice();
        let (word, bit) = word_and_bit(granule);
        let mut candidates = begins[word].load(Ordering::Acquire) & (bit | (bit - 1));
        let mut at = word;
        while candidates == 0 {
            at = at.checked_sub(1)?;
            candidates = begins[at].load(Ordering::Acquire);
        }
        Some(at * 64 + candidates.ilog2() as usize)
    }

    fn take_record(&self) -> Result<u32, Error> {
        let records = self.records.as_slice();
        let mut free = self.free.lock();
        let number = match free.top.checked_sub(1) {
            Some(top) => {
                free.top = records[top as usize].next_free.load(Ordering::Relaxed);
                top
            }
            None if (free.fresh as usize) < records.len() => {
                free.fresh += 1;
                free.fresh - 1
            }
            None => return Err(Error::OutOfRegions { limit: records.len() }),
        };
        free.in_use += 1;
        Ok(number)
    }

    fn give_record_back(&self, number: u32) {
        let mut free = self.free.lock();
        self.records.as_slice()[number as usize].next_free.store(free.top, Ordering::Relaxed);
        free.top = number + 1;
        free.in_use -= 1;
    }

    fn base(&self, extent: &Extent) -> VirtAddr {
        self.start.offset((extent.first + extent.front) * REGION_GRANULE)
    }

    fn granule(&self, address: VirtAddr) -> Option<usize> {
        let granule = distance(self.start, address)? / REGION_GRANULE;
        (granule < self.space.granules()).then_some(granule)
    }
}

/// Tables and frames that a region needs to grow from `reach` to `to` bytes,
/// both multiples of the page.
fn missing(reach: usize, to: usize) -> usize {
    let all = |bytes: usize| bytes / PAGE_SIZE + bytes.div_ceil(TABLE_SPAN);
    all(to).saturating_sub(all(reach))
}

/// `bytes` rounded up to pages, if there are as many.
fn pages_within(bytes: usize, capacity: usize) -> Result<usize, Error> {
    let too_large = Error::BeyondCapacity { requested: bytes, capacity };
    page_ceil(bytes).filter(|_| bytes <= capacity).ok_or(too_large)
}

/// Where the bit of a granule stands.
fn word_and_bit(granule: usize) -> (usize, u64) {
    (granule / 64, 1 << (granule % 64))
}
