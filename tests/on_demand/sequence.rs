//! Random memories and regions beside a model: granules as a plain list, frames
//! as a sum, contents as what was stored.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use allotment::{
    Allocator, CompiledModuleId, Config, Error, Memory, MemoryRequest,
    arch::{Access, VirtAddr},
};

use crate::{
    base,
    common::{MIB, Machine, PAGE, TestArch, cpus, load_at, on, store_at},
    numbers::{Random, Rounds, Trace, for_each_seed},
};

const STEPS: usize = if cfg!(miri) { 100 } else { 10_000 };
/// On bare metal there are ten sequences then.
const FULL_STEPS: usize = if cfg!(target_os = "none") { 100_000 } else { 1_000_000 };

const GRANULE: usize = 2 * MIB;
const GRANULES: usize = 512;
/// Pages that a memory has room for before it moves, and after.
const RESERVATION: usize = 10;
const FOR_GROWTH: usize = 6;
const GUARD: usize = 3 * MIB;
const FRAMES: usize = 3000 + GRANULE / PAGE;

fn config() -> Config {
    Config::new()
        .memory_reservation(RESERVATION * PAGE)
        .memory_reservation_for_growth(FOR_GROWTH * PAGE)
        .memory_guard_size(GUARD)
        .region_space(GRANULES * GRANULE)
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Create(usize),
    Grow(usize, usize),
    Drop(usize),
    Store(usize, usize, u8),
    Load(usize, usize),
    /// A region for code of so many granules, with so many pages.
    Reserve(usize, usize),
    Release(usize),
}

use Operation::*;

struct Known<'a, A: TestArch> {
    memory: Memory<'a, A>,
    /// Its first granule, and how many it has.
    at: usize,
    granules: usize,
    pages: usize,
    capacity: usize,
    /// By offset; the rest is zeros.
    bytes: BTreeMap<usize, u8>,
}

struct Code {
    start: VirtAddr,
    at: usize,
    granules: usize,
    pages: usize,
}

struct World<'a, A: TestArch> {
    allocator: &'a Allocator<A>,
    start: VirtAddr,
    /// Frames that the arena has when all is released.
    frames: usize,
    random: Random,
    trace: Trace,
    taken: Vec<bool>,
    memories: Vec<Known<'a, A>>,
    regions: Vec<Code>,
    seen: Seen,
}

/// How often the rarer things happened.
#[derive(Debug, Default)]
struct Seen {
    moves: usize,
    out_of_frames: usize,
    out_of_address_space: usize,
}

pub(crate) fn random_steps<A: TestArch>() {
    let overhead = Machine::<A>::new(&config(), 16 * MIB).allocator.plan().overhead;
    let m = Machine::<A>::new(&config(), overhead + FRAMES * PAGE);
    // The tables of zeros that memories share, one for each number of pages, stay.
    for pages in 1..=GRANULE / PAGE {
        m.allocator.deallocate_memory(m.allocator.allocate_memory(GRANULE + pages * PAGE).unwrap());
    }
    let before = m.allocator.metrics();
    assert_eq!(before.largest_free_region, GRANULES * GRANULE);
    for_each_seed(Rounds { host: 1, host_full: 1, bare: 1 }, |seed| {
        sequence(&m, seed);
        assert_eq!(m.allocator.metrics(), before, "counts, and one free run, as at the beginning");
    });
}

fn sequence<A: TestArch>(m: &Machine<A>, seed: u64) {
    let mut world = World {
        allocator: &m.allocator,
        start: m.allocator.plan().window.start,
        frames: m.allocator.metrics().available_frames,
        random: Random::new(seed),
        trace: Trace::new(core::any::type_name::<A>(), seed),
        taken: vec![false; GRANULES],
        memories: Vec::new(),
        regions: Vec::new(),
        seen: Seen::default(),
    };
    for step in 0..if harness::full() { FULL_STEPS } else { STEPS } {
        let cpu = world.random.below(cpus());
        let operation = world.operation(step);
        world.trace.note(&operation, cpu);
        on(m.allocator.arch(), cpu, || world.step(operation));
        if step % 256 == 0 {
            world.counts(m);
        }
    }
    world.check_variety();
    world.clear();
}

impl<A: TestArch> World<'_, A> {
    /// Times in which more is made than dropped, and the other way round; of small
    /// memories, so that address space runs out, and of large ones, so that
    /// frames do.
    fn operation(&mut self, step: usize) -> Operation {
        let filling = step % 1000 < 500;
        let tiny = step % 2000 < 1000;
        let Self { random, memories, regions, .. } = self;
        let pages = match random.below(20) {
            0 if !tiny => random.below(1100),
            _ if tiny => random.below(3),
            _ => random.below(40),
        };
        let which = if memories.is_empty() { None } else { Some(random.below(memories.len())) };
        let share = if filling { 40 } else { 10 };
        match (which, random.below(100)) {
            (None, _) => Create(pages),
            (_, roll) if roll < share => Create(pages),
            (Some(which), roll) if roll < 50 => Drop(which),
            (Some(which), roll) if roll < 70 => {
                Grow(which, memories[which].pages + random.below(if tiny { 3 } else { 20 }))
            }
            (Some(which), roll) if roll < 80 => {
                let offset = random.below(memories[which].pages.max(1) * PAGE);
                Store(which, offset, random.byte())
            }
            (Some(which), roll) if roll < 90 => {
                // One that was stored to, if there is one.
                let known = &memories[which];
                let nth = random.below(known.bytes.len() + 1);
                let stored = known.bytes.keys().nth(nth).copied();
                Load(which, stored.unwrap_or_else(|| random.below((known.pages + 1) * PAGE)))
            }
            _ if random.percent(50) || regions.is_empty() => Reserve(1 + random.below(6), random.below(20)),
            _ => Release(random.below(regions.len())),
        }
    }

    fn step(&mut self, operation: Operation) {
        match operation {
            Create(pages) => self.create(pages),
            Grow(which, pages) => self.grow(which, pages),
            Drop(which) => self.drop_memory(which),
            Store(which, offset, byte) => self.store(which, offset, byte),
            Load(which, offset) => self.load(which, offset),
            Reserve(granules, pages) => self.reserve(granules, pages),
            Release(which) => self.release(which),
        }
    }

    fn create(&mut self, pages: usize) {
        let capacity = if pages > RESERVATION { pages + FOR_GROWTH } else { RESERVATION };
        let place = self.place(capacity, frames_of(pages));
        let request = MemoryRequest::new(pages * PAGE).module(CompiledModuleId(1), 0);
        match (self.allocator.allocate_memory(request), place) {
            (Ok(memory), Ok((at, granules))) => {
                let known = Known { memory, at, granules, pages, capacity, bytes: BTreeMap::new() };
                self.check_place(&known);
                self.taken[at..at + granules].fill(true);
                self.memories.push(known);
            }
            (real, model) => self.refused(real.map(drop), model.map(drop)),
        }
    }

    fn grow(&mut self, which: usize, pages: usize) {
        let Known { pages: old, capacity: old_capacity, .. } = self.memories[which];
        let missing = frames_of(pages).saturating_sub(frames_of(old));
        let place = if pages > old_capacity {
            self.place(pages + FOR_GROWTH, missing).map(Some)
        } else if missing > self.available() {
            Err(Failure::Frames)
        } else {
            Ok(None)
        };
        let known = &mut self.memories[which];
        self.allocator.arrive(&known.memory).unwrap();
        let gone = base(&known.memory);
        match (known.memory.grow_to(pages * PAGE), place) {
            (Ok(()), Ok(moved)) => {
                known.pages = known.pages.max(pages);
                if let Some((at, granules)) = moved {
                    self.seen.moves += 1;
                    self.taken[at..at + granules].fill(true);
                    self.taken[known.at..known.at + known.granules].fill(false);
                    (known.at, known.granules, known.capacity) = (at, granules, pages + FOR_GROWTH);
                    if old > 0 {
                        load_at(self.allocator, gone).expect_err("something is left at the old address");
                    }
                }
            }
            (real, model) => self.refused(real, model.map(drop)),
        }
        self.check_place(&self.memories[which]);
    }

    fn drop_memory(&mut self, which: usize) {
        let known = self.memories.swap_remove(which);
        self.taken[known.at..known.at + known.granules].fill(false);
        self.allocator.deallocate_memory(known.memory);
    }

    fn store(&mut self, which: usize, offset: usize, byte: u8) {
        let known = &mut self.memories[which];
        self.allocator.arrive(&known.memory).unwrap();
        let stored = store_at(self.allocator, base(&known.memory).offset(offset), byte).is_ok();
        let inside = offset < known.pages * PAGE;
        self.trace.agree("whether it was stored", &stored, &inside);
        if inside {
            known.bytes.insert(offset, byte);
        }
    }

    fn load(&mut self, which: usize, offset: usize) {
        let known = &self.memories[which];
        self.allocator.arrive(&known.memory).unwrap();
        let loaded = load_at(self.allocator, base(&known.memory).offset(offset)).ok();
        let inside = offset < known.pages * PAGE;
        let expected = inside.then(|| known.bytes.get(&offset).copied().unwrap_or(0));
        self.trace.agree("the byte", &loaded, &expected);
    }

    fn reserve(&mut self, granules: usize, pages: usize) {
        let bytes = granules * GRANULE;
        let place = self.first_fit(granules + 1);
        match (self.allocator.reserve_region(bytes), place) {
            (Ok(start), Some(at)) => {
                self.trace.agree("where it is", &start, &self.start.offset(at * GRANULE));
                self.taken[at..=at + granules].fill(true);
                let enough = frames_of(pages) <= self.available();
                // SAFETY: nobody uses the region.
                let given =
                    unsafe { self.allocator.protect_region(start, pages * PAGE, Some(Access::ReadExecute)) };
                self.trace.agree("whether it has its pages", &given.is_ok(), &enough);
                let pages = if enough { pages } else { 0 };
                self.regions.push(Code { start, at, granules, pages });
            }
            (real, model) => self.refused(real.map(drop), model.map(drop).ok_or(Failure::AddressSpace)),
        }
    }

    fn release(&mut self, which: usize) {
        let Code { start, at, granules, .. } = self.regions.swap_remove(which);
        // SAFETY: nobody uses the region.
        unsafe { self.allocator.release_region(start, granules * GRANULE) }.unwrap();
        self.taken[at..=at + granules].fill(false);
    }

    fn check_variety(&self) {
        let Seen { moves, out_of_frames, out_of_address_space } = self.seen;
        let often = STEPS / 200;
        if moves < often || out_of_frames < often || out_of_address_space < often {
            self.trace.fail(&alloc::format!("too tame: {:?}", self.seen));
        }
    }

    fn clear(&mut self) {
        while !self.memories.is_empty() {
            let which = self.random.below(self.memories.len());
            self.drop_memory(which);
        }
        while !self.regions.is_empty() {
            self.release(0);
        }
    }

    /// Where a memory goes: granules of its guards included.
    fn place(&self, capacity: usize, frames: usize) -> Result<(usize, usize), Failure> {
        let granules = GUARD.div_ceil(GRANULE) + (capacity * PAGE + GUARD).div_ceil(GRANULE);
        let at = self.first_fit(granules).ok_or(Failure::AddressSpace)?;
        if frames > self.available() { Err(Failure::Frames) } else { Ok((at, granules)) }
    }

    fn first_fit(&self, granules: usize) -> Option<usize> {
        self.taken.windows(granules).position(|window| !window.contains(&true))
    }

    fn available(&self) -> usize {
        let memories = self.memories.iter().map(|known| frames_of(known.pages));
        self.frames - memories.chain(self.regions.iter().map(|code| frames_of(code.pages))).sum::<usize>()
    }

    fn check_place(&self, known: &Known<'_, A>) {
        let at = self.start.offset((known.at + GUARD.div_ceil(GRANULE)) * GRANULE);
        self.trace.agree("where it is", &base(&known.memory), &at);
        self.trace.agree("its size", &known.memory.size(), &(known.pages * PAGE));
        self.trace.agree("its capacity", &known.memory.capacity(), &(known.capacity * PAGE));
    }

    fn refused(&mut self, real: Result<(), Error>, model: Result<(), Failure>) {
        let real = real.map_err(|error| match error {
            Error::OutOfFrames { .. } => Failure::Frames,
            Error::OutOfAddressSpace { .. } => Failure::AddressSpace,
            other => self.trace.fail(&alloc::format!("{other}")),
        });
        self.trace.agree("the answer", &real, &model);
        match real {
            Err(Failure::Frames) => self.seen.out_of_frames += 1,
            _ => self.seen.out_of_address_space += 1,
        }
    }

    fn counts(&self, m: &Machine<A>) {
        let metrics = m.allocator.metrics();
        let free = self.taken.split(|&taken| taken).map(<[bool]>::len).max().unwrap_or(0);
        self.trace.agree("the longest free run", &metrics.largest_free_region, &(free * GRANULE));
        self.trace.agree("available frames", &metrics.available_frames, &self.available());
        let regions = self.memories.len() + self.regions.len();
        self.trace.agree("how many regions there are", &metrics.regions, &regions);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Frames,
    AddressSpace,
}

/// Frames for so many pages, tables included.
fn frames_of(pages: usize) -> usize {
    pages + (pages * PAGE).div_ceil(GRANULE)
}
