//! The whole policy, slow and obviously right: lists that are searched.

use alloc::{collections::VecDeque, vec::Vec};
use core::ops::Range;

use allotment::pooling::{Allocated, shard_count};

use crate::world::Key;

pub(crate) struct Model {
    shards: Vec<Shard>,
    next_to_reclaim: usize,
}

struct Shard {
    slots: Range<u32>,
    budget: usize,
    never_used: VecDeque<u32>,
    /// The last to become cold is last.
    cold: Vec<u32>,
    /// The last to be given back is last.
    warm: Vec<Warm>,
    used: Vec<(u32, Key)>,
}

#[derive(Clone, Copy)]
struct Warm {
    slot: u32,
    key: Key,
    bytes: usize,
}

impl Model {
    pub(crate) fn new(capacity: usize, cpus: usize, budget: u32) -> Self {
        let count = shard_count(capacity, cpus);
        let mut next = 0;
        let shards = (0..count).map(|number| {
            let share = |whole: usize| whole / count + usize::from(number < whole % count);
            let slots = next..next + u32::try_from(share(capacity)).unwrap();
            next = slots.end;
            let never_used = slots.clone().collect();
            let budget = share(budget as usize);
            Shard { slots, budget, never_used, cold: Vec::new(), warm: Vec::new(), used: Vec::new() }
        });
        Self { shards: shards.collect(), next_to_reclaim: 0 }
    }

    pub(crate) fn alloc(&mut self, cpu: usize, key: Key) -> Option<Allocated> {
        let home = cpu % self.shards.len();
        self.from(home).find_map(|shard| self.shards[shard].alloc(key))
    }

    pub(crate) fn alloc_affine_and_clear_affinity(&mut self, key: Key) -> Option<u32> {
        self.shards.iter_mut().find_map(|shard| shard.alloc_affine(key, None)).map(|taken| taken.slot)
    }

    pub(crate) fn take_least_recently_used(&mut self) -> Option<(u32, usize)> {
        let first = self.next_to_reclaim % self.shards.len();
        self.next_to_reclaim += 1;
        self.from(first).find_map(|shard| {
            let shard = &mut self.shards[shard];
            let oldest = shard.warm.iter().position(|warm| warm.bytes > 0)?;
            let Warm { slot, key, bytes } = shard.warm.remove(oldest);
            shard.used.push((slot, key));
            Some((slot, bytes))
        })
    }

    pub(crate) fn free(&mut self, slot: u32, bytes: usize) -> bool {
        let Some(shard) = self.of(slot) else { return false };
        let Some(key) = shard.stop_using(slot) else { return false };
        shard.warm.push(Warm { slot, key, bytes });
        true
    }

    pub(crate) fn free_cold(&mut self, slot: u32) -> bool {
        let Some(shard) = self.of(slot) else { return false };
        let was_used = shard.stop_using(slot).is_some();
        shard.cold.extend(was_used.then_some(slot));
        was_used
    }

    /// Slots in use, warm ones, and what is resident in those.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let sum = |count: fn(&Shard) -> usize| self.shards.iter().map(count).sum();
        let bytes = |shard: &Shard| shard.warm.iter().map(|warm| warm.bytes).sum();
        (sum(|shard| shard.used.len()), sum(|shard| shard.warm.len()), sum(bytes))
    }

    /// All shards, beginning at one of them.
    fn from(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.shards.len();
        (0..count).map(move |n| (first + n) % count)
    }

    fn of(&mut self, slot: u32) -> Option<&mut Shard> {
        self.shards.iter_mut().find(|shard| shard.slots.contains(&slot))
    }
}

impl Shard {
    fn alloc(&mut self, key: Key) -> Option<Allocated> {
        if let Some(taken) = self.alloc_affine(key, key) {
            return Some(taken);
        }
        if self.warm.len() < self.budget {
            self.alloc_cold(key).or_else(|| self.alloc_oldest(key))
        } else {
            self.alloc_oldest(key).or_else(|| self.alloc_cold(key))
        }
    }

    fn alloc_affine(&mut self, key: Key, new: Key) -> Option<Allocated> {
        let youngest = self.warm.iter().rposition(|warm| warm.key == key)?;
        Some(Allocated { affine: true, ..self.take(youngest, new) })
    }

    fn alloc_oldest(&mut self, key: Key) -> Option<Allocated> {
        let empty = self.warm.iter().position(|warm| warm.bytes == 0);
        let oldest = empty.or((!self.warm.is_empty()).then_some(0))?;
        Some(self.take(oldest, key))
    }

    fn take(&mut self, at: usize, key: Key) -> Allocated {
        let Warm { slot, bytes, .. } = self.warm.remove(at);
        self.used.push((slot, key));
        Allocated { slot, affine: false, warm: true, bytes_resident: bytes }
    }

    fn alloc_cold(&mut self, key: Key) -> Option<Allocated> {
        let slot = self.never_used.pop_front().or_else(|| self.cold.pop())?;
        self.used.push((slot, key));
        Some(Allocated { slot, affine: false, warm: false, bytes_resident: 0 })
    }

    /// The key of a slot that was in use.
    fn stop_using(&mut self, slot: u32) -> Option<Key> {
        let at = self.used.iter().position(|used| used.0 == slot)?;
        Some(self.used.swap_remove(at).1)
    }
}
