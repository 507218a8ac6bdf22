//! Tenants that are linear memories.

mod tenant;

use std::collections::BTreeSet;

use allotment::{
    Backing, Commit, CompiledModuleId, Error, FaultAccess, FaultRegion, MakeAccessible, Memory,
    MemoryRequest, PoolKind,
    arch::{
        VirtAddr,
        emulated::{Emulated, Mmu, on_cpu},
    },
};
use arbitrary::{Arbitrary, Result, Unstructured};

use tenant::{Tenant, base};

use crate::{
    amount::{Amount, PAGE, Place},
    contents::Contents,
    ground::{Ground, TABLE},
    input::Access,
    tally::Event,
};

/// Handles of memories that are gone: as many as are tried.
const MOST_GONE: usize = 8;

#[derive(Clone, Debug)]
pub(crate) enum OnMemories {
    Allocate(Amount, Option<Owner>),
    Live(u8, OnMemory),
    Gone(u8, OnGone),
    PurgeModule(u8),
}

/// One of a few memories of a few modules.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Owner {
    module: u8,
    index: u8,
}

impl<'a> Arbitrary<'a> for OnMemories {
    /// Most of what happens, happens to memories that somebody has.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.int_in_range(0..=15)? {
            0..=3 => Self::Allocate(bytes.arbitrary()?, bytes.arbitrary()?),
            4..=13 => Self::Live(bytes.arbitrary()?, bytes.arbitrary()?),
            14 => Self::Gone(bytes.arbitrary()?, bytes.arbitrary()?),
            _ => Self::PurgeModule(bytes.arbitrary()?),
        })
    }
}

/// What happens to a memory that somebody has.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum OnMemory {
    Grow(Amount),
    /// By the handle: the memory's size stays.
    Extend {
        offset: Amount,
        len: Amount,
    },
    /// So many bytes and one more, also past the end.
    Store(Place, u8),
    Load(Place, u8),
    Fetch(Place),
    /// So many bytes after the last.
    Beyond(u64, Access),
    /// So many bytes before the first.
    Before(u64, Access),
    Arrive,
    PrepareWrite(Amount, Amount),
    Deallocate,
}

/// What is tried with a memory that was given back: its slot may be another
/// one's by now.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum OnGone {
    Extend { offset: Amount, len: Amount },
    Grow(Amount),
    Arrive,
    Deallocate,
}

/// Bytes to which memories on demand are asked to grow, or nearly.
const MOST_ON_DEMAND: usize = 24 * PAGE;

/// Modules that have memories.
const MODULES: u64 = 4;

/// All memories, and what they are carved from.
pub(crate) struct Memories<'a, F: Mmu> {
    live: Vec<Tenant<'a, F>>,
    gone: Vec<Gone<'a, F>>,
    /// Slots.
    total: usize,
    /// Bytes that a memory may have.
    limit: usize,
    /// From slot to slot.
    stride: usize,
    first: VirtAddr,
    guard: usize,
    guard_before: bool,
    backing: Backing,
    /// Whether each has a range of its own instead of a slot.
    on_demand: bool,
    /// Leaf tables that a slot has from the carve on.
    premapped: usize,
}

/// What a copy of a memory is made of.
struct Gone<'a, F: Mmu> {
    base: core::ptr::NonNull<[u8]>,
    size: usize,
    make_accessible: MakeAccessible<'a, Emulated<F>>,
}

impl<'a, F: Mmu> Memories<'a, F> {
    pub(crate) fn new(ground: &Ground<'a, F>, guard: usize, guard_before: bool, on_demand: bool) -> Self {
        let plan = ground.allocator.plan();
        Self {
            live: Vec::new(),
            gone: Vec::new(),
            total: plan.memories.slab.total_memories,
            limit: if on_demand { MOST_ON_DEMAND } else { plan.memories.slab.max_memory_size },
            stride: plan.memories.slab.stride,
            first: plan.memories.first,
            guard,
            guard_before,
            backing: plan.backing,
            on_demand,
            premapped: plan.memories.slab.premapped_tables,
        }
    }

    pub(crate) fn step(&mut self, ground: &mut Ground<'a, F>, operation: &OnMemories, cpu: usize) {
        match operation {
            OnMemories::Allocate(size, owner) => self.allocate(ground, size.of(self.limit), *owner, cpu),
            OnMemories::PurgeModule(module) => {
                ground.allocator.purge_module(CompiledModuleId(u64::from(*module) % MODULES));
            }
            OnMemories::Live(nth, operation) if !self.live.is_empty() => {
                let nth = usize::from(*nth) % self.live.len();
                self.on_live(ground, nth, operation, cpu);
            }
            OnMemories::Gone(nth, operation) if !self.gone.is_empty() => {
                let nth = usize::from(*nth) % self.gone.len();
                on_gone(ground, &self.gone[nth], operation, self.limit);
            }
            OnMemories::Live(..) | OnMemories::Gone(..) => {}
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether this access is some memory's right.
    pub(crate) fn allows(&self, address: VirtAddr, access: FaultAccess) -> bool {
        let holds = |tenant: &Tenant<'_, F>| {
            let offset = address.0.wrapping_sub(base(&tenant.memory).0);
            usize::try_from(offset).is_ok_and(|offset| offset < tenant.contents.bytes())
        };
        access != FaultAccess::Execute && self.live.iter().any(holds)
    }

    /// Looks at the bytes of all, each on a CPU that may.
    pub(crate) fn inspect(&self, ground: &Ground<'a, F>) {
        for tenant in &self.live {
            on_cpu(tenant.cpus.trailing_zeros() as usize, || tenant.inspect(ground));
        }
    }

    /// Gives the last one back; `false` if there is none.
    pub(crate) fn end_one(&mut self, ground: &mut Ground<'a, F>) -> bool {
        let Some(last) = self.live.len().checked_sub(1) else { return false };
        self.deallocate(ground, last);
        true
    }

    fn allocate(&mut self, ground: &mut Ground<'a, F>, size: usize, owner: Option<Owner>, cpu: usize) {
        let (pages, limit) = (size.div_ceil(PAGE), self.limit);
        let mut request = MemoryRequest::new(size);
        if let Some(owner) = owner {
            request = request.module(owner.module(), owner.index.into());
        }
        let memory = match ground.allocator.allocate_memory(request) {
            Ok(memory) => memory,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                match error {
                    Error::MemoryTooLarge { requested, limit: most } if size > limit => {
                        assert_eq!((requested, most), (size, limit));
                    }
                    Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit } => {
                        assert_eq!((self.live.len(), limit), (self.total, self.total));
                        ground.tally.note(Event::OutOfSlots);
                    }
                    Error::OutOfFrames { .. } => {
                        let most = self.promised() + self.price(0, pages);
                        assert!(most > ground.free, "{most} frames of {} free: {error}", ground.free);
                        ground.tally.note(Event::OutOfFrames);
                    }
                    Error::OutOfAddressSpace { .. } | Error::OutOfRegions { .. } if self.on_demand => {}
                    other => panic!("{size} bytes, {} frames free: {other}", ground.free),
                }
                return;
            }
        };
        if self.on_demand {
            assert!(memory.size() == size && memory.capacity() >= size, "{memory:?}");
        } else {
            self.check_slot(&memory, size);
        }
        assert!(
            self.live.iter().all(|other| base(&other.memory) != base(&memory)),
            "a place has two tenants"
        );
        ground.tally.note(Event::Memory);
        if self.gone.iter().any(|gone| gone.base.cast() == memory.base()) {
            ground.tally.note(Event::Reused);
        }
        let paid = ground.paid(self.promised() + self.price(0, pages));
        let commit = match self.backing {
            Backing::Elastic(Commit::PerInstance(pages)) if !self.on_demand => Some(pages),
            _ => None,
        };
        self.live.push(Tenant {
            contents: Contents::new(pages),
            cpus: 1 << cpu,
            owner,
            paid,
            commit,
            touched: BTreeSet::new(),
            memory,
        });
    }

    /// A memory of a pool begins with a slot.
    fn check_slot(&self, memory: &Memory<'_, Emulated<F>>, size: usize) {
        assert!(size <= self.limit && self.live.len() < self.total, "{memory:?}");
        assert_eq!((memory.size(), memory.capacity()), (size, self.limit));
        let offset = base(memory).0 - self.first.0;
        assert_eq!(offset % self.stride as u64, 0, "a memory begins with its slot");
        assert!(offset / (self.stride as u64) < self.total as u64, "{memory:?} is in no slot");
    }

    /// Frames that a memory is promised, however small it is.
    fn promised(&self) -> usize {
        match self.backing {
            Backing::Elastic(Commit::PerInstance(pages)) if !self.on_demand => pages,
            _ => 0,
        }
    }

    /// Frames that it takes, at most, to go from some pages to more.
    fn price(&self, from: usize, to: usize) -> usize {
        if self.on_demand {
            // A table, where there is none yet.
            return to.saturating_sub(from).saturating_add(to.div_ceil(TABLE));
        }
        let tables = if to > self.premapped * TABLE { to / TABLE + 2 } else { 0 };
        let strict = self.backing == Backing::Elastic(Commit::Strict);
        tables + if strict { to.saturating_sub(from) } else { 0 }
    }

    fn on_live(&mut self, ground: &mut Ground<'a, F>, nth: usize, operation: &OnMemory, cpu: usize) {
        let Self { stride, on_demand, .. } = *self;
        // Nothing but address space limits memories on demand.
        let limit = if on_demand { usize::MAX } else { self.limit };
        let most = self.limit;
        let before = self.live[nth].contents.pages();
        let price = |to: usize| self.price(before, to.div_ceil(PAGE).min(limit / PAGE));
        let (grown, extended) = match *operation {
            OnMemory::Grow(size) => (price(size.of(most)), 0),
            OnMemory::Extend { offset, len } => (0, price(offset.of(most).saturating_add(len.of(most)))),
            _ => (0, 0),
        };
        let tenant = &mut self.live[nth];
        let (start, bytes) = (base(&tenant.memory), tenant.contents.bytes());
        // What comes after is another tenant's, or may be.
        let room = if on_demand { tenant.memory.capacity() + self.guard } else { stride };
        match *operation {
            OnMemory::Grow(size) => tenant.grow(ground, size.of(most), limit, grown),
            OnMemory::Extend { offset, len } => {
                tenant.extend(ground, offset.of(most), len.of(most), limit, extended);
            }
            OnMemory::PrepareWrite(offset, len) => {
                tenant.arrive(ground, cpu);
                tenant.prepare_write(ground, offset.of(most), len.of(most));
            }
            OnMemory::Arrive => tenant.arrive(ground, cpu),
            OnMemory::Deallocate => self.deallocate(ground, nth),
            OnMemory::Store(place, more) => {
                tenant.arrive(ground, cpu);
                let at = place.of(bytes);
                tenant.store(ground, at, (1 + usize::from(more)).min(room - at));
            }
            OnMemory::Load(place, more) => {
                tenant.arrive(ground, cpu);
                let at = place.of(bytes);
                tenant.load(ground, at, (1 + usize::from(more)).min(room - at));
            }
            OnMemory::Fetch(place) => {
                tenant.arrive(ground, cpu);
                let report = ground.refuse(start.offset(place.of(bytes)), FaultAccess::Execute);
                tenant.reported(&report, place.of(bytes));
            }
            OnMemory::Beyond(distance, access) => {
                tenant.arrive(ground, cpu);
                // With a guard of nothing the next slot may begin here.
                if let Some(distance) = below(distance, room - bytes) {
                    tenant.beyond(ground, bytes + distance, access.into());
                }
            }
            OnMemory::Before(distance, access) => {
                tenant.arrive(ground, cpu);
                let guarded = self.guard_before || !on_demand && start != self.first;
                if let Some(distance) = below(distance, self.guard).filter(|_| guarded) {
                    let at = VirtAddr(start.0 - 1 - distance as u64);
                    let report = ground.refuse(at, access.into());
                    assert!(!matches!(report.region, FaultRegion::Region), "{report}");
                }
            }
        }
    }

    fn deallocate(&mut self, ground: &mut Ground<'a, F>, nth: usize) {
        let Tenant { memory, paid, .. } = self.live.swap_remove(nth);
        if let Memory::Static { base, size, make_accessible, .. } = memory {
            if self.gone.len() == MOST_GONE {
                self.gone.remove(0);
            }
            self.gone.push(Gone { base, size, make_accessible });
        }
        ground.allocator.deallocate_memory(memory);
        ground.free += paid;
    }
}

/// A handle that outlives its memory does nothing.
fn on_gone<F: Mmu>(ground: &Ground<'_, F>, gone: &Gone<'_, F>, operation: &OnGone, limit: usize) {
    let Gone { base, size, make_accessible } = *gone;
    let mut copy = Memory::Static { base, size, make_accessible };
    match *operation {
        OnGone::Extend { offset, len } => {
            let done = make_accessible.call(offset.of(limit), len.of(limit));
            assert!(done.is_err(), "a handle that is stale gave access");
            ground.tally.note(Event::Stale);
        }
        OnGone::Grow(to) => {
            let to = to.of(limit);
            // A size that is not larger asks for nothing.
            assert_eq!(copy.grow_to(to).is_ok(), to <= size, "a memory that is gone grew");
        }
        OnGone::Arrive => {
            let done = ground.allocator.arrive(&copy);
            assert!(matches!(done, Err(Error::Stale { .. })), "{done:?}");
        }
        OnGone::Deallocate => ground.allocator.deallocate_memory(copy),
    }
}

/// A number below `limit`, if there is one.
fn below(number: u64, limit: usize) -> Option<usize> {
    usize::try_from(number.checked_rem(limit as u64)?).ok()
}
