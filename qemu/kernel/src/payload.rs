//! The payload archive that the host puts behind the kernel in a boot image.

use core::ops::Range;

use protocol::image::PayloadSlot;

use crate::map;
use crate::ranges::{PAGE, Ranges, outward, pointer, size};

/// Filled in the image file by the host; see [`protocol::image`].
#[used]
#[unsafe(link_section = ".payload_slot")]
static SLOT: PayloadSlot = PayloadSlot::EMPTY;

/// Where the archive lies, checked.
#[derive(Debug)]
pub(crate) struct Place {
    /// The pages it touches, which hold nothing else.
    pub(crate) pages: Range<u64>,
    start: u64,
    length: u64,
}

impl Place {
    /// The archive, once the pages are mapped.
    pub(crate) fn bytes(&self) -> &'static [u8] {
        let start = pointer::<u8>(self.start);
        // SAFETY: `range` made sure that this is RAM outside the kernel; the loader filled it,
        // it is no part of the usable memory, and it is mapped read-only.
        unsafe { core::slice::from_raw_parts(start, size(self.length)) }
    }
}

/// Reads the slot.
///
/// # Panics
/// If the archive is not in RAM or overlaps the kernel, which only a broken image can bring about.
pub(crate) fn range(ram: &Ranges) -> Option<Place> {
    let slot = &raw const SLOT;
    // SAFETY: a static; volatile because the compiler does not know that the host edits the file.
    let PayloadSlot { address, length, .. } = unsafe { slot.read_volatile() };
    if length == 0 {
        return None;
    }
    let end = address.saturating_add(length);
    let pages = outward(address..end.min(u64::MAX - PAGE));
    let image = map::image();
    assert!(
        pages.end <= image.start || image.end <= pages.start,
        "payload at {pages:#x?} overlaps the kernel at {image:#x?}"
    );
    assert!(
        ram.iter().any(|range| range.start <= pages.start && pages.end <= range.end),
        "payload at {pages:#x?} is not in RAM {ram:#x?}; give the machine more memory"
    );
    Some(Place { pages, start: address, length })
}
