//! Which slot is next: order, affinity, eviction, and that no slot is ever two
//! holders'.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "index/crowd.rs"]
mod crowd;
#[path = "index/model.rs"]
mod model;
#[allow(dead_code, reason = "its traces are for machines")]
#[path = "model/random.rs"]
mod random;
#[path = "index/sequences.rs"]
mod sequences;
#[path = "index/world.rs"]
mod world;

use alloc::vec::Vec;

use allotment::{
    CompiledModuleId,
    pooling::{Allocated, MAX_SHARDS, shard_count},
};
use world::{Slots, key};

harness::tests! {
    fn never_used_slots_come_in_order() {
        let slots = Slots::new(100, 1, 0);
        for expected in 0..100 {
            let taken = slots.take(0, key(u64::from(expected), 0));
            assert_eq!(taken, Allocated { slot: expected, affine: false, warm: false, bytes_resident: 0 });
        }
        assert_eq!(slots.alloc(0, None), None);
        assert_eq!(slots.alloc(0, key(3, 0)), None);
        assert_eq!((slots.used(), slots.capacity()), (100, 100));
    }

    fn no_slots_are_handed_out_of_none() {
        let slots = Slots::new(0, 4, 10);
        assert_eq!(slots.alloc(3, key(1, 0)), None);
        assert_eq!(slots.take_least_recently_used(), None);
        assert!(!slots.free(0, 0));
        assert_eq!(slots.capacity(), 0);
    }

    fn there_are_as_many_slots_as_both_storages_have_room_for() {
        let slots = Slots::with_storage(10, 7, 1, 100);
        assert_eq!(slots.capacity(), 7);
        let taken: Vec<_> = core::iter::from_fn(|| slots.alloc(0, None)).map(|taken| taken.slot).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 6]);
    }

    fn a_key_gets_its_slot_back() {
        let slots = Slots::new(100, 1, 100);
        let one = slots.take(0, key(1, 0));
        assert!(slots.free(one.slot, 4096));
        assert_eq!((slots.unused_warm_slots(), slots.unused_bytes_resident()), (1, 4096));
        // Others do not take it while cold ones are left.
        let other = slots.take(0, key(2, 0));
        assert_ne!(other.slot, one.slot);
        assert!(!other.warm);
        // Neither does another memory of the same module, nor no module.
        assert!(!slots.take(0, key(1, 1)).affine);
        assert!(!slots.take(0, None).affine);
        let again = slots.take(0, key(1, 0));
        assert_eq!(again, Allocated { slot: one.slot, affine: true, warm: true, bytes_resident: 4096 });
        assert_eq!((slots.unused_warm_slots(), slots.unused_bytes_resident()), (0, 0));
    }

    fn no_module_is_a_key_of_its_own() {
        let slots = Slots::new(100, 1, 100);
        let none = slots.take(0, None);
        assert!(slots.free(none.slot, 1));
        assert!(!slots.take(0, key(0, 0)).affine, "module 0 is not no module");
        assert_eq!(slots.take(0, None), Allocated { affine: true, warm: true, bytes_resident: 1, ..none });
    }

    fn of_a_keys_slots_the_youngest_comes_first() {
        let slots = Slots::new(10, 1, 10);
        let mut held: Vec<_> = (0..5).map(|_| slots.take(0, key(1, 0)).slot).collect();
        held.swap(1, 4);
        held.iter().for_each(|&slot| assert!(slots.free(slot, 0)));
        for &expected in held.iter().rev() {
            assert_eq!(slots.take(0, key(1, 0)).slot, expected);
        }
    }

    fn few_warm_slots_are_kept_and_of_more_the_oldest_goes() {
        let slots = Slots::new(100, 1, 2);
        let one = slots.take(0, key(1, 0)).slot;
        assert!(slots.free(one, 0));
        let two = slots.take(0, key(2, 0)).slot;
        assert_eq!((one, two), (0, 1), "one warm slot is not enough");
        assert!(slots.free(two, 0));
        // Two are: the oldest goes.
        let three = slots.take(0, key(3, 0));
        assert_eq!((three.slot, three.warm, three.affine), (one, true, false));
        assert!(!slots.take(0, key(1, 0)).affine, "its slot went to another key");
        // That took a cold one, as only one warm slot was left.
        assert_eq!(slots.used(), 2);
        assert!(slots.take(0, key(2, 0)).affine);
        assert!(!slots.take(0, key(4, 0)).warm, "no warm one is left, cold ones are");
        assert_eq!((slots.used(), slots.unused_warm_slots()), (4, 0));
    }

    fn with_no_warm_slots_wanted_they_still_come_before_cold_ones() {
        let slots = Slots::new(3, 1, 0);
        let (one, two) = (slots.take(0, key(1, 0)).slot, slots.take(0, key(2, 0)).slot);
        assert!(slots.free(two, 0));
        assert!(slots.free(one, 0));
        assert!(slots.take(0, key(1, 0)).affine);
        assert_eq!(slots.take(0, key(3, 0)).slot, two);
        assert_eq!(slots.take(0, key(3, 0)).slot, 2);
        assert_eq!(slots.alloc(0, key(3, 0)), None);
    }

    fn each_kind_is_taken_where_the_other_is_exhausted() {
        let slots = Slots::new(3, 1, 100);
        let held: Vec<_> = (0..3).map(|module| slots.take(0, key(module, 0)).slot).collect();
        held.iter().for_each(|&slot| assert!(slots.free(slot, 0)));
        // Below the budget, but there is no cold one.
        let taken = slots.take(0, key(9, 0));
        assert_eq!((taken.slot, taken.warm), (held[0], true));
    }

    fn slots_with_nothing_resident_go_first() {
        let slots = Slots::new(3, 1, 1);
        let held: Vec<_> = (0..3).map(|module| slots.take(0, key(module, 0)).slot).collect();
        assert!(slots.free(held[0], 4096));
        assert!(slots.free(held[1], 0));
        assert!(slots.free(held[2], 8192));
        assert_eq!(slots.take(0, key(9, 0)).slot, held[1]);
        let next = slots.take(0, key(9, 0));
        assert_eq!((next.slot, next.bytes_resident), (held[0], 4096));
        assert_eq!(slots.unused_bytes_resident(), 8192);
    }

    fn what_was_given_back_cold_has_no_key_and_comes_after_never_used() {
        let slots = Slots::new(3, 1, 100);
        let (one, two) = (slots.take(0, key(1, 0)).slot, slots.take(0, key(1, 0)).slot);
        assert!(slots.free_cold(one));
        assert!(slots.free_cold(two));
        assert_eq!((slots.used(), slots.unused_warm_slots()), (0, 0));
        let cold = |slot| Allocated { slot, affine: false, warm: false, bytes_resident: 0 };
        assert_eq!(slots.take(0, key(1, 0)), cold(2));
        assert_eq!(slots.take(0, None), cold(two));
        assert_eq!(slots.take(0, key(1, 0)), cold(one));
        assert_eq!(slots.alloc(0, None), None);
    }

    fn a_slot_is_given_back_once() {
        for (capacity, cpus) in [(4, 1), (200, 3)] {
            let slots = Slots::new(capacity, cpus, 100);
            let never = [0, u32::try_from(capacity).unwrap() - 1, u32::try_from(capacity).unwrap(), u32::MAX];
            for slot in never {
                assert!(!slots.free(slot, 1) && !slots.free_cold(slot), "{slot} was never handed out");
            }
            let (warm, cold) = (slots.take(0, key(1, 0)).slot, slots.take(2, key(2, 0)).slot);
            assert!(slots.free(warm, 4096) && slots.free_cold(cold));
            for slot in [warm, cold] {
                assert!(!slots.free(slot, 1) && !slots.free_cold(slot), "{slot} was given back before");
            }
            assert_eq!((slots.used(), slots.unused_bytes_resident()), (0, 4096));
            let taken: Vec<_> = (0..capacity).map(|_| slots.take(0, key(1, 0)).slot).collect();
            assert_eq!(taken[0], warm, "the first of them is still affine");
            assert_eq!(slots.alloc(0, None), None);
        }
    }

    fn a_purge_finds_all_of_a_module_and_nothing_else() {
        for (capacity, cpus) in [(100, 1), (200, 4)] {
            let slots = Slots::new(capacity, cpus, 100);
            let keys = [key(1, 0), key(1, 1), key(2, 0), None];
            let held: Vec<_> = (0..40).map(|n| slots.take(n, keys[n % 3 + n % 2]).slot).collect();
            held.iter().for_each(|&slot| assert!(slots.free(slot, 4096)));
            let expected = (0..40).filter(|n| n % 3 + n % 2 < 2).count();
            let module = CompiledModuleId(1);
            let purged: Vec<_> = core::iter::from_fn(|| slots.purge(module, 2)).collect();
            assert_eq!(purged.len(), expected);
            assert_eq!(slots.unused_bytes_resident(), (40 - expected) * 4096);
            assert_eq!(slots.alloc_affine_and_clear_affinity(key(1, 1).unwrap()), None);
            assert!(slots.alloc_affine_and_clear_affinity(key(2, 0).unwrap()).is_some_and(|slot| slots.note(slot)));
            // Given back, they are no module's.
            purged.iter().for_each(|&slot| assert!(slots.free(slot, 0)));
            assert_eq!(slots.take_module(module, 2), None);
            assert!((0..cpus).any(|cpu| slots.take(cpu, None).affine));
        }
    }

    fn bytes_are_taken_from_the_oldest_and_from_each_once() {
        let slots = Slots::new(10, 1, 10);
        let held: Vec<_> = (0..6).map(|module| slots.take(0, key(module, 0)).slot).collect();
        for (slot, bytes) in held.iter().zip([10, 0, 30, 0, 50, 60]) {
            assert!(slots.free(*slot, bytes));
        }
        assert_eq!(slots.reclaim(), Some((held[0], 10)));
        assert_eq!(slots.reclaim(), Some((held[2], 30)));
        assert_eq!((slots.used(), slots.unused_bytes_resident()), (2, 110));
        assert!(slots.free(held[0], 0), "warm still, with nothing to take");
        assert!(slots.free_cold(held[2]));
        assert_eq!(slots.reclaim(), Some((held[4], 50)));
        assert_eq!(slots.reclaim(), Some((held[5], 60)));
        assert_eq!(slots.reclaim(), None);
        assert!(slots.take(0, key(0, 0)).affine, "it kept its key");
        assert!(!slots.take(0, key(2, 0)).affine, "it became cold");
    }

    fn bytes_are_taken_from_all_shards_in_turn() {
        let slots = Slots::new(128, 4, 128);
        let held: Vec<_> = (0..128).map(|n| slots.take(n % 4, key(1, 0)).slot).collect();
        held.iter().for_each(|&slot| assert!(slots.free(slot, 1)));
        let mut quarters: Vec<_> = (0..4).map(|_| slots.reclaim().unwrap().0 / 32).collect();
        quarters.sort_unstable();
        assert_eq!(quarters, [0, 1, 2, 3]);
        assert_eq!(core::iter::from_fn(|| slots.reclaim()).count(), 124);
        assert_eq!(slots.unused_bytes_resident(), 0);
    }

    fn shards_are_few_and_only_for_many_slots() {
        assert_eq!([0, 1, 127].map(|capacity| shard_count(capacity, 64)), [1; 3]);
        assert_eq!([0, 1, 2, 15, 16, 17, 1000].map(|cpus| shard_count(128, cpus)), [1, 1, 2, 15, 16, 16, 16]);
    }

    fn every_slot_is_handed_out_once_by_any_number_of_shards() {
        for cpus in 1..=MAX_SHARDS {
            for capacity in [128, 129, 251, 1000] {
                let slots = Slots::new(capacity, cpus, 0);
                // All from one CPU, which probes when its own shard is full.
                let all = core::iter::from_fn(|| slots.alloc(cpus - 1, key(1, 0)));
                assert_eq!(all.count(), capacity);
                assert_eq!(slots.used(), capacity);
            }
        }
    }

    fn each_cpu_begins_at_its_own_part() {
        // 131 slots for 4 CPUs: 33, 33, 33 and 32.
        let slots = Slots::new(131, 4, 0);
        assert_eq!([0, 1, 2, 3].map(|cpu| slots.take(cpu, None).slot), [0, 33, 66, 99]);
        assert_eq!(slots.take(5, None).slot, 34, "there are more CPUs than shards");
        assert_eq!(slots.take(usize::MAX, None).slot, 100);
    }

    fn another_shard_is_asked_only_by_a_full_one() {
        let slots = Slots::new(128, 2, 128);
        let away = slots.take(1, key(1, 0)).slot;
        assert_eq!(away, 64);
        assert!(slots.free(away, 0));
        for expected in 0..64 {
            assert_eq!(slots.take(0, key(1, 0)).slot, expected, "an affine slot elsewhere is no reason");
        }
        let probed = slots.take(0, key(1, 0));
        assert_eq!((probed.slot, probed.affine), (away, true));
        assert!(slots.free(away, 7));
        assert!(slots.take(1, key(1, 0)).affine, "it went back to its own shard");
    }

    fn the_budget_is_divided_and_the_first_shards_have_the_rest() {
        let slots = Slots::new(128, 4, 6);
        for (cpu, budget) in [2, 2, 1, 1].into_iter().enumerate() {
            let modules = 10..20;
            let held: Vec<_> = modules.map(|module| slots.take(cpu, key(module, 0)).slot).collect();
            for (warm, &slot) in held.iter().enumerate() {
                let before = slots.take(cpu, key(99, 0));
                assert_eq!(before.warm, warm >= budget, "with {warm} warm slots in the shard of CPU {cpu}");
                assert!(if before.warm { slots.free(before.slot, 0) } else { slots.free_cold(before.slot) });
                assert!(slots.free(slot, 0));
            }
        }
    }

    fn random_steps_do_what_a_plain_model_does() {
        sequences::on_one_shard();
    }

    fn random_steps_on_several_shards_do_what_a_plain_model_does() {
        sequences::on_several_shards();
    }

    fn affinity_is_common_among_few_modules_and_rare_among_many() {
        let (few, many) = (sequences::hits(10), sequences::hits(100_000));
        assert!(few > 500 && many < 20, "{few} and {many} of 1000");
    }

    fn cpus_at_the_same_time_never_hold_the_same_slot() {
        crowd::hold_and_release();
    }

    fn keys_that_share_a_bucket_stay_apart() {
        // Many more keys than buckets, and each key has two slots.
        let slots = Slots::new(60, 1, 60);
        for round in 0..50 {
            let held: Vec<_> = (0..60).map(|n| slots.take(0, key(round * 30 + n % 30, 0)).slot).collect();
            held.iter().for_each(|&slot| assert!(slots.free(slot, 1)));
            for n in 0..30 {
                let taken = slots.take(0, key(round * 30 + n, 0));
                assert!(taken.affine);
                let at = held.iter().position(|&slot| slot == taken.slot).unwrap();
                assert_eq!(at as u64 % 30, n, "the slot had another key");
                assert!(slots.free(taken.slot, 1));
            }
        }
    }

    fn ten_thousand_slots() {
        crowd::all_of(if cfg!(miri) { 200 } else { 10_000 });
    }

    // Their records need 52 MB, which is more than a kernel here has.
    #[cfg(not(any(target_os = "none", miri)))]
    fn a_million_slots() {
        crowd::all_of(1_000_000);
    }
}
