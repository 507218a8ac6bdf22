//! Memory pools of several sizes in one allocator: which of them a memory's slot is from, and
//! that each of them is guarded, reset, counted and shown as the only one is.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "several_pools/guards.rs"]
mod guards;
#[path = "several_pools/routing.rs"]
mod routing;
#[path = "several_pools/settings.rs"]
mod settings;
#[path = "several_pools/together.rs"]
mod together;
#[path = "several_pools/world.rs"]
mod world;

harness::tests! {
    fn a_memory_gets_the_smallest_slot_that_holds_it() {
        on_every_machine!(routing::by_need);
    }

    fn what_no_slot_holds_is_refused() {
        on_every_machine!(routing::refused);
    }

    fn the_next_larger_pool_serves_when_one_is_exhausted() {
        on_every_machine!(routing::exhausted);
    }

    fn a_smaller_pool_never_does() {
        on_every_machine!(routing::never_smaller);
    }

    fn a_module_has_its_slot_in_each_pool() {
        on_every_machine!(routing::affinity);
    }

    fn a_demand_on_demand_is_kept_to() {
        on_every_machine!(routing::on_demand);
    }

    fn slots_of_each_pool_end_where_they_should() {
        on_every_machine!(guards::ends);
    }

    fn faults_name_the_pool() {
        on_every_machine!(guards::reports);
    }

    fn bounds_are_checked_where_the_reservation_is_short() {
        on_every_machine!(guards::bounds_checks);
    }

    fn each_pool_reads_as_zeros_whatever_backs_it() {
        on_every_machine!(together::zeros);
    }

    fn pools_share_an_image() {
        on_every_machine!(together::image);
    }

    fn a_memory_of_one_pool_goes_on_in_another() {
        on_every_machine!(together::captured);
    }

    fn idle_frames_of_one_pool_serve_another() {
        on_every_machine!(together::frames);
    }

    fn idle_work_cleans_every_pool() {
        on_every_machine!(together::idle_work);
    }

    fn memories_move_between_cpus_in_every_pool() {
        on_every_machine!(together::arrive);
    }

    fn counts_are_per_pool_and_in_all() {
        on_every_machine!(together::counts);
    }

    fn the_plan_says_what_there_is() {
        on_every_machine!(settings::plan);
    }

    fn contradictions_are_refused() {
        settings::refused();
    }

    fn counts_left_open_take_what_fits() {
        settings::open_counts();
    }

    fn a_configuration_without_further_pools_has_none() {
        on_every_machine!(settings::none);
    }
}
