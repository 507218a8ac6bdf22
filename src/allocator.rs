//! [`Allocator`]: one window, one arena, and what is carved from them.

use core::{ops::Range, ptr::NonNull};

use allotment_arch::{Arch, FrameSource, Native, PhysAddr, VirtAddr};

use crate::{
    CarveError, Config, ConfigError, Error, Invalidations, MakeAccessible, Memory, MemoryRequest, Metrics,
    Plan, RangeKind,
    on_demand::OnDemand,
    pooling::{MemoryPool, SlotId, SlotRecord},
    vm::{Arena, Carving, CpuRecord, Epochs, Places, REGION_GRANULE, Records, RegionSizes, Regions, Vm},
};

/// Allocates memories from one window and one arena.
///
/// It owns no global state: several can live side by side, each with its own
/// window and arena. It never uses a heap.
///
/// [`fault`](Self::fault) and [`is_code`](Self::is_code) take no lock. All
/// other calls but `plan`, `arch`, `arrive` and `invalidations` take spin locks:
/// do not make them from an interrupt handler that may have interrupted one.
/// Every call stays on the CPU on which it began.
#[derive(Debug)]
pub struct Allocator<A: Arch = Native> {
    pub(crate) vm: Vm<A>,
    pub(crate) memories: MemoryPool,
    pub(crate) regions: Regions,
    pub(crate) on_demand: OnDemand,
    pub(crate) plan: Plan,
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
        // SAFETY: by this function's contract.
        unsafe { Self::carve(arch, window, arena, config, None) }
    }

    /// The same, with the frames of the window's upper tables from `tables`
    /// instead of the arena. Only this call takes frames from there.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and [`CarveError::OutOfTableFrames`]; what
    /// was taken is given back.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new); and the arch reaches the frames of `tables`,
    /// which on success are the tables' for good.
    pub unsafe fn with_tables(
        arch: A,
        window: Range<VirtAddr>,
        arena: Range<PhysAddr>,
        config: &Config,
        tables: &mut dyn FrameSource,
    ) -> Result<Self, CarveError> {
        // SAFETY: by this function's contract.
        unsafe { Self::carve(arch, window, arena, config, Some(tables)) }
    }

    /// # Safety
    ///
    /// As for [`with_tables`](Self::with_tables).
    unsafe fn carve(
        arch: A,
        window: Range<VirtAddr>,
        arena: Range<PhysAddr>,
        config: &Config,
        tables: Option<&mut dyn FrameSource>,
    ) -> Result<Self, CarveError> {
        config.validate()?;
        let slab = config.slab().layout()?;
        let too_large = ConfigError::TooLarge { knob: "region_space", value: config.region_space };
        let region_space =
            config.region_space.checked_next_multiple_of(REGION_GRANULE * 512).ok_or(too_large)?;
        let region_sizes = RegionSizes::new(region_space, arena.end.0.saturating_sub(arena.start.0));
        let carving = Carving {
            arch: &arch,
            window: window.clone(),
            arena: arena.clone(),
            slab,
            region_space,
            slot_record: size_of::<SlotRecord>(),
            region_record: region_sizes.bytes(),
            cpu_records: arch.cpus() * size_of::<CpuRecord>(),
            upper_from_source: tables.is_some(),
        };
        // SAFETY: by this function's contract.
        let places = unsafe { carving.carve(tables) }?;

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
        let regions = unsafe { Regions::new(&arch, places.regions, region_sizes, places.region_records) };
        // SAFETY: see above.
        let cpus = unsafe { Records::new(&arch, places.cpu_records, arch.cpus(), |_| CpuRecord::default()) };

        let Places { slab: slab_start, leaf_tables, first_frame, frames, .. } = places;
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
            regions,
            on_demand: OnDemand::new(config),
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
            regions: self.regions.in_use(),
            largest_free_region: self.regions.largest_free(),
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
    pub fn allocate_memory(&self, request: impl Into<MemoryRequest>) -> Result<Memory<'_, A>, Error> {
        let request = request.into();
        if self.on_demand.is_strategy {
            return Ok(Memory::Dynamic(self.allocate_dynamic(RangeKind::Memory, &request)?));
        }
        let minimum = request.minimum;
        let limit = self.memories.layout().max_memory_size;
        if minimum > limit {
            return Err(Error::MemoryTooLarge { requested: minimum, limit });
        }
        let id = self.memories.allocate(&self.vm)?;
        if minimum > 0
            && let Err(error) = self.make_accessible(id, 0, minimum)
        {
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
            Memory::Dynamic(memory) => memory.release(),
        }
    }

    /// Must run on the CPU that goes on with `memory`, when another one worked
    /// with it before; [`allocate_memory`](Self::allocate_memory) does it for
    /// the CPU that calls it. One comparison, unless the slot was taken back
    /// since this CPU last invalidated.
    ///
    /// Without, this CPU may still have what it cached of the slot's former
    /// users: it could reach beyond the memory's end, and write without leaving
    /// a mark, so that the next user reads what it wrote.
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
            // Its range was everybody's to forget before it was this one's.
            Memory::Dynamic(memory) => memory.check(),
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
        self.regions.reserve_plain(bytes)
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
        access: Option<allotment_arch::Access>,
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
        self.regions.release_at(&self.vm, start, bytes)
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
