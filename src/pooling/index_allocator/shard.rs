//! A contiguous part of the slots under one lock.
//!
//! ```text
//!              alloc          free
//!   never used ─────> used <────────> warm   affine to its last key, may have bytes resident
//!                      │ ^    alloc
//!            free_cold v │ alloc
//!                     cold                   as never used, but for its number in the order
//! ```
//!
//! The slot that was given back last waits outside of all lists, since it is
//! often the next one to be taken, by the same key. Then neither has touched a
//! list. It is put into its lists when the next slot is given back.

use core::{
    mem::replace,
    ops::Range,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::{
    Allocated,
    affinity::Bucket,
    links::{ByAge, Key, Link, Links, Place},
};
use crate::MemoryInModule;

/// On cache lines of its own: 128 bytes since CPUs fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) number: u8,
    /// The first of the shard's slots, and of its part of the buckets.
    first: u32,
    /// How many there are.
    len: u32,
    max_unused_warm_slots: usize,
    pub(super) counts: Counts,
    /// Held for a few stores: fairness would cost more than it gives.
    lists: SpinMutex<Lists>,
}

/// Written under the lock, read without.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Slots that are in use or warm: who reuses a warm one counts nothing.
    touched: AtomicUsize,
    unused_warm_slots: AtomicUsize,
    unused_bytes_resident: AtomicUsize,
}

/// The lists, locked.
pub(super) type Guard<'a> = SpinMutexGuard<'a, Lists>;

#[derive(Debug)]
pub(super) struct Lists {
    /// The warm slot that was given back last, if it is in no list yet.
    latest: Place,
    /// The first slot that was never used, as all after it.
    fresh: u32,
    /// The slot that became cold last, on a stack.
    cold: Place,
    /// Warm slots with nothing resident.
    empty: ByAge,
    /// Warm slots with something resident.
    resident: ByAge,
}

/// Where the allocator keeps its slots' records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) links: Links<'a>,
    pub(super) buckets: &'a [AtomicU32],
}

impl Shard {
    pub(super) fn new(number: u8, slots: Range<u32>, max_unused_warm_slots: usize) -> Self {
        let lists = Lists {
            latest: Place::NOBODY,
            fresh: slots.start,
            cold: Place::NOBODY,
            empty: ByAge::default(),
            resident: ByAge::default(),
        };
        let lists = SpinMutex::new(lists);
        let (first, len) = (slots.start, slots.end - slots.start);
        Self { number, first, len, max_unused_warm_slots, counts: Counts::default(), lists }
    }

    /// The slot that was given back last if `key` did so, else the lists, to look
    /// further.
    #[inline]
    pub(super) fn alloc_latest(&self, links: Links<'_>, key: Key) -> Result<Allocated, Guard<'_>> {
        let mut lists = self.lists.lock();
        let Some(link) = links.at(lists.latest).filter(|link| link.is_warm_with(key)) else {
            return Err(lists);
        };
        let slot = replace(&mut lists.latest, Place::NOBODY).slot();
        Ok(Allocated { slot, affine: true, warm: true, bytes_resident: self.reuse(link, key) })
    }

    /// A slot for `key`, which is not that of the slot that was given back last.
    pub(super) fn alloc_listed(
        &self,
        lists: &mut Lists,
        storage: Storage<'_>,
        key: Key,
    ) -> Option<Allocated> {
        if let Some(taken) = self.alloc_affine(lists, storage, key, key) {
            return Some(taken);
        }
        if self.counts.unused_warm_slots.load(Relaxed) < self.max_unused_warm_slots {
            self.alloc_cold(lists, storage, key).or_else(|| self.alloc_oldest(lists, storage, key))
        } else {
            self.alloc_oldest(lists, storage, key).or_else(|| self.alloc_cold(lists, storage, key))
        }
    }

    /// The slot that `key` gave back last, for use by no module.
    pub(super) fn alloc_and_clear(&self, storage: Storage<'_>, key: MemoryInModule) -> Option<u32> {
        let (key, none) = (Key::new(Some(key), self.number), Key::new(None, self.number));
        let mut lists = self.lists.lock();
        self.list_latest(&mut lists, storage.links, storage.buckets);
        self.alloc_affine(&mut lists, storage, key, none).map(|taken| taken.slot)
    }

    /// The slot with something resident that was given back first, and how much
    /// that is. The slot keeps its key.
    pub(super) fn take_resident(&self, storage: Storage<'_>) -> Option<(u32, usize)> {
        let mut lists = self.lists.lock();
        self.list_latest(&mut lists, storage.links, storage.buckets);
        let place = lists.resident.oldest;
        let key = storage.links.at(place)?.warm_of()?;
        let taken = self.take(&mut lists, storage, place, key)?;
        Some((taken.slot, taken.bytes_resident))
    }

    /// Gives back a slot that stays warm. Whether it was in use.
    #[inline]
    pub(super) fn free(
        &self,
        storage: Storage<'_>,
        place: Place,
        link: &Link,
        bytes_resident: usize,
    ) -> bool {
        let mut lists = self.lists.lock();
        if !link.is_used() {
            return false;
        }
        if lists.latest != Place::NOBODY {
            self.list_latest(&mut lists, storage.links, storage.buckets);
        }
        lists.latest = place;
        link.become_warm(bytes_resident);
        change(&self.counts.unused_warm_slots, |count| count.wrapping_add(1));
        change(&self.counts.unused_bytes_resident, |bytes| bytes.wrapping_add(bytes_resident));
        true
    }

    /// Has a slot in use be `key`'s.
    #[cfg(feature = "wasmtime-platform")]
    pub(super) fn set_key(&self, link: &Link, key: Key) {
        let _lists = self.lists.lock();
        if link.is_used() {
            link.become_used(key);
        }
    }

    /// Gives back a slot with nothing resident. Whether it was in use.
    pub(super) fn free_cold(&self, place: Place, link: &Link) -> bool {
        let mut lists = self.lists.lock();
        if !link.is_used() {
            return false;
        }
        link.become_cold(lists.cold);
        lists.cold = place;
        change(&self.counts.touched, |count| count.wrapping_sub(1));
        true
    }

    /// Puts the slot that was given back last into its lists, if it is not.
    // By itself and with what fits in registers, so that the usual way saves none.
    #[inline(never)]
    fn list_latest(&self, lists: &mut Lists, links: Links<'_>, buckets: &[AtomicU32]) {
        let storage = Storage { links, buckets };
        let place = replace(&mut lists.latest, Place::NOBODY);
        let Some(link) = storage.links.at(place) else { return };
        let Some(key) = link.warm_of() else { return };
        let Some(bucket) = self.bucket(storage, key) else { return };
        bucket.push(place, link, key);
        lists.by_age(link.bytes_resident()).push(links, place, link);
    }

    /// The slot that `key` gave back last, for use by `new`, if it is listed.
    fn alloc_affine(&self, lists: &mut Lists, storage: Storage<'_>, key: Key, new: Key) -> Option<Allocated> {
        let bucket = self.bucket(storage, key)?;
        let newest = bucket.find(key)?;
        bucket.pop(newest);
        lists.by_age(newest.link.bytes_resident()).remove(storage.links, newest.link);
        let bytes_resident = self.reuse(newest.link, new);
        Some(Allocated { slot: newest.place.slot(), affine: true, warm: true, bytes_resident })
    }

    /// The warm slot that was given back first: one with nothing resident if
    /// there is, since its key loses less.
    fn alloc_oldest(&self, lists: &mut Lists, storage: Storage<'_>, key: Key) -> Option<Allocated> {
        self.list_latest(lists, storage.links, storage.buckets);
        let (empty, resident) = (lists.empty.oldest, lists.resident.oldest);
        let place = if empty == Place::NOBODY { resident } else { empty };
        self.take(lists, storage, place, key)
    }

    /// The first slot that was never used, else the one that became cold last.
    fn alloc_cold(&self, lists: &mut Lists, storage: Storage<'_>, key: Key) -> Option<Allocated> {
        let place = if lists.fresh < self.first + self.len {
            lists.fresh += 1;
            Place::of(lists.fresh - 1)
        } else {
            let place = lists.cold;
            lists.cold = storage.links.at(place)?.below();
            place
        };
        storage.links.at(place)?.become_used(key);
        change(&self.counts.touched, |count| count.wrapping_add(1));
        Some(Allocated { slot: place.slot(), affine: false, warm: false, bytes_resident: 0 })
    }

    /// A warm slot, which is listed, for use by `key`.
    fn take(&self, lists: &mut Lists, storage: Storage<'_>, place: Place, key: Key) -> Option<Allocated> {
        let link = storage.links.at(place)?;
        let last = link.warm_of()?;
        self.bucket(storage, last)?.remove(place, link, last);
        lists.by_age(link.bytes_resident()).remove(storage.links, link);
        let bytes_resident = self.reuse(link, key);
        Some(Allocated { slot: place.slot(), affine: false, warm: true, bytes_resident })
    }

    /// Makes a warm slot, which is in no list now, used by `key`. What it has
    /// resident.
    #[inline]
    fn reuse(&self, link: &Link, key: Key) -> usize {
        let bytes_resident = link.bytes_resident();
        link.become_used(key);
        change(&self.counts.unused_warm_slots, |count| count.wrapping_sub(1));
        change(&self.counts.unused_bytes_resident, |bytes| bytes.wrapping_sub(bytes_resident));
        bytes_resident
    }

    /// The bucket of `key`, which there is if the shard has slots.
    fn bucket<'a>(&self, Storage { links, buckets }: Storage<'a>, key: Key) -> Option<Bucket<'a>> {
        let number = self.first + key.hash(self.len);
        Some(Bucket { first: buckets.get(number as usize)?, links })
    }
}

impl Lists {
    fn by_age(&mut self, bytes_resident: usize) -> &mut ByAge {
        if bytes_resident == 0 { &mut self.empty } else { &mut self.resident }
    }
}

impl Counts {
    pub(super) fn used(&self) -> usize {
        // The difference of two moments may be less than none.
        self.touched.load(Relaxed).saturating_sub(self.unused_warm_slots())
    }

    pub(super) fn unused_warm_slots(&self) -> usize {
        self.unused_warm_slots.load(Relaxed)
    }

    pub(super) fn unused_bytes_resident(&self) -> usize {
        self.unused_bytes_resident.load(Relaxed)
    }
}

/// Changes a count that nobody else changes now.
#[inline]
fn change(count: &AtomicUsize, to: impl FnOnce(usize) -> usize) {
    count.store(to(count.load(Relaxed)), Relaxed);
}
