//! What an engine holds: instances through the allocator's trait, by either
//! strategy. `docs/wasmtime-tests.md` says which of Wasmtime's own tests these
//! stand beside.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "instance/clones.rs"]
mod clones;
mod common;
#[path = "instance/components.rs"]
mod components;
#[path = "instance/counts.rs"]
mod counts;
#[path = "instance/creators.rs"]
mod creators;
#[path = "instance/growth.rs"]
mod growth;
#[path = "instance/images.rs"]
mod images;
#[path = "instance/limiter.rs"]
mod limiter;
#[path = "instance/limits.rs"]
mod limits;
#[path = "common/module.rs"]
mod module;
#[path = "common/own_stacks.rs"]
mod own_stacks;
#[cfg(not(target_os = "none"))]
#[path = "instance/page.rs"]
mod page;
#[path = "instance/pools.rs"]
mod pools;
#[path = "instance/world.rs"]
mod world;
#[path = "instance/zeroed.rs"]
mod zeroed;

harness::tests! {
    #[cfg(not(target_os = "none"))]
    fn the_page_of_wasmtimes_tests_names_ours() {
        page::agrees();
    }

    fn a_pool_of_one_serves_one_instance_at_a_time() {
        on_every_machine!(counts::one);
    }

    fn instances_run_out_and_come_back() {
        on_every_machine!(counts::instances);
    }

    fn a_count_lowered_by_hand_is_an_error_and_no_wait() {
        on_every_machine!(counts::miscounted);
    }

    fn memories_of_instances_run_out_and_come_back() {
        on_every_machine!(counts::memories);
    }

    fn tables_of_instances_run_out_and_come_back() {
        on_every_machine!(counts::tables);
    }

    fn an_instance_with_several_memories_takes_a_slot_for_each() {
        on_every_machine!(counts::several_in_each);
    }

    fn an_instances_memory_is_in_the_smallest_pool_that_holds_it() {
        on_every_machine!(pools::by_size);
    }

    fn instances_run_out_when_no_pool_is_left() {
        on_every_machine!(pools::exhausted);
    }

    fn a_module_that_fits_no_pool_is_refused() {
        on_every_machine!(pools::refused);
    }

    fn stacks_run_out_and_come_back() {
        on_every_machine!(counts::stacks);
    }

    fn a_gc_heap_that_fails_takes_no_slot_and_no_count() {
        on_every_machine!(counts::gc_heaps);
    }

    fn slots_of_any_batch_come_back() {
        on_every_machine!(counts::batches);
    }

    fn on_demand_nobody_counts_and_all_comes_back() {
        on_every_machine!(counts::on_demand);
    }

    fn a_module_of_too_many_or_too_large_memories_is_refused() {
        on_every_machine!(limits::memories);
    }

    fn a_module_of_too_many_or_too_large_tables_is_refused() {
        on_every_machine!(limits::tables);
    }

    fn a_module_of_too_large_instances_is_refused_part_by_part() {
        on_every_machine!(limits::size);
    }

    fn shared_memories_are_refused_where_they_cannot_be() {
        on_every_machine!(limits::shared);
    }

    fn a_slot_of_no_bytes_holds_a_memory_of_none() {
        on_every_machine!(limits::no_pages);
    }

    fn a_slot_of_no_elements_holds_a_table_of_none() {
        on_every_machine!(limits::no_elements);
    }

    fn a_memory_may_end_within_a_page() {
        on_every_machine!(limits::odd_sizes);
    }

    fn a_component_of_too_many_instances_memories_or_tables_is_refused() {
        on_every_machine!(components::counts);
    }

    fn the_instances_of_a_component_are_measured_together() {
        on_every_machine!(components::sizes);
    }

    fn a_component_is_refused_for_one_of_its_modules() {
        on_every_machine!(components::a_module_of_it);
    }

    fn a_memory_grows_to_the_end_of_its_slot() {
        on_every_machine!(growth::to_the_end_of_the_slot);
    }

    fn a_table_grows_to_the_end_of_its_slot() {
        on_every_machine!(growth::to_the_end_of_the_table);
    }

    fn beyond_a_memory_is_a_fault_before_and_after_growth() {
        on_every_machine!(growth::guards);
    }

    fn a_small_memory_after_a_large_one_ends_where_it_says() {
        on_every_machine!(growth::shrunk);
    }

    fn slots_without_guards_are_grown_and_reused() {
        on_every_machine!(growth::explicit_checks);
    }

    fn a_memory_grows_to_all_pages_there_are() {
        on_every_machine!(growth::all_pages_there_are);
    }

    fn a_page_more_than_addresses_can_name_is_refused_first() {
        on_every_machine!(growth::a_page_too_many);
    }

    fn memories_of_few_bytes_share_a_slot_in_turn() {
        on_every_machine!(growth::few_bytes);
    }

    fn a_gc_heap_may_begin_larger_than_its_reservation() {
        on_every_machine!(growth::large_gc_heap);
    }

    fn bytes_of_an_instance_are_not_the_next_ones() {
        on_every_machine!(zeroed::memories);
    }

    fn elements_of_an_instance_are_not_the_next_ones() {
        on_every_machine!(zeroed::tables);
    }

    fn what_a_failed_initialisation_wrote_is_gone() {
        on_every_machine!(zeroed::after_a_failure);
    }

    fn half_an_instance_leaves_nothing() {
        on_every_machine!(zeroed::after_half_an_allocation);
    }

    fn globals_and_dropped_segments_begin_anew() {
        on_every_machine!(zeroed::the_rest);
    }

    fn a_limiter_is_asked_before_anything_is_made_or_grows() {
        on_every_machine!(limiter::asked);
    }

    fn a_limiter_of_memories_or_tables_or_both_is_kept_to() {
        on_every_machine!(limiter::limits);
    }

    fn what_begins_too_large_for_the_limiter_is_not_made() {
        on_every_machine!(limiter::initial);
    }

    fn a_second_memory_that_is_refused_gives_the_first_back() {
        on_every_machine!(limiter::second);
    }

    fn a_limiter_may_count_all_instances_together() {
        on_every_machine!(limiter::together);
    }

    fn a_limiter_may_end_the_program() {
        on_every_machine!(limiter::ends);
    }

    fn a_limiter_is_told_why_growth_failed() {
        on_every_machine!(limiter::told);
    }

    fn an_instance_refused_half_way_drops_what_it_was_given() {
        on_every_machine!(limiter::half_way);
    }

    fn a_limiter_is_asked_of_gc_heaps() {
        on_every_machine!(limiter::gc_heaps);
    }

    #[cfg(not(target_os = "none"))]
    fn a_panic_of_the_limiter_leaves_the_instance_as_it_was() {
        on_every_machine!(limiter::panics);
    }

    fn data_is_where_its_segments_say() {
        on_every_machine!(images::data);
    }

    fn elements_are_where_their_segments_say() {
        on_every_machine!(images::elements);
    }

    fn segments_outlive_their_module() {
        on_every_machine!(images::after_the_module);
    }

    fn instances_with_and_without_data_take_turns_in_a_slot() {
        on_every_machine!(images::by_turns);
    }

    fn data_goes_to_the_defined_memory_beside_an_imported_one() {
        on_every_machine!(images::beside_an_import);
    }

    fn instances_share_images_and_leave_none() {
        on_every_machine!(images::shared_by_instances);
    }

    fn clones_of_instances_are_as_the_original_was() {
        on_every_machine!(clones::equal);
    }

    fn what_cannot_be_cloned_is_refused() {
        on_every_machine!(clones::refused);
    }

    fn modules_have_images_as_the_configuration_says() {
        on_every_machine!(images::which_modules);
    }

    fn memories_come_from_the_embedders_creator() {
        on_every_machine!(creators::memories);
    }

    fn stacks_come_from_the_embedders_creator() {
        on_every_machine!(creators::stacks);
    }

    fn no_stacks_are_none_of_the_creators_either() {
        on_every_machine!(creators::no_stacks);
    }

    fn each_strategy_wants_a_core_of_its_own() {
        on_every_machine!(creators::not_for_pools);
    }
}
