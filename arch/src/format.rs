//! What an entry means, independent of how an architecture spells it.
//!
//! A leaf entry of the window is in one of three states:
//!
//! ```text
//!   Empty     no frame, and four bits for software      faults
//!   Hidden    a frame that belongs here, not accessible  faults
//!   Present   a frame, with an Access                    translates
//! ```
//!
//! `Hidden` is what makes giving access cheap: the frame stays in its entry,
//! so that revealing a page is one store. Beside the frame an entry remembers
//! whether the page may have been *written* since it was last known to be
//! clean, by the hardware's dirty state while it is writable and by a software
//! bit otherwise; and whether the frame is *shared*: one that other entries map
//! as well, the zero frame or an image's, which a first store replaces.
//!
//! One level up an entry points to a leaf table, or is a block of 2 MiB with
//! the same three states. An entry that points to a table has two bits of
//! software: a *summary*, without which nothing below may be writable, and
//! whether the table is shared.

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
    /// Loads; the first store faults and gets a frame of its own. The frame is
    /// shared.
    CopyOnWrite,
}

/// A decoded leaf entry of the window, or a block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// No frame.
    Empty {
        /// What software noted there, 0 to 15. Zero is an entry of all zeros.
        state: u8,
    },
    /// A frame that is kept here but cannot be reached.
    Hidden {
        /// The frame.
        frame: PhysAddr,
        /// Whether it may have been written.
        written: bool,
        /// Whether it is shared.
        shared: bool,
    },
    /// A frame that can be reached.
    Present {
        /// The frame.
        frame: PhysAddr,
        /// How it can be reached.
        access: Access,
        /// Whether it may have been written. Never with
        /// [`CopyOnWrite`](Access::CopyOnWrite).
        written: bool,
    },
}

impl Entry {
    /// An entry of all zeros.
    pub const NONE: Self = Self::Empty { state: 0 };

    /// The frame that is the entry's own: not one that it shares.
    #[must_use]
    pub const fn own_frame(self) -> Option<PhysAddr> {
        match self {
            Self::Empty { .. }
            | Self::Hidden { shared: true, .. }
            | Self::Present { access: Access::CopyOnWrite, .. } => None,
            Self::Hidden { frame, .. } | Self::Present { frame, .. } => Some(frame),
        }
    }
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

    /// The bit that a present entry of any level has, and no other.
    const PRESENT: u64;

    /// The bit that a hidden entry has, and no other that is not present.
    const HIDDEN: u64;

    /// The bit that an entry has whose frame is shared, present or hidden, and no other with
    /// a frame.
    const SHARED: u64;

    /// The physical address in a page's entry, as far as it is not inverted.
    const FRAME: u64;

    /// [`hide`](Self::hide) of a page that may have been written has one of
    /// these bits, after an exclusive or with [`CLEAN`](Self::CLEAN).
    const WRITTEN: u64;

    /// The bits of [`WRITTEN`](Self::WRITTEN) that say the opposite.
    const CLEAN: u64;

    /// Pages of one contiguous run, which may take one TLB entry; 1 where there
    /// is no such thing.
    const RUN: usize;

    /// The hint that an entry belongs to a contiguous run; 0 where there is no
    /// such thing.
    const RUN_HINT: u64;

    /// In an entry that points to a table: something below may be writable.
    const SUMMARY: u64;

    /// In an entry that points to a table: the table is shared, and must be
    /// replaced before anything below changes.
    const SHARED_TABLE: u64;

    /// Whether a fault may come from a cached translation with fewer rights
    /// than the entry now has, even after a walk, until it is invalidated.
    /// Where not, the fault itself drops it.
    const STALE_AFTER_UPGRADE: bool;

    /// A present leaf. `written` is ignored for
    /// [`CopyOnWrite`](Access::CopyOnWrite), which never is.
    fn present(frame: PhysAddr, access: Access, written: bool) -> u64;

    /// A leaf that keeps its own frame but does not translate.
    fn hidden(frame: PhysAddr, written: bool) -> u64;

    /// A leaf without a frame. `state` is 0 to 15.
    fn empty(state: u8) -> u64;

    /// Reads back what the three functions above wrote, with the hardware's
    /// dirty state.
    fn decode(entry: u64) -> Entry;

    /// A hidden entry's page again with the access that it had: readable and
    /// writable, or copied on write if it is shared.
    ///
    /// This is `decode` and `present` in a few instructions, for the path that
    /// gives access.
    fn reveal(hidden: u64) -> u64;

    /// The page of a present entry that is
    /// [`ReadWrite`](Access::ReadWrite) or
    /// [`CopyOnWrite`](Access::CopyOnWrite), hidden. This is `decode` and
    /// `hidden` in a few instructions, for the path that takes access away.
    fn hide(present: u64) -> u64;

    /// The same of a page of 4 KiB that [`present`](Self::present) or
    /// [`reveal`](Self::reveal) made one of the two, in as few instructions as can be:
    /// growth and its end do little else.
    #[inline(always)]
    fn hide_data(present: u64) -> u64 {
        Self::hide(present)
    }

    /// A present entry, marked as written, if it is
    /// [`ReadWrite`](Access::ReadWrite): what the CPU does by itself where it
    /// keeps dirty state.
    fn mark_written(present: u64) -> Option<u64>;

    /// An entry without its mark of having been written.
    fn mark_clean(entry: u64) -> u64;

    /// Whether what CPUs may have cached from `old` must be invalidated once
    /// `new` stands in its place.
    fn needs_invalidation(old: u64, new: u64) -> bool;

    /// Whether `old` must be made not present, and invalidated, before `new`
    /// may stand in its place.
    fn needs_break(old: u64, new: u64) -> bool;

    /// A block of 2 MiB with the meaning of a page's entry.
    fn block(page: u64) -> u64;

    /// A page's entry with the meaning of a block of 2 MiB.
    fn page(block: u64) -> u64;

    /// An entry that points to a table one level further down. It limits
    /// nothing: the leaves decide.
    fn table(frame: PhysAddr) -> u64;

    /// An entry that points to a shared leaf table. Nothing below can be
    /// written, whatever the leaves say.
    fn shared_table(frame: PhysAddr) -> u64;

    /// Reads any entry at `level`, also one that the embedder's kernel wrote.
    fn upper(level: u8, entry: u64) -> Upper;
}

/// What holds for every format, as its own tests run it.
#[cfg(test)]
pub(crate) mod tests {
    use super::{Access, Entry, Format, Upper};
    use crate::PhysAddr;

    pub(crate) const ACCESSES: [Access; 4] =
        [Access::Read, Access::ReadWrite, Access::ReadExecute, Access::CopyOnWrite];

    const FRAME: PhysAddr = PhysAddr(0x0001_2345_6000);
    const OTHER: PhysAddr = PhysAddr(0x0001_2345_7000);

    fn every_present<F: Format>() -> impl Iterator<Item = (u64, Access, bool)> {
        let both =
            |access| [false, true].map(|written| (F::present(FRAME, access, written), access, written));
        ACCESSES.into_iter().flat_map(both)
    }

    pub(crate) fn entries<F: Format>() {
        for (entry, access, written) in every_present::<F>() {
            let written = written && access != Access::CopyOnWrite;
            assert_eq!(F::decode(entry), Entry::Present { frame: FRAME, access, written });
            assert_ne!(entry & F::PRESENT, 0);
            let Upper::Leaf { frame, writable, executable } = F::upper(0, entry) else {
                panic!("not a leaf")
            };
            assert_eq!(frame, FRAME);
            assert_eq!(writable, access == Access::ReadWrite, "{access:?}");
            assert_eq!(executable, access == Access::ReadExecute, "{access:?}");
            assert_eq!(F::page(F::block(entry)), entry);
            assert_eq!(entry & F::SHARED != 0, access == Access::CopyOnWrite);
            let clean = Entry::Present { frame: FRAME, access, written: false };
            assert_eq!(F::decode(F::mark_clean(entry)), clean);
            let marked = F::mark_written(entry).map(F::decode);
            let writable = Entry::Present { frame: FRAME, access, written: true };
            assert_eq!(marked, (access == Access::ReadWrite).then_some(writable));
        }
        for written in [false, true] {
            let entry = F::hidden(FRAME, written);
            assert_eq!(F::decode(entry), Entry::Hidden { frame: FRAME, written, shared: false });
            assert_eq!(entry & (F::PRESENT | F::HIDDEN | F::SHARED), F::HIDDEN);
            assert_eq!((entry ^ F::CLEAN) & F::WRITTEN != 0, written);
            let clean = Entry::Hidden { frame: FRAME, written: false, shared: false };
            assert_eq!(F::decode(F::mark_clean(entry)), clean);
        }
        for state in 0..16 {
            assert_eq!(F::decode(F::empty(state)), Entry::Empty { state });
            assert_eq!(F::empty(state) & (F::PRESENT | F::HIDDEN), 0);
        }
        assert_eq!(F::empty(0), 0);
        short_ways::<F>();
        taking_away::<F>();
        tables::<F>();
    }

    /// `hide` and `reveal` lead where `decode` and `present` do.
    fn short_ways<F: Format>() {
        for written in [false, true] {
            let present = F::present(FRAME, Access::ReadWrite, written);
            assert_eq!(F::hide(present), F::hidden(FRAME, written));
            assert_eq!(F::hide_data(present), F::hidden(FRAME, written));
            assert_eq!(F::reveal(F::hide_data(present)), present);
            assert_eq!(F::reveal(F::hidden(FRAME, written)), present);
        }
        let shared = F::present(FRAME, Access::CopyOnWrite, false);
        let hidden = F::hide(shared);
        assert_eq!(F::hide_data(shared), hidden);
        assert_ne!(hidden & F::SHARED, 0);
        assert_eq!(F::decode(hidden), Entry::Hidden { frame: FRAME, written: false, shared: true });
        assert_eq!((hidden ^ F::CLEAN) & F::WRITTEN, 0);
        assert_eq!(F::reveal(hidden), shared);
    }

    fn taking_away<F: Format>() {
        for (old, access, written) in every_present::<F>() {
            assert!(F::needs_invalidation(old, 0) && F::needs_invalidation(old, F::hide(old)));
            assert!(!F::needs_invalidation(0, old) && !F::needs_invalidation(F::hidden(FRAME, written), old));
            assert!(!F::needs_invalidation(old, old));
            assert!(F::needs_invalidation(old, F::present(OTHER, access, written)), "{access:?}");
            if access == Access::ReadWrite {
                assert!(F::needs_invalidation(old, F::present(FRAME, Access::Read, written)));
                assert_eq!(F::needs_invalidation(old, F::mark_clean(old)), written);
            }
        }
    }

    fn tables<F: Format>() {
        let free = Upper::Table { frame: FRAME, read_only: false, no_execute: false };
        assert_eq!(F::upper(1, F::table(FRAME)), free);
        assert_eq!(F::upper(1, F::table(FRAME) | F::SUMMARY), free);
        assert_eq!(F::table(FRAME) & (F::SUMMARY | F::SHARED_TABLE), 0);
        let Upper::Table { frame, read_only: true, no_execute: false } = F::upper(1, F::shared_table(FRAME))
        else {
            panic!("a shared table limits nothing")
        };
        assert_eq!(frame, FRAME);
        assert_ne!(F::shared_table(FRAME) & F::SHARED_TABLE, 0);
    }

    pub(crate) fn written_by_the_cpu<F: Format>(write: fn(u64) -> u64) {
        let entry = write(F::present(FRAME, Access::ReadWrite, false));
        assert_eq!(
            F::decode(entry),
            Entry::Present { frame: FRAME, access: Access::ReadWrite, written: true }
        );
        assert_eq!(Some(entry), F::mark_written(F::present(FRAME, Access::ReadWrite, false)));
        assert_eq!(F::hide(entry), F::hidden(FRAME, true));
    }
}
