//! What is in an image, and where it lies.

use allotment::image::{ImageRules, Segment};

use crate::{KIB, at, extent, memory, planned};

const PAGE: usize = 4 * KIB;

pub(crate) fn trimmed() {
    let data = |first: usize, last: usize| {
        let mut bytes = [0; 4 * PAGE];
        (bytes[first], bytes[last]) = (1, 2);
        bytes
    };
    for (first, last, expected) in [
        (0, 4 * PAGE - 1, extent(PAGE, 4 * PAGE)),
        (PAGE - 1, 3 * PAGE, extent(PAGE, 4 * PAGE)),
        (PAGE, 3 * PAGE - 1, extent(2 * PAGE, 2 * PAGE)),
        (2 * PAGE, 2 * PAGE, extent(3 * PAGE, PAGE)),
    ] {
        let bytes = data(first, last);
        assert_eq!(planned(&[memory(1)], &[at(PAGE as u64, &bytes)]).extent(0), expected, "{first}..={last}");
    }
    // Zeros in the middle are, zeros only are not.
    let ends = [at(0, b"a"), at(8 * PAGE as u64, b"a")];
    assert_eq!(planned(&[memory(1)], &ends).extent(0), extent(0, 9 * PAGE));
    let zeros = [at(0, &[0; PAGE]), at(8 * PAGE as u64, b"\0")];
    assert_eq!(planned(&[memory(1)], &zeros).extent(0), None);
    // A memory of which nothing is said has none either.
    assert_eq!(planned(&[memory(1), memory(1)], &ends).extent(1), None);
    assert_eq!(planned(&[memory(1)], &ends).extent(u32::MAX), None);
}

pub(crate) fn padded() {
    let around = |offset| [at(offset, b"ab")];
    for (rules, page) in [(ImageRules::X86_64, PAGE), (ImageRules::AARCH64, 64 * KIB)] {
        let extent_at = |offset| rules.plan(&[memory(4)], around(offset).into_iter()).unwrap().extent(0);
        let end = 2 * page as u64;
        assert_eq!(extent_at(0), extent(0, page));
        assert_eq!(extent_at(end - 3), extent(page, page));
        assert_eq!(extent_at(end - 2), extent(page, page));
        assert_eq!(extent_at(end - 1), extent(page, 2 * page));
        assert_eq!(extent_at(end), extent(2 * page, page));
    }
    // Up to the memory's end, and never beyond.
    let last = ImageRules::AARCH64.plan(&[memory(4)], around(256 * KIB as u64 - 2).into_iter()).unwrap();
    assert_eq!(last.extent(0), extent(192 * KIB, 64 * KIB));
}

pub(crate) fn order() {
    let other = Segment { memory: 1, ..at(0, b"------------") };
    let segments = [at(0, b"aaaaaaaa"), at(2, b"bbbb"), other, at(4, b"c\0c"), at(10, b"d"), at(4, b"e")];
    let memories = [memory(1), memory(1)];
    let mut bytes = [0xff; 12];
    planned(&memories, &segments).fill(0, 0, &mut bytes);
    assert_eq!(bytes, *b"aabbe\0ca\0\0d\0");
    let mut reversed = segments;
    reversed.reverse();
    planned(&memories, &reversed).fill(0, 0, &mut bytes);
    assert_eq!(bytes, *b"aaaaaaaa\0\0d\0");
    // What a later one clears counts as set: nobody has to put segments together for that.
    let cleared = [at(0, b"a"), at(PAGE as u64, b"b"), at(0, b"\0")];
    assert_eq!(planned(&[memory(1)], &cleared).extent(0), extent(0, 2 * PAGE));
    planned(&[memory(1)], &cleared).fill(0, 0, &mut bytes);
    assert_eq!(bytes, [0; 12]);
}

pub(crate) fn parts() {
    let segments = [at(10, b"0123456789")];
    let plan = planned(&[memory(1)], &segments);
    let part = |offset, expected: [u8; 5]| {
        let mut bytes = [0xff; 5];
        plan.fill(0, offset, &mut bytes);
        assert_eq!(bytes, expected, "from {offset}");
    };
    part(4, [0; 5]);
    part(5, [0; 5]);
    part(6, *b"\0\0\0\x000");
    part(8, *b"\0\x00012");
    part(10, *b"01234");
    part(12, *b"23456");
    part(15, *b"56789");
    part(16, *b"6789\0");
    part(19, *b"9\0\0\0\0");
    part(20, [0; 5]);
    part(usize::MAX, [0; 5]);
    plan.fill(0, 12, &mut []);
    let mut all = [0xff; 12];
    plan.fill(0, 9, &mut all);
    assert_eq!(all, *b"\x000123456789\0");
    plan.fill(1, 9, &mut all);
    assert_eq!(all, [0; 12]);
}
