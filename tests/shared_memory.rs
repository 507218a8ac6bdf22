//! Memories that threads share: one range, one definition, and how its users wait
//! for one another.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "shared_memory/basics.rs"]
mod basics;
mod common;
#[path = "common/links.rs"]
mod links;
#[path = "common/module.rs"]
mod module;
#[path = "shared_memory/together.rs"]
mod together;
#[path = "shared_memory/waiter.rs"]
mod waiter;
#[path = "shared_memory/waiting.rs"]
mod waiting;

use allotment::{Config, instance::MemoryType};
use common::{MIB, Machine, TestArch};

harness::tests! {
    fn all_look_at_one_definition() {
        on_every_machine!(basics::one_definition);
    }

    fn it_grows_in_place_up_to_its_maximum() {
        on_every_machine!(basics::growth);
    }

    fn an_engine_makes_one_that_no_instance_defines() {
        on_every_machine!(basics::nobodys);
    }

    fn it_lives_as_long_as_somebody_has_it() {
        on_every_machine!(basics::lifetime);
    }

    fn it_is_refused_where_there_are_none() {
        on_every_machine!(basics::refused);
    }

    fn a_limiter_is_asked_about_it_too() {
        on_every_machine!(basics::limited);
    }

    fn what_is_not_shared_is_not() {
        on_every_machine!(basics::not_shared);
    }

    fn cpus_that_grow_it_at_once_have_a_part_each() {
        on_every_machine!(together::growing);
    }

    fn cpus_see_what_others_stored() {
        on_every_machine!(together::storing);
    }

    fn another_value_than_expected_does_not_wait() {
        on_every_machine!(waiting::mismatch);
    }

    fn a_place_that_is_odd_or_outside_is_a_trap() {
        on_every_machine!(waiting::traps);
    }

    fn any_timeout_reaches_the_embedder() {
        on_every_machine!(waiting::timeouts);
    }

    fn as_many_are_woken_as_asked() {
        on_every_machine!(together::woken);
    }

    fn no_wake_up_is_lost() {
        on_every_machine!(together::ping_pong);
    }

    fn who_waits_elsewhere_sleeps_on() {
        on_every_machine!(together::elsewhere);
    }
}

/// So many pages, up to so many, shared.
fn shared(minimum: u64, maximum: u64) -> MemoryType {
    MemoryType { shared: true, ..MemoryType::new(minimum, Some(maximum)) }
}

/// A machine that has such memories.
fn machine<A: TestArch>() -> Machine<A> {
    Machine::new(&Config::new().shared_memory(true), 8 * MIB)
}
