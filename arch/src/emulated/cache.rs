//! What one CPU has cached: translations, and pointers to tables.

use core::hash::{BuildHasherDefault, Hasher};
use std::{collections::HashMap, vec::Vec};

use super::FaultKind;
use crate::VirtAddr;

/// Addresses that agree above bit `shift`, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new(address: VirtAddr, shift: u32) -> Self {
        // No shift is below 12 or above 63, so that both parts fit.
        Self((address.0 >> shift) << 6 | u64::from(shift))
    }

    pub(super) fn shift(self) -> u32 {
        (self.0 & 63) as u32
    }

    /// The first address.
    pub(super) fn start(self) -> VirtAddr {
        VirtAddr((self.0 >> 6) << self.shift())
    }

    pub(super) fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// Whether one of the `bytes` from `start` on is among the addresses.
    pub(super) fn overlaps(self, start: VirtAddr, bytes: u64) -> bool {
        let own = self.start().0;
        start.0.wrapping_sub(own) < self.bytes() || own.wrapping_sub(start.0) < bytes
    }
}

/// A translation: where a page, run or block leads, and with which rights, the
/// limits of all tables above applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    /// First physical byte.
    pub(super) frame: u64,
    /// Whether writes are allowed, be it after a mark.
    pub(super) writable: bool,
    pub(super) executable: bool,
    /// Whether writes leave no mark any more.
    pub(super) dirty: bool,
    /// Whether it survives what drops one identifier only.
    pub(super) global: bool,
    /// What break-before-make watches beside frame and size.
    pub(super) attributes: u64,
    /// Table level of the entry that it came from.
    pub(super) level: u8,
}

impl Translation {
    /// All sizes, as logarithms, that either architecture has.
    pub(super) const SHIFTS: [u32; 4] = [12, 16, 21, 30];

    pub(super) fn allows(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::Read => true,
            FaultKind::Write => self.writable,
            FaultKind::Execute => self.executable,
        }
    }
}

/// A pointer to a table, with the limits from the root down to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) table: u64,
    pub(super) read_only: bool,
    pub(super) no_execute: bool,
}

/// Entries by key. One per key: a CPU that has an old and a new translation
/// for an address shows either.
pub(super) struct Cache<V> {
    index: HashMap<Key, usize, BuildHasherDefault<Mix>>,
    entries: Vec<(Key, V)>,
    /// How many keys have each shift: looking up sizes that nobody uses would
    /// be most of the time.
    of_shift: [u32; 64],
}

impl<V> Cache<V> {
    /// Beyond so many a random one is evicted, as on any CPU.
    const MOST: usize = 1024;

    pub(super) fn new() -> Self {
        Self { index: HashMap::default(), entries: Vec::new(), of_shift: [0; 64] }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: Key) -> Option<&V> {
        if self.of_shift[key.shift() as usize] == 0 {
            return None;
        }
        self.index.get(&key).map(|&at| &self.entries[at].1)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        self.index.get(&key).map(|&at| &mut self.entries[at].1)
    }

    /// Inserts or replaces. `random` names the victim where there is no room.
    pub(super) fn insert(&mut self, key: Key, value: V, random: u64) {
        if let Some(old) = self.get_mut(key) {
            *old = value;
            return;
        }
        if self.entries.len() == Self::MOST {
            self.remove_at((random % Self::MOST as u64) as usize);
        }
        self.index.insert(key, self.entries.len());
        self.entries.push((key, value));
        self.of_shift[key.shift() as usize] += 1;
    }

    pub(super) fn remove(&mut self, key: Key) {
        if let Some(&at) = self.index.get(&key) {
            self.remove_at(at);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Key, &V) -> bool) {
        for at in (0..self.entries.len()).rev() {
            let (key, value) = &self.entries[at];
            if !keep(*key, value) {
                self.remove_at(at);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
        self.of_shift = [0; 64];
    }

    pub(super) fn nth(&self, at: usize) -> &(Key, V) {
        &self.entries[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Key, V)> {
        self.entries.iter()
    }

    fn remove_at(&mut self, at: usize) {
        let (key, _) = self.entries.swap_remove(at);
        self.index.remove(&key);
        self.of_shift[key.shift() as usize] -= 1;
        if let Some((moved, _)) = self.entries.get(at) {
            self.index.insert(*moved, at);
        }
    }
}

/// The same order in every run, which the standard hasher does not give.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}
