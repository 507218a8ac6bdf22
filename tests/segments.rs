//! Segments of data and elements, and copies of whole ranges of bytes.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "segments/active.rs"]
mod active;
#[path = "segments/bulk.rs"]
mod bulk;
mod common;
#[path = "common/links.rs"]
mod links;
#[path = "common/module.rs"]
mod module;
#[path = "segments/passive.rs"]
mod passive;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "sequences have their own number of rounds here")]
mod random;
#[path = "segments/sequence.rs"]
mod sequence;

use allotment::{Backing, Commit, Config, PoolingAllocationConfig};
use common::{MIB, Machine, TestArch, pool, pooled};
use module::Engine;

harness::tests! {
    fn segments_are_copied_in_their_order() {
        on_every_machine!(active::order);
    }

    fn a_segment_goes_where_its_expression_says() {
        on_every_machine!(active::places);
    }

    fn a_negative_place_is_far_away() {
        on_every_machine!(active::negative);
    }

    fn the_first_segment_that_does_not_fit_ends_it() {
        on_every_machine!(active::traps);
    }

    fn elements_come_before_data() {
        on_every_machine!(active::elements_first);
    }

    fn data_that_the_engine_does_not_have_is_a_trap() {
        on_every_machine!(active::missing_bytes);
    }

    fn a_segment_goes_to_an_imported_memory() {
        on_every_machine!(active::imported);
    }

    fn a_large_memory_takes_segments_beyond_four_gibibytes() {
        on_every_machine!(active::memory64);
    }

    fn passive_bytes_are_copied_as_often_as_asked() {
        on_every_machine!(passive::data);
    }

    fn what_was_copied_or_declared_is_dropped() {
        on_every_machine!(passive::dropped);
    }

    fn each_of_many_segments_is_dropped_by_itself() {
        on_every_machine!(passive::many);
    }

    fn ranges_of_bytes_are_whole_or_nothing() {
        on_every_machine!(bulk::whole_or_not);
    }

    fn bytes_that_overlap_are_read_before_they_are_written() {
        on_every_machine!(bulk::overlaps);
    }

    fn bytes_go_from_one_memory_to_another() {
        on_every_machine!(bulk::across);
    }

    fn nothing_at_the_very_end_is_in_bounds() {
        on_every_machine!(bulk::nothing_at_the_end);
    }

    fn a_promise_is_kept_by_the_host_too() {
        on_every_machine!(bulk::promises);
    }

    fn random_ranges_agree_with_plain_bytes() {
        on_every_machine!(sequence::random_steps);
    }
}

/// Pools for a few instances.
fn few() -> PoolingAllocationConfig {
    pool(8, MIB).total_tables(4).total_core_instances(4).max_memories_per_module(2)
}

/// Runs a case with slots that have their frames at once, or at their first touch,
/// and on demand.
fn in_every_way<A: TestArch>(case: impl Fn(&Engine<'_, A>)) {
    let touched = few().backing(Backing::Elastic(Commit::PerInstance(64)));
    // The kernel that boots these tests answers faults of their probes only, so
    // there the host's own first touch of a page has nobody to ask.
    let touched = (!cfg!(target_os = "none")).then_some(pooled(touched));
    for config in [pooled(few()), Config::new()].into_iter().chain(touched) {
        let m = Machine::<A>::new(&config, 8 * MIB);
        case(&Engine::new(&m));
        if !cfg!(target_os = "none") {
            let m = Machine::<A>::new(&config, 12 * MIB);
            case(&Engine::with_images(&m));
            let m = Machine::<A>::new(&config.memory_init_cow(false), 8 * MIB);
            case(&Engine::with_images(&m));
        }
    }
}
