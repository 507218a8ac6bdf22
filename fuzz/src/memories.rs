//! Tenants that are linear memories.

use allotment::{
    Error, FaultAccess, FaultRegion, MakeAccessible, Memory,
    arch::{
        VirtAddr,
        emulated::{Emulated, Mmu, on_cpu},
    },
};
use arbitrary::{Arbitrary, Result, Unstructured};

use crate::{
    amount::{Amount, PAGE, Place},
    contents::Contents,
    ground::Ground,
    input::Access,
    tally::Event,
};

/// Handles of memories that are gone: as many as are tried.
const MOST_GONE: usize = 8;
/// Pages that are looked at in a memory of many, besides those written.
const PAGES_LOOKED_AT: usize = 24;

#[derive(Clone, Debug)]
pub(crate) enum OnMemories {
    Allocate(Amount),
    Live(u8, OnMemory),
    Gone(u8, OnGone),
}

impl<'a> Arbitrary<'a> for OnMemories {
    /// Most of what happens, happens to memories that somebody has.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.int_in_range(0..=7)? {
            0 | 1 => Self::Allocate(bytes.arbitrary()?),
            2..=6 => Self::Live(bytes.arbitrary()?, bytes.arbitrary()?),
            _ => Self::Gone(bytes.arbitrary()?, bytes.arbitrary()?),
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
}

struct Tenant<'a, F: Mmu> {
    memory: Memory<'a, Emulated<F>>,
    /// What can be accessed: `memory.size()` and more.
    contents: Contents,
    /// The CPUs that may use it, as bits.
    cpus: u8,
}

/// What a copy of a memory is made of.
struct Gone<'a, F: Mmu> {
    base: core::ptr::NonNull<[u8]>,
    size: usize,
    make_accessible: MakeAccessible<'a, Emulated<F>>,
}

impl<'a, F: Mmu> Memories<'a, F> {
    pub(crate) fn new(ground: &Ground<'a, F>, guard: usize, guard_before: bool) -> Self {
        let plan = ground.allocator.plan();
        Self {
            live: Vec::new(),
            gone: Vec::new(),
            total: plan.total_memories,
            limit: plan.max_memory_size,
            stride: plan.stride,
            first: plan.first_memory,
            guard,
            guard_before,
        }
    }

    pub(crate) fn step(&mut self, ground: &mut Ground<'a, F>, operation: &OnMemories, cpu: usize) {
        match operation {
            OnMemories::Allocate(size) => self.allocate(ground, size.of(self.limit), cpu),
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

    fn allocate(&mut self, ground: &mut Ground<'a, F>, size: usize, cpu: usize) {
        let (pages, limit) = (size.div_ceil(PAGE), self.limit);
        let memory = match ground.allocator.allocate_memory(size) {
            Ok(memory) => memory,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                match error {
                    Error::MemoryTooLarge { requested, limit: most } if size > limit => {
                        assert_eq!((requested, most), (size, limit));
                    }
                    Error::OutOfSlots { limit } if self.live.len() == self.total => {
                        assert_eq!(limit, self.total);
                        ground.tally.note(Event::OutOfSlots);
                    }
                    Error::OutOfFrames { .. } if pages > ground.free => {
                        ground.tally.note(Event::OutOfFrames);
                    }
                    other => panic!("{size} bytes, {} frames free: {other}", ground.free),
                }
                return;
            }
        };
        assert!(size <= limit && self.live.len() < self.total && pages <= ground.free, "{memory:?}");
        assert_eq!((memory.size(), memory.capacity()), (size, limit));
        let offset = base(&memory).0 - self.first.0;
        assert_eq!(offset % self.stride as u64, 0, "a memory begins with its slot");
        assert!(offset / (self.stride as u64) < self.total as u64, "{memory:?} is in no slot");
        assert!(self.live.iter().all(|other| base(&other.memory) != base(&memory)), "a slot has two tenants");
        ground.tally.note(Event::Memory);
        if self.gone.iter().any(|gone| gone.base.cast() == memory.base()) {
            ground.tally.note(Event::Reused);
        }
        ground.free -= pages;
        self.live.push(Tenant { memory, contents: Contents::new(pages), cpus: 1 << cpu });
    }

    fn on_live(&mut self, ground: &mut Ground<'a, F>, nth: usize, operation: &OnMemory, cpu: usize) {
        let Self { limit, stride, .. } = *self;
        let tenant = &mut self.live[nth];
        let (start, bytes) = (base(&tenant.memory), tenant.contents.bytes());
        match *operation {
            OnMemory::Grow(size) => tenant.grow(ground, size.of(limit), limit),
            OnMemory::Extend { offset, len } => tenant.extend(ground, offset.of(limit), len.of(limit), limit),
            OnMemory::Arrive => tenant.arrive(ground, cpu),
            OnMemory::Deallocate => self.deallocate(ground, nth),
            OnMemory::Store(place, more) => {
                tenant.arrive(ground, cpu);
                tenant.store(ground, place.of(bytes), 1 + usize::from(more));
            }
            OnMemory::Load(place, more) => {
                tenant.arrive(ground, cpu);
                tenant.load(ground, place.of(bytes), 1 + usize::from(more));
            }
            OnMemory::Fetch(place) => {
                tenant.arrive(ground, cpu);
                let _ = ground.refuse(start.offset(place.of(bytes)), FaultAccess::Execute);
            }
            OnMemory::Beyond(distance, access) => {
                tenant.arrive(ground, cpu);
                // With a guard of nothing the next slot may begin here.
                if let Some(distance) = below(distance, stride - bytes) {
                    tenant.beyond(ground, bytes + distance, access.into());
                }
            }
            OnMemory::Before(distance, access) => {
                tenant.arrive(ground, cpu);
                let guarded = self.guard_before || start != self.first;
                if let Some(distance) = below(distance, self.guard).filter(|_| guarded) {
                    let at = VirtAddr(start.0 - 1 - distance as u64);
                    let report = ground.refuse(at, access.into());
                    assert!(!matches!(report.region, FaultRegion::Region), "{report}");
                }
            }
        }
    }

    fn deallocate(&mut self, ground: &mut Ground<'a, F>, nth: usize) {
        let Tenant { memory, contents, .. } = self.live.swap_remove(nth);
        if let Memory::Static { base, size, make_accessible, .. } = memory {
            if self.gone.len() == MOST_GONE {
                self.gone.remove(0);
            }
            self.gone.push(Gone { base, size, make_accessible });
        }
        ground.allocator.deallocate_memory(memory);
        ground.free += contents.pages();
    }
}

impl<F: Mmu> Tenant<'_, F> {
    /// It is used on this CPU from now on.
    fn arrive(&mut self, ground: &Ground<'_, F>, cpu: usize) {
        if self.cpus >> cpu & 1 == 0 {
            assert_eq!(ground.allocator.arrive(&self.memory), Ok(()));
            self.cpus |= 1 << cpu;
        }
    }

    fn grow(&mut self, ground: &mut Ground<'_, F>, size: usize, limit: usize) {
        let before = self.memory.size();
        let done = self.memory.grow_to(size);
        assert_eq!(self.memory.size(), if done.is_ok() { before.max(size) } else { before });
        let wanted = if size > before { Some((size, size.div_ceil(PAGE))) } else { None };
        self.answered(ground, done, wanted, limit);
    }

    fn extend(&mut self, ground: &mut Ground<'_, F>, offset: usize, len: usize, limit: usize) {
        let Memory::Static { make_accessible, .. } = &self.memory else { return };
        let done = make_accessible.call(offset, len);
        let end = offset.saturating_add(len);
        let accessible = self.contents.bytes();
        if end <= limit && offset > accessible {
            return assert_eq!(done, Err(Error::NotAPrefix { offset, accessible }));
        }
        self.answered(ground, done, Some((end, end.div_ceil(PAGE))), limit);
    }

    /// Holds an answer against what was wanted: so many bytes, that many pages.
    fn answered(
        &mut self,
        ground: &mut Ground<'_, F>,
        done: Result<(), Error>,
        wanted: Option<(usize, usize)>,
        limit: usize,
    ) {
        let (bytes, pages) = wanted.unwrap_or_default();
        let more = pages.saturating_sub(self.contents.pages());
        match done {
            Ok(()) if bytes <= limit && more <= ground.free => {
                self.contents.resize(self.contents.pages() + more);
                ground.free -= more;
                ground.tally.note(Event::Grown);
            }
            Err(Error::MemoryTooLarge { requested, limit: most }) if bytes > limit => {
                assert_eq!((requested, most), (bytes, limit));
            }
            Err(Error::OutOfFrames { .. }) if bytes <= limit && more > ground.free => {
                ground.tally.note(Event::OutOfFrames);
            }
            other => panic!("{more} pages more, of {} free frames: {other:?}", ground.free),
        }
    }

    fn store(&mut self, ground: &Ground<'_, F>, at: usize, count: usize) {
        let mark = ground.mark();
        let done = ground.store(base(&self.memory).offset(at), &vec![mark; count]);
        let end = self.contents.bytes();
        assert_eq!(done.is_ok(), at + count <= end, "{count} bytes at {at:#x} of {end:#x}: {done:?}");
        for byte in at..end.min(at + count) {
            self.contents.store(byte, mark);
        }
        if let Err(report) = done {
            self.reported(&report.region, end.max(at));
        }
    }

    fn load(&self, ground: &Ground<'_, F>, at: usize, count: usize) {
        let mut real = vec![0; count];
        let done = ground.load(base(&self.memory).offset(at), &mut real);
        let end = self.contents.bytes();
        assert_eq!(done.is_ok(), at + count <= end, "{count} bytes at {at:#x} of {end:#x}: {done:?}");
        for byte in at..end.min(at + count) {
            assert_eq!(real[byte - at], self.contents.page(byte / PAGE)[byte % PAGE], "byte {byte:#x}");
        }
    }

    fn beyond(&self, ground: &Ground<'_, F>, offset: usize, access: FaultAccess) {
        let report = ground.refuse(base(&self.memory).offset(offset), access);
        self.reported(&report.region, offset);
    }

    /// A report for an address in or after this memory names it.
    fn reported(&self, region: &FaultRegion, at: usize) {
        match *region {
            FaultRegion::Memory { generation, offset, accessible, .. } => {
                assert_eq!((offset, accessible), (at, self.contents.bytes()));
                assert_eq!(generation % 2, 1, "the slot is in use");
            }
            FaultRegion::Guard { generation, offset, .. } => {
                assert_eq!(offset, at);
                assert_eq!(generation % 2, 1, "the slot is in use");
            }
            // A store that crossed from the last slot's last page, or a stride
            // that ends with the memory: somebody else's place.
            _ => panic!("offset {at:#x} of a memory is reported as {region:?}"),
        }
    }

    fn inspect(&self, ground: &Ground<'_, F>) {
        let pages = self.contents.pages();
        let every = pages.div_ceil(PAGES_LOOKED_AT).max(1);
        for page in 0..pages {
            if self.contents.is_written(page) || page % every == 0 || page + 1 == pages {
                ground.inspect(base(&self.memory).offset(page * PAGE), self.contents.page(page));
            }
        }
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

fn base<F: Mmu>(memory: &Memory<'_, Emulated<F>>) -> VirtAddr {
    VirtAddr(memory.base().as_ptr() as u64)
}

/// A number below `limit`, if there is one.
fn below(number: u64, limit: usize) -> Option<usize> {
    usize::try_from(number.checked_rem(limit as u64)?).ok()
}
