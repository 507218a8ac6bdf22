//! Why an edit was refused, with the value that was asked for and the limit.

use core::fmt;

use allotment_arch::{Access, PhysAddr, VirtAddr};

use crate::Error;

/// Why an edit was refused. Everything is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceError {
    /// The range does not lie in the window.
    OutsideWindow {
        /// First address that does not: of the range, or after the window.
        address: VirtAddr,
    },
    /// The range, page or granule does not begin where it must.
    Misaligned {
        /// Where it begins.
        address: VirtAddr,
        /// What that should be a multiple of, in bytes.
        alignment: usize,
    },
    /// The edit is for empty pages, and this one has a frame, or a state that
    /// would be lost.
    InUse {
        /// The first such page.
        page: VirtAddr,
    },
    /// The range must lie in one granule of 2 MiB.
    SeveralTables {
        /// The first page of the next one.
        page: VirtAddr,
    },
    /// The edit is for pages that have a frame, and this one has none.
    NoFrame {
        /// The first such page.
        page: VirtAddr,
    },
    /// The page's frame is shared: it can be copied on write, and nothing else.
    SharedFrame {
        /// The first such page.
        page: VirtAddr,
        /// What was asked for.
        access: Access,
    },
    /// The page is under a shared table, which cannot be edited.
    SharedTable {
        /// The first such page.
        page: VirtAddr,
    },
    /// The shared table is of another space.
    ForeignTable {
        /// The table's frame.
        table: PhysAddr,
    },
    /// The granule has no shared table.
    NotShared {
        /// The granule's first page.
        page: VirtAddr,
    },
    /// Frames that several pages have cannot be given with this access.
    NotShareable {
        /// What was asked for.
        access: Access,
    },
    /// The frame is not page-aligned, or no entry can hold its address.
    BadFrame {
        /// The frame.
        frame: PhysAddr,
    },
    /// The pages cannot be one run or block: this one's access or frame does
    /// not continue what the first begins.
    Uneven {
        /// The page.
        page: VirtAddr,
    },
    /// More than an empty entry can hold.
    StateTooLarge {
        /// What was asked for.
        state: u8,
        /// The largest that there is room for.
        limit: u8,
    },
    /// The arena has too few free frames for tables.
    OutOfFrames {
        /// Frames of 4 KiB that were needed.
        needed: usize,
        /// Frames that were free.
        available: usize,
    },
    /// Every frame that was set aside is in use.
    OutOfReserve {
        /// How many the reserve holds when it is full.
        limit: usize,
    },
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideWindow { address } => {
                write!(f, "{address} is outside the window; name pages that lie in it")
            }
            Self::Misaligned { address, alignment } => {
                write!(f, "{address} is no multiple of {alignment:#x}; round it")
            }
            Self::InUse { page } => write!(f, "the page at {page} is not empty; unmap it first"),
            Self::SeveralTables { page } => {
                write!(f, "the range goes on in the next 2 MiB, at {page}; take each of them by itself")
            }
            Self::NoFrame { page } => write!(f, "the page at {page} has no frame; map it first"),
            Self::SharedFrame { page, access } => write!(
                f,
                "the frame of the page at {page} is shared and cannot be {access:?}; replace it with a copy first"
            ),
            Self::SharedTable { page } => write!(
                f,
                "the page at {page} is under a shared table; make the table private, or unshare it, first"
            ),
            Self::ForeignTable { table } => {
                write!(f, "the shared table at {table} is of another space; build one with this")
            }
            Self::NotShared { page } => {
                write!(f, "the granule at {page} has no shared table; share one with it first")
            }
            Self::NotShareable { access } => {
                write!(f, "shared frames cannot be {access:?}; give them CopyOnWrite or Read")
            }
            Self::BadFrame { frame } => write!(
                f,
                "the frame {frame} is not a multiple of the page, or beyond what an entry holds; name another"
            ),
            Self::Uneven { page } => write!(
                f,
                "the page at {page} does not continue the first one's frames and access; map them adjacent, aligned and alike"
            ),
            Self::StateTooLarge { state, limit } => {
                write!(f, "an empty entry holds a state of at most {limit}, not {state}; use fewer states")
            }
            Self::OutOfFrames { needed, available } => write!(
                f,
                "{needed} frames of 4 KiB are needed for tables, the arena has {available} free; hand over a larger arena"
            ),
            Self::OutOfReserve { limit } => {
                write!(f, "all {limit} frames of the reserve are in use; refill it before faults need them")
            }
        }
    }
}

impl core::error::Error for SpaceError {}

impl SpaceError {
    /// What a promise of frames for tables fails with.
    pub(super) fn out_of_frames(needed: usize) -> impl Fn(Error) -> Self {
        move |error| match error {
            Error::OutOfFrames { needed, available } => Self::OutOfFrames { needed, available },
            _ => Self::OutOfFrames { needed, available: 0 },
        }
    }
}
