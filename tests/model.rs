//! Random sequences beside models that are too plain to be wrong.
//!
//! ```text
//!   seed --> operations --> space or allocator, on one of its CPUs
//!                     \---> an array of pages, or of tenants' bytes
//!            answers, bytes, entries, counts: the same, at every step
//! ```
//!
//! A failure prints its seed, the step, and the last operations before. On the
//! host one seed runs alone, on every machine, with
//!
//! ```text
//!   ALLOTMENT_SEED=123 cargo test --test model random_edits
//! ```

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "model/edits.rs"]
mod edits;
#[path = "model/granules.rs"]
mod granules;
#[path = "model/operations.rs"]
mod operations;
#[path = "model/pages.rs"]
mod pages;
#[path = "model/random.rs"]
mod random;
#[path = "model/tenants.rs"]
mod tenants;
#[path = "model/world.rs"]
mod world;

use common::{TestArch, set_up};
use operations::About;
use pages::GRANULE;
use random::{Rounds, for_each_seed};
use tenants::Tenants;
use world::{Ground, Size, World, cpus_of};

harness::tests! {
    fn random_edits_agree_with_a_plain_map_of_pages() {
        on_every_machine!(edits);
    }

    fn random_blocks_agree_with_a_plain_map_of_pages() {
        on_every_machine!(blocks);
    }

    fn random_tenants_agree_with_what_they_wrote() {
        on_every_machine!(tenants);
    }
}

fn edits<A: TestArch>() {
    let rounds = Rounds { host: 500, host_full: 25_000, bare: 60 };
    sequences::<A>(About::Pages, rounds, |seed| Size { own: 96, tables: tables(seed) });
}

fn blocks<A: TestArch>() {
    let rounds = Rounds { host: 100, host_full: 5_000, bare: 20 };
    sequences::<A>(About::Blocks, rounds, |seed| Size { own: GRANULE + 64, tables: tables(seed) });
}

fn tenants<A: TestArch>() {
    let rounds = Rounds { host: 100, host_full: 5_000, bare: 60 };
    let overhead = tenants::overhead::<A>();
    let frames = |seed: u64| 24 + usize::try_from(seed % 30).unwrap();
    #[cfg(target_os = "none")]
    let machine = tenants::machine::<A>(overhead, frames(0));
    for_each_seed(rounds, |seed| {
        let cpus = cpus_of(seed);
        set_up(cpus, seed, || {
            #[cfg(not(target_os = "none"))]
            let machine = tenants::machine::<A>(overhead, frames(seed));
            Tenants::new(&machine, cpus, seed).live();
        });
    });
}

/// Mostly one for each granule, sometimes too few.
fn tables(seed: u64) -> usize {
    [3, 4, 2, 3, 1][usize::try_from(seed % 5).unwrap()]
}

fn sequences<A: TestArch>(about: About, rounds: Rounds, size: impl Fn(u64) -> Size) {
    // A machine of bare metal stays what the sequence before left of it.
    #[cfg(target_os = "none")]
    let ground = Ground::<A>::new(size(0));
    for_each_seed(rounds, |seed| {
        let cpus = cpus_of(seed);
        set_up(cpus, seed, || {
            #[cfg(not(target_os = "none"))]
            let ground = Ground::<A>::new(size(seed));
            sequence(World::new(&ground, cpus, seed), about, cpus);
        });
    });
}

fn sequence<A: TestArch>(mut world: World<'_, A>, about: About, cpus: usize) {
    for _ in 0..100 + world.random.below(60) {
        let cpu = world.random.below(cpus);
        let operation = world.operation(about);
        world.trace.note(&operation, cpu);
        world.as_cpu(cpu, |world| world.step(operation));
    }
    world.clear();
}
