//! Small sets of address ranges, for the few that a boot protocol names.

use core::ops::Range;

use heapless::Vec;

/// The size of a page on both architectures.
pub(crate) const PAGE: u64 = 4096;

/// Disjoint ranges of addresses, none empty.
pub(crate) type Ranges = Vec<Range<u64>, 32>;

/// A pointer to what lies at an address that is mapped.
pub(crate) fn pointer<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(size(address))
}

/// A number of bytes in memory.
#[expect(clippy::cast_possible_truncation, reason = "both architectures have 64-bit addresses")]
pub(crate) fn size(bytes: u64) -> usize {
    bytes as usize
}

/// The whole pages inside `range`.
pub(crate) fn inward(range: Range<u64>) -> Range<u64> {
    range.start.next_multiple_of(PAGE)..range.end & !(PAGE - 1)
}

/// The pages that `range` touches.
pub(crate) fn outward(range: Range<u64>) -> Range<u64> {
    range.start & !(PAGE - 1)..range.end.next_multiple_of(PAGE)
}

/// What is left of `range` without `hole`: a part below and a part above, maybe empty.
pub(crate) fn without(range: &Range<u64>, hole: &Range<u64>) -> [Range<u64>; 2] {
    if hole.is_empty() {
        return [range.clone(), range.end..range.end];
    }
    [range.start..range.end.min(hole.start), range.start.max(hole.end)..range.end]
}

/// Takes `hole` out of every range of the set.
///
/// If the set has no room for one more range, it keeps the larger part of a split one:
/// what is forgotten is memory that nobody uses.
pub(crate) fn subtract(set: &mut Ranges, hole: &Range<u64>) {
    let mut rest = Ranges::new();
    for range in set.iter() {
        for part in without(range, hole).into_iter().filter(|part| !part.is_empty()) {
            add(&mut rest, part);
        }
    }
    *set = rest;
}

/// Adds a range that touches no other of the set, or in a full set replaces a smaller one by it.
fn add(set: &mut Ranges, range: Range<u64>) {
    let Err(range) = set.push(range) else { return };
    let length = |range: &Range<u64>| range.end - range.start;
    if let Some(smallest) = set.iter_mut().min_by_key(|other| length(other))
        && length(smallest) < length(&range)
    {
        *smallest = range;
    }
}

/// Takes `bytes` (whole pages) from the lowest range that has them below `limit`.
pub(crate) fn take(set: &mut Ranges, bytes: u64, limit: u64) -> Option<Range<u64>> {
    let taken = set
        .iter()
        .filter(|range| range.end.min(limit).saturating_sub(range.start) >= bytes)
        .map(|range| range.start..range.start + bytes)
        .min_by_key(|range| range.start)?;
    subtract(set, &taken);
    Some(taken)
}
