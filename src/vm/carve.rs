//! Cutting the arena up, once, at boot.
//!
//! ```text
//!   arena
//!   +---------+---------+--------+---------+--------------+----- for each pool -----------+--------+
//!   | links of| region  | CPUs'  | upper   | slot records | leaf tables    | own frames   | frames |
//!   | frames  | records | records| tables  | and index    | of all slots   | (`Fixed`)    | ...    |
//!   +---------+---------+--------+---------+--------------+-------------------------------+--------+
//!     Places (arithmetic first: nothing is written before all of it fits)
//!
//!   window
//!   | regions | slab of memories | slab of tables | slab of stacks | slabs of memories of other sizes |
//! ```
//!
//! The premapped leaf tables of a slot are contiguous, and slots follow one
//! another, so that the entry of a page is found by arithmetic. Of the tables
//! above, all that can span two slots are made here; what lies within one slot
//! beyond its premapped tables is made when the slot grows that far. The
//! top-level entries of the window are filled here and never change again:
//! a kernel with several roots copies them once.

use core::{ops::Range, sync::atomic::Ordering};

use allotment_arch::{
    Arch, Format, FrameSource, PAGE_SIZE, PhysAddr, TABLE_SPAN, Table, Upper, VirtAddr, index,
};

use super::{
    check_cpu, check_mappings, check_ranges, check_reach, check_root, check_unoccupied, frames::FrameStack,
    is_usable_frame,
};
use crate::{CarveError, MemoryPoolConfig, pooling::SlabLayout};

/// Memories, tables, stacks, and memories of other sizes.
pub(crate) const POOLS: usize = 3 + MemoryPoolConfig::MOST;

/// Window, arena and what is to stand in them.
#[derive(Debug)]
pub(crate) struct Carving<'a, A> {
    pub(crate) arch: &'a A,
    pub(crate) window: Range<VirtAddr>,
    pub(crate) arena: Range<PhysAddr>,
    pub(crate) region_space: usize,
    /// Bytes of the regions' records.
    pub(crate) region_records: usize,
    /// The pools, in the order of their slabs.
    pub(crate) pools: [PoolSpec; POOLS],
    /// Bytes of the records of pools.
    pub(crate) pool_records: usize,
    /// Bytes of the CPUs' records.
    pub(crate) cpu_records: usize,
    /// Whether the embedder gives the frames of the upper tables.
    pub(crate) upper_from_source: bool,
}

/// What one pool needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSpec {
    pub(crate) slab: SlabLayout,
    /// Bytes of one slot's record.
    pub(crate) slot_record: usize,
    /// Bytes of the index allocator's links, for all slots.
    pub(crate) links: usize,
    /// Bytes of its buckets.
    pub(crate) buckets: usize,
    /// Bytes of the premapped leaf tables' summaries, for all slots.
    pub(crate) summaries: usize,
    /// Frames that each slot owns from the start,
    pub(crate) frames_per_slot: usize,
    /// and at what multiple of bytes the first of them all is.
    pub(crate) frame_alignment: usize,
}

impl PoolSpec {
    /// No slots.
    pub(crate) const NONE: Self = Self {
        slab: SlabLayout::NONE,
        slot_record: 0,
        links: 0,
        buckets: 0,
        summaries: 0,
        frames_per_slot: 0,
        frame_alignment: PAGE_SIZE,
    };

    /// Bytes of records and premapped leaf tables for each slot.
    pub(crate) fn bytes_per_slot(&self) -> usize {
        let all =
            (self.links + self.buckets + self.summaries).checked_div(self.slab.total_memories).unwrap_or(0);
        self.slot_record + all + self.slab.premapped_tables * PAGE_SIZE
    }
}

/// Where everything of one pool goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolPlaces {
    /// First address of the slab.
    pub(crate) slab: VirtAddr,
    pub(crate) slot_records: PhysAddr,
    pub(crate) links: PhysAddr,
    pub(crate) buckets: PhysAddr,
    pub(crate) summaries: PhysAddr,
    pub(crate) leaf_tables: PhysAddr,
    /// The frames that slots own.
    pub(crate) own_frames: PhysAddr,
}

/// Where everything goes.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// First address of the regions.
    pub(crate) regions: VirtAddr,
    pub(crate) pools: [PoolPlaces; POOLS],
    pub(crate) frame_links: PhysAddr,
    pub(crate) region_records: PhysAddr,
    pub(crate) pool_records: PhysAddr,
    pub(crate) cpu_records: PhysAddr,
    upper_tables: Range<PhysAddr>,
    /// Tables above the leaf tables.
    pub(crate) upper_count: usize,
    pub(crate) first_frame: PhysAddr,
    pub(crate) frames: usize,
}

impl<A: Arch> Carving<'_, A> {
    /// Refuses what would not protect or does not fit, and then carves.
    /// `tables` gives the frames of the upper tables, if not the arena does.
    ///
    /// # Safety
    ///
    /// As for [`Allocator::with_tables`](crate::Allocator::with_tables).
    pub(crate) unsafe fn carve(&self, tables: Option<&mut dyn FrameSource>) -> Result<Places, CarveError> {
        check_ranges(&self.window, &self.arena, self.arch.half_bits())?;
        self.arch.check(self.window.start)?;
        if !self.arch.walks(self.window.start) {
            return Err(CarveError::WindowNotWalked { start: self.window.start });
        }
        check_reach(self.arch, &self.arena)?;
        check_cpu(self.arch)?;
        let places = self.places()?;
        // SAFETY: the caller keeps the live tables.
        unsafe { check_root(self.arch, self.window.start) }?;
        // SAFETY: as above.
        unsafe { self.check_window_is_empty() }?;
        // SAFETY: as above.
        unsafe { check_unoccupied(self.arch, &self.arena) }?;
        // SAFETY: as above.
        unsafe { check_mappings(self.arch, &self.arena) }?;
        // The last that can fail: a source that takes nothing back loses nothing.
        // SAFETY: as above.
        let upper = unsafe { self.upper_frames(&places, tables) }?;
        // SAFETY: arena and window are ours by the caller's promise, and the
        // window was found empty.
        unsafe { self.link(&places, upper) };
        Ok(places)
    }

    /// Arithmetic only: places everything or says what does not fit.
    fn places(&self) -> Result<Places, CarveError> {
        let regions = self.window.start;
        let needed = self
            .pools
            .iter()
            .fold(self.region_space as u64, |sum, pool| sum.saturating_add(pool.slab.total as u64));
        let available = self.window.end.0 - self.window.start.0;
        if needed > available {
            return Err(CarveError::WindowTooSmall { needed, available });
        }
        let size = self.arena.end.0 - self.arena.start.0;
        let limit = u64::from(u32::MAX) * PAGE_SIZE as u64;
        if size > limit {
            return Err(CarveError::ArenaTooLarge { size, limit });
        }
        let frames_in_all = to_usize(size) / PAGE_SIZE;

        // In 128 bits, which no product of two sizes leaves.
        let start = u128::from(self.arena.start.0);
        let mut used = 0u128;
        let mut place = |alignment: usize, count: usize, bytes: usize| {
            used = (start + used).next_multiple_of(alignment as u128) - start;
            let here = self.arena.start.0 + u64::try_from(used).unwrap_or(u64::MAX).min(size);
            used += (count as u128 * bytes as u128).next_multiple_of(PAGE_SIZE as u128);
            PhysAddr(here)
        };
        let frame_links = place(PAGE_SIZE, frames_in_all, size_of::<u32>());
        let region_records = place(PAGE_SIZE, 1, self.region_records);
        let pool_records = place(PAGE_SIZE, 1, self.pool_records);
        let cpu_records = place(PAGE_SIZE, 1, self.cpu_records);
        let upper_count = self.count_upper_tables();
        let upper_tables = place(PAGE_SIZE, if self.upper_from_source { 0 } else { upper_count }, PAGE_SIZE);
        let after_upper = place(PAGE_SIZE, 0, 0);
        let mut slab = regions.offset(self.region_space);
        let pools = self.pools.map(|pool| {
            let slots = pool.slab.total_memories;
            let places = PoolPlaces {
                slab,
                slot_records: place(PAGE_SIZE, slots, pool.slot_record),
                links: place(PAGE_SIZE, 1, pool.links),
                buckets: place(PAGE_SIZE, 1, pool.buckets),
                summaries: place(PAGE_SIZE, 1, pool.summaries),
                leaf_tables: place(PAGE_SIZE, slots, pool.slab.premapped_tables * PAGE_SIZE),
                own_frames: place(
                    pool.frame_alignment,
                    slots,
                    pool.frames_per_slot.saturating_mul(PAGE_SIZE),
                ),
            };
            slab = slab.offset(pool.slab.total);
            places
        });
        let first_frame = place(PAGE_SIZE, 0, 0);

        // One frame more, so that there is anything to give at all.
        let needed = u64::try_from(used + PAGE_SIZE as u128).unwrap_or(u64::MAX);
        if needed > size {
            return Err(CarveError::ArenaTooSmall { needed, available: size });
        }
        let frames = to_usize((self.arena.end.0 - first_frame.0) / PAGE_SIZE as u64);
        Ok(Places {
            regions,
            pools,
            frame_links,
            region_records,
            pool_records,
            cpu_records,
            upper_tables: upper_tables..after_upper,
            upper_count,
            first_frame,
            frames,
        })
    }

    /// Refuses a window in which something is mapped.
    ///
    /// # Safety
    ///
    /// The live root is not freed during the call.
    unsafe fn check_window_is_empty(&self) -> Result<(), CarveError> {
        let top = self.arch.levels() - 1;
        // SAFETY: the live root is a table, and the caller keeps it.
        let root = unsafe { Table::new(self.arch, self.arch.root(self.window.start), 1) };
        let span = level_span(top);
        let mut address = self.window.start.0 & !(span - 1);
        while address < self.window.end.0 && address >= self.window.start.0 & !(span - 1) {
            let index = index(VirtAddr(address), top);
            let entry = root.entries()[index].load(Ordering::Relaxed);
            if A::Format::upper(top, entry) != Upper::NotPresent {
                return Err(CarveError::WindowInUse { address: VirtAddr(address), index, entry });
            }
            address = address.wrapping_add(span);
        }
        Ok(())
    }

    /// The frames of the upper tables: the embedder's, or the arena's own.
    ///
    /// # Safety
    ///
    /// The live tables are not freed during the call.
    unsafe fn upper_frames(
        &self,
        places: &Places,
        source: Option<&mut dyn FrameSource>,
    ) -> Result<FrameStack, CarveError> {
        let needed = places.upper_count;
        let mut own = OwnFrames(places.upper_tables.clone());
        let is_own = source.is_none();
        let source = source.unwrap_or(&mut own);
        let is_usable = |frame| {
            // SAFETY: by this function's contract.
            is_own || !self.arena.contains(&frame) && unsafe { is_usable_frame(self.arch, frame) }
        };
        FrameStack::take(self.arch, source, needed, is_usable)
    }

    /// Clears the tables and links them into the live root.
    ///
    /// # Safety
    ///
    /// The arena is ours, the window is empty, and nobody else edits the
    /// window's top-level entries. `upper` are as many frames as were counted.
    unsafe fn link(&self, places: &Places, upper: FrameStack) {
        let mut linker = Linker { arch: self.arch, upper };
        // By number, as the window may begin within the span of a table and
        // end at the top of the address space.
        let mut reach_all = |start: VirtAddr, bytes: usize, level: u8| {
            if let Some(last) = bytes.checked_sub(1) {
                let span = level_span(level + 1);
                for table in start.0 / span..=start.offset(last).0 / span {
                    linker.reach(VirtAddr(table * span), level);
                }
            }
        };
        reach_all(places.regions, self.space(), self.lasting());
        reach_all(places.regions, self.region_space, 1);
        for (pool, places) in self.pools.iter().zip(&places.pools) {
            // SAFETY: by this function's contract.
            unsafe { self.link_pool(pool, places, &mut linker) };
        }
        self.arch.publish();
    }

    /// Clears the leaf tables of a pool's slots and links them.
    ///
    /// # Safety
    ///
    /// As for [`link`](Self::link).
    unsafe fn link_pool(&self, pool: &PoolSpec, places: &PoolPlaces, linker: &mut Linker<'_, A>) {
        let mut leaf = places.leaf_tables;
        for slot in 0..pool.slab.total_memories {
            let base = places.slab.offset(pool.slab.base(slot));
            for nth in 0..pool.slab.premapped_tables {
                // SAFETY: these frames of the arena are ours and not yet linked.
                unsafe { self.arch.zero_frame(leaf) };
                // Not linked: a slot at rest has its tables out of the MMU's way.
                linker.reach(base.offset(nth * TABLE_SPAN), 1);
                leaf = leaf.offset(PAGE_SIZE);
            }
        }
    }

    /// Of this level all tables of the window are made now: those that the root's entries point to, as these
    /// never change; with four levels and more those of 1 GiB each entry, whose own tables come and go.
    fn lasting(&self) -> u8 {
        if self.arch.levels() == 3 { 1 } else { 2 }
    }

    /// Bytes of the window that are used.
    fn space(&self) -> usize {
        self.pools.iter().fold(self.region_space, |sum, pool| sum.saturating_add(pool.slab.total))
    }

    /// Tables above the leaf tables: one for each distinct granule of level 1
    /// that regions and premapped tables touch, and of the levels above, or of level 1
    /// where the root is next, one for each that anything of the window does.
    fn count_upper_tables(&self) -> usize {
        let start = self.window.start;
        let mut slab = start.offset(self.region_space);
        let mut directories = Granules::new(level_span(2));
        directories.add(start, if self.lasting() == 1 { self.space() } else { self.region_space });
        for pool in &self.pools {
            for slot in 0..pool.slab.total_memories {
                let base = slab.offset(pool.slab.base(slot));
                directories.add(base, pool.slab.premapped_tables * TABLE_SPAN);
            }
            slab = slab.offset(pool.slab.total);
        }
        (2..self.arch.levels() - 1).fold(directories.count, |count, level| {
            let mut granules = Granules::new(level_span(level + 1));
            granules.add(start, self.space());
            count + granules.count
        })
    }
}

/// Counts the distinct granules that ranges touch, which come in order.
struct Granules {
    span: u64,
    count: usize,
    last: Option<u64>,
}

impl Granules {
    fn new(span: u64) -> Self {
        Self { span, count: 0, last: None }
    }

    fn add(&mut self, start: VirtAddr, bytes: usize) {
        let Some(last) = bytes.checked_sub(1) else { return };
        let (first, last) = (start.0 / self.span, start.offset(last).0 / self.span);
        let from = self.last.map_or(first, |before| first.max(before + 1));
        self.count += to_usize((last + 1).saturating_sub(from));
        self.last = Some(self.last.map_or(last, |before| before.max(last)));
    }
}

/// Walks down from the root, making the tables that are missing.
struct Linker<'a, A> {
    arch: &'a A,
    upper: FrameStack,
}

/// The arena's own frames for upper tables, one after another.
struct OwnFrames(Range<PhysAddr>);

// SAFETY: `places` set them aside for this, in an arena that is ours for good.
unsafe impl FrameSource for OwnFrames {
    fn allocate_frame(&mut self) -> Option<PhysAddr> {
        let frame = self.0.start;
        self.0.start = frame.offset(PAGE_SIZE);
        (frame < self.0.end).then_some(frame)
    }

    unsafe fn deallocate_frame(&mut self, _frame: PhysAddr) {}
}

impl<'a, A: Arch> Linker<'a, A> {
    /// The table of `level` that serves `address`.
    fn reach(&mut self, address: VirtAddr, level: u8) -> Table<'a> {
        let mut frame = self.arch.root(address);
        for above in (level + 1..self.arch.levels()).rev() {
            // SAFETY: the root is live; below it there are only tables of this
            // carve, since the window was empty.
            let table = unsafe { Table::new(self.arch, frame, 1) };
            let entry = &table.entries()[index(address, above)];
            frame = match A::Format::upper(above, entry.load(Ordering::Relaxed)) {
                Upper::Table { frame, .. } => frame,
                Upper::NotPresent | Upper::Leaf { .. } => {
                    let made = self.upper.pop(self.arch).expect("the tables were counted");
                    entry.store(A::Format::table(made), Ordering::Release);
                    made
                }
            };
        }
        // SAFETY: as above.
        unsafe { Table::new(self.arch, frame, 1) }
    }
}

/// Bytes of address space under one entry of `level`.
fn level_span(level: u8) -> u64 {
    1 << (12 + 9 * u32::from(level))
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
