//! Memories, tables, stacks and GC heaps that each have a range of address space
//! of their own, made when they are asked for and taken apart when they are
//! given back.
//!
//! ```text
//!   | guard before | accessible |  reserved: growth in place     | guard after |
//!                  base         base + size                      base + capacity
//!
//!   growth beyond the capacity: leaf tables move to a larger range, whole
//!
//!   | guard before | accessible           |  reservation_for_growth  | guard after |
//!                  new base               base + size                new capacity
//! ```
//!
//! A move copies nothing and touches no page: the old range's leaf tables are
//! unlinked, every CPU forgets them, and they are linked again in the new range;
//! then the old range is free. Whatever can fail comes before.
//!
//! Memories with an image, and larger ones without, share what nobody wrote, as
//! slots do: a table for each 2 MiB, and frames by first writes. All that these may
//! take is promised to the range when its pages become accessible.

use core::ptr::NonNull;

use allotment_arch::{Arch, PAGE_SIZE, VirtAddr, page_ceil};

use crate::{
    Allocator, CompiledModuleId, Config, DynamicMemory, Error, FaultRegion, FaultSlot, FiberStack,
    InstanceAllocationStrategy, Memory, MemoryInModule, MemoryRequest, MemorySizes, Table, TableRequest,
    pooling::SlotId,
    vm::{Image, Label, MAPPED_MEMORY, RegionId, RegionPosition, Reservation, pointer},
};

/// Elements that a table without a maximum may have where it is: as many as a
/// pool's slot.
const USUAL_ELEMENTS: usize = 20_000;

/// What of a [`Config`] concerns ranges on demand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnDemand {
    /// Whether memories, tables, stacks and GC heaps are on demand.
    pub(crate) is_strategy: bool,
    memory: MemorySizes,
    gc_heap: MemorySizes,
    guard_before: bool,
    faults_trap: bool,
}

impl OnDemand {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            is_strategy: matches!(config.allocation_strategy, InstanceAllocationStrategy::OnDemand),
            memory: config.memory(),
            gc_heap: config.gc_heap(),
            guard_before: config.guard_before_linear_memory,
            faults_trap: config.signals_based_traps,
        }
    }

    /// Whether there are addresses that compiled code can reach from the base,
    /// with an offset of at most the guard, and that are neither accessible nor
    /// sure to fault. The guard is the offset's: it makes up for no reservation.
    fn needs_bounds_checks(&self, sizes: &MemorySizes, request: &MemoryRequest) -> bool {
        let reaches_out = (sizes.reservation as u64) < 1 << 32 || sizes.guard_size == 0;
        let ends_inside_pages = u32::from(request.page_size_log2) < PAGE_SIZE.ilog2();
        !self.faults_trap || ends_inside_pages || request.memory64 || reaches_out
    }

    fn sizes(&self, kind: RangeKind) -> &MemorySizes {
        if kind == RangeKind::GcHeap { &self.gc_heap } else { &self.memory }
    }
}

/// What has a range of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeKind {
    Memory,
    Table,
    FiberStack,
    GcHeap,
}

/// Where an address stands in a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where {
    pub(crate) region: FaultRegion,
    pub(crate) slot: FaultSlot,
    pub(crate) module: Option<CompiledModuleId>,
    pub(crate) offset: i64,
}

/// A range to be made, for any kind. Sizes are bytes, of any number. A stack
/// wants its guard before: from a page on, all of 2 MiB below its base is
/// unmapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backed {
    pub(crate) kind: RangeKind,
    pub(crate) owner: Option<MemoryInModule>,
    /// At least so much is unmapped before the base.
    pub(crate) guard_before: usize,
    /// From the base: what may become accessible.
    pub(crate) capacity: usize,
    /// At least so much is unmapped after the capacity, rounded up to pages.
    pub(crate) guard_after: usize,
    /// Whether pages may be shared until they are written.
    pub(crate) lazy: bool,
}

/// Where something lies: in a slot of its pool, or in a range of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Home {
    Slot(SlotId),
    Range(RegionId),
}

/// A range and its first address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: RegionId,
    pub(crate) base: VirtAddr,
}

impl<A: Arch> Allocator<A> {
    /// A memory or GC heap as `request` says, which shows `image` over zeros.
    pub(crate) fn memory_on_demand(
        &self,
        kind: RangeKind,
        image: Option<Image>,
        request: &MemoryRequest,
    ) -> Result<Memory<'_, A>, Error> {
        if request.shared && !self.config.shared_memory {
            return Err(Error::SharedMemory);
        }
        let MemoryRequest { minimum, maximum, owner, .. } = *request;
        request.check()?;
        let sizes = self.on_demand.sizes(kind);
        if let Some(requested) = request.reserved
            && (requested.0 > sizes.reservation || requested.1 > sizes.guard_size)
        {
            return Err(Error::Reservation { requested, limit: (sizes.reservation, sizes.guard_size) });
        }
        let no_space = Error::OutOfAddressSpace { requested: minimum };
        // What is shared cannot move: all of it is reserved.
        let whole = maximum.filter(|_| request.shared).unwrap_or(0);
        let capacity = if minimum > sizes.reservation {
            minimum.checked_add(sizes.reservation_for_growth).ok_or(no_space)?
        } else {
            sizes.reservation
        };
        // Nor may a first write replace what others use this moment.
        let backed = Backed { lazy: !request.shared, ..self.backed(kind, owner, capacity.max(whole)) };
        let place = self.reserve_backed(&backed, image, minimum)?;
        let capacity = page_ceil(backed.capacity).unwrap_or(backed.capacity);
        Ok(Memory::Dynamic(DynamicMemory {
            allocator: self,
            place,
            kind,
            owner,
            size: minimum,
            capacity,
            maximum: maximum.unwrap_or(usize::MAX),
            may_move: sizes.may_move && !request.shared,
            needs_bounds_checks: self.on_demand.needs_bounds_checks(sizes, request),
        }))
    }

    /// A table that may grow to `capacity` elements where it is: address space
    /// for more than any has would be for nothing, so that one without a maximum
    /// has as much as pools give.
    pub(crate) fn table_on_demand(
        &self,
        request: &TableRequest,
        capacity: usize,
    ) -> Result<Table<'_, A>, Error> {
        let TableRequest { minimum, maximum, owner, element_size } = *request;
        let capacity = capacity.min(maximum.unwrap_or(USUAL_ELEMENTS.max(minimum.saturating_mul(2))));
        let too_large = Error::TableTooLarge { requested: minimum, limit: capacity };
        let bytes = capacity.checked_mul(element_size).ok_or(too_large)?;
        let backed = Backed {
            kind: RangeKind::Table,
            owner,
            guard_before: 0,
            capacity: bytes,
            guard_after: PAGE_SIZE,
            lazy: false,
        };
        let place = self.reserve_backed(&backed, None, minimum * element_size)?;
        let (home, base) = (Home::Range(place.id), pointer(place.base));
        Ok(Table { allocator: self, home, base, size: minimum, capacity, element_size })
    }

    /// A stack of `bytes`, rounded up to pages, with a guard below it.
    pub(crate) fn stack_on_demand(&self, bytes: usize) -> Result<FiberStack<'_, A>, Error> {
        let bytes = page_ceil(bytes).ok_or(Error::OutOfAddressSpace { requested: bytes })?;
        let backed = Backed {
            kind: RangeKind::FiberStack,
            owner: None,
            guard_before: PAGE_SIZE,
            capacity: bytes,
            guard_after: 0,
            lazy: false,
        };
        let place = self.reserve_backed(&backed, None, bytes)?;
        if !self.vm.arch.hardware_dirty() {
            // No first write to a stack may fault: it would be the handler's.
            self.regions.mark_written(&self.vm, place.id);
        }
        let stack = NonNull::slice_from_raw_parts(pointer(place.base), bytes);
        Ok(FiberStack { allocator: self, home: Home::Range(place.id), stack, guard_size: PAGE_SIZE })
    }

    /// The range of a memory or GC heap.
    pub(crate) fn backed(&self, kind: RangeKind, owner: Option<MemoryInModule>, capacity: usize) -> Backed {
        let guard = self.on_demand.sizes(kind).guard_size;
        let guard_before = if self.on_demand.guard_before { guard } else { 0 };
        Backed { kind, owner, guard_before, capacity, guard_after: guard, lazy: true }
    }

    /// Address space beyond `size` for a memory that is to grow to that.
    pub(crate) fn capacity_for_growth(&self, kind: RangeKind, size: usize) -> Result<usize, Error> {
        let no_space = Error::OutOfAddressSpace { requested: size };
        size.checked_add(self.on_demand.sizes(kind).reservation_for_growth).ok_or(no_space)
    }

    /// Makes a range of which the first `accessible` bytes, rounded up to pages, can
    /// be read and written. They show `image` over zeros.
    pub(crate) fn reserve_backed(
        &self,
        backed: &Backed,
        image: Option<Image>,
        accessible: usize,
    ) -> Result<Place, Error> {
        let (id, base) = self.regions.reserve(&backed.reservation(accessible)?)?;
        if let Err(error) = self.regions.open(&self.vm, id, image, accessible) {
            self.release_backed(id);
            return Err(error);
        }
        Ok(Place { id, base })
    }

    /// Makes more of a range accessible, up to `accessible` bytes in all.
    pub(crate) fn grow_backed(&self, id: RegionId, accessible: usize) -> Result<(), Error> {
        self.regions.extend(&self.vm, id, accessible)
    }

    /// Gives what is in a range another one, of which `accessible` bytes are.
    /// Nobody uses the range during the call.
    pub(crate) fn move_backed(
        &self,
        id: RegionId,
        backed: &Backed,
        accessible: usize,
    ) -> Result<Place, Error> {
        let (id, base) = self.regions.relocate(&self.vm, id, &backed.reservation(accessible)?, accessible)?;
        Ok(Place { id, base })
    }

    /// Takes a range apart. Does nothing for a stale name. Nobody uses the range.
    pub(crate) fn release_backed(&self, id: RegionId) {
        let _ = self.regions.release(&self.vm, id);
    }

    /// What an address is, in the range that something on demand has. No lock.
    pub(crate) fn range(&self, address: VirtAddr) -> Option<Where> {
        let position = within_mapping(self.regions.locate(address)?);
        let (kind, owner) = read(position.label)?;
        let index = owner.map(|owner| owner.index);
        let before = position.offset < 0;
        let after = usize::try_from(position.offset).is_ok_and(|offset| offset >= position.bytes);
        let region = match kind {
            RangeKind::Memory if before => FaultRegion::GuardBefore(index),
            RangeKind::Memory if after => FaultRegion::GuardAfter(index),
            RangeKind::Memory => FaultRegion::Memory(index),
            RangeKind::Table => FaultRegion::Table(index),
            RangeKind::FiberStack if before => FaultRegion::StackGuard,
            RangeKind::FiberStack => FaultRegion::Stack,
            RangeKind::GcHeap => FaultRegion::GcHeap,
        };
        let slot = FaultSlot {
            memory_pool: 0,
            pool: None,
            slot: position.id.record,
            generation: u64::from(position.id.generation),
            accessible: position.reach,
        };
        Some(Where { region, slot, module: owner.map(|owner| owner.module), offset: position.offset })
    }
}

impl Backed {
    fn reservation(&self, accessible: usize) -> Result<Reservation, Error> {
        let no_space = Error::OutOfAddressSpace { requested: accessible };
        let bytes = page_ceil(self.capacity).ok_or(no_space)?;
        let Self { guard_before, guard_after, lazy, .. } = *self;
        Ok(Reservation { guard_before, bytes, guard_after, label: label(self.kind, self.owner), lazy })
    }
}

/// A position in a mapping that holds a memory, as one in that memory.
fn within_mapping(position: RegionPosition) -> RegionPosition {
    if position.label.kind != MAPPED_MEMORY {
        return position;
    }
    let guard = position.label.index as usize * PAGE_SIZE;
    RegionPosition {
        label: label(RangeKind::Memory, None),
        offset: position.offset - guard.cast_signed() as i64,
        bytes: position.bytes.saturating_sub(2 * guard),
        reach: position.reach.saturating_sub(guard),
        ..position
    }
}

/// In a label's kind: a module defines it.
const DEFINED: u32 = 1 << 8;

const KINDS: [RangeKind; 4] = [RangeKind::Memory, RangeKind::Table, RangeKind::FiberStack, RangeKind::GcHeap];

fn label(kind: RangeKind, owner: Option<MemoryInModule>) -> Label {
    // 0 is a plain region's.
    let kind = kind as u32 + 1;
    match owner {
        Some(MemoryInModule { module, index }) => Label { kind: kind | DEFINED, index, module: module.0 },
        None => Label { kind, ..Label::default() },
    }
}

fn read(label: Label) -> Option<(RangeKind, Option<MemoryInModule>)> {
    let kind = (label.kind & !DEFINED).checked_sub(1)?;
    let kind = *KINDS.get(usize::try_from(kind).ok()?)?;
    let owner = MemoryInModule { module: CompiledModuleId(label.module), index: label.index };
    Some((kind, (label.kind & DEFINED != 0).then_some(owner)))
}
