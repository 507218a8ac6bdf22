//! `mprotect` and `mmap_remap` of any part of a mapping, whatever its pages were before.

use core::ptr::NonNull;

use allotment::wasmtime::PlatformError;

use crate::{
    Calls, NONE, READ, READ_EXECUTE, READ_WRITE, after,
    common::{MIB, PAGE, TestArch},
    flags, platform,
};

/// Pages that are changed, around where one leaf table ends and the next begins.
const PAGES: usize = 16;
const FIRST: usize = 2 * MIB / PAGE - PAGES / 2;
const BYTES: usize = 2 * MIB + PAGES * PAGE;

/// What a page is and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    flags: u32,
    byte: u8,
}

struct Mapping<'c, A: TestArch> {
    calls: &'c Calls<A>,
    start: NonNull<u8>,
    pages: [Page; PAGES],
}

impl<A: TestArch> Mapping<'_, A> {
    fn at(&self, page: usize) -> NonNull<u8> {
        after(self.start, (FIRST + page) * PAGE)
    }

    /// Asserts that every page is what it should be, and leaves another byte where it can.
    fn check(&mut self, step: usize) {
        for page in 0..PAGES {
            let Page { flags, byte } = self.pages[page];
            let expected = (flags & READ != 0).then_some(byte);
            assert_eq!(self.calls.load(self.at(page)), expected, "page {page} after step {step}");
            let next = byte.wrapping_add(u8::try_from(page).unwrap() + 1);
            let written = self.calls.store(self.at(page), next).is_some();
            assert_eq!(written, flags == READ_WRITE, "page {page} after step {step}");
            if written {
                self.pages[page].byte = next;
            }
            let code = flags == READ_EXECUTE;
            assert_eq!(self.calls.is_code(self.at(page)), code, "page {page} after step {step}");
        }
    }
}

/// A length, of whole pages or not, and how many pages it reaches into.
fn length(random: u32, first: usize) -> (usize, usize) {
    let pages = 1 + (random >> 4) as usize % (PAGES - first);
    let cut = [0, 1, 100, PAGE - 1][random as usize % 4];
    (pages * PAGE - cut, pages)
}

pub(crate) fn parts<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let before = calls.0.allocator().metrics();
    for begin in [NONE, READ_WRITE] {
        let start = calls.0.map(BYTES, flags(begin)).unwrap();
        let mut mapping = Mapping { calls: &calls, start, pages: [Page { flags: begin, byte: 0 }; PAGES] };
        mapping.check(0);
        let mut random = 7u32;
        for step in 1..200 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let first = (random >> 8) as usize % PAGES;
            let (bytes, count) = length(random >> 12, first);
            let to = [NONE, READ, READ_WRITE, READ_EXECUTE][(random >> 26) as usize % 4];
            let clears = (random >> 30) == 0;
            let range = mapping.at(first);
            if clears {
                calls.remap(range, bytes, to).unwrap();
            } else {
                calls.protect(range, bytes, to).unwrap();
            }
            for page in &mut mapping.pages[first..first + count] {
                page.flags = to;
                page.byte = if clears { 0 } else { page.byte };
            }
            mapping.check(step);
        }
        calls.unmap(start, BYTES).unwrap();
        assert_eq!(calls.0.allocator().metrics(), before);
    }
}

/// What is not in one mapping is refused as a whole.
pub(crate) fn beyond<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let start = calls.0.map(3 * PAGE, flags(READ_WRITE)).unwrap();
    (0..3).for_each(|page| calls.store(after(start, page * PAGE), 5).unwrap());
    let far = 4 * MIB;
    let refused = |range, bytes| {
        for to in [NONE, READ, READ_WRITE] {
            let results = [calls.protect(range, bytes, to), calls.remap(range, bytes, to)];
            for error in results.map(Result::unwrap_err) {
                assert!(matches!(error, PlatformError::Allocator(_)), "{error}");
            }
        }
    };
    refused(start, far);
    refused(after(start, far), PAGE);
    refused(after(start, 1), PAGE);
    refused(start, usize::MAX);
    refused(NonNull::dangling(), PAGE);
    for page in 0..3 {
        assert_eq!(calls.load(after(start, page * PAGE)), Some(5), "page {page}");
        calls.store(after(start, page * PAGE), 5).expect("a refused call took access away");
    }
    calls.unmap(start, 3 * PAGE).unwrap();
    refused(start, PAGE);
}
