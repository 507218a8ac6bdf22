//! Contexts: what compiled code finds at which offset, and what instances give one
//! another.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "vmcontext/globals.rs"]
mod globals;
#[path = "vmcontext/imports.rs"]
mod imports;
#[path = "vmcontext/layout.rs"]
mod layout;
#[path = "vmcontext/life.rs"]
mod life;
#[path = "common/links.rs"]
mod links;
#[path = "common/module.rs"]
mod module;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "sequences have their own number of rounds here")]
mod random;
#[path = "vmcontext/whole.rs"]
mod whole;

use allotment::PoolingAllocationConfig;
use common::{MIB, pool};

harness::tests! {
    fn parts_of_a_context_never_overlap() {
        layout::parts_are_apart();
    }

    fn a_context_says_what_it_consists_of() {
        layout::sizes_add_up();
    }

    fn compiled_code_finds_everything_at_its_offset() {
        on_every_machine!(whole::everything);
    }

    fn a_definition_follows_its_memory_and_table() {
        on_every_machine!(whole::growth_is_seen);
    }

    fn a_reference_is_filled_in_when_it_is_asked_for() {
        on_every_machine!(whole::references);
    }

    fn types_are_where_the_engine_has_them() {
        on_every_machine!(whole::types);
    }

    fn globals_of_every_type_have_their_first_value() {
        on_every_machine!(globals::constants);
    }

    fn globals_are_computed_from_those_before() {
        on_every_machine!(globals::computed);
    }

    fn arithmetic_wraps_as_wasm_says() {
        on_every_machine!(globals::wrapping);
    }

    fn an_imported_global_is_one_global() {
        on_every_machine!(globals::imported);
    }

    fn what_is_exported_again_is_still_its_definers() {
        on_every_machine!(imports::chain);
    }

    fn exports_are_listed_and_found_by_name() {
        on_every_machine!(imports::names);
    }

    fn an_import_too_many_or_too_few_is_refused() {
        on_every_machine!(imports::wrong_numbers);
    }

    fn an_imported_memory_moves_for_both() {
        on_every_machine!(imports::moving);
    }

    fn what_does_not_exist_is_not_found() {
        on_every_machine!(life::not_found);
    }

    fn the_embedders_word_and_state_last_as_long_as_the_instance() {
        on_every_machine!(life::words_and_states);
    }

    fn a_context_shows_nothing_of_the_one_before() {
        on_every_machine!(life::next_tenant);
    }

    fn a_context_moves_with_its_cpu() {
        on_every_machine!(life::other_cpus);
    }

    fn a_purged_context_comes_back_clean_on_any_cpu() {
        on_every_machine!(life::purged);
    }
}

/// Pools for a few instances.
fn few() -> PoolingAllocationConfig {
    pool(8, MIB).total_tables(8).total_core_instances(4).max_memories_per_module(2).max_tables_per_module(2)
}
