//! What an entry means, independent of how an architecture spells it.
//!
//! A leaf entry of the window is in one of three states:
//!
//! ```text
//!   Empty     no frame                                     faults
//!   Hidden    a frame that belongs here, not accessible    faults
//!   Present   a frame, with an Access                      translates
//! ```
//!
//! `Hidden` is what makes giving access cheap: the frame stays in its entry,
//! so that revealing a page is one store. Beside the frame an entry remembers
//! whether the page may have been *written* since it was last known to be
//! zero, by the hardware's dirty state while it is writable and by a software
//! bit otherwise.

use crate::PhysAddr;

/// What may be done with a present page. Writable and executable at once
/// cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Loads only.
    Read,
    /// Loads and stores.
    ReadWrite,
    /// Loads and instruction fetches.
    ReadExecute,
}

/// A decoded leaf entry of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// No frame.
    Empty,
    /// A frame that is kept here but cannot be reached.
    Hidden {
        /// The frame.
        frame: PhysAddr,
        /// Whether it may hold anything but zeros.
        written: bool,
    },
    /// A frame that can be reached.
    Present {
        /// The frame.
        frame: PhysAddr,
        /// How it can be reached.
        access: Access,
        /// Whether it may hold anything but zeros.
        written: bool,
    },
}

/// A decoded entry of any table, as needed to follow somebody else's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// Nothing below.
    NotPresent,
    /// A table one level further down. The flags limit everything below.
    Table {
        /// The table's frame.
        frame: PhysAddr,
        /// No write goes through this entry, whatever the leaf says.
        read_only: bool,
        /// No instruction is fetched through this entry.
        no_execute: bool,
    },
    /// A page or block that ends the walk here.
    Leaf {
        /// First byte of the page or block.
        frame: PhysAddr,
        /// Whether privileged code may write it.
        writable: bool,
        /// Whether privileged code may execute it.
        executable: bool,
    },
}

/// An architecture's spelling of entries: pure functions on `u64`.
///
/// `level` counts upwards from 0, the leaf table, as the bits of the address
/// do: a table of level `n` is indexed by bits `12 + 9n .. 21 + 9n`.
pub trait Format: Send + Sync + 'static {
    /// Name, as in messages: `x86_64` or `aarch64`.
    const NAME: &'static str;

    /// A present leaf. `written` starts the page out as possibly not zero;
    /// pass `true` for writable pages where the CPU keeps no dirty state.
    fn present(frame: PhysAddr, access: Access, written: bool) -> u64;

    /// A leaf that keeps its frame but does not translate.
    fn hidden(frame: PhysAddr, written: bool) -> u64;

    /// Reads back what [`present`](Self::present) and
    /// [`hidden`](Self::hidden) wrote, with the hardware's dirty state.
    fn decode(entry: u64) -> Entry;

    /// The bit that a present entry of any level has, and no other.
    const PRESENT: u64;

    /// The bit that a hidden entry has if its page may hold anything but zeros.
    const WRITTEN: u64;

    /// A hidden entry's page, readable and writable. Where the CPU keeps no
    /// dirty state it counts as not written: use
    /// [`present`](Self::present) there.
    ///
    /// This is `decode` and `present` in a few instructions, for the path that
    /// gives access.
    fn reveal(hidden: u64) -> u64;

    /// A present entry's page, hidden. This is `decode` and `hidden` in a few
    /// instructions, for the path that takes access away.
    fn hide(present: u64) -> u64;

    /// An entry that points to a table one level further down. It limits
    /// nothing: the leaves decide.
    fn table(frame: PhysAddr) -> u64;

    /// Reads any entry at `level`, also one that the embedder's kernel wrote.
    fn upper(level: u8, entry: u64) -> Upper;
}
