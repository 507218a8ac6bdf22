//! Many slots, and many CPUs.

use alloc::vec::Vec;
use core::{
    iter::from_fn,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    common::together,
    random::Random,
    world::{Index, index, key},
};

const WORKERS: usize = 4;
const ROUNDS: usize = if cfg!(miri) { 20 } else { 2000 };
/// Most that a worker holds.
const MOST: usize = 40;

/// Every worker takes, marks, purges and gives back; between them they can hold
/// every slot.
pub(crate) fn hold_and_release() {
    for (capacity, cpus) in [(WORKERS * MOST, WORKERS), (WORKERS * MOST / 2, 1)] {
        let slots = index(capacity, cpus, 20);
        let holders: Vec<_> = (0..capacity).map(|_| AtomicUsize::new(0)).collect();
        together(WORKERS, |worker| {
            let held = work(&slots, &holders, worker);
            held.into_iter().for_each(|slot| give_back(&slots, &holders, worker, slot, 1));
        });
        assert_eq!(slots.used(), 0);
        let mut left: Vec<_> = from_fn(|| slots.take_least_recently_used()).map(|taken| taken.0).collect();
        assert!(!left.is_empty(), "nothing was given back with bytes");
        assert_eq!(slots.unused_bytes_resident(), 0);
        left.extend(from_fn(|| slots.alloc(0, None)).map(|taken| taken.slot));
        left.sort_unstable();
        assert!(left.into_iter().eq(0..u32::try_from(capacity).unwrap()), "each slot is there once");
        assert_eq!((slots.used(), slots.unused_warm_slots()), (capacity, 0));
    }
}

fn work(slots: &Index, holders: &[AtomicUsize], worker: usize) -> Vec<u32> {
    let mut random = Random::new(worker as u64);
    let mut held: Vec<u32> = Vec::new();
    for _ in 0..ROUNDS {
        let memory = key(random.below(6) as u64, 0);
        let taken = match random.below(10) {
            0 => slots.take_least_recently_used().map(|taken| taken.0),
            1 => memory.and_then(|memory| slots.alloc_affine_and_clear_affinity(memory)),
            2..7 if held.len() < MOST => slots.alloc(worker, memory).map(|taken| taken.slot),
            _ => None,
        };
        if let Some(slot) = taken {
            let before = holders[slot as usize].swap(worker + 1, Ordering::Relaxed);
            assert_eq!(before, 0, "slot {slot} was handed out twice");
            held.push(slot);
        } else if !held.is_empty() {
            let slot = held.swap_remove(random.below(held.len()));
            give_back(slots, holders, worker, slot, random.below(3));
        }
    }
    held
}

fn give_back(slots: &Index, holders: &[AtomicUsize], worker: usize, slot: u32, bytes: usize) {
    assert_eq!(holders[slot as usize].swap(0, Ordering::Relaxed), worker + 1, "another has slot {slot}");
    assert!(if bytes == 0 { slots.free_cold(slot) } else { slots.free(slot, bytes) });
}

/// Takes all slots, gives all back, and takes all again, each with its key.
pub(crate) fn all_of(capacity: usize) {
    let slots = index(capacity, 8, u32::MAX);
    let all = || (0..capacity).map(|n| slots.alloc(n, key(n as u64, 0)).expect("there are slots left"));
    let mut seen = alloc::vec![false; capacity];
    for taken in all() {
        assert!(!core::mem::replace(&mut seen[taken.slot as usize], true) && !taken.warm);
    }
    assert_eq!((slots.alloc(0, None), slots.used()), (None, capacity));
    (0..capacity).for_each(|slot| assert!(slots.free(u32::try_from(slot).unwrap(), 3)));
    let counts = (slots.used(), slots.unused_warm_slots(), slots.unused_bytes_resident());
    assert_eq!(counts, (0, capacity, 3 * capacity));
    let hits = all().filter(|taken| taken.affine).count();
    assert_eq!((hits, slots.used(), slots.unused_bytes_resident()), (capacity, capacity, 0));
}
