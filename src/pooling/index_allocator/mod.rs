//! Which slot is next.
//!
//! ```text
//!   alloc(cpu, key) ──> home shard ──> the slot that `key` gave back last
//!                          │           few warm slots:   a cold one,     else the oldest warm one
//!                          │           enough of them:   the oldest one, else a cold one
//!                          └── full ──> the next shard
//!
//!   free(slot) ──> the slot's shard ──> warm: the youngest, and its key's youngest
//! ```
//!
//! A slot that its key used last needs the least to be used again: its memory
//! may still be what it has to become. A cold one needs frames, an old warm one
//! takes what another key may want back. `max_unused_warm_slots` says how many
//! warm slots are enough. It decides what is taken, and limits nothing.
//!
//! All takes constant time and no heap: a slot's record is its place in each
//! list. Slots are numbers here; what they are is somebody else's business.

mod affinity;
mod links;
mod shard;

use core::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use heapless::Vec;

pub use self::links::Link;
use self::{
    links::{Key, Links, Place},
    shard::{Counts, Guard, Shard, Storage},
};
use crate::{CompiledModuleId, MemoryInModule};

/// Hands out slots by number, preferably those that the same memory of the same
/// module had before.
///
/// `L` holds the records of the slots and `B` the [`buckets`] of the search by
/// module. Both give the same slice each time, and that slice belongs to the
/// allocator. It begins as [`Default`] makes it, which is all zeros.
///
/// ```ignore-none
/// use core::sync::atomic::AtomicU32;
/// use allotment::{CompiledModuleId, MemoryInModule, pooling::{Link, ModuleAffinityIndexAllocator}};
///
/// let links: [Link; 10] = Default::default();
/// let buckets: [AtomicU32; 10] = Default::default();
/// let slots = ModuleAffinityIndexAllocator::new(links, buckets, 1, 100);
///
/// let memory = MemoryInModule { module: CompiledModuleId(7), index: 0 };
/// let first = slots.alloc(0, Some(memory)).unwrap();
/// assert!(slots.free(first.slot, 65536));
/// let second = slots.alloc(0, Some(memory)).unwrap();
/// assert_eq!((second.slot, second.affine, second.bytes_resident), (first.slot, true, 65536));
/// ```
pub struct ModuleAffinityIndexAllocator<L, B> {
    links: L,
    buckets: B,
    capacity: u32,
    shards: Vec<Shard, MAX_SHARDS>,
    /// Where to look next for a slot to take frames from.
    next_to_reclaim: AtomicUsize,
}

/// A slot that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Its number, from 0.
    pub slot: u32,
    /// Whether the same key used it last.
    pub affine: bool,
    /// Whether it was used before, and may have something resident.
    pub warm: bool,
    /// Bytes that it was given back with; 0 for a cold one.
    pub bytes_resident: usize,
}

/// Most parts that slots are divided into.
pub const MAX_SHARDS: usize = 16;

/// Fewer slots than this are not divided.
const FEWEST_TO_DIVIDE: usize = 128;

/// How many shards so many slots have, each with its lock, on a machine with
/// `cpus` CPUs.
#[must_use]
pub const fn shard_count(capacity: usize, cpus: usize) -> usize {
    if capacity < FEWEST_TO_DIVIDE || cpus == 0 {
        1
    } else if cpus < MAX_SHARDS {
        cpus
    } else {
        MAX_SHARDS
    }
}

/// How many buckets (of 4 bytes) so many slots need.
#[must_use]
pub const fn buckets(capacity: usize) -> usize {
    // One for each slot: as many keys can be warm.
    capacity
}

impl<L: AsRef<[Link]>, B: AsRef<[AtomicU32]>> ModuleAffinityIndexAllocator<L, B> {
    /// An allocator of never used slots: as many as there are `links` and
    /// `buckets` for, at most [`u32::MAX`].
    ///
    /// `max_unused_warm_slots` is how many warm slots are kept for their keys
    /// before other keys take them rather than cold ones.
    #[must_use]
    pub fn new(links: L, buckets: B, cpus: usize, max_unused_warm_slots: u32) -> Self {
        let room = links.as_ref().len().min(buckets.as_ref().len());
        let capacity = u32::try_from(room).unwrap_or(u32::MAX);
        let count = u8::try_from(shard_count(capacity as usize, cpus)).unwrap_or(1);
        let shards = (0..count).map(|number| {
            let warm = part(max_unused_warm_slots, number, count);
            Shard::new(number, part(capacity, number, count), warm.len())
        });
        Self { links, buckets, capacity, shards: shards.collect(), next_to_reclaim: AtomicUsize::new(0) }
    }

    /// Hands out a slot on behalf of CPU `cpu`. `None` as a key stands for no
    /// module, and for nothing else; `None` as an answer says that all slots
    /// are in use.
    #[inline]
    pub fn alloc(&self, cpu: usize, key: Option<MemoryInModule>) -> Option<Allocated> {
        let home = self.home(cpu)?;
        let latest = home.alloc_latest(Links(self.links.as_ref()), Key::new(key, home.number));
        latest.map_or_else(|lists| self.alloc_further(home, lists, key), Some)
    }

    /// Hands out a slot that was last used by `key`, if there is one. From now
    /// on it counts as one of no module.
    #[must_use]
    pub fn alloc_affine_and_clear_affinity(&self, key: MemoryInModule) -> Option<u32> {
        self.shards.iter().find_map(|shard| shard.alloc_and_clear(self.storage(), key))
    }

    /// The same for any of the `memories` that `module` defines. Looks for each
    /// of them.
    #[must_use]
    pub fn take_module(&self, module: CompiledModuleId, memories: u32) -> Option<u32> {
        (0..memories).find_map(|index| self.alloc_affine_and_clear_affinity(MemoryInModule { module, index }))
    }

    /// Hands out the least recently used slot of some shard that has something
    /// resident, and says how many bytes: for who wants them elsewhere. It
    /// counts as used by the key that it had, until it is given back.
    ///
    /// A slot that is given back counts as just used. Called again and again, this
    /// ends if all that it hands out is given back with nothing resident.
    #[must_use]
    pub fn take_least_recently_used(&self) -> Option<(u32, usize)> {
        let first = self.next_to_reclaim.fetch_add(1, Ordering::Relaxed) % self.shards.len().max(1);
        self.beginning_at(first).find_map(|shard| shard.take_resident(self.storage()))
    }

    /// Takes back a slot. It stays warm for its key, the youngest of all, with
    /// `bytes_resident` bytes.
    ///
    /// Returns `false`, and changes nothing, if the slot is not in use.
    #[inline]
    pub fn free(&self, slot: u32, bytes_resident: usize) -> bool {
        let place = Place::of(slot);
        let found = self.find(place);
        found.is_some_and(|(shard, link)| shard.free(self.storage(), place, link, bytes_resident))
    }

    /// Says whose a slot in use is: who has it knows better than who asked for it.
    /// Nobody but who has it may.
    #[cfg(feature = "wasmtime-platform")]
    pub(crate) fn set_key(&self, slot: u32, key: Option<MemoryInModule>) {
        let place = Place::of(slot);
        let Some((shard, link)) = self.find(place) else { return };
        let key = Key::new(key, shard.number);
        if !link.is_used_by(key) {
            shard.set_key(link, key);
        }
    }

    /// Takes back a slot that has nothing resident, and forgets whose it was.
    ///
    /// Returns `false`, and changes nothing, if the slot is not in use.
    pub fn free_cold(&self, slot: u32) -> bool {
        let place = Place::of(slot);
        self.find(place).is_some_and(|(shard, link)| shard.free_cold(place, link))
    }

    /// A slot of the home shard's lists, else of another shard.
    #[inline(never)]
    fn alloc_further(
        &self,
        home: &Shard,
        mut lists: Guard<'_>,
        key: Option<MemoryInModule>,
    ) -> Option<Allocated> {
        let storage = self.storage();
        if let Some(taken) = home.alloc_listed(&mut lists, storage, Key::new(key, home.number)) {
            return Some(taken);
        }
        // One lock at a time.
        drop(lists);
        self.beginning_at(usize::from(home.number)).skip(1).find_map(|shard| {
            let key = Key::new(key, shard.number);
            let latest = shard.alloc_latest(storage.links, key);
            latest.map_or_else(|mut lists| shard.alloc_listed(&mut lists, storage, key), Some)
        })
    }

    /// The shard that `cpu` asks first. Most machines have no more CPUs than
    /// shards, and most pools one shard: neither needs a division.
    #[inline]
    fn home(&self, cpu: usize) -> Option<&Shard> {
        let shards = &self.shards;
        shards.get(cpu).or_else(|| match shards.len() {
            0 | 1 => shards.first(),
            count => shards.get(cpu % count),
        })
    }

    fn beginning_at(&self, shard: usize) -> impl Iterator<Item = &Shard> {
        self.shards.iter().skip(shard).chain(self.shards.iter().take(shard))
    }

    /// A slot's record and shard: the record says it from the first use on, and
    /// says the same ever after. Of other slots it may be any.
    #[inline]
    fn find(&self, place: Place) -> Option<(&Shard, &Link)> {
        let link = self.storage().links.at(place)?;
        Some((self.shards.get(link.shard())?, link))
    }

    #[inline]
    fn storage(&self) -> Storage<'_> {
        Storage { links: Links(self.links.as_ref()), buckets: self.buckets.as_ref() }
    }
}

/// Counts. None of them waits for a lock: while other CPUs allocate and free,
/// each is right for some moment in each shard.
impl<L, B> ModuleAffinityIndexAllocator<L, B> {
    /// Slots in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Slots in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.sum(Counts::used)
    }

    /// Slots that nobody uses and that are warm.
    #[must_use]
    pub fn unused_warm_slots(&self) -> usize {
        self.sum(Counts::unused_warm_slots)
    }

    /// Bytes that are resident in slots that nobody uses.
    #[must_use]
    pub fn unused_bytes_resident(&self) -> usize {
        self.sum(Counts::unused_bytes_resident)
    }

    fn sum(&self, count: impl Fn(&Counts) -> usize) -> usize {
        let counts = self.shards.iter().map(|shard| count(&shard.counts));
        counts.fold(0, usize::wrapping_add)
    }
}

impl<L, B> fmt::Debug for ModuleAffinityIndexAllocator<L, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleAffinityIndexAllocator")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards.len())
            .field("used", &self.used())
            .field("unused_warm_slots", &self.unused_warm_slots())
            .field("unused_bytes_resident", &self.unused_bytes_resident())
            .finish_non_exhaustive()
    }
}

/// Part `number` of `0..whole` in `count` parts, the first of which are larger
/// by one if they have to be.
fn part(whole: u32, number: u8, count: u8) -> Range<u32> {
    let (number, count) = (u32::from(number), u32::from(count));
    let (size, larger) = (whole / count, whole % count);
    let start = number * size + number.min(larger);
    start..start + size + u32::from(number < larger)
}
