//! Random tenants of one pool, on all CPUs, beside a model that knows of each
//! the bytes that it wrote, and how many frames there are.

use alloc::vec::Vec;

use allotment::{Allocator, Error, Memory, PoolKind};

use crate::{
    common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, at, cpus, load_at, on, pool, pooled, store_at},
    random::{Random, Rounds, Trace, for_each_seed},
    reuse::SIZES,
    world::warm,
};

const SLOTS: usize = 3;
const STEPS: usize = 150;
/// Pages that a leaf table serves.
const TABLE: usize = 512;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Allocate(usize),
    Grow(usize, usize),
    Store(usize, u8),
    Move(usize),
    Deallocate(usize),
}

use Operation::*;

struct Tenant<'a, A: TestArch> {
    memory: Memory<'a, A>,
    /// One of each page.
    bytes: Vec<u8>,
    cpu: usize,
}

struct World<'a, A: TestArch> {
    allocator: &'a Allocator<A>,
    tenants: Vec<Tenant<'a, A>>,
    /// Frames in all.
    frames: usize,
    trace: Trace,
}

pub(crate) fn random<A: TestArch>() {
    for_each_seed(Rounds { host: 6, host_full: 300, bare: 2 }, |seed| {
        let mut random = Random::new(seed);
        let keep = random.pick(&[0, 16 * PAGE, usize::MAX]);
        let pools = pool(SLOTS, 4 * MIB)
            .premapped_tables(1)
            .linear_memory_keep_resident(keep)
            .decommit_batch_size(random.pick(&[0, 2, 99]))
            .poison(random.percent(50));
        // A table for the guard that is no multiple of one.
        let config = pooled(pools).memory_guard_size(WASM_PAGE).region_space(1 << 30);
        let m = Machine::<A>::new(&config, 5 * MIB);
        warm(&m, &SIZES);
        let frames = m.allocator.metrics().available_frames;
        let trace = Trace::new(core::any::type_name::<A>(), seed);
        let mut world = World { allocator: &m.allocator, tenants: Vec::new(), frames, trace };
        for _ in 0..STEPS {
            world.step(&mut random);
        }
        while !world.tenants.is_empty() {
            world.apply(Deallocate(0), 0);
        }
    });
}

/// Frames of a memory of so many pages: theirs, and those of far tables.
fn frames(pages: usize) -> usize {
    pages + pages.div_ceil(TABLE).saturating_sub(1)
}

/// Where the byte of a page is.
fn place(page: usize) -> i64 {
    (page * PAGE + page * 24 % PAGE) as i64
}

impl<A: TestArch> World<'_, A> {
    fn step(&mut self, random: &mut Random) {
        let operation = match (random.below(10), self.tenants.len()) {
            (0..3, _) | (_, 0) => Allocate(random.pick(&SIZES)),
            (3..5, count) => Grow(random.below(count), random.pick(&SIZES)),
            (5..7, count) => Store(random.below(count), random.byte()),
            (7, count) => Move(random.below(count)),
            (_, count) => Deallocate(random.below(count)),
        };
        self.apply(operation, random.below(cpus()));
        let used = self.used();
        let all = self.allocator.metrics();
        self.trace.agree("the number of frames", &all.available_frames, &(self.frames - used));
        self.trace.agree("the number of memories", &all.memories, &self.tenants.len());
    }

    fn used(&self) -> usize {
        self.tenants.iter().map(|tenant| frames(tenant.bytes.len())).sum()
    }

    fn apply(&mut self, operation: Operation, cpu: usize) {
        self.trace.note(&operation, cpu);
        let free = self.frames - self.used();
        let Self { allocator, tenants, trace, .. } = self;
        let allocator: &Allocator<A> = allocator;
        match operation {
            Allocate(pages) => {
                let got = on(allocator.arch(), cpu, || allocator.allocate_memory(pages * PAGE));
                let found = got.as_ref().map(drop).map_err(|error| *error);
                trace.agree("allocation", &kind(found), &expected(tenants.len(), frames(pages), free));
                if let Ok(memory) = got {
                    let tenant = Tenant { memory, bytes: alloc::vec![0; pages], cpu };
                    tenant.check(allocator, trace);
                    tenants.push(tenant);
                }
            }
            Grow(nth, pages) => {
                let tenant = &mut tenants[nth];
                let before = tenant.bytes.len();
                let (memory, cpu) = (&mut tenant.memory, tenant.cpu);
                let grown = on(allocator.arch(), cpu, || memory.grow_to(pages * PAGE));
                let needed = frames(pages.max(before)) - frames(before);
                trace.agree("growth", &kind(grown), &expected(0, needed, free));
                if grown.is_ok() {
                    tenant.bytes.resize(pages.max(before), 0);
                }
                tenant.check(allocator, trace);
            }
            Store(nth, byte) => {
                let Tenant { memory, bytes, cpu } = &mut tenants[nth];
                let memory: &Memory<'_, A> = memory;
                on(allocator.arch(), *cpu, || {
                    for (page, place_of) in bytes.iter_mut().enumerate() {
                        // Some stay as they are.
                        if !(page + usize::from(byte)).is_multiple_of(5) {
                            store_at(allocator, at(memory, place(page)), byte).expect("it is accessible");
                            *place_of = byte;
                        }
                    }
                });
            }
            Move(nth) => {
                let tenant = &mut tenants[nth];
                tenant.cpu = cpu;
                on(allocator.arch(), cpu, || allocator.arrive(&tenant.memory)).expect("it is in use");
                tenant.check(allocator, trace);
            }
            Deallocate(nth) => {
                let tenant = tenants.swap_remove(nth);
                tenant.check(allocator, trace);
                // From anywhere: nobody uses it.
                on(allocator.arch(), cpu, || allocator.deallocate_memory(tenant.memory));
            }
        }
    }
}

impl<A: TestArch> Tenant<'_, A> {
    /// Looks at every page, and beyond the last.
    fn check(&self, allocator: &Allocator<A>, trace: &Trace) {
        let Self { memory, bytes, cpu } = self;
        let wrong = on(allocator.arch(), *cpu, || {
            let found = |page| load_at(allocator, at(memory, place(page))).ok();
            let wrong = (0..bytes.len()).find(|&page| found(page) != Some(bytes[page]));
            let end = (bytes.len() * PAGE) as i64;
            let beyond =
                load_at(allocator, at(memory, end)).is_ok() || load_at(allocator, at(memory, -1)).is_ok();
            wrong.map(|page| (page, found(page), bytes[page])).or(beyond.then_some((bytes.len(), None, 0)))
        });
        trace.agree("page, what it holds, and should", &wrong, &None);
    }
}

/// What became of a request, without numbers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Done,
    NoSlot,
    NoFrames,
    Other,
}

fn kind(result: Result<(), Error>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(Error::PoolConcurrencyLimit { kind: PoolKind::Memories, limit: SLOTS }) => Answer::NoSlot,
        Err(Error::OutOfFrames { needed, available }) if needed > available => Answer::NoFrames,
        Err(_) => Answer::Other,
    }
}

fn expected(in_use: usize, needed: usize, free: usize) -> Answer {
    match (in_use, needed > free) {
        (SLOTS, _) => Answer::NoSlot,
        (_, true) => Answer::NoFrames,
        _ => Answer::Done,
    }
}
