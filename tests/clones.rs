//! Captures of memories in use: what they show becomes an image, and everybody goes on
//! from there by himself.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "clones/basics.rs"]
mod basics;
mod common;
#[path = "clones/frames.rs"]
mod frames;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "every test file uses its own part")]
mod random;
#[path = "clones/sequence.rs"]
mod sequence;
#[path = "clones/world.rs"]
mod world;

harness::tests! {
    fn clones_begin_with_what_the_original_had() {
        on_every_machine!(basics::show);
    }

    fn nobody_sees_what_another_writes() {
        on_every_machine!(basics::apart);
    }

    fn original_clones_and_image_end_in_any_order() {
        on_every_machine!(basics::orders);
    }

    fn a_captured_slot_comes_back_as_it_was_captured() {
        on_every_machine!(basics::reused);
    }

    fn a_memory_may_end_within_a_page() {
        on_every_machine!(basics::odd_sizes);
    }

    fn memories_on_demand_are_copied() {
        on_every_machine!(basics::on_demand);
    }

    fn captures_of_captures_share_frames() {
        on_every_machine!(frames::nested);
    }

    fn what_former_users_left_is_not_lost() {
        on_every_machine!(frames::left_behind);
    }

    fn a_capture_that_fails_changes_nothing() {
        on_every_machine!(frames::failing);
    }

    fn first_writes_after_a_capture_are_paid_for() {
        on_every_machine!(frames::promised);
    }

    fn any_sequence_is_as_if_all_were_copies() {
        on_every_machine!(sequence::run);
    }
}
