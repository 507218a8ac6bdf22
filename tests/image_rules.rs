//! Which modules have initial images, and what is in them: each rule where it just
//! holds and where it just does not, and whatever comes to a generator's mind beside
//! a model too plain to be wrong.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "image_rules/described.rs"]
mod described;
#[path = "image_rules/extents.rs"]
mod extents;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "plans have their own number of rounds here")]
mod random;
#[path = "image_rules/rules.rs"]
mod rules;
#[path = "image_rules/whatever.rs"]
mod whatever;

use allotment::{
    MemorySummary,
    image::{Extent, ImagePlan, ImageRules, NoImage, Segment},
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

harness::tests! {
    fn a_segment_ends_in_the_memorys_minimum() {
        rules::bounds();
    }

    fn a_segment_beyond_all_addresses_is_out_of_bounds() {
        rules::overflows();
    }

    fn a_segment_without_bytes_has_to_fit_as_well() {
        rules::empty();
    }

    fn a_segment_goes_to_a_memory_that_is_there() {
        rules::memories();
    }

    fn a_memory_has_pages_no_smaller_than_its_images() {
        rules::small_pages();
    }

    fn a_span_is_less_than_twice_its_data() {
        rules::density();
    }

    fn or_less_than_what_is_guaranteed() {
        rules::guaranteed();
    }

    fn one_memory_without_an_image_is_a_module_without() {
        rules::all_or_nothing();
    }

    fn this_target_has_the_rules_of_its_architecture() {
        rules::of_the_target();
    }

    fn a_reason_says_what_and_what_to_do() {
        rules::texts();
    }

    fn zeros_at_either_end_are_no_part_of_an_image() {
        extents::trimmed();
    }

    fn an_image_has_whole_pages() {
        extents::padded();
    }

    fn later_segments_overwrite_earlier_ones() {
        extents::order();
    }

    fn any_part_of_a_memory_can_be_asked_for() {
        extents::parts();
    }

    fn a_module_has_the_images_of_its_active_segments() {
        described::active();
    }

    fn an_offset_is_one_constant() {
        described::offsets();
    }

    fn an_imported_memory_is_its_owners() {
        described::imports();
    }

    fn bytes_that_the_engine_does_not_have_make_no_image() {
        described::missing();
    }

    fn whatever_is_planned_is_as_a_plain_model_has_it() {
        whatever::planned();
    }
}

/// A memory of so many pages of 64 KiB.
fn memory(minimum_pages: u64) -> MemorySummary {
    memory_of(minimum_pages, 16)
}

fn memory_of(minimum_pages: u64, page_size_log2: u8) -> MemorySummary {
    MemorySummary { minimum_pages, page_size_log2, shared: false }
}

/// Data of memory 0.
fn at(offset: u64, bytes: &[u8]) -> Segment<'_> {
    Segment { memory: 0, offset, bytes }
}

fn extent(offset: usize, len: usize) -> Option<Extent> {
    Some(Extent { offset, len })
}

/// Why there is no image; panics if there is one.
fn refused(rules: ImageRules, memories: &[MemorySummary], segments: &[Segment<'_>]) -> NoImage {
    rules.plan(memories, segments.iter().copied()).map(|_| ()).unwrap_err()
}

/// What is planned by the rules for x86_64; panics if there is no image.
fn planned<'d>(
    memories: &[MemorySummary],
    segments: &'d [Segment<'d>],
) -> ImagePlan<impl Iterator<Item = Segment<'d>> + Clone + use<'d>> {
    ImageRules::X86_64.plan(memories, segments.iter().copied()).unwrap()
}
