//! What the walkers of both architectures have in common.

use super::Emulated;
use crate::{Format, Invalidation, PhysAddr, VirtAddr};

/// A format whose MMU is emulated. What an entry means is read from the
/// manuals, on purpose not in terms of the encoders it is there to check.
pub trait Mmu: Format + Sized {
    /// Whether the lower half has a root of its own (TTBR0).
    const SPLIT_ROOTS: bool;

    /// How many levels of tables there may be.
    const LEVELS: &'static [u8];

    /// Binary logarithms of what one translation may cover.
    const SHIFTS: &'static [u32];

    /// Whether every CPU keeps dirty state.
    const ALWAYS_DIRTY: bool;

    /// Whether a fault drops what is cached for its address.
    const FAULT_DROPS: bool;

    /// Whether a valid entry must be broken before it leads elsewhere.
    const BREAKS: bool;

    /// Whether a not-present entry must not name existing memory.
    const HIDES_ADDRESSES: bool;

    /// Bits that the CPU may change in this entry.
    fn hardware_bits(entry: u64) -> u64;

    /// What must be the same in all entries of a contiguous run, once the
    /// distance of their frames is taken off.
    fn run_shape(entry: u64) -> u64;

    /// Whether the CPU translates `address` at all.
    fn canonical(address: VirtAddr, levels: u8) -> bool;

    /// Reads an entry of a table of `level`.
    fn descriptor(level: u8, entry: u64) -> Descriptor;

    /// The entry once a walk has used it.
    fn accessed(entry: u64) -> u64;

    /// The entry of a page once it has been written.
    fn dirtied(entry: u64) -> u64;

    /// Carries out an invalidation with this architecture's instructions.
    fn invalidate(machine: &Emulated<Self>, what: Invalidation, everywhere: bool);

    /// An entry that an embedder's kernel may have for a table.
    fn foreign_table(frame: PhysAddr) -> u64;

    /// An entry that an embedder's kernel may have for a writable page.
    fn foreign_page(frame: PhysAddr) -> u64;
}

/// An entry as a walk reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// The walk ends in a fault.
    Invalid,
    /// The walk ends in a fault, and the entry is malformed.
    Reserved,
    /// A table one level further down, and its limits on everything below.
    Table {
        /// The table.
        frame: PhysAddr,
        /// No write goes through.
        read_only: bool,
        /// No instruction is fetched through.
        no_execute: bool,
    },
    /// A page or block.
    Leaf(Leaf),
}

/// A page or block as a walk reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First physical byte.
    pub frame: PhysAddr,
    /// May be written.
    pub writable: bool,
    /// May be written where the CPU keeps dirty state, after a mark.
    pub markable: bool,
    /// Instructions may be fetched.
    pub executable: bool,
    /// Has the mark of a write, or needs none.
    pub dirty: bool,
    /// May be cached; otherwise the walk faults.
    pub accessed: bool,
    /// Survives a change of address space.
    pub global: bool,
    /// One of sixteen contiguous entries.
    pub run: bool,
    /// Bits that break-before-make watches beside frame and size.
    pub attributes: u64,
    /// Bits that no entry of a window has, although the CPU allows them.
    pub odd: bool,
}
