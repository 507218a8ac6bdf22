//! What the emulated machine finds wrong.

use core::fmt;

use super::FaultKind;
use crate::{PhysAddr, VirtAddr};

/// A rule that tables, or what was done to them, broke.
///
/// CPUs and levels are numbers; level 0 is the leaf table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named by what they are, and shown by Display")]
pub enum Violation {
    /// An access went through a cached translation that the tables no longer
    /// allow.
    StaleTranslation { cpu: usize, address: VirtAddr, frame: PhysAddr, kind: FaultKind },
    /// A write left no mark, since the cached translation had one and the
    /// entry in memory has not.
    LostDirtyBit { cpu: usize, address: VirtAddr, frame: PhysAddr },
    /// A CPU holds a translation or a pointer to a table, and the entry in
    /// memory is a valid one of another frame, size or attribute.
    BreakBeforeMake { cpu: usize, address: VirtAddr, level: u8, frame: PhysAddr },
    /// A CPU can still reach a frame at a page where it was, and it is in use
    /// elsewhere.
    ReusedFrame { cpu: usize, address: VirtAddr, frame: PhysAddr },
    /// A CPU still has a pointer to a table, and its frame is in use as
    /// something else.
    ReusedTable { cpu: usize, address: VirtAddr, level: u8, frame: PhysAddr },
    /// A page can be written and executed.
    WritableAndExecutable { address: VirtAddr, level: u8, entry: u64 },
    /// An entry has bits that must be zero, or a frame that is not aligned to
    /// its size.
    ReservedBits { address: VirtAddr, level: u8, entry: u64 },
    /// A not-present x86_64 entry names existing memory (L1TF).
    UsableAddress { address: VirtAddr, level: u8, entry: u64 },
    /// An entry that leads to addresses outside the window changed.
    OutsideWindow { entry: PhysAddr, before: u64, after: u64 },
    /// Sixteen entries are not all of one contiguous run, and one says so.
    InconsistentRun { address: VirtAddr, entry: u64, other: u64 },
    /// An x86_64 leaf has D = 1 with R/W = 0, which is a shadow stack.
    DirtyReadOnly { address: VirtAddr, level: u8, entry: u64 },
    /// An instruction's operand has bits that it must not have.
    Operand { cpu: usize, instruction: &'static str, operand: u64 },
    /// A TLBI was not preceded by `dsb ish`: a walk may cache the old entry
    /// again.
    UnorderedInvalidation { cpu: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::StaleTranslation { cpu, address, frame, kind } => write!(
                f,
                "stale translation: CPU {cpu} did a {kind} at {address} in frame {frame} through a cached translation that the tables no longer allow; invalidate it on that CPU before"
            ),
            Self::LostDirtyBit { cpu, address, frame } => write!(
                f,
                "lost dirty bit: CPU {cpu} wrote at {address} in frame {frame} through a translation cached as dirty, and the entry is clean; invalidate after clearing"
            ),
            Self::BreakBeforeMake { cpu, address, level, frame } => write!(
                f,
                "break before make: CPU {cpu} has {address} cached at level {level} as {frame}, and another valid entry is there; make it not present and invalidate before"
            ),
            Self::ReusedFrame { cpu, address, frame } => write!(
                f,
                "reused frame: CPU {cpu} can still reach frame {frame} at {address}, and it is in use elsewhere; invalidate everywhere before reuse"
            ),
            Self::ReusedTable { cpu, address, level, frame } => write!(
                f,
                "reused table: CPU {cpu} still walks to frame {frame} from level {level} for {address}, and it is in use elsewhere; invalidate tables everywhere before reuse"
            ),
            Self::WritableAndExecutable { address, level, entry } => {
                write!(
                    f,
                    "writable and executable: entry {entry:#x} of level {level} for {address}; take one away"
                )
            }
            Self::ReservedBits { address, level, entry } => write!(
                f,
                "reserved bits: entry {entry:#x} of level {level} for {address} has bits that must be zero or a misaligned frame"
            ),
            Self::UsableAddress { address, level, entry } => write!(
                f,
                "usable address: not-present entry {entry:#x} of level {level} for {address} names existing memory; invert it or leave it out"
            ),
            Self::OutsideWindow { entry, before, after } => write!(
                f,
                "outside the window: the entry at {entry} was {before:#x} and is {after:#x}; it is not ours to edit"
            ),
            Self::InconsistentRun { address, entry, other } => write!(
                f,
                "inconsistent run: entry {entry:#x} for {address} is one of sixteen that are contiguous, and {other:#x} beside it does not fit"
            ),
            Self::DirtyReadOnly { address, level, entry } => write!(
                f,
                "dirty and read-only: entry {entry:#x} of level {level} for {address} is a shadow stack's; keep the mark in software"
            ),
            Self::Operand { cpu, instruction, operand } => {
                write!(
                    f,
                    "operand: CPU {cpu} ran {instruction} with {operand:#x}, which has bits that it must not have"
                )
            }
            Self::UnorderedInvalidation { cpu } => write!(
                f,
                "unordered invalidation: CPU {cpu} ran a TLBI without dsb ish before it; a walk may cache the old entry again"
            ),
        }
    }
}

impl core::error::Error for Violation {}
