//! How far code reaches: whatever sizes are configured, an access is in bounds or
//! a trap, and a size is one that there is.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "reach/counts.rs"]
mod counts;
#[path = "reach/guards.rs"]
mod guards;
#[path = "common/links.rs"]
mod links;
#[path = "common/module.rs"]
mod module;
#[path = "reach/moves.rs"]
mod moves;
#[path = "reach/pages.rs"]
mod pages;
#[path = "reach/sizes.rs"]
mod sizes;
#[path = "reach/stacks.rs"]
mod stacks;

use allotment::{Config, PoolingAllocationConfig};
use common::{MIB, Machine, TestArch, pool, pooled};
use module::Engine;

harness::tests! {
    fn every_access_is_in_bounds_or_a_trap() {
        on_every_machine!(guards::every_access);
    }

    fn guards_stand_around_a_memory_before_and_after_growth() {
        on_every_machine!(guards::around);
    }

    fn a_memory_as_large_as_its_reservation_ends_where_it_says() {
        on_every_machine!(guards::no_room_to_spare);
    }

    fn a_trap_names_the_instances_memory() {
        on_every_machine!(guards::named);
    }

    fn a_limiter_hears_of_sizes_that_there_are_not() {
        on_every_machine!(sizes::limited);
    }

    fn sizes_of_64_bit_memories_do_not_overflow() {
        on_every_machine!(sizes::wide);
    }

    fn a_reservation_is_the_end_of_what_may_not_move() {
        on_every_machine!(sizes::forced_maximum);
    }

    fn sizes_that_are_no_pages_are_rounded() {
        on_every_machine!(sizes::odd);
    }

    fn nothing_reserved_is_enough() {
        on_every_machine!(sizes::zero);
    }

    fn a_memory_moves_once_per_room_for_growth() {
        on_every_machine!(moves::once);
    }

    fn a_memory_of_bytes_grows_by_bytes() {
        on_every_machine!(pages::of_bytes);
    }

    fn a_memory_of_bytes_ends_at_its_byte() {
        on_every_machine!(pages::end_of_bytes);
    }

    fn a_type_comes_back_as_it_was_declared() {
        on_every_machine!(pages::types);
    }

    fn stacks_come_through_the_allocator() {
        on_every_machine!(stacks::either_strategy);
    }

    fn stacks_of_a_pool_are_counted_and_clean() {
        on_every_machine!(stacks::pooled);
    }

    fn counts_of_pools_follow_their_instances() {
        on_every_machine!(counts::of_pools);
    }

    fn on_demand_no_pools_are_counted() {
        on_every_machine!(counts::on_demand);
    }

    fn access_to_no_bytes_changes_nothing() {
        on_every_machine!(counts::of_nothing);
    }
}

/// Pools for a few instances.
fn few() -> PoolingAllocationConfig {
    pool(4, MIB).total_tables(2).total_core_instances(4)
}

/// Runs a case with slots and on demand, of such memories.
fn in_both_ways<A: TestArch>(change: impl Fn(Config) -> Config, case: impl Fn(&Engine<'_, A>)) {
    for config in [pooled(few()), Config::new()] {
        let m = Machine::<A>::new(&change(config), 8 * MIB);
        case(&Engine::new(&m));
    }
}
