//! [`Allocator`]: one window, one arena, and what is carved from them.

use core::{fmt, ops::Range, ptr::NonNull};

use allotment_arch::{
    Access, Arch, Entry, Format, Native, PAGE_SIZE, PhysAddr, TABLE_SPAN, VirtAddr, translate,
};

use crate::{
    CarveError, Config, ConfigError, Error, MakeAccessible, Memory,
    pooling::{MemoryPool, SlotId, SlotRecord},
    vm::{Arena, Carving, CpuRecord, Epochs, Places, REGION_GRANULE, Records, Regions, Vm},
};

/// Allocates memories from one window and one arena.
///
/// It owns no global state: several can live side by side, each with its own
/// window and arena. It never uses a heap.
///
/// [`fault`](Self::fault) and [`is_code`](Self::is_code) take no lock. All
/// other calls but `plan` and `arch` take spin locks: do not make them from an
/// interrupt handler that may have interrupted one.
#[derive(Debug)]
pub struct Allocator<A: Arch = Native> {
    pub(crate) vm: Vm<A>,
    pub(crate) memories: MemoryPool,
    pub(crate) regions: Regions,
    pub(crate) plan: Plan,
}

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

impl<A: Arch> Allocator<A> {
    /// Carves `arena` and fills `window`'s top-level entries in the live root.
    ///
    /// The window's edges are multiples of 2 MiB, the arena's of 4 KiB. The
    /// allocator is never torn down: dropping it leaves all as it is.
    ///
    /// # Errors
    ///
    /// [`CarveError`] when the configuration contradicts itself or does not
    /// fit, the window is in use, or CPU and tables are not set up as
    /// isolation needs it. Nothing was changed then.
    ///
    /// # Safety
    ///
    /// For the rest of the machine's life
    /// * the arena is this allocator's alone: nothing else reads or writes it,
    ///   by any alias, and no device does,
    /// * nobody else edits the top-level entries that the window touches,
    /// * the live tables above the window stay where they are.
    ///
    /// Dropping the allocator does not end this.
    pub unsafe fn new(
        arch: A,
        window: Range<VirtAddr>,
        arena: Range<PhysAddr>,
        config: &Config,
    ) -> Result<Self, CarveError> {
        check_ranges(&window, &arena, arch.levels())?;
        arch.check(window.start)?;
        if !arch.walks(window.start) {
            return Err(CarveError::WindowNotWalked { start: window.start });
        }
        check_reach::<A>(&arena)?;
        let slab = config.slab().layout()?;
        let too_large = ConfigError::TooLarge { knob: "region_space", value: config.region_space };
        let region_space =
            config.region_space.checked_next_multiple_of(REGION_GRANULE * 512).ok_or(too_large)?;
        let carving = Carving {
            arch: &arch,
            window: window.clone(),
            arena: arena.clone(),
            slab,
            region_space,
            slot_record: size_of::<SlotRecord>(),
            region_record: Regions::words(region_space) * size_of::<u64>(),
            cpu_records: arch.cpus() * size_of::<CpuRecord>(),
        };
        let places = carving.places()?;
        // SAFETY: the caller keeps the live tables.
        unsafe { check_mappings(&arch, &arena) }?;
        // SAFETY: as above.
        unsafe { carving.check_window_is_empty() }?;
        // SAFETY: arena and window are ours by the caller's promise, and the
        // window was found empty.
        unsafe { carving.link(&places) };

        // SAFETY: `places` set each of these five ranges aside for
        // just this, in an arena that is ours for good; pages are aligned for any record.
        let slots = unsafe {
            Records::new(&arch, places.slot_records, slab.total_memories, |_| SlotRecord::default())
        };
        // SAFETY: see above. The first slot comes out first.
        let free_slots =
            unsafe { Records::new(&arch, places.free_slots, slab.total_memories, |n| last_first(n, &slab)) };
        // SAFETY: see above.
        let free_frames = unsafe { Records::new(&arch, places.free_frames, places.frames, |_| 0) };
        // SAFETY: see above.
        let bitmaps =
            unsafe { Records::new(&arch, places.region_records, Regions::words(region_space), |_| 0) };
        // SAFETY: see above.
        let cpus = unsafe { Records::new(&arch, places.cpu_records, arch.cpus(), |_| CpuRecord::default()) };

        let Places { regions, slab: slab_start, leaf_tables, first_frame, frames, .. } = places;
        let plan = Plan {
            first_memory: slab_start.offset(slab.base(0)),
            stride: slab.stride,
            total_memories: slab.total_memories,
            memory_reservation: config.memory_reservation,
            max_memory_size: slab.max_memory_size,
            overhead: usize::try_from(first_frame.0 - arena.start.0).unwrap_or(usize::MAX),
            frames,
            window,
            arena,
        };
        Ok(Self {
            vm: Vm { arch, arena: Arena::new(first_frame, frames, free_frames), epochs: Epochs::new(cpus) },
            memories: MemoryPool::new(slab_start, slab, leaf_tables, slots, free_slots),
            regions: Regions::new(regions, region_space, bitmaps),
            plan,
        })
    }

    /// What was carved.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Counts of this moment. Walks the slots: not for hot paths.
    pub fn metrics(&self) -> Metrics {
        let idle_frames = self.memories.idle_frames();
        let free_memories = self.memories.free_slots();
        Metrics {
            memories: self.plan.total_memories - free_memories,
            free_memories,
            available_frames: self.vm.arena.available() + idle_frames,
            idle_frames,
        }
    }

    /// How often translations were invalidated.
    pub fn invalidations(&self) -> Invalidations {
        self.vm.epochs.counts()
    }

    /// The machine.
    pub fn arch(&self) -> &A {
        &self.vm.arch
    }

    /// Allocates a memory of `minimum` bytes, all zeros, that can grow to
    /// `max_memory_size`.
    ///
    /// Access ends at a multiple of 4 KiB: `minimum` rounded up.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryTooLarge`], [`Error::OutOfSlots`] or
    /// [`Error::OutOfFrames`]; nothing is allocated then.
    pub fn allocate_memory(&self, minimum: usize) -> Result<Memory<'_, A>, Error> {
        let limit = self.memories.layout().max_memory_size;
        if minimum > limit {
            return Err(Error::MemoryTooLarge { requested: minimum, limit });
        }
        let id = self.memories.allocate(&self.vm)?;
        let made = self.make_accessible(id, 0, minimum);
        if let Err(error) = made {
            self.memories.deallocate(&self.vm, id);
            return Err(error);
        }
        let first = core::ptr::with_exposed_provenance_mut(address(self.memories.base(id.slot)));
        let first = NonNull::new(first).unwrap_or(NonNull::dangling());
        Ok(Memory::Static {
            base: NonNull::slice_from_raw_parts(first, limit),
            size: minimum,
            make_accessible: MakeAccessible { allocator: self, id },
        })
    }

    /// Takes a memory back. Its slot reads as zeros for the next one. From now
    /// on its addresses fault, or are the next memory's.
    ///
    /// Does nothing if the memory was taken back before, by a copy.
    ///
    /// Nobody accesses the memory during the call: a byte that is written
    /// meanwhile may not be known to be, and could be seen by the next one.
    pub fn deallocate_memory(&self, memory: Memory<'_, A>) {
        match memory {
            Memory::Static { make_accessible, .. } => {
                let MakeAccessible { allocator, id } = make_accessible;
                // By its own allocator, should the caller hold several.
                allocator.memories.deallocate(&allocator.vm, id);
            }
        }
    }

    /// Must run on the CPU that goes on with `memory`, when another one worked
    /// with it before; [`allocate_memory`](Self::allocate_memory) does it for
    /// the CPU that calls it. One comparison, unless the slot was taken back
    /// since this CPU last invalidated.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] after a copy was deallocated.
    pub fn arrive(&self, memory: &Memory<'_, A>) -> Result<(), Error> {
        match memory {
            Memory::Static { make_accessible, .. } => {
                let MakeAccessible { allocator, id } = make_accessible;
                allocator.memories.arrive(&allocator.vm, *id)
            }
        }
    }

    /// Sets `bytes` of address space aside, none of it accessible, and returns
    /// the first address, a multiple of 2 MiB. The caller owns the range until
    /// [`release_region`](Self::release_region).
    ///
    /// It takes `bytes` rounded up to 2 MiB, and 2 MiB more as a guard.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfAddressSpace`].
    pub fn reserve_region(&self, bytes: usize) -> Result<VirtAddr, Error> {
        self.regions.reserve(bytes)
    }

    /// Gives the pages of `[start, start + bytes)`, which lie in one region,
    /// `access`, or takes all access away. Pages without a frame get one of
    /// zeros; contents are kept. `start` is page-aligned; `bytes` is rounded up
    /// to pages.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRange`] and [`Error::OutOfFrames`]; nothing changed.
    ///
    /// # Safety
    ///
    /// Nobody relies on an access to these pages that the call takes away.
    pub unsafe fn protect_region(
        &self,
        start: VirtAddr,
        bytes: usize,
        access: Option<Access>,
    ) -> Result<(), Error> {
        loop {
            match self.regions.protect(&self.vm, start, bytes, access) {
                Err(Error::OutOfFrames { needed, .. }) if self.memories.make_room(&self.vm, needed) => {}
                result => return result,
            }
        }
    }

    /// Makes `[start, start + bytes)` of one region inaccessible, and zeros
    /// for whoever is given access again.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRange`]; nothing changed.
    ///
    /// # Safety
    ///
    /// Nobody uses these pages.
    pub unsafe fn reset_region(&self, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        self.regions.reset(&self.vm, start, bytes)
    }

    /// Ends the region that was reserved as `bytes` at `start`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRange`] unless both are those of a reservation; nothing
    /// changed.
    ///
    /// # Safety
    ///
    /// Nobody uses the region any more.
    pub unsafe fn release_region(&self, start: VirtAddr, bytes: usize) -> Result<(), Error> {
        self.regions.release(&self.vm, start, bytes)
    }

    pub(crate) fn make_accessible(&self, id: SlotId, offset: usize, len: usize) -> Result<(), Error> {
        self.memories.make_accessible(&self.vm, id, offset, len)
    }
}

/// The slot at place `n` of a stack from which slot 0 comes out first.
fn last_first(n: usize, slab: &crate::pooling::SlabLayout) -> u32 {
    u32::try_from(slab.total_memories - 1 - n).unwrap_or(0)
}

pub(crate) fn address(virt: VirtAddr) -> usize {
    usize::try_from(virt.0).unwrap_or(usize::MAX)
}

pub(crate) fn check_ranges(
    window: &Range<VirtAddr>,
    arena: &Range<PhysAddr>,
    levels: u8,
) -> Result<(), CarveError> {
    let misaligned = |what, address: u64, alignment: usize| {
        Err(CarveError::Misaligned { what, address, alignment: alignment as u64 })
    };
    for edge in [window.start, window.end] {
        if !edge.is_aligned(TABLE_SPAN) {
            return misaligned("window", edge.0, TABLE_SPAN);
        }
    }
    for edge in [arena.start, arena.end] {
        if !edge.is_aligned(PAGE_SIZE) {
            return misaligned("arena", edge.0, PAGE_SIZE);
        }
    }
    // One half of the address space, and not page 0.
    let sign = 12 + 9 * u32::from(levels) - 1;
    let canonical = |address: u64| address >> sign == 0 || address >> sign == u64::MAX >> sign;
    let same_half = window.start.0 >> 63 == window.end.0.wrapping_sub(1) >> 63;
    let ordered = window.start.0 != 0 && window.start < window.end;
    if !(ordered && same_half && canonical(window.start.0) && canonical(window.end.0 - 1)) {
        return Err(CarveError::WindowNotCanonical { start: window.start, end: window.end });
    }
    if arena.start.0 == 0 || arena.start >= arena.end {
        return Err(CarveError::ArenaTooSmall { needed: PAGE_SIZE as u64, available: 0 });
    }
    Ok(())
}

/// Refuses an arena whose addresses would be cut off in an entry.
pub(crate) fn check_reach<A: Arch>(arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    let last = PhysAddr(arena.end.0 - PAGE_SIZE as u64);
    let entry = Entry::Hidden { frame: last, written: false, shared: false };
    if A::Format::decode(A::Format::hidden(last, false)) == entry {
        Ok(())
    } else {
        Err(CarveError::ArenaOutOfReach { address: last })
    }
}

/// Looks at what the embedder's kernel maps: page 0 must not translate, and
/// the arena's alias must be writable and not executable, at both ends.
///
/// # Safety
///
/// The live tables are not freed during the call.
pub(crate) unsafe fn check_mappings<A: Arch>(arch: &A, arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    // SAFETY: by this function's contract.
    if unsafe { translate(arch, VirtAddr(0)) }.is_some() {
        return Err(CarveError::NullPageMapped);
    }
    if !A::ALIAS_IS_MAPPED {
        return Ok(());
    }
    for end in [arena.start, PhysAddr(arena.end.0 - PAGE_SIZE as u64)] {
        let alias = VirtAddr(arch.physical(end).as_ptr().expose_provenance() as u64);
        // SAFETY: as above.
        match unsafe { translate(arch, alias) } {
            Some(found) if found.physical != end || !found.writable => {
                return Err(CarveError::ArenaNotMapped { address: end });
            }
            Some(found) if found.executable => return Err(CarveError::ArenaExecutable { address: end }),
            Some(_) => {}
            None => return Err(CarveError::ArenaNotMapped { address: end }),
        }
    }
    Ok(())
}
