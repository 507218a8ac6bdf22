//! Cutting the arena up, once, at boot.
//!
//! ```text
//!   arena
//!   +---------+---------+---------+--------+---------+---------------------+---------+
//!   | slots'  | free    | free    | region | CPUs'   | upper tables, leaf  | frames  |
//!   | records | slots   | frames  | bitmap | records | tables of all slots | ...     |
//!   +---------+---------+---------+--------+---------+---------------------+---------+
//!     Places (arithmetic first: nothing is written before all of it fits)
//! ```
//!
//! The leaf tables of a slot are contiguous, and slots follow one another, so
//! that the entry of any page of any slot is found by arithmetic. The
//! top-level entries of the window are filled here and never change again:
//! a kernel with several roots copies them once.

use core::{ops::Range, sync::atomic::Ordering};

use allotment_arch::{
    Arch, Format, FrameSource, PAGE_SIZE, PhysAddr, TABLE_SPAN, Table, Upper, VirtAddr, index,
};

use super::{check_mappings, check_ranges, check_reach, frames::FrameStack};
use crate::{CarveError, pooling::SlabLayout};

/// Window, arena and what is to stand in them.
#[derive(Debug)]
pub(crate) struct Carving<'a, A> {
    pub(crate) arch: &'a A,
    pub(crate) window: Range<VirtAddr>,
    pub(crate) arena: Range<PhysAddr>,
    pub(crate) slab: SlabLayout,
    pub(crate) region_space: usize,
    /// Bytes of one slot's record.
    pub(crate) slot_record: usize,
    /// Bytes of the regions' bitmaps.
    pub(crate) region_record: usize,
    /// Bytes of the CPUs' records.
    pub(crate) cpu_records: usize,
    /// Whether the embedder gives the frames of the upper tables.
    pub(crate) upper_from_source: bool,
}

/// Where everything goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// First address of the regions.
    pub(crate) regions: VirtAddr,
    /// First address of the slab.
    pub(crate) slab: VirtAddr,
    pub(crate) slot_records: PhysAddr,
    pub(crate) free_slots: PhysAddr,
    pub(crate) free_frames: PhysAddr,
    pub(crate) region_records: PhysAddr,
    pub(crate) cpu_records: PhysAddr,
    upper_tables: PhysAddr,
    /// Tables above the leaf tables.
    pub(crate) upper_count: usize,
    pub(crate) leaf_tables: PhysAddr,
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
        check_ranges(&self.window, &self.arena, self.arch.levels())?;
        self.arch.check(self.window.start)?;
        if !self.arch.walks(self.window.start) {
            return Err(CarveError::WindowNotWalked { start: self.window.start });
        }
        check_reach::<A>(&self.arena)?;
        let places = self.places()?;
        // SAFETY: the caller keeps the live tables.
        unsafe { check_mappings(self.arch, &self.arena) }?;
        // SAFETY: as above.
        unsafe { self.check_window_is_empty() }?;
        // The last that can fail: a source that takes nothing back loses nothing.
        let upper = self.upper_frames(&places, tables)?;
        // SAFETY: arena and window are ours by the caller's promise, and the
        // window was found empty.
        unsafe { self.link(&places, upper) };
        Ok(places)
    }

    /// Arithmetic only: places everything or says what does not fit.
    fn places(&self) -> Result<Places, CarveError> {
        let regions = self.window.start;
        let slab = regions.offset(self.region_space);
        let needed = (self.region_space as u64).saturating_add(self.slab.total as u64);
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

        // What fits the window is far from overflowing a sum: a slot has 2 MiB
        // of it at least, and takes fewer bytes of the arena.
        let mut used = 0;
        let mut place = |bytes: usize| {
            let here = self.arena.start.offset(used);
            used += bytes.next_multiple_of(PAGE_SIZE);
            here
        };
        let slot_records = place(self.slot_record * self.slab.total_memories);
        let free_slots = place(size_of::<u32>() * self.slab.total_memories);
        let free_frames = place(size_of::<u32>() * frames_in_all);
        let region_records = place(self.region_record);
        let cpu_records = place(self.cpu_records);
        let upper_count = self.count_upper_tables(regions, slab);
        let upper_tables = place(if self.upper_from_source { 0 } else { upper_count * PAGE_SIZE });
        let leaf_tables = place(self.slab.total_memories * self.slab.tables_per_slot * PAGE_SIZE);
        let first_frame = place(0);

        // One frame more, so that there is anything to give at all.
        let needed = (used + PAGE_SIZE) as u64;
        if needed > size {
            return Err(CarveError::ArenaTooSmall { needed, available: size });
        }
        let frames = frames_in_all - used / PAGE_SIZE;
        Ok(Places {
            regions,
            slab,
            slot_records,
            free_slots,
            free_frames,
            region_records,
            cpu_records,
            upper_tables,
            upper_count,
            leaf_tables,
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
            let entry = root.entries()[index(VirtAddr(address), top)].load(Ordering::Relaxed);
            if A::Format::upper(top, entry) != Upper::NotPresent {
                return Err(CarveError::WindowInUse { address: VirtAddr(address) });
            }
            address = address.wrapping_add(span);
        }
        Ok(())
    }

    /// The frames of the upper tables: the embedder's, or the arena's own.
    fn upper_frames(
        &self,
        places: &Places,
        source: Option<&mut dyn FrameSource>,
    ) -> Result<FrameStack, CarveError> {
        let needed = places.upper_count;
        let mut own = OwnFrames(places.upper_tables..places.leaf_tables);
        let source = source.unwrap_or(&mut own);
        FrameStack::take(self.arch, source, needed)
            .map_err(|available| CarveError::OutOfTableFrames { needed, available })
    }

    /// Clears the tables and links them into the live root.
    ///
    /// # Safety
    ///
    /// The arena is ours, the window is empty, and nobody else edits the
    /// window's top-level entries. `upper` are as many frames as were counted.
    unsafe fn link(&self, places: &Places, upper: FrameStack) {
        let leaf_count = self.slab.total_memories * self.slab.tables_per_slot;
        for table in 0..leaf_count {
            // SAFETY: these frames of the arena are ours and not yet linked.
            unsafe { self.arch.zero_frame(places.leaf_tables.offset(table * PAGE_SIZE)) };
        }
        let mut linker = Linker { arch: self.arch, upper };
        if self.region_space > 0 {
            // By number, as the window may begin within the span of a table and
            // end at the top of the address space.
            let span = level_span(2);
            for table in places.regions.0 / span..=(places.slab.0 - 1) / span {
                linker.reach(VirtAddr(table * span), 1);
            }
        }
        for slot in 0..self.slab.total_memories {
            let base = places.slab.offset(self.slab.base(slot));
            for nth in 0..self.slab.tables_per_slot {
                let number = slot * self.slab.tables_per_slot + nth;
                let leaf = places.leaf_tables.offset(number * PAGE_SIZE);
                let address = base.offset(nth * TABLE_SPAN);
                let directory = linker.reach(address, 1);
                directory.entries()[index(address, 1)].store(A::Format::table(leaf), Ordering::Release);
            }
        }
        self.arch.publish();
    }

    /// Tables above the leaf tables: one for each distinct granule of each
    /// upper level that regions and slots touch.
    fn count_upper_tables(&self, regions: VirtAddr, slab: VirtAddr) -> usize {
        let region_run = core::iter::once((regions, self.region_space));
        let slot_bytes = self.slab.tables_per_slot * TABLE_SPAN;
        let slot_runs =
            (0..self.slab.total_memories).map(|slot| (slab.offset(self.slab.base(slot)), slot_bytes));
        let runs = region_run.chain(slot_runs).filter(|&(_, bytes)| bytes > 0);
        let mut count = 0;
        // A table of `level` serves the span of one entry of `level + 1`.
        for level in 1..self.arch.levels() - 1 {
            let span = level_span(level + 1);
            let mut counted = None;
            for (start, bytes) in runs.clone() {
                let first = start.0 / span;
                let last = start.offset(bytes - 1).0 / span;
                let from = counted.map_or(first, |before: u64| first.max(before + 1));
                count += to_usize((last + 1).saturating_sub(from));
                counted = Some(last.max(counted.unwrap_or(0)));
            }
        }
        count
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
