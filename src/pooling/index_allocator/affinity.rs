//! Which warm slots a key has: a hash table whose entries are the slots' own
//! records.
//!
//! ```text
//!   bucket ──> newest of key A ──next_key──> newest of key B ──> nobody
//!                   │ older_of_key                │
//!                   v                             v
//!              older of key A                   nobody
//! ```
//!
//! A search steps over keys, never over the slots of one.

use core::sync::atomic::AtomicU32;

use super::links::{Holds, Key, Link, Links, Place};

/// One bucket with its keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<'a> {
    pub(super) first: &'a AtomicU32,
    pub(super) links: Links<'a>,
}

/// The newest slot of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest<'a> {
    /// What points to it: the bucket, or the newest slot of the key before.
    from: &'a AtomicU32,
    pub(super) place: Place,
    pub(super) link: &'a Link,
}

impl<'a> Bucket<'a> {
    /// The newest warm slot of `key`.
    pub(super) fn find(self, key: Key) -> Option<Newest<'a>> {
        let mut from = self.first;
        loop {
            let place = from.get();
            let link = self.links.at(place)?;
            if link.is_warm_with(key) {
                return Some(Newest { from, place, link });
            }
            from = &link.next_key;
        }
    }

    /// Makes a slot the newest of `key`.
    pub(super) fn push(self, place: Place, link: &Link, key: Key) {
        if let Some(older) = self.find(key) {
            link.older_of_key.set(older.place);
            older.link.newer_of_key.set(place);
            link.next_key.set(older.link.next_key.get());
            older.from.set(place);
        } else {
            link.older_of_key.set(Place::NOBODY);
            link.next_key.set(self.first.get());
            self.first.set(place);
        }
    }

    /// Takes out a key's newest slot. The next older one takes its place, if
    /// there is one.
    pub(super) fn pop(self, newest: Newest<'_>) {
        let Newest { from, link, .. } = newest;
        let (older, next_key) = (link.older_of_key.get(), link.next_key.get());
        if let Some(link) = self.links.at(older) {
            link.next_key.set(next_key);
            from.set(older);
        } else {
            from.set(next_key);
        }
    }

    /// Takes out any slot of `key`.
    pub(super) fn remove(self, place: Place, link: &Link, key: Key) {
        let Some(newest) = self.find(key) else { return };
        if newest.place == place {
            return self.pop(newest);
        }
        let (older, newer) = (link.older_of_key.get(), link.newer_of_key.get());
        if let Some(newer) = self.links.at(newer) {
            newer.older_of_key.set(older);
        }
        if let Some(older) = self.links.at(older) {
            older.newer_of_key.set(newer);
        }
    }
}
