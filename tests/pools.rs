//! What the pools promise, by the public interface: tables, stacks, GC heaps and
//! memories of every backing; what slots keep and give back; who gets which.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "pools/affinity.rs"]
mod affinity;
#[path = "pools/attack.rs"]
mod attack;
#[path = "pools/backings.rs"]
mod backings;
mod common;
#[path = "pools/counts.rs"]
mod counts;
#[path = "pools/far.rs"]
mod far;
#[path = "pools/footprint.rs"]
mod footprint;
#[path = "pools/keep.rs"]
mod keep;
#[path = "pools/per_instance.rs"]
mod per_instance;
#[path = "model/random.rs"]
mod random;
#[path = "pools/reuse.rs"]
mod reuse;
#[path = "pools/stacks.rs"]
mod stacks;
#[path = "pools/tables.rs"]
mod tables;
#[path = "pools/tenants.rs"]
mod tenants;
#[path = "pools/world.rs"]
mod world;

harness::tests! {
    fn a_table_has_zeros_its_limit_and_an_end() {
        on_every_machine!(tables::zeros_and_limits);
    }

    fn beyond_a_table_is_a_fault_that_names_it() {
        on_every_machine!(tables::beyond_the_end);
    }

    fn tables_run_out_and_come_back() {
        on_every_machine!(tables::exhaustion);
    }

    fn a_stack_is_writable_from_its_first_byte_to_its_last() {
        on_every_machine!(stacks::ranges);
    }

    fn below_a_stack_is_its_own_guard() {
        on_every_machine!(stacks::guards);
    }

    fn no_write_to_a_stack_faults() {
        on_every_machine!(stacks::no_write_faults);
    }

    fn stacks_are_limited_and_those_of_nothing_refused() {
        on_every_machine!(stacks::limits);
    }

    fn a_stack_that_is_zeroed_keeps_what_it_may() {
        on_every_machine!(stacks::zeroed);
    }

    fn a_stack_that_is_not_zeroed_shows_its_bytes_to_stacks_only() {
        on_every_machine!(stacks::not_zeroed);
    }

    fn a_gc_heap_takes_a_memory_slot_and_gives_it_back() {
        on_every_machine!(counts::gc_heaps);
    }

    fn a_gc_heap_that_fails_is_not_counted() {
        on_every_machine!(counts::failed_gc_heaps);
    }

    fn instances_are_counted_and_limited() {
        on_every_machine!(counts::instances);
    }

    fn every_metric_says_what_happened() {
        on_every_machine!(counts::every_metric);
    }

    fn slots_keep_what_they_may_and_wait_for_their_batch() {
        on_every_machine!(keep::batches);
    }

    fn frames_come_from_the_queue_then_from_the_oldest_slot() {
        on_every_machine!(keep::order);
    }

    fn growth_reaches_beyond_the_premapped_tables() {
        on_every_machine!(far::two_mebibytes);
    }

    fn growth_reaches_beyond_a_gibibyte() {
        on_every_machine!(far::one_gibibyte);
    }

    fn growth_fails_whole_at_every_number_of_free_frames() {
        on_every_machine!(far::exhausted_growth);
    }

    fn allocation_fails_whole_at_every_number_of_free_frames() {
        on_every_machine!(far::exhausted_allocation);
    }

    fn a_fixed_slot_grows_without_the_arena() {
        on_every_machine!(backings::fixed);
    }

    fn a_fixed_slot_has_nothing_to_wait_for() {
        on_every_machine!(backings::fixed_keeps);
    }

    fn strict_frames_are_charged_when_they_become_accessible() {
        on_every_machine!(backings::strict);
    }

    fn the_backing_follows_from_the_arena() {
        on_every_machine!(backings::auto);
    }

    fn pages_appear_at_their_first_touch_up_to_the_promise() {
        on_every_machine!(per_instance::touches);
    }

    fn the_promise_is_charged_at_allocation() {
        on_every_machine!(per_instance::charged);
    }

    fn every_tenant_has_the_whole_promise() {
        on_every_machine!(per_instance::whole_promise);
    }

    fn a_prepared_range_does_not_fault() {
        on_every_machine!(per_instance::prepared);
    }

    fn cpus_that_touch_the_same_page_share_one_frame() {
        on_every_machine!(per_instance::together_on_one_page);
    }

    fn a_table_moves_with_its_cpu() {
        on_every_machine!(attack::moving_tables);
    }

    fn a_stack_moves_with_its_cpu() {
        on_every_machine!(attack::moving_stacks);
    }

    fn slots_of_a_batch_are_waited_for() {
        on_every_machine!(attack::slots_of_a_batch);
    }

    fn slots_that_lose_their_frames_are_waited_for() {
        on_every_machine!(attack::slots_that_lose_their_frames);
    }

    fn slots_in_use_are_not_waited_for() {
        on_every_machine!(attack::slots_in_use);
    }

    fn a_module_gets_its_slot_back_until_it_is_purged() {
        on_every_machine!(affinity::modules);
    }

    fn warm_slots_steer_which_one_is_next() {
        on_every_machine!(affinity::warm_slots);
    }

    fn a_slot_that_changes_its_module_shows_zeros() {
        on_every_machine!(affinity::switched);
    }

    fn a_slot_shrinks_and_grows_from_any_size_to_any() {
        on_every_machine!(reuse::sizes);
    }

    fn sizes_of_bytes_lie_in_whole_pages() {
        on_every_machine!(reuse::bytes);
    }

    fn a_memory_has_no_more_than_its_own_maximum() {
        on_every_machine!(reuse::maximum);
    }

    fn what_failed_shows_nothing_and_leaves_nothing() {
        on_every_machine!(reuse::failed);
    }

    fn random_tenants_of_a_pool_agree_with_what_they_wrote() {
        on_every_machine!(tenants::random);
    }

    fn the_plan_adds_up_to_the_arena() {
        on_every_machine!(footprint::adds_up);
    }

    fn an_idle_slot_and_a_touched_page_cost_little() {
        on_every_machine!(footprint::costs);
    }

    #[cfg(not(target_os = "none"))]
    fn ten_thousand_slots_are_used_and_given_back() {
        on_every_machine!(footprint::many_slots);
    }
}
