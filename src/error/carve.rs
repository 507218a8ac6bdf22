//! Why nothing could be carved: which precondition failed, and what to do about it.

use core::fmt;

use allotment_arch::{CpuError, Occupant, PhysAddr, VirtAddr};

use crate::ConfigError;

/// Why an [`Allocator`](crate::Allocator) could not be carved. Nothing was
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CarveError {
    /// The CPU is not set up as isolation needs it.
    Cpu(CpuError),
    /// The configuration contradicts itself.
    Config(ConfigError),
    /// Window or arena are not aligned as they must be.
    Misaligned {
        /// `window` or `arena`.
        what: &'static str,
        /// The address that is not aligned.
        address: u64,
        /// What it should be a multiple of, in bytes.
        alignment: u64,
    },
    /// The window cannot hold what the configuration asks for.
    WindowTooSmall {
        /// Bytes of address space that are needed.
        needed: u64,
        /// Bytes that the window has.
        available: u64,
    },
    /// The window is empty, begins at 0, or does not lie in the lower or upper
    /// half of the address space that is walked: 128 TiB each, or 64 PiB with
    /// five levels of tables; on aarch64 256 TiB, or 512 GiB with three.
    WindowNotCanonical {
        /// First address of the window.
        start: VirtAddr,
        /// Address after its last.
        end: VirtAddr,
        /// Bits of an address that may differ within a half.
        half_bits: u32,
    },
    /// The CPU does not walk tables for the half that the window is in.
    WindowNotWalked {
        /// First address of the window.
        start: VirtAddr,
    },
    /// Something is mapped in the window already, or another allocator has it.
    WindowInUse {
        /// First address under the occupied top-level entry.
        address: VirtAddr,
        /// The entry's number in the root, 0 to 511.
        index: usize,
        /// What it holds.
        entry: u64,
    },
    /// The arena cannot hold the tables and records that the configuration
    /// asks for. An arena that is empty or begins at physical address 0 counts
    /// as one of 0 bytes.
    ArenaTooSmall {
        /// Bytes that are needed before the first page of any memory.
        needed: u64,
        /// Bytes that the arena has.
        available: u64,
    },
    /// The embedder's frame source ran out. It has all of its frames back.
    OutOfTableFrames {
        /// Frames of 4 KiB that the window's upper tables need.
        needed: usize,
        /// Frames that the source had.
        available: usize,
    },
    /// The arena has more frames than this version can number.
    ArenaTooLarge {
        /// Bytes that the arena has.
        size: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// The root of the live tables is not mapped where
    /// [`Arch::physical`](allotment_arch::Arch::physical) says, as far as what is there can be
    /// taken for it.
    RootNotMapped {
        /// The root.
        root: PhysAddr,
        /// Where it should be.
        alias: VirtAddr,
        /// What is mapped there instead.
        found: Option<PhysAddr>,
    },
    /// The arena is not mapped where
    /// [`Arch::physical`](allotment_arch::Arch::physical) says.
    ArenaNotMapped {
        /// The first page that is not.
        address: PhysAddr,
        /// Where it should be.
        alias: VirtAddr,
        /// What is mapped there instead.
        found: Option<PhysAddr>,
    },
    /// The arena could not be written through its alias.
    ArenaReadOnly {
        /// The first page that could not.
        address: PhysAddr,
        /// Where it is mapped.
        alias: VirtAddr,
    },
    /// No page-table entry of this architecture can hold the arena's addresses, or the
    /// CPU is told that they have fewer bits.
    ArenaOutOfReach {
        /// The physical address that does not fit.
        address: PhysAddr,
    },
    /// The arena could be executed through its alias.
    ArenaExecutable {
        /// The first page that could.
        address: PhysAddr,
        /// Where it is mapped.
        alias: VirtAddr,
    },
    /// The arena holds what is in use: of the kernel's, the boot-loader's or another
    /// allocator's.
    ArenaInUse {
        /// The physical address.
        address: PhysAddr,
        /// What is there.
        by: Occupant,
        /// Where that is mapped; of a page table, the first address that it serves.
        at: VirtAddr,
    },
    /// A frame of the embedder's source is no page that can become a table: not aligned, in the
    /// arena, given before, or not mapped writable. The source has the others back.
    BadTableFrame {
        /// The frame.
        frame: PhysAddr,
    },
    /// The machine runs on a CPU that it does not count.
    UnknownCpu {
        /// The number of this CPU.
        current: usize,
        /// How many there are.
        count: usize,
    },
    /// Virtual page 0 translates; a null reference in wasm would not trap.
    NullPageMapped {
        /// What it translates to.
        physical: PhysAddr,
    },
}

impl fmt::Display for CarveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Misaligned { what, address, alignment } => {
                write!(
                    f,
                    "the {what} begins or ends at {address:#x}, which is no multiple of {alignment:#x}; round it inwards"
                )
            }
            Self::WindowTooSmall { needed, available } => write!(
                f,
                "the window has {available:#x} bytes of address space, the configuration needs {needed:#x}; \
                 lower total_memories or memory_reservation, or hand over a larger window"
            ),
            Self::WindowNotCanonical { start, end, half_bits } => {
                write!(
                    f,
                    "the window {start}..{end} does not lie in one half of the address space, which is the lowest \
                     or the highest 2^{half_bits} bytes here, without address 0; choose top-level entries there that \
                     the kernel leaves empty, such as by `boot::window`"
                )
            }
            Self::WindowNotWalked { start } => write!(
                f,
                "the MMU does not walk tables for the window at {start} (TCR_EL1.EPDn of its half is 1); \
                 choose a window in the other half"
            ),
            Self::WindowInUse { address, index, entry } => write!(
                f,
                "the window's top-level entry {index}, for {address}, is in use (it holds {entry:#x}); \
                 choose entries that the kernel leaves empty, such as by `boot::window`"
            ),
            Self::ArenaTooSmall { needed, available } => write!(
                f,
                "the arena has {available} bytes, the configuration needs {needed} bytes for tables and records alone; \
                 lower total_memories or max_memory_size, or hand over a larger arena"
            ),
            Self::OutOfTableFrames { needed, available } => write!(
                f,
                "the frame source has {available} frames, the window's upper tables need {needed}; \
                 lower total_memories or region_space, or give the source more"
            ),
            Self::ArenaTooLarge { size, limit } => {
                write!(
                    f,
                    "the arena has {size:#x} bytes, at most {limit:#x} are supported; hand over a part of it"
                )
            }
            Self::RootNotMapped { root, alias, found } => {
                write!(f, "the live root {root} should be mapped at {alias}, where ")?;
                match found {
                    Some(found) => write!(f, "{found} is")?,
                    None => f.write_str("nothing is")?,
                }
                f.write_str("; check the physical offset")
            }
            Self::ArenaNotMapped { address, alias, found: None } => write!(
                f,
                "the arena's {address} should be mapped at {alias}, where nothing is; check the physical offset, \
                 and that the boot-loader maps all of this memory"
            ),
            Self::ArenaNotMapped { address, alias, found: Some(found) } => write!(
                f,
                "the arena's {address} should be mapped at {alias}, where {found} is; check the physical offset"
            ),
            Self::ArenaReadOnly { address, alias } => write!(
                f,
                "the arena's alias of {address}, at {alias}, is read-only; map physical memory writable"
            ),
            Self::ArenaOutOfReach { address } => write!(
                f,
                "the arena's address {address} does not fit a page-table entry; hand over lower memory, \
                 or on aarch64 raise TCR_EL1.IPS"
            ),
            Self::ArenaExecutable { address, alias } => write!(
                f,
                "the arena's alias of {address}, at {alias}, is executable; map physical memory no-execute"
            ),
            Self::ArenaInUse { address, by, at } => write!(
                f,
                "the arena's {address} holds {by} ({at}); leave kernel, stacks, tables and what the boot-loader \
                 made out of the arena, such as by `boot::without`"
            ),
            Self::BadTableFrame { frame } => write!(
                f,
                "the frame source gave {frame}, which is no unused, aligned page outside of the arena that is mapped \
                 writable; check the source"
            ),
            Self::UnknownCpu { current, count } => write!(
                f,
                "this is CPU {current} of {count}; have `Cpus::current` give numbers below `Cpus::count`"
            ),
            Self::NullPageMapped { physical } => write!(
                f,
                "virtual page 0 is mapped, to {physical}, so null references in wasm would not trap; unmap it"
            ),
        }
    }
}

impl core::error::Error for CarveError {}

impl From<ConfigError> for CarveError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::WindowTooSmall { needed, available } => Self::WindowTooSmall { needed, available },
            ConfigError::ArenaTooSmall { needed, available } => Self::ArenaTooSmall { needed, available },
            error => Self::Config(error),
        }
    }
}

impl From<CpuError> for CarveError {
    fn from(error: CpuError) -> Self {
        Self::Cpu(error)
    }
}
