//! Tables as wasm uses them: whether their elements are filled in at once or when
//! somebody asks, in slots or on demand, nobody can tell the difference.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "tables/bounds.rs"]
mod bounds;
mod common;
#[path = "tables/growth.rs"]
mod growth;
#[path = "common/links.rs"]
mod links;
#[path = "common/module.rs"]
mod module;
#[path = "tables/plain.rs"]
mod plain;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "sequences have their own number of rounds here")]
mod random;
#[path = "tables/sequence.rs"]
mod sequence;
#[path = "tables/words.rs"]
mod words;

use allotment::{Config, PoolingAllocationConfig};
use common::{MIB, Machine, TestArch, pool, pooled};
use module::Engine;

harness::tests! {
    fn random_steps_agree_with_plain_lists() {
        on_every_machine!(sequence::random_steps);
    }

    fn what_overlaps_is_read_before_it_is_written() {
        on_every_machine!(bounds::overlaps);
    }

    fn what_does_not_fit_changes_nothing() {
        on_every_machine!(bounds::whole_or_not);
    }

    fn elements_of_another_size_than_the_tables_are_refused() {
        on_every_machine!(bounds::sizes);
    }

    fn an_element_of_another_type_is_refused() {
        on_every_machine!(bounds::types);
    }

    fn a_table_grows_to_its_maximum_and_no_further() {
        on_every_machine!(growth::maximum);
    }

    fn a_table_in_a_slot_ends_with_it() {
        on_every_machine!(growth::slots);
    }

    fn new_elements_are_what_was_asked_for() {
        on_every_machine!(growth::first_values);
    }

    fn an_imported_table_grows_for_both() {
        on_every_machine!(growth::imported);
    }

    fn elements_begin_as_the_module_says() {
        on_every_machine!(words::initial_values);
    }

    fn compiled_code_can_tell_null_from_not_filled_in() {
        on_every_machine!(words::representation);
    }

    fn references_of_the_collector_take_four_bytes() {
        on_every_machine!(words::gc_references);
    }

    fn a_function_of_another_instance_stays_its_own() {
        on_every_machine!(words::others_functions);
    }
}

/// Pools for a few instances, with slots of 512 pointers.
fn few() -> PoolingAllocationConfig {
    pool(1, MIB).total_tables(8).total_core_instances(4).max_tables_per_module(3).table_elements(512)
}

/// Runs a case with slots and on demand, with elements filled in at once and when
/// they are used.
fn in_every_way<A: TestArch>(case: impl Fn(&Engine<'_, A>)) {
    for config in [pooled(few()), Config::new()] {
        for lazy in [true, false] {
            let m = Machine::<A>::new(&config.table_lazy_init(lazy), 4 * MIB);
            case(&Engine::new(&m));
        }
    }
}
