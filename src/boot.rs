//! From a boot-loader's memory map to an arena.
//!
//! ```ignore-none
//! use allotment::boot::arena;
//!
//! // Limine's memory map, `BootInfo::memory_regions`, a device tree: whatever
//! // says what is usable, as ranges of physical addresses.
//! let usable = [0x1000..0x9f000, 0x10_0000..0x4000_0000];
//! let arena = arena(usable, 256 << 20).unwrap();
//! assert_eq!(arena.end.0 - arena.start.0, 256 << 20);
//! ```

use core::{fmt, ops::Range};

use allotment_arch::{PAGE_SIZE, PhysAddr};

/// No usable memory is as large, in one piece, as was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoArena {
    /// Bytes that were asked for.
    pub requested: u64,
    /// Bytes of whole pages in the largest piece.
    pub largest: u64,
}

impl fmt::Display for NoArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requested, largest } = self;
        write!(
            f,
            "no {requested:#x} bytes of usable memory in one piece, the largest has {largest:#x}; \
             ask for less, or for `largest_arena`"
        )
    }
}

impl core::error::Error for NoArena {}

/// The last `bytes`, rounded up to 4 KiB, of the highest usable range that has
/// so many: low memory stays for those who need it.
///
/// `usable` are physical addresses; parts of pages at their edges are left out,
/// as is page 0. Ranges that touch count as one if they come in order.
///
/// # Errors
///
/// [`NoArena`].
pub fn arena(usable: impl IntoIterator<Item = Range<u64>>, bytes: u64) -> Result<Range<PhysAddr>, NoArena> {
    let mut highest: Option<Range<u64>> = None;
    let mut largest = 0;
    let wanted = bytes.checked_next_multiple_of(PAGE_SIZE as u64).filter(|&bytes| bytes > 0);
    for range in pieces(usable) {
        let size = range.end - range.start;
        largest = largest.max(size);
        let fits = wanted.is_some_and(|bytes| bytes <= size);
        if fits && highest.as_ref().is_none_or(|highest| range.end > highest.end) {
            highest = Some(range);
        }
    }
    match (highest, wanted) {
        (Some(range), Some(bytes)) => Ok(PhysAddr(range.end - bytes)..PhysAddr(range.end)),
        _ => Err(NoArena { requested: bytes, largest }),
    }
}

/// The largest piece of usable memory, whole.
///
/// # Errors
///
/// [`NoArena`] if there is not one page.
pub fn largest_arena(usable: impl IntoIterator<Item = Range<u64>>) -> Result<Range<PhysAddr>, NoArena> {
    pieces(usable)
        .max_by_key(|range| range.end - range.start)
        .map(|range| PhysAddr(range.start)..PhysAddr(range.end))
        .ok_or(NoArena { requested: PAGE_SIZE as u64, largest: 0 })
}

/// Ranges of whole pages, those joined that touch; without page 0.
fn pieces(usable: impl IntoIterator<Item = Range<u64>>) -> impl Iterator<Item = Range<u64>> {
    const PAGE: u64 = PAGE_SIZE as u64;
    let mut ranges = usable.into_iter().filter(|range| range.start < range.end).peekable();
    core::iter::from_fn(move || {
        let mut joined = ranges.next()?;
        while let Some(next) = ranges.next_if(|next| next.start == joined.end) {
            joined.end = next.end;
        }
        Some(joined)
    })
    .filter_map(|range| {
        let start = range.start.max(PAGE).checked_next_multiple_of(PAGE)?;
        let end = range.end / PAGE * PAGE;
        (start < end).then_some(start..end)
    })
}
