//! Tenants of an allocator: memories and regions, each with what it wrote. The
//! arena is too small for all of them at once, so that frames move.

use alloc::{vec, vec::Vec};

use allotment::{
    Allocator, Config, Error, Memory,
    arch::{Access, Arch, Format, VirtAddr},
};

use crate::{
    common::{Fault, Machine, PAGE, TestArch, load_at, on, pool, pooled, store_at},
    random::{Random, Trace},
};

const SLOTS: usize = 4;
const REGIONS: usize = 3;
/// Pages of the largest memory.
const MOST: usize = 16;
/// Pages of the largest region: more than a table has.
const MOST_REGION: usize = 520;
const TABLE: usize = 512;

fn config() -> Config {
    pooled(pool(SLOTS, MOST * PAGE)).region_space(1 << 30)
}

/// A machine with so many frames for tenants, or nearly.
pub(crate) fn machine<A: TestArch>(overhead: usize, frames: usize) -> Machine<A> {
    Machine::new(&config(), overhead + frames * PAGE)
}

/// Bytes of arena that no tenant gets.
pub(crate) fn overhead<A: TestArch>() -> usize {
    machine::<A>(1 << 20, 1).allocator.plan().overhead
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Allocate(usize),
    Grow(usize, usize),
    Deallocate(usize),
    Store(usize, usize, u8),
    Load(usize, usize),
    Arrive(usize),
    Reserve(usize),
    ReserveAll,
    Protect(usize, usize, usize, Option<Access>),
    Reset(usize, usize, usize),
    Release(usize),
    ReleaseOther(usize),
    StoreRegion(usize, usize, u8),
    LoadRegion(usize, usize),
}

use Operation::*;

struct Slot<'a, A: Arch> {
    memory: Memory<'a, A>,
    /// By page: all that can be accessed, one byte of each.
    bytes: Vec<u8>,
    /// Where it may be used.
    cpu: usize,
}

struct Region {
    start: VirtAddr,
    pages: Vec<Page>,
    tables: [bool; MOST_REGION.div_ceil(TABLE)],
}

#[derive(Clone, Copy, Default)]
struct Page {
    has_frame: bool,
    access: Option<Access>,
    byte: u8,
}

impl Region {
    /// A range of pages of it, if all are.
    fn range(&mut self, first: usize, count: usize) -> Option<&mut [Page]> {
        self.pages.get_mut(first..first + count)
    }

    /// Whether a range lies before the region's guard.
    fn holds(&self, first: usize, count: usize) -> bool {
        first + count <= self.pages.len().next_multiple_of(TABLE)
    }

    /// Frames that it has, tables included.
    fn frames(&self) -> usize {
        let pages = self.pages.iter().filter(|page| page.has_frame).count();
        pages + self.tables.iter().filter(|&&table| table).count()
    }
}

pub(crate) struct Tenants<'a, A: TestArch> {
    allocator: &'a Allocator<A>,
    slots: Vec<Slot<'a, A>>,
    regions: Vec<Region>,
    /// Frames that nobody has.
    free: usize,
    random: Random,
    trace: Trace,
    cpus: usize,
}

impl<'a, A: TestArch> Tenants<'a, A> {
    pub(crate) fn new(machine: &'a Machine<A>, cpus: usize, seed: u64) -> Self {
        let allocator = &machine.allocator;
        Self {
            allocator,
            slots: Vec::new(),
            regions: Vec::new(),
            free: allocator.plan().frames,
            random: Random::new(seed),
            trace: Trace::new(A::Format::NAME, seed),
            cpus,
        }
    }

    /// All of a sequence, and the end of every tenant.
    pub(crate) fn live(mut self) {
        self.count();
        for _ in 0..100 + self.random.below(60) {
            let operation = self.operation();
            self.run(operation);
        }
        while !self.slots.is_empty() {
            self.run(Deallocate(0));
        }
        while !self.regions.is_empty() {
            self.run(Release(0));
        }
        let frames = self.allocator.plan().frames;
        self.trace.agree("free frames in the end", &self.free, &frames);
        self.allocator.arch().audit();
    }

    fn run(&mut self, operation: Operation) {
        let cpu = self.random.below(self.cpus);
        self.trace.note(&operation, cpu);
        let allocator = self.allocator;
        on(allocator.arch(), cpu, || self.step(operation, cpu));
        self.count();
    }

    fn count(&self) {
        let metrics = self.allocator.metrics();
        self.trace.agree("frames that are available", &metrics.available_frames, &self.free);
        self.trace.agree("memories", &metrics.memories, &self.slots.len());
        self.trace.agree("free memories", &metrics.free_memories, &(SLOTS - self.slots.len()));
    }

    fn operation(&mut self) -> Operation {
        let (slots, regions) = (self.slots.len(), self.regions.len());
        let random = &mut self.random;
        let size = random.below((MOST + 1) * PAGE + PAGE / 2);
        let byte = random.byte() | 1;
        if random.percent(65) {
            let page = random.below(MOST + 2);
            return match random.below(20) {
                0..3 => Allocate(size),
                _ if slots == 0 => Allocate(size),
                3..6 => Grow(random.below(slots), size),
                6 | 7 => Deallocate(random.below(slots)),
                8..14 => Store(random.below(slots), page, byte),
                14..19 => Load(random.below(slots), page),
                _ => Arrive(random.below(slots)),
            };
        }
        if regions == 0 || random.percent(6) && regions < REGIONS {
            let pages = if random.percent(50) { 1 + random.below(12) } else { TABLE - 2 + random.below(10) };
            return Reserve(pages);
        }
        let nth = random.below(regions);
        let region = &self.regions[nth];
        // At an end or near the border between tables.
        let near = [0, region.pages.len().saturating_sub(4), region.pages.len().min(TABLE) - 1];
        let (first, count) = (random.pick(&near) + random.below(4), random.below(6));
        let access = [None, Some(Access::ReadWrite), Some(Access::ReadWrite), Some(Access::Read)];
        match random.below(20) {
            0..5 => Protect(nth, first, count, random.pick(&access)),
            5 => Protect(nth, first, count, Some(Access::ReadExecute)),
            6 | 7 => Reset(nth, first, count),
            8 => Release(nth),
            9 => ReleaseOther(nth),
            10 => ReserveAll,
            11..16 => StoreRegion(nth, first, byte),
            _ => LoadRegion(nth, first),
        }
    }

    fn step(&mut self, operation: Operation, cpu: usize) {
        match operation {
            Allocate(size) => self.allocate(size, cpu),
            Grow(nth, size) => self.grow(nth, size),
            Deallocate(nth) => {
                let Slot { memory, bytes, .. } = self.slots.swap_remove(nth);
                self.allocator.deallocate_memory(memory);
                self.free += bytes.len();
            }
            Arrive(nth) => self.arrive(nth, cpu),
            Store(nth, page, byte) => {
                self.arrive(nth, cpu);
                let slot = &mut self.slots[nth];
                let address = seen(base(&slot.memory), page);
                let expected = slot.bytes.get_mut(page).map(|place| *place = byte).ok_or(Fault(address));
                self.trace.agree("a store", &store_at(self.allocator, address, byte), &expected);
            }
            Load(nth, page) => {
                self.arrive(nth, cpu);
                let slot = &self.slots[nth];
                let address = seen(base(&slot.memory), page);
                let expected = slot.bytes.get(page).copied().ok_or(Fault(address));
                self.trace.agree("a load", &load_at(self.allocator, address), &expected);
            }
            Reserve(pages) => {
                let start = self.allocator.reserve_region(pages * PAGE).expect("there is address space");
                let tables = [false; MOST_REGION.div_ceil(TABLE)];
                self.regions.push(Region { start, pages: vec![Page::default(); pages], tables });
            }
            ReserveAll => {
                let requested = 1 << 30;
                let real = self.allocator.reserve_region(requested);
                self.trace.agree("the answer", &real, &Err(Error::OutOfAddressSpace { requested }));
            }
            Protect(nth, first, count, access) => self.protect(nth, first, count, access),
            Reset(nth, first, count) => self.reset(nth, first, count),
            Release(nth) => {
                let region = self.regions.swap_remove(nth);
                // SAFETY: the region is the test's, and nobody is there.
                let real = unsafe { self.allocator.release_region(region.start, region.pages.len() * PAGE) };
                self.trace.agree("the answer", &real, &Ok(()));
                self.free += region.frames();
            }
            ReleaseOther(nth) => {
                let Region { start, pages, .. } = &self.regions[nth];
                let (address, bytes) = (start.offset(PAGE), pages.len() * PAGE);
                // SAFETY: it is none.
                let real = unsafe { self.allocator.release_region(address, bytes) };
                self.trace.agree("the answer", &real, &Err(Error::UnknownRange { address, bytes }));
            }
            StoreRegion(nth, page, byte) => {
                let region = &mut self.regions[nth];
                let address = seen(region.start, page);
                let place = region.pages.get_mut(page).filter(|page| page.access == Some(Access::ReadWrite));
                let expected = place.map(|place| place.byte = byte).ok_or(Fault(address));
                self.trace.agree("a store", &store_at(self.allocator, address, byte), &expected);
            }
            LoadRegion(nth, page) => {
                let region = &self.regions[nth];
                let address = seen(region.start, page);
                let place = region.pages.get(page).filter(|page| page.access.is_some());
                let expected = place.map(|place| place.byte).ok_or(Fault(address));
                self.trace.agree("a load", &load_at(self.allocator, address), &expected);
            }
        }
    }

    fn allocate(&mut self, size: usize, cpu: usize) {
        let limit = MOST * PAGE;
        let pages = size.div_ceil(PAGE);
        let real = self.allocator.allocate_memory(size);
        if size > limit {
            let refused = real.map(|memory| self.allocator.deallocate_memory(memory));
            self.trace.agree("the answer", &refused, &Err(Error::MemoryTooLarge { requested: size, limit }));
        } else if self.slots.len() == SLOTS {
            let refused = real.map(|memory| self.allocator.deallocate_memory(memory));
            self.trace.agree(
                "the answer",
                &refused,
                &Err(Error::PoolConcurrencyLimit { kind: allotment::PoolKind::Memories, limit: SLOTS }),
            );
        } else {
            match real {
                Ok(memory) if pages <= self.free => {
                    self.free -= pages;
                    self.slots.push(Slot { memory, bytes: vec![0; pages], cpu });
                }
                Err(Error::OutOfFrames { .. }) if pages > self.free => {}
                other => self.trace.fail(&alloc::format!("{pages} pages of {} free: {other:?}", self.free)),
            }
        }
    }

    fn grow(&mut self, nth: usize, size: usize) {
        let Slot { memory, bytes, .. } = &mut self.slots[nth];
        let (limit, before) = (MOST * PAGE, memory.size());
        let more = size.div_ceil(PAGE).saturating_sub(bytes.len());
        let real = memory.grow_to(size);
        self.trace.agree("the size", &memory.size(), &if real.is_ok() { before.max(size) } else { before });
        match real {
            Err(Error::MemoryTooLarge { requested, limit: at }) if size > limit => {
                self.trace.agree("the limit", &(requested, at), &(size, limit));
            }
            Err(Error::OutOfFrames { .. }) if size <= limit && more > self.free => {}
            Ok(()) if size <= limit && more <= self.free => {
                bytes.resize(bytes.len() + more, 0);
                self.free -= more;
            }
            other => self.trace.fail(&alloc::format!("{more} pages more of {} free: {other:?}", self.free)),
        }
    }

    /// A memory is used on this CPU from now on.
    fn arrive(&mut self, nth: usize, cpu: usize) {
        let slot = &mut self.slots[nth];
        if core::mem::replace(&mut slot.cpu, cpu) != cpu {
            self.trace.agree("the answer", &self.allocator.arrive(&slot.memory), &Ok(()));
        }
    }

    fn protect(&mut self, nth: usize, first: usize, count: usize, access: Option<Access>) {
        let region = &mut self.regions[nth];
        let (address, bytes) = (region.start.offset(first * PAGE), count * PAGE);
        // A region ends with its last table, not with its last page.
        let beyond = region.range(first, count).is_none();
        if beyond && region.holds(first, count) {
            return;
        }
        // SAFETY: the region is the test's, and nobody is there.
        let real = unsafe { self.allocator.protect_region(address, bytes, access) };
        let Some(pages) = region.range(first, count) else {
            return self.trace.agree("the answer", &real, &Err(Error::UnknownRange { address, bytes }));
        };
        let frames = pages.iter().filter(|page| !page.has_frame).count();
        if access.is_none() {
            pages.iter_mut().for_each(|page| page.access = None);
            return self.trace.agree("the answer", &real, &Ok(()));
        }
        let touched =
            |table: &usize| count > 0 && (first / TABLE..=(first + count - 1) / TABLE).contains(table);
        let missing = (0..region.tables.len()).filter(|table| touched(table) && !region.tables[*table]);
        let needed = frames + missing.count();
        match real {
            Ok(()) if needed <= self.free => {
                self.free -= needed;
                let tables = region.tables.iter_mut().enumerate().filter(|(nth, _)| touched(nth));
                tables.for_each(|(_, table)| *table = true);
                for page in &mut region.pages[first..first + count] {
                    page.has_frame = true;
                    page.access = access;
                }
            }
            Err(Error::OutOfFrames { .. }) if needed > self.free => {}
            other => self.trace.fail(&alloc::format!("{needed} frames of {} free: {other:?}", self.free)),
        }
    }

    fn reset(&mut self, nth: usize, first: usize, count: usize) {
        let region = &mut self.regions[nth];
        let (address, bytes) = (region.start.offset(first * PAGE), count * PAGE);
        // SAFETY: the region is the test's, and nobody is there.
        let real = unsafe { self.allocator.reset_region(address, bytes) };
        let known = region.holds(first, count);
        let expected = if known { Ok(()) } else { Err(Error::UnknownRange { address, bytes }) };
        self.trace.agree("the answer", &real, &expected);
        if known {
            for page in region.pages.iter_mut().skip(first).take(count) {
                (page.access, page.byte) = (None, 0);
            }
        }
    }
}

fn base<A: Arch>(memory: &Memory<'_, A>) -> VirtAddr {
    VirtAddr(memory.base().as_ptr() as u64)
}

/// Pages are seen by one byte, not always the first.
fn seen(start: VirtAddr, page: usize) -> VirtAddr {
    start.offset(page * PAGE + page * 321 % PAGE)
}
