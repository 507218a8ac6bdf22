//! Random steps, compared with the model one by one.

use alloc::vec::Vec;

use crate::{
    model::Model,
    random::{Random, Rounds, Trace, for_each_seed},
    world::{Key, Slots, key},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc(Key),
    Free(u32, usize),
    FreeCold(u32),
    Purge(Key),
    Reclaim,
}

pub(crate) fn on_one_shard() {
    for_each_seed(Rounds { host: 100, host_full: 10_000, bare: 10 }, |seed| {
        let mut random = Random::new(seed);
        let capacity = 1 + random.below(127);
        let cpus = 1 + random.below(4);
        sequence("one shard", seed, &mut random, (capacity, cpus));
    });
}

pub(crate) fn on_several_shards() {
    for_each_seed(Rounds { host: 50, host_full: 5_000, bare: 5 }, |seed| {
        let mut random = Random::new(seed);
        let capacity = 128 + random.below(200);
        let cpus = 2 + random.below(18);
        sequence("several shards", seed, &mut random, (capacity, cpus));
    });
}

/// How many of a thousand allocations got a slot that their key had before.
pub(crate) fn hits(modules: usize) -> usize {
    let (mut random, slots) = (Random::new(1), Slots::new(100, 1, 100));
    let (mut held, mut allocs, mut hits) = (Vec::new(), 0, 0);
    while allocs < 1000 {
        if held.is_empty() || held.len() < 100 && random.percent(50) {
            let taken = slots.take(0, key(random.below(modules) as u64, 0));
            held.push(taken.slot);
            allocs += 1;
            hits += usize::from(taken.affine);
        } else {
            assert!(slots.free(held.swap_remove(random.below(held.len())), 0));
        }
    }
    hits
}

fn sequence(of: &'static str, seed: u64, random: &mut Random, (capacity, cpus): (usize, usize)) {
    let budget = random.pick(&[0, 1, 2, capacity / 3, capacity, 10 * capacity]);
    let budget = u32::try_from(budget).unwrap();
    let modules = random.pick(&[1, 3, 20, 500]);
    let mut trace = Trace::new(of, seed);
    let (slots, mut model) = (Slots::new(capacity, cpus, budget), Model::new(capacity, cpus, budget));
    let mut held = Vec::new();
    // Now more are taken, now more are given back.
    let mut taking = 50;
    for step in 0..if cfg!(miri) { 300 } else { 3000 } {
        if step % 100 == 0 {
            taking = random.pick(&[20, 50, 70, 90]);
        }
        let cpu = random.below(cpus);
        let step = pick(random, &held, capacity, modules, taking);
        trace.note(&step, cpu);
        match step {
            Step::Alloc(key) => {
                let taken = slots.alloc(cpu, key);
                trace.agree("what is handed out", &taken, &model.alloc(cpu, key));
                held.extend(taken.map(|taken| taken.slot));
            }
            Step::Free(slot, bytes) => {
                let freed = slots.free(slot, bytes);
                trace.agree("whether it was in use", &freed, &model.free(slot, bytes));
                held.retain(|&other| other != slot);
            }
            Step::FreeCold(slot) => {
                let freed = slots.free_cold(slot);
                trace.agree("whether it was in use", &freed, &model.free_cold(slot));
                held.retain(|&other| other != slot);
            }
            Step::Purge(key) => {
                let taken = key.and_then(|key| slots.alloc_affine_and_clear_affinity(key));
                trace.agree("what is purged", &taken, &model.alloc_affine_and_clear_affinity(key));
                held.extend(taken.inspect(|&slot| assert!(slots.note(slot))));
            }
            Step::Reclaim => {
                let taken = slots.reclaim();
                trace.agree("whose bytes are taken", &taken, &model.take_least_recently_used());
                held.extend(taken.map(|(slot, _)| slot));
            }
        }
        let counts = (slots.used(), slots.unused_warm_slots(), slots.unused_bytes_resident());
        trace.agree("used, warm and resident", &counts, &model.counts());
        assert_eq!(held.len(), counts.0);
    }
}

fn pick(random: &mut Random, held: &[u32], capacity: usize, modules: usize, taking: usize) -> Step {
    let memory = |random: &mut Random| key(random.below(modules) as u64, u32::from(random.percent(20)));
    if random.percent(taking) {
        return Step::Alloc(if random.percent(10) { None } else { memory(random) });
    }
    let slot = if held.is_empty() || random.percent(5) {
        // Perhaps in use, perhaps not, perhaps no slot at all.
        u32::try_from(random.below(capacity + 2)).unwrap()
    } else {
        random.pick(held)
    };
    match random.below(20) {
        0 => Step::Purge(memory(random)),
        1 => Step::Reclaim,
        2..4 => Step::FreeCold(slot),
        4..8 => Step::Free(slot, 0),
        _ => Step::Free(slot, 1 + random.below(1 << 20)),
    }
}
