//! From a boot-loader's memory map to an arena, and from the live root to a window.
//!
//! ```ignore-none
//! use allotment::boot::{arena, without};
//!
//! // Limine's memory map, `BootInfo::memory_regions`, a device tree: whatever
//! // says what is usable, as ranges of physical addresses.
//! let usable = [0x1000..0x9f000, 0x10_0000..0x4000_0000];
//! // What of it is in use meanwhile: the kernel's image, a heap, an initial ramdisk.
//! let taken = [0x20_0000..0x48_3000, 0x3000_0000..0x3200_0000];
//! let arena = arena(without(usable, &taken), 256 << 20).unwrap();
//! assert_eq!(arena.end.0 - arena.start.0, 256 << 20);
//! ```

use core::{fmt, ops::Range, sync::atomic::Ordering};

use allotment_arch::{Arch, Format, PAGE_SIZE, PhysAddr, TABLE_SPAN, Table, Upper, VirtAddr, index};

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

/// What `taken` leaves of the ranges in `usable`, in their order. The ranges of `taken` may come in
/// any order, and overlap.
pub fn without<'t>(
    usable: impl IntoIterator<Item = Range<u64>, IntoIter: 't>,
    taken: &'t [Range<u64>],
) -> impl Iterator<Item = Range<u64>> + 't {
    usable.into_iter().flat_map(move |range| {
        let mut at = range.start;
        core::iter::from_fn(move || {
            while let Some(over) = taken.iter().find(|taken| taken.contains(&at)) {
                at = over.end;
            }
            let starts = taken.iter().filter(|taken| !taken.is_empty()).map(|taken| taken.start);
            let end = starts.filter(|&start| start > at).fold(range.end, u64::min);
            let piece = at..end;
            at = end.max(at);
            (!piece.is_empty()).then_some(piece)
        })
    })
}

/// The live root has no run of empty top-level entries that is large enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoWindow {
    /// Bytes that were asked for.
    pub requested: u64,
    /// Bytes that the longest run of empty entries serves.
    pub largest: u64,
}

impl fmt::Display for NoWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requested, largest } = self;
        write!(
            f,
            "no {requested:#x} bytes under empty top-level entries in one piece, the longest run serves {largest:#x}; \
             ask for less, or unmap what is not needed"
        )
    }
}

impl core::error::Error for NoWindow {}

/// The first `bytes`, rounded up to 2 MiB, of the upper half that begin at a top-level entry and whose
/// entries are all empty in the live root: of the lower half where the CPU walks no tables for the upper one.
/// The entries of the first and the last page of the address space are left out.
///
/// What the kernel maps later must stay out of it: ask when all else has its place.
///
/// # Errors
///
/// [`NoWindow`].
pub fn window<A: Arch>(arch: &A, bytes: u64) -> Result<Range<VirtAddr>, NoWindow> {
    let top = arch.levels() - 1;
    let span = 1u64 << (12 + 9 * u32::from(top));
    let half = 1u64 << arch.half_bits();
    let of_upper = VirtAddr(half.wrapping_neg());
    let (first, addresses) = if arch.walks(of_upper) {
        (of_upper, of_upper.0..span.wrapping_neg())
    } else {
        (VirtAddr(0), span..half)
    };
    // SAFETY: the machine's root is a live table, which stays: whoever made the machine says so.
    let root = unsafe { Table::new(arch, arch.root(first), 1) };
    let wanted = bytes.checked_next_multiple_of(TABLE_SPAN as u64).filter(|&bytes| bytes > 0);
    let (mut run, mut largest) = (0, 0);
    let mut address = addresses.start;
    while address < addresses.end {
        let entry = root.entries()[index(VirtAddr(address), top)].load(Ordering::Relaxed);
        address += span;
        run = if A::Format::upper(top, entry) == Upper::NotPresent { run + span } else { 0 };
        largest = largest.max(run);
        if let Some(bytes) = wanted.filter(|&bytes| bytes <= run) {
            return Ok(VirtAddr(address - run)..VirtAddr(address - run + bytes));
        }
    }
    Err(NoWindow { requested: bytes, largest })
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
