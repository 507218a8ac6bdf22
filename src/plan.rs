//! What there is, in numbers: the carve's plan, and counts of the moment.

use core::{fmt, ops::Range};

use allotment_arch::{PhysAddr, VirtAddr};

/// What was carved, as numbers and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The whole window.
    pub window: Range<VirtAddr>,
    /// The whole arena.
    pub arena: Range<PhysAddr>,
    /// First address of the first memory slot.
    pub first_memory: VirtAddr,
    /// Bytes from one slot to the next.
    pub stride: usize,
    /// Slots.
    pub total_memories: usize,
    /// Bytes of a slot before its guard.
    pub memory_reservation: usize,
    /// Bytes that one memory may make accessible.
    pub max_memory_size: usize,
    /// Bytes of the arena that went into tables and records.
    pub overhead: usize,
    /// Frames of 4 KiB that are left for contents.
    pub frames: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: usize = 1 << 20;
        let Range { start, end } = &self.window;
        writeln!(f, "window   {start}..{end}")?;
        let Range { start, end } = &self.arena;
        writeln!(f, "arena    {start}..{end}, {} MiB", (end.0 - start.0) >> 20)?;
        writeln!(
            f,
            "memories {} slots from {}, {} MiB apart, at most {} MiB each",
            self.total_memories,
            self.first_memory,
            self.stride / MIB,
            self.max_memory_size / MIB
        )?;
        write!(
            f,
            "frames   {} of 4 KiB, after {} KiB of tables and records",
            self.frames,
            self.overhead / 1024
        )
    }
}

/// Counts of this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Memory slots in use.
    pub memories: usize,
    /// Memory slots that could be allocated.
    pub free_memories: usize,
    /// Frames of 4 KiB that could be given: free in the arena, or kept warm by
    /// slots that do not use them now.
    pub available_frames: usize,
    /// Of those, the ones that slots keep.
    pub idle_frames: usize,
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memories {} in use, {} free", self.memories, self.free_memories)?;
        write!(
            f,
            "frames   {} of 4 KiB available, {} of them kept by slots",
            self.available_frames, self.idle_frames
        )
    }
}

/// How often translations were invalidated, since the carve. The fault path is
/// not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidations {
    /// By a CPU for itself.
    pub local: usize,
    /// On every CPU: on x86_64 with several CPUs by an interrupt to each other
    /// one.
    pub everywhere: usize,
}

impl fmt::Display for Invalidations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalidations: {} by one CPU for itself, {} on every CPU", self.local, self.everywhere)
    }
}
