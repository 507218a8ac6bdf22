//! What an allocator is built from. Names and defaults are Wasmtime's where
//! it has them.

use core::fmt;

use crate::pooling::SlabConstraints;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Sizes and counts of an [`Allocator`](crate::Allocator).
///
/// | knob | Wasmtime's default | ours | unit |
/// |---|---|---|---|
/// | `memory_reservation` | 4 GiB | 4 GiB | bytes of address space per memory |
/// | `memory_guard_size` | 32 MiB | 32 MiB | bytes that stay unmapped after (and before) each |
/// | `guard_before_linear_memory` | true | true | whether the first slot has a guard before it |
/// | `max_memory_size` | 4 GiB | 4 GiB | bytes that one memory may make accessible |
/// | `total_memories` | 1000 | 1000 | slots |
/// | `region_space` | - | 64 GiB | bytes of address space for everything that is no slot |
///
/// Leaf tables are premapped for `max_memory_size` of every slot: 4 KiB per
/// 2 MiB, so that 1000 slots of 4 GiB take 8 GiB of arena. Choose
/// `max_memory_size` by what the arena can ever fill.
///
/// The window must hold `region_space`, one guard, and `total_memories` times
/// reservation and guard: 4.1 TiB with these defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Config {
    pub(crate) memory_reservation: usize,
    pub(crate) memory_guard_size: usize,
    pub(crate) guard_before_linear_memory: bool,
    pub(crate) max_memory_size: usize,
    pub(crate) total_memories: usize,
    pub(crate) region_space: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_reservation: 4 * GIB,
            memory_guard_size: 32 * MIB,
            guard_before_linear_memory: true,
            max_memory_size: 4 * GIB,
            total_memories: 1000,
            region_space: 64 * GIB,
        }
    }
}

impl Config {
    /// The defaults: Wasmtime's, and 64 GiB of `region_space`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of address space that each memory slot reserves before its guard.
    /// From 4 GiB on, compiled code needs no bounds checks for 32-bit memories.
    pub fn memory_reservation(mut self, bytes: usize) -> Self {
        self.memory_reservation = bytes;
        self
    }

    /// Bytes after each reservation that never become accessible. Reservation
    /// and guard together are rounded up to 2 MiB.
    pub fn memory_guard_size(mut self, bytes: usize) -> Self {
        self.memory_guard_size = bytes;
        self
    }

    /// Whether a guard also stands before the first slot. Every other slot has
    /// its neighbour's.
    pub fn guard_before_linear_memory(mut self, enable: bool) -> Self {
        self.guard_before_linear_memory = enable;
        self
    }

    /// Bytes that one memory may make accessible, at most `memory_reservation`.
    /// Rounded up to 4 KiB.
    pub fn max_memory_size(mut self, bytes: usize) -> Self {
        self.max_memory_size = bytes;
        self
    }

    /// Memory slots.
    pub fn total_memories(mut self, count: usize) -> Self {
        self.total_memories = count;
        self
    }

    /// Bytes of address space for regions that are no slot: code, and
    /// reservations of other sizes. Rounded up to 1 GiB.
    pub fn region_space(mut self, bytes: usize) -> Self {
        self.region_space = bytes;
        self
    }

    pub(crate) fn slab(&self) -> SlabConstraints {
        SlabConstraints {
            memory_reservation: self.memory_reservation,
            max_memory_size: self.max_memory_size,
            memory_guard_size: self.memory_guard_size,
            guard_before_linear_memory: self.guard_before_linear_memory,
            total_memories: self.total_memories,
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} memories of at most {:#x} bytes, {:#x} bytes reserved and {:#x} bytes of guard each",
            self.total_memories, self.max_memory_size, self.memory_reservation, self.memory_guard_size
        )
    }
}
