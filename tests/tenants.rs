//! Tenants of any shape that share slots: not one foreign byte.
//!
//! ```text
//!   tenant:  begins ─> looks at all it can see ─> leaves its mark ─> grows, moves, traps .. ─> ends
//!                       image over zeros, or         |                    |
//!                       its own marks since          '─ looks again <─────'
//!   beside:  images come and go, somebody hoards frames, others do the same in other slots
//! ```
//!
//! What a tenant should see follows from three words (an image's seed, first page
//! and length) and from what it wrote itself; whatever else it finds is somebody
//! else's. Tenants take turns, which a seed repeats to the letter, or live at the
//! same time on all CPUs. A failure prints its seed and the last operations; on
//! the host one seed runs alone, on every machine, with
//!
//! ```text
//!   ALLOTMENT_SEED=123 cargo test --test tenants tenants_in_turn
//! ```

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "tenants/contents.rs"]
mod contents;
#[path = "tenants/images.rs"]
mod images;
#[path = "tenants/quiet.rs"]
mod quiet;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "every test file uses its own part")]
mod random;
#[path = "tenants/settings.rs"]
mod settings;
#[path = "tenants/tenant.rs"]
mod tenant;
#[path = "tenants/worker.rs"]
mod worker;
#[path = "tenants/world.rs"]
mod world;

use alloc::vec::Vec;

use common::{TestArch, cpus, on, set_up, together};
use random::{Random, Rounds, for_each_seed};
use settings::{Machines, SETTINGS};
use worker::Worker;
use world::World;

harness::tests! {
    fn tenants_in_turn_see_no_foreign_byte() {
        on_every_machine!(in_turn);
    }

    fn tenants_at_once_see_no_foreign_byte() {
        on_every_machine!(at_once);
    }

    fn sharing_slots_interrupt_nobody() {
        on_every_machine!(quiet::daily_work);
    }

    fn a_batch_of_revoked_slots_is_one_round() {
        on_every_machine!(quiet::revocation);
    }
}

/// Each way of living with each setting, with one CPU and with all.
const SEEDS: usize = 2 * SETTINGS.len();
const ROUNDS: Rounds = Rounds { host: SEEDS as u64, host_full: 50 * SEEDS as u64, bare: SEEDS as u64 };

/// Tenants of one seed: 1,000 in all seeds; the host has four machines, which share the
/// 1,000 for one CPU and those for four. Bare metal runs fewer seeds than the host when
/// there is time for all.
fn tenants_of_a_seed() -> usize {
    let all = if cfg!(target_os = "none") && harness::full() { 5_000 } else { 1_000 };
    if cfg!(target_os = "none") { all / SEEDS + 1 } else { all / 2 / SEEDS + 1 }
}

fn in_turn<A: TestArch>() {
    worlds::<A>(|world, cpus, seed| {
        let mut workers = Vec::new();
        workers.extend((0..cpus).map(|cpu| Worker::new(world, cpu, seed)));
        let mut random = Random::new(seed);
        while !world.is_over() {
            let cpu = random.below(cpus);
            on(world.arch(), cpu, || workers[cpu].step());
        }
        for (cpu, worker) in workers.iter_mut().enumerate() {
            on(world.arch(), cpu, || worker.end());
        }
    });
}

fn at_once<A: TestArch>() {
    worlds::<A>(|world, cpus, seed| {
        together(cpus, |cpu| {
            let mut worker = Worker::new(world, cpu, seed);
            while !world.is_over() {
                worker.step();
            }
            worker.end();
        });
    });
}

fn worlds<A: TestArch>(live: impl Fn(&World<'_, A>, usize, u64)) {
    let mut machines = Machines::default();
    for_each_seed(ROUNDS, |seed| {
        let cpus = if cfg!(target_os = "none") || seed % 2 == 1 { cpus() } else { 1 };
        set_up(cpus, seed, || {
            let setting = &SETTINGS[usize::try_from(seed / 2).unwrap() % SETTINGS.len()];
            machines.with(setting, |machine| {
                let world = World::new(machine, setting, tenants_of_a_seed());
                live(&world, cpus, seed);
                world.end();
            });
        });
    });
}
