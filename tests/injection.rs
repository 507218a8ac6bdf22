//! Instances that are not made, or only half, and whatever is seen of them: counts
//! are as before at each step that fails, and the next tenant finds zeros.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "injection/address_space.rs"]
mod address_space;
mod common;
#[path = "injection/crowd.rs"]
mod crowd;
#[path = "injection/failing.rs"]
mod failing;
#[path = "injection/frames.rs"]
mod frames;
#[path = "injection/growth.rs"]
mod growth;
#[path = "injection/limits.rs"]
mod limits;
#[path = "injection/model.rs"]
mod model;
#[path = "model/random.rs"]
mod random;
#[path = "injection/segments.rs"]
mod segments;
#[path = "injection/shapes.rs"]
mod shapes;
#[path = "injection/steps.rs"]
mod steps;
#[path = "injection/tenants.rs"]
mod tenants;
#[path = "injection/world.rs"]
mod world;

harness::tests! {
    fn each_step_that_fails_has_those_before_it_undone() {
        on_every_machine!(steps::in_order);
    }

    fn a_thousand_failures_leave_no_trace() {
        on_every_machine!(steps::a_thousand);
    }

    fn a_creator_that_fails_has_what_was_made_given_back() {
        on_every_machine!(steps::creators);
    }

    fn a_limiter_refuses_each_memory_and_table_by_name() {
        on_every_machine!(limits::asked_first);
    }

    fn what_does_not_fit_is_refused_by_name() {
        on_every_machine!(limits::too_much);
    }

    fn a_pool_without_a_slot_for_the_nth_gives_the_others_back() {
        on_every_machine!(limits::without_slots);
    }

    fn growth_that_fails_is_minus_one_and_is_told() {
        on_every_machine!(growth::refused);
    }

    fn growth_shows_in_what_compiled_code_reads() {
        on_every_machine!(growth::published);
    }

    fn any_number_of_free_frames_is_enough_or_untouched() {
        on_every_machine!(frames::one_fewer_each_time);
    }

    fn a_purged_module_keeps_no_frame() {
        on_every_machine!(frames::purged);
    }

    fn any_amount_of_address_space_is_enough_or_untouched() {
        on_every_machine!(address_space::one_more_each_time);
    }

    fn the_nth_segment_traps_and_those_before_it_are_forgotten() {
        on_every_machine!(segments::nth);
    }

    fn cpus_that_make_instances_at_once_meet_the_limit_only() {
        on_every_machine!(crowd::to_the_limit);
    }

    fn random_tenants_see_only_what_they_wrote() {
        on_every_machine!(tenants::random);
    }
}
