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
    fn a_segment_fits_a_memory_that_is_there() {
        rules::bounds();
        rules::overflows();
        rules::empty();
        rules::memories();
    }

    fn a_memory_with_an_image_has_dense_data_and_large_pages() {
        rules::small_pages();
        rules::density();
        rules::guaranteed();
        rules::all_or_nothing();
        rules::of_the_target();
    }

    fn a_reason_says_what_and_what_to_do() {
        rules::texts();
    }

    fn an_image_is_whole_pages_without_zeros_at_either_end() {
        extents::trimmed();
        extents::padded();
    }

    fn later_segments_overwrite_earlier_ones() {
        extents::order();
        extents::parts();
    }

    fn a_described_module_has_the_images_of_its_active_segments() {
        described::active();
        described::offsets();
        described::imports();
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
