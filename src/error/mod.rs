//! What can go wrong, with the value that was asked for and the limit it met.

mod carve;

use core::fmt;

use allotment_arch::{PhysAddr, VirtAddr};

pub use carve::CarveError;

use crate::PoolKind;

/// Why memory was not given. Everything is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// As many are in use as there may be.
    PoolConcurrencyLimit {
        /// Of what.
        kind: PoolKind,
        /// How many there may be.
        limit: usize,
    },
    /// A memory that several threads share: pools have none, and others want
    /// `Config::shared_memory`.
    SharedMemory,
    /// A fiber's stack, of which a configuration with `async_stack_size` 0 has
    /// none.
    NoStacks,
    /// More elements are asked of a table than it may have.
    TableTooLarge {
        /// Elements asked for.
        requested: usize,
        /// Elements that it may have.
        limit: usize,
    },
    /// An instance may not touch as many more pages.
    CommitmentExceeded {
        /// Pages of 4 KiB that lack a frame.
        needed: usize,
        /// Pages of 4 KiB that it may still touch.
        available: usize,
    },
    /// The range is not all accessible.
    OutOfBounds {
        /// Its first byte, from the memory's.
        offset: usize,
        /// Its bytes.
        len: usize,
        /// Bytes of the memory that are accessible.
        accessible: usize,
    },
    /// More is asked of a memory than its slot can hold.
    MemoryTooLarge {
        /// Bytes asked for.
        requested: usize,
        /// Bytes that a slot can hold.
        limit: usize,
    },
    /// More address space is demanded of a memory than is reserved for any.
    Reservation {
        /// Bytes before the guard, and of the guard.
        requested: (usize, usize),
        /// The most that there are of the first, and how many of the second there are then.
        limit: (usize, usize),
    },
    /// The arena has too few free frames.
    OutOfFrames {
        /// Frames of 4 KiB that were needed.
        needed: usize,
        /// Frames that were free.
        available: usize,
    },
    /// No free run of address space is long enough.
    OutOfAddressSpace {
        /// Bytes asked for.
        requested: usize,
    },
    /// Every record of a range of address space is in use.
    OutOfRegions {
        /// How many there are.
        limit: usize,
    },
    /// A memory on demand has no address space for this size, and may not move.
    BeyondCapacity {
        /// Bytes asked for.
        requested: usize,
        /// Bytes of address space that it has.
        capacity: usize,
    },
    /// More is asked of a memory than the maximum that it was asked for with.
    BeyondMaximum {
        /// Bytes asked for.
        requested: usize,
        /// The maximum in bytes.
        maximum: usize,
    },
    /// The range is not one that this allocator gave out, or not all of it.
    UnknownRange {
        /// First address of the range.
        address: VirtAddr,
        /// Bytes in the range.
        bytes: usize,
    },
    /// Access was asked for beyond a gap: a memory's accessible part is a
    /// prefix of its slot.
    NotAPrefix {
        /// Where access was asked to begin, in bytes from the memory's start.
        offset: usize,
        /// Bytes accessible so far.
        accessible: usize,
    },
    /// Host code was to load or store where it may not.
    Inaccessible {
        /// The first such address.
        address: VirtAddr,
    },
    /// An image reaches further than one can: from its first page to its last.
    ImageTooLarge {
        /// Bytes from its first page to the end of its last.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// An image does not fit the memory that is to show it.
    ImageBeyondMemory {
        /// Bytes from the memory's first to the image's end.
        end: usize,
        /// Bytes that the memory begins with.
        size: usize,
    },
    /// Bytes or addresses of an image that have to begin at a host page do not.
    ImageMisaligned {
        /// The value.
        value: u64,
    },
    /// An image is shown by memories of too many sizes that end in its midst.
    ImageSizes {
        /// How many there may be.
        limit: usize,
    },
    /// An image was to show physical memory of the arena, or beyond what entries can name.
    NotShowable {
        /// Where it begins.
        frames: PhysAddr,
        /// Its bytes.
        bytes: usize,
    },
    /// An image belongs to another allocator.
    ForeignImage,
    /// Write access was asked for pages whose frames an image shares.
    InImage {
        /// First address of the range.
        address: VirtAddr,
        /// Bytes in the range.
        bytes: usize,
    },
    /// The memory was written before it was to show an image.
    Written {
        /// Its slot.
        slot: u32,
    },
    /// A write was declared of a page that the memory shares: nobody may have
    /// written there.
    NotPrepared {
        /// Bytes from the memory's first to the page.
        offset: usize,
    },
    /// The handle's memory was deallocated.
    Stale {
        /// The slot that it named.
        slot: u32,
    },
}

impl Error {
    /// The same of somebody who has `frames` frames in hand, and gives them back as the rest
    /// is not to be had: whoever makes room has to make it for all of them.
    #[cold]
    pub(crate) fn beside(self, frames: usize) -> Self {
        match self {
            Self::OutOfFrames { needed, available } => {
                Self::OutOfFrames { needed: needed + frames, available: available + frames }
            }
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoolConcurrencyLimit { kind, limit } => write!(
                f,
                "maximum concurrent limit of {limit} for {kind} reached; give one back, or raise {}",
                kind.knob()
            ),
            Self::SharedMemory => {
                f.write_str("shared memories need the on-demand strategy and shared_memory; set both, or declare the memory without `shared`")
            }
            Self::NoStacks => f.write_str("async_stack_size is 0, there are no fiber stacks; raise it"),
            Self::TableTooLarge { requested, limit } => {
                write!(
                    f,
                    "a table of {requested} elements exceeds the limit of {limit} elements; raise table_elements"
                )
            }
            Self::CommitmentExceeded { needed, available } => write!(
                f,
                "{needed} more pages of 4 KiB are to be touched, the instance may touch {available}; raise Commit::PerInstance"
            ),
            Self::OutOfBounds { offset, len, accessible } => write!(
                f,
                "{len:#x} bytes at offset {offset:#x} end after the {accessible:#x} accessible bytes; grow the memory first"
            ),
            Self::MemoryTooLarge { requested, limit } => {
                write!(
                    f,
                    "a memory of {requested:#x} bytes exceeds the slot limit of {limit:#x} bytes; raise max_memory_size"
                )
            }
            Self::Reservation { requested, limit } => write!(
                f,
                "a memory that reserves {:#x} bytes before a guard of {:#x} was asked for, and the largest \
                 that there are have {:#x} and {:#x}; raise memory_reservation and memory_guard_size, or add a \
                 memory_pool",
                requested.0, requested.1, limit.0, limit.1
            ),
            Self::OutOfFrames { needed, available } => {
                write!(
                    f,
                    "{needed} frames of 4 KiB are needed, the arena has {available} free; give memories back, or hand over a larger arena"
                )
            }
            Self::OutOfAddressSpace { requested } => {
                write!(f, "no free run of {requested:#x} bytes is left for regions; raise region_space")
            }
            Self::OutOfRegions { limit } => {
                write!(
                    f,
                    "all {limit} ranges of address space are in use; give one back, or hand over a larger arena"
                )
            }
            Self::BeyondCapacity { requested, capacity } => {
                write!(
                    f,
                    "growth to {requested:#x} bytes exceeds the {capacity:#x} bytes reserved, and the memory may not move; raise memory_reservation, or set memory_may_move"
                )
            }
            Self::BeyondMaximum { requested, maximum } => {
                write!(
                    f,
                    "{requested:#x} bytes exceed the maximum of {maximum:#x} bytes; ask for a larger maximum, or for less"
                )
            }
            Self::UnknownRange { address, bytes } => {
                write!(f, "{bytes:#x} bytes at {address} are not a range of this allocator; name one as it was given out")
            }
            Self::NotAPrefix { offset, accessible } => {
                write!(
                    f,
                    "access at offset {offset:#x} would leave a gap after the {accessible:#x} accessible bytes; begin where they end"
                )
            }
            Self::Inaccessible { address } => write!(f, "the host may not access {address}; stay in what is accessible"),
            Self::ImageTooLarge { bytes, limit } => write!(
                f,
                "an image of {bytes:#x} bytes is more than the {limit:#x} that one may reach; have the data copied"
            ),
            Self::ImageBeyondMemory { end, size } => {
                write!(f, "the image ends at {end:#x}, beyond the memory's {size:#x} bytes; ask for a larger minimum")
            }
            Self::ImageMisaligned { value } => {
                write!(f, "{value:#x} is no multiple of the 4 KiB that images are made of; align it")
            }
            Self::ImageSizes { limit } => write!(
                f,
                "more than {limit} sizes of memory end in the midst of the image; have them begin with one size"
            ),
            Self::NotShowable { frames, bytes } => write!(
                f,
                "the {bytes:#x} bytes at {frames} are the arena's, or no entry can name them; have them copied by `build_image`"
            ),
            Self::ForeignImage => f.write_str("the image belongs to another allocator; build one with this"),
            Self::InImage { address, bytes } => write!(
                f,
                "pages of the {bytes:#x} bytes at {address} are part of an image and cannot be written; copy them"
            ),
            Self::Written { slot } => {
                write!(f, "the memory of slot {slot} was written before its image was placed; name the image when it is allocated")
            }
            Self::NotPrepared { offset } => write!(
                f,
                "the page at offset {offset:#x} is shared, nothing may be written there; call prepare_write first"
            ),
            Self::Stale { slot } => write!(f, "the memory of slot {slot} was deallocated before; use no copy of a handle"),
        }
    }
}

impl core::error::Error for Error {}
