//! A slot's record, and the list of slots by age.
//!
//! Slots name each other by number, so that their records can lie anywhere. A
//! record of zeros is that of a slot that was never used: storage that was just
//! cleared is a whole allocator's.

use core::{
    mem::replace,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::MemoryInModule;

/// What an index allocator keeps of one slot. As [`Link::default`] makes it, or
/// as zeros: never used.
///
/// Everything is read and written under the lock of the slot's shard. That the
/// fields are atomic makes sharing them sound, and costs nothing.
#[derive(Debug, Default)]
pub struct Link {
    /// Of the key that the slot is used by, or was last.
    module: AtomicU64,
    /// The rest of the key, with the slot's shard and state: see [`Key`].
    tag: AtomicU64,
    bytes_resident: AtomicUsize,
    /// Warm: the slots that were given back just before and after.
    older: AtomicU32,
    /// Cold: the slot below it on the stack.
    newer: AtomicU32,
    /// The slots of the same key that were given back just before and after.
    /// The newest has no use for the latter.
    pub(super) older_of_key: AtomicU32,
    pub(super) newer_of_key: AtomicU32,
    /// Of a key's newest slot: that of another key in the same bucket.
    pub(super) next_key: AtomicU32,
}

const _: () = assert!(size_of::<Link>() <= 48);

impl Link {
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.tag.load(Relaxed) & STATE == USED
    }

    /// The key that used it last, if it is warm.
    pub(super) fn warm_of(&self) -> Option<Key> {
        let tag = self.tag.load(Relaxed);
        (tag & STATE == WARM).then(|| Key { module: self.module.load(Relaxed), tag })
    }

    #[inline]
    pub(super) fn is_warm_with(&self, key: Key) -> bool {
        self.module.load(Relaxed) == key.module && self.tag.load(Relaxed) == key.tag
    }

    #[cfg(feature = "wasmtime-platform")]
    pub(super) fn is_used_by(&self, key: Key) -> bool {
        self.module.load(Relaxed) == key.module && self.tag.load(Relaxed) == key.tag ^ WARM ^ USED
    }

    /// The number of its shard, once it was used.
    #[inline]
    pub(super) fn shard(&self) -> usize {
        usize::from((self.tag.load(Relaxed) >> SHARD_SHIFT).to_le_bytes()[0])
    }

    #[inline]
    pub(super) fn bytes_resident(&self) -> usize {
        self.bytes_resident.load(Relaxed)
    }

    #[inline]
    pub(super) fn become_used(&self, key: Key) {
        self.module.store(key.module, Relaxed);
        self.tag.store(key.tag ^ WARM ^ USED, Relaxed);
    }

    /// With the key that used it.
    #[inline]
    pub(super) fn become_warm(&self, bytes_resident: usize) {
        self.tag.store(self.tag.load(Relaxed) ^ USED ^ WARM, Relaxed);
        self.bytes_resident.store(bytes_resident, Relaxed);
    }

    /// Puts it on the stack of cold slots.
    pub(super) fn become_cold(&self, below: Place) {
        self.tag.store(self.tag.load(Relaxed) & !STATE | COLD, Relaxed);
        self.newer.set(below);
    }

    pub(super) fn below(&self) -> Place {
        self.newer.get()
    }
}

/// Whose a slot is, as the `tag` of a warm one has it, so that one comparison
/// answers for all but the module.
///
/// ```text
///   63         32 31           8      2          1     0
///   | index      | shard        | ... | module?  | state |
/// ```
///
/// That no module is named is a key like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    module: u64,
    tag: u64,
}

const STATE: u64 = 3;
/// Never used is 0.
const USED: u64 = 1;
const WARM: u64 = 2;
const COLD: u64 = 3;
const HAS_MODULE: u64 = 1 << 2;
const SHARD_SHIFT: u32 = 8;
const INDEX_SHIFT: u32 = 32;

impl Key {
    #[inline]
    pub(super) fn new(of: Option<MemoryInModule>, shard: u8) -> Self {
        let tag = u64::from(shard) << SHARD_SHIFT | WARM;
        of.map_or(Self { module: 0, tag }, |MemoryInModule { module, index }| Self {
            module: module.0,
            tag: u64::from(index) << INDEX_SHIFT | HAS_MODULE | tag,
        })
    }

    /// A number below `limit` that looks random.
    pub(super) fn hash(self, limit: u32) -> u32 {
        /// 2^64 divided by the golden ratio, odd.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        // The index comes to the lower half, from where it spreads.
        let word = self.module.wrapping_mul(SPREAD) ^ self.tag.rotate_left(INDEX_SHIFT);
        let fraction = word.wrapping_mul(SPREAD) >> 32;
        ((fraction * u64::from(limit)) >> 32) as u32
    }
}

/// A slot's number plus one; 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    pub(super) const NOBODY: Self = Self(0);

    /// Nobody, of a number that no slot has.
    #[inline]
    pub(super) const fn of(slot: u32) -> Self {
        Self(slot.wrapping_add(1))
    }

    #[inline]
    pub(super) const fn slot(self) -> u32 {
        self.0.wrapping_sub(1)
    }
}

/// An atomic that holds a [`Place`].
pub(super) trait Holds {
    fn get(&self) -> Place;
    fn set(&self, place: Place);
}

impl Holds for AtomicU32 {
    #[inline]
    fn get(&self) -> Place {
        Place(self.load(Relaxed))
    }

    #[inline]
    fn set(&self, place: Place) {
        self.store(place.0, Relaxed);
    }
}

/// The records of all slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links<'a>(pub(super) &'a [Link]);

impl<'a> Links<'a> {
    /// The record of a slot, unless `place` is nobody.
    #[inline]
    pub(super) fn at(self, place: Place) -> Option<&'a Link> {
        self.0.get((place.0 as usize).wrapping_sub(1))
    }
}

/// Warm slots in the order in which they were given back.
///
/// ```text
///   oldest ──newer──> slot ──newer──> newest
///          <──older──      <──older──
/// ```
#[derive(Debug, Default)]
pub(super) struct ByAge {
    pub(super) oldest: Place,
    newest: Place,
}

impl ByAge {
    pub(super) fn push(&mut self, links: Links<'_>, place: Place, link: &Link) {
        let older = replace(&mut self.newest, place);
        link.older.set(older);
        link.newer.set(Place::NOBODY);
        match links.at(older) {
            Some(older) => older.newer.set(place),
            None => self.oldest = place,
        }
    }

    pub(super) fn remove(&mut self, links: Links<'_>, link: &Link) {
        let (older, newer) = (link.older.get(), link.newer.get());
        match links.at(older) {
            Some(older) => older.newer.set(newer),
            None => self.oldest = newer,
        }
        match links.at(newer) {
            Some(newer) => newer.older.set(older),
            None => self.newest = older,
        }
    }
}
