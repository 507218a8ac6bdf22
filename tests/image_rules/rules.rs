//! When a module has images.

use alloc::{string::ToString, vec, vec::Vec};

use allotment::image::{ImageRules, NoImage, Segment};

use crate::{KIB, MIB, at, extent, memory, memory_of, planned, refused};

const RULES: ImageRules = ImageRules::X86_64;

pub(crate) fn bounds() {
    let last = (64 * KIB - 5) as u64;
    let fits = [at(last, b"hello")];
    assert_eq!(planned(&[memory(1)], &fits).extent(0), extent(60 * KIB, 4 * KIB));
    let out = NoImage::OutOfBounds { memory: 0, offset: last + 1, len: 5, minimum: 64 << 10 };
    assert_eq!(refused(RULES, &[memory(1)], &[at(last + 1, b"hello")]), out);
    // What counts is what the memory begins with.
    assert_eq!(planned(&[memory(2)], &[at(last + 1, b"hello")]).extent(0), extent(60 * KIB, 8 * KIB));
    let out = NoImage::OutOfBounds { memory: 0, offset: 0, len: 1, minimum: 0 };
    assert_eq!(refused(RULES, &[memory(0)], &[at(0, b"a")]), out);
}

pub(crate) fn overflows() {
    // All but the last page that 64 bits can name, and one more.
    let most = (1 << 48) - 1;
    let end = most << 16;
    assert_eq!(planned(&[memory(most)], &[at(end - 1, b"a")]).extent(0).unwrap().len, 4 * KIB);
    for offset in [end, u64::MAX - 1, u64::MAX] {
        let out = NoImage::OutOfBounds { memory: 0, offset, len: 2, minimum: end };
        assert_eq!(refused(RULES, &[memory(most)], &[at(offset, b"ab")]), out);
    }
    for (minimum_pages, page_size_log2) in [(1 << 48, 16), (u64::MAX, 1), (1, 64), (0, 255)] {
        let memories = [memory_of(minimum_pages, page_size_log2)];
        let nameless = NoImage::Unrepresentable { memory: 0, minimum_pages, page_size_log2 };
        assert_eq!(refused(RULES, &memories, &[at(0, b"a")]), nameless);
        // Nobody's data, nobody's concern.
        assert_eq!(planned(&memories, &[]).extent(0), None);
    }
}

pub(crate) fn empty() {
    let end = 64 << 10;
    assert_eq!(planned(&[memory(1)], &[at(end, b"")]).extent(0), None);
    let out = NoImage::OutOfBounds { memory: 0, offset: end + 1, len: 0, minimum: end };
    assert_eq!(refused(RULES, &[memory(1)], &[at(end + 1, b"")]), out);
    // It adds nothing to a span.
    let rules = RULES.guaranteed_dense_image_size(0);
    let segments = [at(0, b"a"), at(end, b"")];
    assert!(rules.plan(&[memory(1)], segments.iter().copied()).is_ok());
    let sparse = NoImage::Sparse { memory: 0, span: end, data: 2, limit: 0 };
    assert_eq!(refused(rules, &[memory(1)], &[at(0, b"a"), at(end - 1, b"b")]), sparse);
}

pub(crate) fn memories() {
    let second = Segment { memory: 1, ..at(0, b"a") };
    assert_eq!(planned(&[memory(1), memory(1)], &[second]).extent(1), extent(0, 4 * KIB));
    assert_eq!(refused(RULES, &[memory(1)], &[second]), NoImage::NoMemory { memory: 1, count: 1 });
    let last = Segment { memory: u32::MAX, ..second };
    assert_eq!(refused(RULES, &[], &[last]), NoImage::NoMemory { memory: u32::MAX, count: 0 });
    // Without segments there is nothing to refuse.
    assert_eq!(planned(&[], &[]).extent(0), None);

    let most: Vec<_> = (0..100).map(|_| memory(1)).collect();
    let of_the_last = Segment { memory: 99, ..second };
    assert_eq!(planned(&most, &[of_the_last]).extent(99), extent(0, 4 * KIB));
    let more: Vec<_> = (0..101).map(|_| memory(1)).collect();
    assert_eq!(refused(RULES, &more, &[]), NoImage::TooManyMemories { count: 101, limit: 100 });
}

pub(crate) fn small_pages() {
    for (rules, log2) in [(ImageRules::X86_64, 12), (ImageRules::AARCH64, 16)] {
        let limit = rules.page_size();
        assert_eq!(limit, 1 << log2);
        let (whole, small) = (memory_of(4, log2), memory_of(8, log2 - 1));
        let plan = rules.plan(&[whole], [at(0, b"a")].into_iter()).unwrap();
        assert_eq!(plan.extent(0), extent(0, limit));
        let page_size = limit as u64 / 2;
        let too_small = NoImage::SmallPages { memory: 0, page_size, limit };
        assert_eq!(refused(rules, &[small], &[at(0, b"a")]), too_small);
        // Without data they do no harm, zeros are data.
        assert!(rules.plan(&[small], [at(0, b"")].into_iter()).is_ok());
        assert_eq!(refused(rules, &[small], &[at(0, b"\0")]), too_small);
    }
}

pub(crate) fn density() {
    let rules = RULES.guaranteed_dense_image_size(0);
    // Data of 10 bytes, of which the last one lies where a span of 19 or 20 ends.
    let spans = |span: u64| [at(100, b"123456789"), at(100 + span - 1, b"a")];
    assert!(rules.plan(&[memory(1)], spans(19).into_iter()).is_ok());
    let sparse = NoImage::Sparse { memory: 0, span: 20, data: 10, limit: 0 };
    assert_eq!(refused(rules, &[memory(1)], &spans(20)), sparse);
    // What is set twice counts twice, zeros count, order does not.
    let [first, last] = spans(20);
    assert!(rules.plan(&[memory(1)], [first, last, at(105, b"\0")].into_iter()).is_ok());
    assert_eq!(refused(rules, &[memory(1)], &[last, first]), sparse);
    // Each memory is looked at by itself.
    let elsewhere = Segment { memory: 1, ..at(0, &[1; 100]) };
    assert_eq!(refused(rules, &[memory(1), memory(1)], &[elsewhere, first, last]), sparse);
}

pub(crate) fn guaranteed() {
    let far = 1u64 << 20;
    let guaranteed = 16 * MIB as u64;
    let spans = |span: u64| [at(far, b"a"), at(far + span - 1, b"b")];
    let memories = [memory(1 << 10)];
    assert_eq!(
        planned(&memories, &spans(guaranteed - 1)).extent(0),
        extent(MIB, 16 * MIB),
        "16 MiB less a byte, in whole pages"
    );
    let sparse = NoImage::Sparse { memory: 0, span: guaranteed, data: 2, limit: 16 * MIB };
    assert_eq!(refused(RULES, &memories, &spans(guaranteed)), sparse);
    // As much data as needed, and the span does not matter.
    let half = vec![1; 8 * MIB];
    let dense = [at(far, &half), at(far + guaranteed - 1, b"b")];
    assert_eq!(planned(&memories, &dense).extent(0), extent(MIB, 16 * MIB));
    // It is a knob.
    let rules = RULES.guaranteed_dense_image_size(16 * MIB + 1);
    assert!(rules.plan(&memories, spans(guaranteed).into_iter()).is_ok());
    let sparse = NoImage::Sparse { memory: 0, span: guaranteed + 1, data: 2, limit: 16 * MIB + 1 };
    assert_eq!(refused(rules, &memories, &spans(guaranteed + 1)), sparse);
}

pub(crate) fn all_or_nothing() {
    let memories = [memory(1), memory_of(1, 0)];
    let small = |bytes| Segment { memory: 1, ..at(0, bytes) };
    assert_eq!(planned(&memories, &[at(0, b"a"), small(b"")]).extent(0), extent(0, 4 * KIB));
    let reason = NoImage::SmallPages { memory: 1, page_size: 1, limit: 4 * KIB };
    assert_eq!(refused(RULES, &memories, &[at(0, b"a"), small(b"b")]), reason);
}

pub(crate) fn of_the_target() {
    let size = if cfg!(target_arch = "aarch64") { 64 * KIB } else { 4 * KIB };
    assert_eq!(ImageRules::for_target().page_size(), size);
}

pub(crate) fn texts() {
    let reasons = [
        (
            NoImage::Imported { segment: 3 },
            "data segment 3 goes to an imported memory; define the memory, or copy the data",
        ),
        (
            NoImage::NotConstant { segment: 3 },
            "the offset of data segment 3 is no constant; link the module at a fixed address, or copy the data",
        ),
        (
            NoImage::MissingData { segment: 3, end: 20, available: 10 },
            "data segment 3 ends at byte 20 of the module's data, which has 10; hand over all of it",
        ),
        (
            NoImage::NoMemory { memory: 1, count: 1 },
            "a data segment goes to memory 1, there are 1; describe all that is named",
        ),
        (
            NoImage::TooManyMemories { count: 101, limit: 100 },
            "the module defines 101 memories, images are made for 100; define fewer",
        ),
        (
            NoImage::Unrepresentable { memory: 1, minimum_pages: 9, page_size_log2: 64 },
            "a minimum of 9 pages of 2^64 bytes of memory 1 has no size in bytes; lower it",
        ),
        (
            NoImage::OutOfBounds { memory: 1, offset: 16, len: 17, minimum: 32 },
            "0x11 bytes of data at 0x10 end after memory 1, which begins with 0x20 bytes; raise its minimum",
        ),
        (
            NoImage::SmallPages { memory: 1, page_size: 1, limit: 4096 },
            "memory 1 has pages of 0x1 bytes, an image has pages of 0x1000 bytes; use pages of 64 KiB",
        ),
        (
            NoImage::Sparse { memory: 1, span: 32, data: 16, limit: 31 },
            "the data of memory 1 is 0x10 bytes that span 0x20, at least twice as many and no less than 0x1f; \
             raise memory_guaranteed_dense_image_size",
        ),
    ];
    for (reason, text) in reasons {
        assert_eq!(reason.to_string(), text);
    }
}
