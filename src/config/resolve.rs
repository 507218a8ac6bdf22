//! From a configuration, a window and an arena to exact numbers, as pure
//! arithmetic.
//!
//! ```text
//!   window   | region_space | memories        | tables   | stacks  |
//!            '-- asked for --'---- exact counts first; then as many more of
//!   arena    | base | exact | a 16th of the rest | ...    each kind as fit
//! ```
//!
//! Counts that are left open grow together, up to what each may be: an instance
//! wants one of each. Costs are rounded up and never fall as counts rise, so
//! that more window or arena never means fewer slots.

use core::fmt;

use allotment_arch::{ENTRIES_PER_TABLE, PAGE_SIZE};

use super::{
    Backing, Commit, Config, GIB, MemoryPoolConfig, PoolingAllocationConfig, Premapped, Total, slabs::Slots,
};
use crate::{ConfigError, pooling::SlabLayout};

/// Bytes of records for one slot, about.
const RECORD: u64 = 128;
const PAGE: u64 = PAGE_SIZE as u64;
const ENTRIES: u64 = ENTRIES_PER_TABLE as u64;

/// Exact numbers for one window and one arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// Bytes of address space beside the slots.
    pub region_space: usize,
    /// Memory slots.
    pub memories: ResolvedPool,
    /// Table slots.
    pub tables: ResolvedPool,
    /// Fiber stacks.
    pub stacks: ResolvedPool,
    /// Memory slots of the pools that were added, in their order.
    pub memory_pools: [Option<ResolvedPool>; MemoryPoolConfig::MOST],
    /// GC heaps that may live at a time.
    pub gc_heaps: ResolvedCount,
    /// Core instances that may live at a time.
    pub core_instances: ResolvedCount,
    /// Component instances that may live at a time.
    pub component_instances: ResolvedCount,
    /// Where the slots' frames come from; never `Auto`.
    pub backing: Backing,
    /// Why.
    pub backing_reason: BackingReason,
}

/// One pool: where its slots stand, from its slab's first byte, and why it has
/// as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedPool {
    /// Slots and their sizes.
    pub slab: SlabLayout,
    /// What limited their number.
    pub limit: Limit,
}

/// How many, and why not more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedCount {
    /// How many.
    pub count: usize,
    /// What limited it.
    pub limit: Limit,
}

/// What limited a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Not more were asked for.
    Asked,
    /// [`Total::AUTO`].
    Default,
    /// The window's address space.
    Window,
    /// The arena: tables and records, or with `Fixed` the slots themselves.
    Arena,
    /// A GC heap lies in a memory slot.
    Memories,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "as asked",
            Self::Default => "the default",
            Self::Window => "limited by the window",
            Self::Arena => "limited by the arena",
            Self::Memories => "limited by the memory slots",
        })
    }
}

/// Why the backing is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackingReason {
    /// It was asked for.
    Asked,
    /// There are no pools.
    OnDemand,
    /// The arena holds every slot whole, and a quarter of it stays free.
    ArenaHoldsAll {
        /// Bytes for all slots with their tables.
        needed: u64,
        /// Bytes of the arena.
        available: u64,
    },
    /// It does not.
    ArenaTooSmall {
        /// Bytes for all slots with their tables.
        needed: u64,
        /// Bytes of the arena; a quarter would have to stay free.
        available: u64,
    },
}

impl fmt::Display for BackingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Asked => f.write_str("as asked"),
            Self::OnDemand => f.write_str("there are no pools"),
            Self::ArenaHoldsAll { needed, available } => {
                write!(f, "all slots take {} of the arena's {}", Mib(needed), Mib(available))
            }
            Self::ArenaTooSmall { needed, available } => write!(
                f,
                "all slots would take {}, more than three quarters of the arena's {}",
                Mib(needed),
                Mib(available)
            ),
        }
    }
}

/// Bytes, rounded up to MiB.
struct Mib(u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

impl Config {
    /// The numbers for a window and an arena of so many bytes on a machine with
    /// so many CPUs, and what limited each. Nothing is set aside.
    ///
    /// The arena's share of each record is estimated: what an exact count needs
    /// to the byte only the carve knows.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the configuration contradicts itself, or window or
    /// arena cannot hold what it asks for exactly.
    pub fn resolve(&self, window: u64, arena: u64, cpus: usize) -> Result<Resolved, ConfigError> {
        self.resolve_with(window, arena, cpus, |demand| demand.check_arena())
    }

    /// The same for the carve, which says to the byte what the arena lacks.
    pub(crate) fn resolve_for_carve(
        &self,
        window: u64,
        arena: u64,
        cpus: usize,
    ) -> Result<Resolved, ConfigError> {
        self.resolve_with(window, arena, cpus, |_| Ok(()))
    }

    fn resolve_with(
        &self,
        window: u64,
        arena: u64,
        cpus: usize,
        check_arena: impl Fn(&Demand<'_>) -> Result<(), ConfigError>,
    ) -> Result<Resolved, ConfigError> {
        self.validate()?;
        let too_large = ConfigError::TooLarge { knob: "region_space", value: self.region_space };
        let region_space = self.region_space.checked_next_multiple_of(GIB).ok_or(too_large)?;
        let base = base(arena, region_space as u64, cpus as u64);
        let none = PoolingAllocationConfig::new()
            .max_memory_size(0)
            .total_memories(0)
            .total_tables(0)
            .total_stacks(0);
        let pooling = self.pooling().unwrap_or(&none);
        let demand = Demand { config: self, pooling, window, region_space: region_space as u64, arena, base };
        demand.check_window()?;
        check_arena(&demand)?;

        let open = demand.most_open();
        let (memories, tables, stacks) = (
            demand.count(Slots::Memories, open),
            demand.count(Slots::Tables, open),
            demand.count(Slots::Stacks, open),
        );
        let (backing, backing_reason) = demand.backing(open);
        let fixed = backing == Backing::Fixed;
        let pool = |slots: Slots, count: ResolvedCount| -> Result<ResolvedPool, ConfigError> {
            Ok(ResolvedPool { slab: demand.slab(slots, count.count, fixed)?, limit: count.limit })
        };
        let mut memory_pools = [None; MemoryPoolConfig::MOST];
        for (nth, resolved) in memory_pools.iter_mut().enumerate().take(pooling.memory_pools.added()) {
            let slots = Slots::Further(nth);
            *resolved = Some(pool(slots, demand.count(slots, open))?);
        }
        Ok(Resolved {
            region_space,
            memories: pool(Slots::Memories, memories)?,
            tables: pool(Slots::Tables, tables)?,
            stacks: pool(Slots::Stacks, stacks)?,
            memory_pools,
            gc_heaps: gc_heaps(pooling.total_gc_heaps, memories.count),
            core_instances: unlimited(pooling.total_core_instances),
            component_instances: unlimited(pooling.total_component_instances),
            backing,
            backing_reason: if self.pooling().is_some() { backing_reason } else { BackingReason::OnDemand },
        })
    }
}

/// Bytes of the arena that are no slot's: records of frames and CPUs, and the
/// tables above the regions'.
fn base(arena: u64, region_space: u64, cpus: u64) -> u64 {
    let tables = region_space / GIB as u64 + region_space / (ENTRIES * GIB as u64) + 2;
    (arena / PAGE * size_of::<u32>() as u64)
        .saturating_add(cpus.saturating_mul(RECORD))
        .saturating_add(tables.saturating_mul(PAGE))
}

/// Counts for which nothing is set aside.
fn unlimited(total: Total) -> ResolvedCount {
    let limit = if total == Total::Auto { Limit::Default } else { Limit::Asked };
    ResolvedCount { count: total.most(), limit }
}

/// An exact number stays, as in Wasmtime: those beyond the slots are refused
/// when they are asked for.
fn gc_heaps(total: Total, memories: usize) -> ResolvedCount {
    match unlimited(total) {
        asked if matches!(total, Total::Exactly(_)) || asked.count <= memories => asked,
        _ => ResolvedCount { count: memories, limit: Limit::Memories },
    }
}

/// What is asked of a window and an arena.
struct Demand<'a> {
    config: &'a Config,
    pooling: &'a PoolingAllocationConfig,
    window: u64,
    region_space: u64,
    arena: u64,
    /// Bytes of the arena that are no slot's.
    base: u64,
}

impl Demand<'_> {
    /// Refuses what cannot fit even if every open count is 0.
    fn check_window(&self) -> Result<(), ConfigError> {
        let needed = self.window_bytes(0)?;
        if needed > self.window {
            return Err(ConfigError::WindowTooSmall { needed, available: self.window });
        }
        Ok(())
    }

    /// The same of the arena.
    fn check_arena(&self) -> Result<(), ConfigError> {
        // Tables alone, or slots: what else there is the carve counts exactly.
        let mut needed = 0u64;
        for slots in Slots::ALL {
            let fixed = self.pooling.backing == Backing::Fixed;
            let count = self.count_at(slots, 0);
            let slab = self.slab(slots, count, fixed)?;
            let frames = if fixed { slab.max_memory_size as u64 / PAGE } else { 0 };
            let each = frames.saturating_add(slab.premapped_tables as u64).saturating_mul(PAGE);
            needed = needed.saturating_add(each.saturating_mul(count as u64));
        }
        if needed > self.arena {
            return Err(ConfigError::ArenaTooSmall { needed, available: self.arena });
        }
        Ok(())
    }

    /// The most that open counts may be: binary search, since what fits also
    /// fits with fewer.
    fn most_open(&self) -> usize {
        let most = Slots::ALL.map(|slots| self.total(slots).most());
        let (mut fits, mut above) = (0, most.into_iter().max().unwrap_or(0).saturating_add(1));
        while above - fits > 1 {
            let middle = fits + (above - fits) / 2;
            if self.fits_window(middle) && self.fits_arena(middle) {
                fits = middle;
            } else {
                above = middle;
            }
        }
        fits
    }

    /// How many slots when open counts are at most `open`, the most that fit.
    fn count(&self, slots: Slots, open: usize) -> ResolvedCount {
        let (count, total) = (self.count_at(slots, open), self.total(slots));
        let limit = match total {
            Total::Auto if count == total.most() => Limit::Default,
            _ if count == total.most() => Limit::Asked,
            _ if !self.fits_window(open + 1) => Limit::Window,
            _ => Limit::Arena,
        };
        ResolvedCount { count, limit }
    }

    fn backing(&self, open: usize) -> (Backing, BackingReason) {
        if self.pooling.backing != Backing::Auto {
            return (self.pooling.backing, BackingReason::Asked);
        }
        let (needed, available) =
            (self.arena_bytes(open, |_| true, true).saturating_add(self.base), self.arena);
        if needed <= available - available / 4 {
            (Backing::Fixed, BackingReason::ArenaHoldsAll { needed, available })
        } else {
            (Backing::Elastic(Commit::Strict), BackingReason::ArenaTooSmall { needed, available })
        }
    }

    fn fits_window(&self, open: usize) -> bool {
        self.window_bytes(open).is_ok_and(|needed| needed <= self.window)
    }

    /// Open counts may take a 16th of what the others leave; slots that own
    /// their frames all but a quarter of the arena.
    fn fits_arena(&self, open: usize) -> bool {
        let fixed = self.pooling.backing == Backing::Fixed;
        let asked = self.arena_bytes(0, |total| !is_open(total), fixed).saturating_add(self.base);
        let room = if fixed {
            (self.arena - self.arena / 4).saturating_sub(asked)
        } else {
            self.arena.saturating_sub(asked) / 16
        };
        self.arena_bytes(open, is_open, fixed) <= room
    }

    fn window_bytes(&self, open: usize) -> Result<u64, ConfigError> {
        let mut sum = self.region_space;
        for slots in Slots::ALL {
            let slab = self.slab(slots, self.count_at(slots, open), false)?;
            sum = sum.saturating_add(slab.total as u64);
        }
        Ok(sum)
    }

    /// Bytes of the arena that the pools for which `which` take, at most.
    fn arena_bytes(&self, open: usize, which: impl Fn(Total) -> bool, fixed: bool) -> u64 {
        let bytes = |slots| {
            let slab = self.slab(slots, self.count_at(slots, open), fixed);
            slab.map_or(u64::MAX, |slab| self.slab_bytes(slots, &slab, fixed))
        };
        let pools = Slots::ALL.into_iter().filter(|&slots| which(self.total(slots)));
        pools.map(bytes).fold(0, u64::saturating_add)
    }

    /// Bytes of the arena that a slab takes, at most; never fewer for more
    /// slots, and never so many more in a larger arena that fewer fit.
    fn slab_bytes(&self, slots: Slots, slab: &SlabLayout, fixed: bool) -> u64 {
        let (count, tables) = (slab.total_memories as u64, slab.tables_per_slot as u64);
        if count == 0 {
            return 0;
        }
        let near = match self.premapped(slots) {
            Premapped::PerSlot(near) if !fixed => tables.min(near as u64),
            _ => tables,
        };
        let bytes = |pages: u64| count.saturating_mul(pages).saturating_mul(PAGE);
        let (mut leaves, mut directories) = (bytes(near), bytes(near.div_ceil(ENTRIES)));
        if self.premapped(slots) == Premapped::Auto && !fixed {
            // To the byte, not what rounding to tables makes of it: in steps it
            // would fall and rise.
            let share = self.automatic_bytes();
            leaves = leaves.min(share.max(bytes(1)));
            directories = directories.min((share / ENTRIES).saturating_add(bytes(1)));
        }
        // A slot's tables may begin in the midst of a GiB, and end in the next.
        let per_gib = slab.total as u64 / GIB as u64 + 2;
        let directories = directories.saturating_add(bytes(1)).min(per_gib.saturating_mul(PAGE));
        let above = (per_gib / ENTRIES).saturating_mul(PAGE);
        let mut frames = if fixed { bytes(slab.max_memory_size as u64 / PAGE) } else { 0 };
        if fixed {
            frames = frames.saturating_add(slab.frame_alignment() as u64 - PAGE);
        }
        let records = count.saturating_mul(RECORD);
        [leaves, directories, above, frames, records].into_iter().fold(0, u64::saturating_add)
    }

    /// So many slots, with the tables that they have from the carve on.
    fn slab(&self, slots: Slots, count: usize, fixed: bool) -> Result<SlabLayout, ConfigError> {
        let premapped = match self.premapped(slots) {
            _ if fixed => usize::MAX,
            // One at least, so that the carve makes the directory above it.
            Premapped::PerSlot(tables) => tables.max(1),
            Premapped::Auto => {
                let tables = self.automatic_bytes() / PAGE;
                let each = tables.checked_div(count as u64).unwrap_or(0);
                usize::try_from(each).unwrap_or(usize::MAX).max(1)
            }
        };
        slots.layout(self.config, self.pooling, count, premapped)
    }

    /// Bytes of leaf tables that `Auto` gives to all slots of a kind together.
    fn automatic_bytes(&self) -> u64 {
        self.arena / 64
    }

    fn premapped(&self, slots: Slots) -> Premapped {
        match slots {
            Slots::Memories | Slots::Further(_) => self.pooling.premapped_tables,
            Slots::Tables | Slots::Stacks => Premapped::Auto,
        }
    }

    fn count_at(&self, slots: Slots, open: usize) -> usize {
        let total = self.total(slots);
        if is_open(total) { total.most().min(open) } else { total.most() }
    }

    fn total(&self, slots: Slots) -> Total {
        slots.total(self.config, self.pooling)
    }
}

fn is_open(total: Total) -> bool {
    !matches!(total, Total::Exactly(_))
}
