//! The choices of a configuration that are no plain number: which strategy,
//! how many, what backs a slot, what is left in it.

use core::fmt;

use super::PoolingAllocationConfig;

/// Where memories, tables and stacks come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "one exists per allocator, and there is no heap to put it on")]
pub enum InstanceAllocationStrategy {
    /// A range of its own for each, made when it is asked for and taken apart
    /// when it is given back.
    #[default]
    OnDemand,
    /// Slots of one size, carved at boot.
    Pooling(PoolingAllocationConfig),
}

impl From<PoolingAllocationConfig> for InstanceAllocationStrategy {
    fn from(pooling: PoolingAllocationConfig) -> Self {
        Self::Pooling(pooling)
    }
}

/// How many of something a pool has. A plain number asks for exactly that many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Total {
    /// At most [`Total::AUTO`], fewer where window or arena hold no more.
    #[default]
    Auto,
    /// At most as many, fewer where window or arena hold no more.
    AtMost(usize),
    /// As many, or the carve fails and says what they need.
    Exactly(usize),
}

impl Total {
    /// Wasmtime's default on 64-bit systems, and the most that `Auto` gives.
    pub const AUTO: usize = 1000;

    /// The most that it may come to.
    #[must_use]
    pub const fn most(self) -> usize {
        match self {
            Self::Auto => Self::AUTO,
            Self::AtMost(count) | Self::Exactly(count) => count,
        }
    }
}

impl From<usize> for Total {
    fn from(count: usize) -> Self {
        Self::Exactly(count)
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto, at most {}", Self::AUTO),
            Self::AtMost(count) => write!(f, "at most {count}"),
            Self::Exactly(count) => write!(f, "{count}"),
        }
    }
}

/// Where the frames of a pool's slots come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// `Fixed` where the arena holds every slot whole and a quarter of it
    /// stays free, else `Elastic` and strict.
    #[default]
    Auto,
    /// Every slot owns frames and tables for all that it can make accessible,
    /// from the carve on. Growth within a slot cannot fail.
    Fixed,
    /// Slots share the arena's frames.
    Elastic(Commit),
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed => f.write_str("fixed"),
            Self::Elastic(Commit::Strict) => f.write_str("elastic, strict"),
            Self::Elastic(Commit::PerInstance(pages)) => {
                write!(f, "elastic, {pages} pages of 4 KiB per instance")
            }
        }
    }
}

/// When frames are promised to a slot that shares them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// When a page becomes accessible: an arena without frames is a failed
    /// instantiation or growth, never a surprise later.
    #[default]
    Strict,
    /// So many pages of 4 KiB when a memory is allocated. What becomes
    /// accessible gets its frames at the first touch; a touch beyond the bound
    /// traps. Host code asks `Allocator::prepare_write` first. A memory that is
    /// taken back keeps no frame, whatever `linear_memory_keep_resident` says:
    /// the next instance touches other pages, and may touch as many.
    PerInstance(usize),
}

/// What a slot holds between two tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scrub {
    /// Zeros: whatever the next tenant is, nothing has to be copied away.
    #[default]
    Zeroed,
    /// The initial contents of the image that it had last: the next instance of
    /// the same module finds them there, another one has them cleared first. There
    /// are no images yet: it is the same as [`Zeroed`](Self::Zeroed).
    ImageExact,
}

impl fmt::Display for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zeroed => "zeroed",
            Self::ImageExact => "image-exact",
        })
    }
}

/// How many leaf tables, of 2 MiB each, a memory slot has from the carve on. A
/// plain number is that many for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Premapped {
    /// As many as `max_memory_size` needs, but those of all slots together at
    /// most a 64th of the arena; at least one for each.
    #[default]
    Auto,
    /// As many for each slot, at most what `max_memory_size` needs.
    PerSlot(usize),
}

impl From<usize> for Premapped {
    fn from(tables: usize) -> Self {
        Self::PerSlot(tables)
    }
}

impl fmt::Display for Premapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::PerSlot(tables) => write!(f, "{tables}"),
        }
    }
}
