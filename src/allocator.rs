//! [`Allocator`]: one window, one arena, and what is carved from them.

use core::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use allotment_arch::{Arch, FrameSource, Native, PhysAddr, VirtAddr};

use crate::{
    CarveError, Config, Error, Invalidations, Plan,
    events::{tell, told},
    on_demand::OnDemand,
    pooling::Pools,
    vm::{Arena, Carving, CpuRecord, Epochs, Records, RegionSizes, Regions, Vm, Zeros, check_ranges},
};

/// Allocates memories from one window and one arena.
///
/// It owns no global state: several can live side by side, each with its own
/// window and arena. It never uses a heap.
///
/// [`fault`](Self::fault) and [`is_code`](Self::is_code) take no lock. All
/// other calls but `plan`, `arch`, `arrive` and its like, `invalidations` and
/// `pooling_allocator_metrics` take spin locks: do not make them from an
/// interrupt handler that may have interrupted one.
/// Every call stays on the CPU on which it began.
#[derive(Debug)]
pub struct Allocator<A: Arch = Native> {
    pub(crate) vm: Vm<A>,
    pub(crate) pools: Pools,
    pub(crate) regions: Regions,
    pub(crate) on_demand: OnDemand,
    pub(crate) plan: Plan,
    pub(crate) config: Config,
    sealed: AtomicBool,
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
        let carved = unsafe { Self::carve(arch, window, arena, config, None) };
        told!(Warn, "nothing was carved", carved)
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
        let carved = unsafe { Self::carve(arch, window, arena, config, Some(tables)) };
        told!(Warn, "nothing was carved", carved)
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
        check_ranges(&window, &arena, arch.half_bits())?;
        let bytes = (window.end.0 - window.start.0, arena.end.0 - arena.start.0);
        let resolved = config.resolve_for_carve(bytes.0, bytes.1, arch.cpus())?;
        let region_space = resolved.region_space;
        let region_sizes = RegionSizes::new(region_space, bytes.1);
        let carving = Carving {
            arch: &arch,
            window: window.clone(),
            arena: arena.clone(),
            region_space,
            region_records: region_sizes.bytes(),
            pools: Pools::specs(&resolved),
            pool_records: Pools::record_bytes(&resolved),
            cpu_records: arch.cpus() * size_of::<CpuRecord>(),
            upper_from_source: tables.is_some(),
        };
        // SAFETY: by this function's contract.
        let places = unsafe { carving.carve(tables) }?;

        // SAFETY: `places` set each of these ranges aside for just this, in an
        // arena that is ours for good; pages are aligned for any record.
        let frame_links = unsafe { Records::as_found(&arch, places.frame_links, places.frames) };
        // SAFETY: see above.
        let regions = unsafe { Regions::new(&arch, places.regions, region_sizes, places.region_records) };
        // SAFETY: see above.
        let cpus = unsafe { Records::new(&arch, places.cpu_records, arch.cpus(), |_| CpuRecord::default()) };

        let clean_when_idle = config.pooling().is_some_and(|pooling| pooling.clean_when_idle);
        let arena_of_frames =
            Arena::new(places.first_frame, places.frames, frame_links).clean_when_idle(clean_when_idle);
        let vm = Vm { arch, arena: arena_of_frames, epochs: Epochs::new(cpus), zeros: Zeros::default() };
        // SAFETY: as above: carved by the specs of the same `resolved`.
        let pools = unsafe { Pools::in_places(&vm, config, &resolved, &places) };
        let plan = Plan::new(&resolved, &places, window, arena);
        tell!(
            info,
            "carved: memories {}; tables {}; stacks {}; {} free frames",
            plan.memories,
            plan.tables,
            plan.stacks,
            plan.frames
        );
        tell!(debug, "plan:\n{plan}");
        Ok(Self {
            vm,
            pools,
            regions,
            on_demand: OnDemand::new(config),
            plan,
            config: *config,
            sealed: AtomicBool::new(false),
        })
    }

    /// What it is configured for, such as how far an offset may reach into a guard.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was carved.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Says that boot is over. From here on no call on the allocator, or on what
    /// it gives, takes a frame of the embedder's or uses a heap: as none does
    /// after the carve. For the embedder this is where it may forbid both;
    /// [`is_sealed`](Self::is_sealed) tells whoever comes later.
    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
        tell!(info, "sealed: no frame of the embedder's and no heap from here on");
    }

    /// Whether boot is over.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Clears or copies up to `budget` pages that somebody would otherwise wait for:
    /// what former users left in slots and frames, and frames that were never used.
    /// Returns how many those were, 0 when there is nothing left to do.
    ///
    /// For the embedder's idle loop, on any CPU and on several at once. Nobody
    /// waits longer for it than [a few pages](crate::PoolingAllocationConfig::clean_when_idle)
    /// take, however large the budget.
    pub fn idle_work(&self, budget: usize) -> usize {
        let in_slots = self.pools.clean_slots(&self.vm, budget);
        in_slots + self.pools.clear_frames(&self.vm, budget - in_slots)
    }

    /// How often translations were invalidated.
    pub fn invalidations(&self) -> Invalidations {
        self.vm.epochs.counts()
    }

    /// The machine.
    pub fn arch(&self) -> &A {
        &self.vm.arch
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
        self.regions.reserve_plain(bytes, 0)
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
                Err(Error::OutOfFrames { needed, .. }) if self.pools.make_room(&self.vm, needed) => {}
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
}
