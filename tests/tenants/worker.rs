//! One CPU's part: tenants that begin there, arrive there and end there.

use alloc::{format, vec::Vec};

use allotment::{Error, FaultAccess, MemoryRequest};

use crate::{
    common::{PAGE, TestArch, WASM_PAGE},
    contents::{Contents, Expected, WORDS},
    images::Shown,
    random::{Random, Trace},
    tenant::{Tenant, Trapped},
    world::World,
};

/// Images that there are at a time.
const IMAGES: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Begin,
    Write(Pattern),
    Grow,
    Declare,
    Look,
    Trap(FaultAccess),
    Depart,
    Arrive,
    End,
    /// On its way, and never to arrive.
    EndElsewhere,
    BuildImage,
    DropImage,
    Hoard,
    Unhoard,
}

use Operation::*;

/// Which pages a tenant writes.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Adjacent,
    Spread,
    All,
    /// The page that the next one writes too, as modules do.
    Usual,
}

pub(crate) struct Worker<'w, 'a, A: TestArch> {
    world: &'w World<'a, A>,
    cpu: usize,
    random: Random,
    trace: Trace,
    tenants: Vec<Tenant<'a, A>>,
}

impl<'w, 'a, A: TestArch> Worker<'w, 'a, A> {
    pub(crate) fn new(world: &'w World<'a, A>, cpu: usize, seed: u64) -> Self {
        let random = Random::new(seed << 3 | cpu as u64);
        let trace = Trace::new(core::any::type_name::<A>(), seed);
        Self { world, cpu, random, trace, tenants: Vec::new() }
    }

    pub(crate) fn step(&mut self) {
        let operation = self.operation();
        self.trace.note(&operation, self.cpu);
        match operation {
            Begin => self.begin(),
            Arrive => self.arrive(),
            EndElsewhere => {
                let tenant = self.world.travelling.lock().pop();
                tenant.into_iter().for_each(|tenant| self.give_back(tenant));
            }
            BuildImage => self.build_image(),
            DropImage => self.drop_image(),
            Hoard => {
                let but = self.random.below(200);
                self.world.hoard(but).expect("there is address space");
            }
            Unhoard => self.world.unhoard(),
            Write(_) | Grow | Declare | Look | Trap(_) | Depart | End => {
                let nth = self.random.below(self.tenants.len());
                let tenant = self.tenants.swap_remove(nth);
                self.live(tenant, operation);
            }
        }
    }

    /// Ends the worker's tenants.
    pub(crate) fn end(&mut self) {
        while let Some(tenant) = self.tenants.pop() {
            self.live(tenant, End);
        }
    }

    fn operation(&mut self) -> Operation {
        let random = &mut self.random;
        match random.below(40) {
            0 if random.percent(50) => BuildImage,
            1 if random.percent(40) => DropImage,
            2 if random.percent(20) => Hoard,
            3 | 4 => Unhoard,
            5..8 => Arrive,
            8 => EndElsewhere,
            9..18 => Begin,
            _ if self.tenants.is_empty() => Begin,
            18..21 => Write(Pattern::Adjacent),
            21..23 => Write(Pattern::Spread),
            23 => Write(Pattern::All),
            24..26 => Write(Pattern::Usual),
            26..29 => Grow,
            29 => Declare,
            30 => Look,
            31 => Trap(random.pick(&[FaultAccess::Read, FaultAccess::Write])),
            32..34 => Depart,
            _ => End,
        }
    }

    /// Pages of a memory: of wasm's and of the host's, near borders between tables, over
    /// several of them, and as large as it gets.
    fn size(&mut self) -> usize {
        let most = self.world.setting.most / PAGE;
        let random = &mut self.random;
        let pages = match random.below(20) {
            0..7 => 1 + random.below(40),
            7..13 => (1 + random.below(8)) * WASM_PAGE / PAGE,
            13..16 => 512 * (1 + random.below(2)) + random.below(6) - 3,
            16..19 => 1 + random.below(1300),
            _ => 1 + random.below(most),
        };
        pages.min(most)
    }

    fn begin(&mut self) {
        let Self { world, .. } = self;
        let world = *world;
        let pages = self.size();
        let shown = {
            let images = world.images.lock();
            let count = images.len();
            let chosen = self.random.below(IMAGES + 1);
            images.get(chosen).filter(|_| count > 0).cloned()
        };
        // Not smaller than its image.
        let pages = shown.as_ref().map_or(pages, |shown| pages.max(shown.contents.end));
        // It need not be a multiple of a page, unless the image needs it all.
        let tight = shown.as_ref().is_some_and(|shown| pages == shown.contents.end);
        let less = if !tight && self.random.percent(20) { self.random.below(PAGE) } else { 0 };
        let mut request = MemoryRequest::new(pages * PAGE - less);
        if let Some(shown) = shown.as_ref().filter(|_| self.random.percent(70)) {
            request = request.module(shown.module(), 0);
        }
        let allocator = &world.machine.allocator;
        world.note_size(pages);
        let memory = match &shown {
            Some(Shown { image, .. }) => allocator.allocate_memory_from(image, request),
            None => allocator.allocate_memory(request),
        };
        let memory = match memory {
            Ok(memory) => memory,
            Err(error) => return self.expect(&error),
        };
        let contents = shown.map_or(Contents::ZEROS, |shown| shown.contents);
        let mark = world.number() << 32 | 0x7000_0000_0000_0000 | u64::from(self.random.byte()) << 24;
        let tenant = Tenant { memory, expected: Expected::new(contents), mark, began_small: pages <= 16 };
        self.trace.agree("pages", &tenant.pages(), &pages);
        tenant.look(world.machine, &mut self.random, &self.trace, true);
        world.begun();
        self.tenants.push(tenant);
    }

    /// Does something with a tenant of this CPU, after which it lives on, or not.
    fn live(&mut self, mut tenant: Tenant<'a, A>, operation: Operation) {
        let machine = self.world.machine;
        let lives = match operation {
            Write(pattern) => self.write(&mut tenant, pattern),
            Grow => self.grow(&mut tenant),
            Declare => self.declare(&mut tenant),
            Trap(access) => {
                tenant.trap(machine, &self.trace, access);
                false
            }
            Depart => {
                return self.world.travelling.lock().push(tenant);
            }
            End => false,
            _ => true,
        };
        tenant.look(machine, &mut self.random, &self.trace, false);
        if lives { self.tenants.push(tenant) } else { self.give_back(tenant) }
    }

    /// Whether the tenant did not trap.
    fn write(&mut self, tenant: &mut Tenant<'a, A>, pattern: Pattern) -> bool {
        let pages = tenant.pages();
        let random = &mut self.random;
        let start = random.below(pages);
        let (first, step, count) = match pattern {
            Pattern::Adjacent => (start, 1, 1 + random.below(40)),
            Pattern::Spread => (start % 97, 1 + random.below(97), 1 + random.below(24)),
            Pattern::All => (0, 1, if pages <= 600 { pages } else { 40 }),
            Pattern::Usual => (usize::try_from(tenant.expected.contents.seed % 9).unwrap(), 1, 4),
        };
        for page in (first..pages).step_by(step).take(count) {
            let random = &mut self.random;
            let from = random.below(WORDS);
            let most = if random.percent(4) { WORDS } else { from + 1 + random.below(3) };
            if let Err(Trapped) = tenant.store(self.world.machine, page, from..most.min(WORDS)) {
                if !self.may_be_exhausted(tenant, 1) {
                    self.trace.fail(&format!("a store to page {page} is a trap"));
                }
                return false;
            }
        }
        true
    }

    fn grow(&mut self, tenant: &mut Tenant<'a, A>) -> bool {
        let most = self.world.setting.most / PAGE;
        let pages = tenant.pages();
        let random = &mut self.random;
        let more = match random.below(6) {
            0 | 1 => WASM_PAGE / PAGE,
            2 | 3 => 1 + random.below(30),
            // To the end of a granule, or of some.
            4 => 512 * (1 + random.below(2)) - pages % 512,
            _ => 512 * (1 + random.below(2)) + random.below(40),
        };
        let size = (pages + more).min(most);
        self.world.note_size(size);
        if let Err(error) = tenant.memory.grow_to(size * PAGE) {
            self.expect(&error);
            self.trace.agree("pages after a failure", &tenant.pages(), &pages);
        } else {
            self.trace.agree("pages", &tenant.pages(), &size);
        }
        true
    }

    fn declare(&mut self, tenant: &mut Tenant<'a, A>) -> bool {
        let first = self.random.below(tenant.pages());
        let count = 1 + self.random.below((tenant.pages() - first).min(9));
        let declared = tenant.write_declared(self.world.machine, &self.trace, first, count);
        if let Err(error) = declared {
            let exceeded = matches!(error, Error::CommitmentExceeded { .. });
            if !exceeded || !self.may_be_exhausted(tenant, count) {
                self.trace.fail(&format!("preparing {count} pages from {first} on: {error}"));
            }
        }
        true
    }

    /// Whether a tenant may not write `count` pages more.
    fn may_be_exhausted(&self, tenant: &Tenant<'a, A>, count: usize) -> bool {
        let Some(bound) = self.world.setting.bound() else { return false };
        // What earlier tenants of an image wrote is its own when it begins; and so are the
        // pages of a memory that was small.
        let is_image = tenant.expected.contents.seed != 0;
        is_image || tenant.began_small || tenant.expected.count_written() + count > bound
    }

    fn arrive(&mut self) {
        let Some(tenant) = self.world.travelling.lock().pop() else { return };
        let machine = self.world.machine;
        self.trace.agree("arriving", &machine.allocator.arrive(&tenant.memory), &Ok(()));
        tenant.look(machine, &mut self.random, &self.trace, false);
        self.tenants.push(tenant);
    }

    /// Where nobody has to have looked before.
    fn give_back(&mut self, tenant: Tenant<'a, A>) {
        self.world.machine.allocator.deallocate_memory(tenant.memory);
    }

    fn build_image(&mut self) {
        let (world, random) = (self.world, &mut self.random);
        if world.images.lock().len() == IMAGES {
            return self.drop_image();
        }
        let most = world.setting.most / PAGE;
        match Shown::build(world.machine, random, world.number(), most) {
            Ok(shown) => world.images.lock().push(shown),
            Err(error) => self.expect(&error),
        }
    }

    /// Drops a handle, which may be the last.
    fn drop_image(&mut self) {
        let shown = {
            let mut images = self.world.images.lock();
            let count = images.len();
            if count == 0 {
                return;
            }
            images.swap_remove(self.random.below(count))
        };
        if self.random.percent(50) {
            self.world.machine.allocator.purge_module(shown.module());
        }
        drop(shown);
    }

    /// What may run out has run out, and nothing else is wrong.
    fn expect(&self, error: &Error) {
        match error {
            Error::PoolConcurrencyLimit { .. } | Error::ImageSizes { .. } => {}
            Error::OutOfFrames { needed, available } if needed > available => {}
            error => self.trace.fail(&format!("{error}")),
        }
    }
}
