//! All tenants of one allocator, step by step.

use core::fmt;

use allotment::{
    Allocator, Verdict,
    arch::{
        VirtAddr,
        emulated::{Emulated, Mmu, on_cpu},
    },
};

use crate::{
    amount::PAGE,
    ground::Ground,
    input::{Access, Anywhere, Operation, Step},
    memories::Memories,
    others::Others,
    regions::Regions,
    setup::Setup,
    tally::{Event, Tally},
};

/// Frames left where there shall be too few, and one more.
const FEW: usize = 12;

pub(crate) struct World<'a, F: Mmu> {
    ground: Ground<'a, F>,
    memories: Memories<'a, F>,
    others: Others<'a, F>,
    regions: Regions,
    on_demand: bool,
    cpus: usize,
    watch: Option<usize>,
}

impl<'a, F: Mmu> World<'a, F> {
    pub(crate) fn new(allocator: &'a Allocator<Emulated<F>>, setup: &Setup) -> Self {
        assert!(!allocator.plan().to_string().is_empty());
        let ground = Ground::new(allocator);
        let memories =
            Memories::new(&ground, setup.memory_guard_size(), setup.guard_before(), setup.on_demand());
        let regions = Regions::new(setup.region_space());
        let others = Others::new(&ground, setup.table_elements(), setup.stack_bytes(), setup.stack_zeroing());
        Self {
            ground,
            memories,
            others,
            regions,
            on_demand: setup.on_demand(),
            cpus: setup.cpus(),
            watch: setup.watch(),
        }
    }

    /// All steps, and the end of every tenant.
    pub(crate) fn play(mut self, steps: &[Step], mut tell: impl FnMut(usize, &dyn fmt::Debug)) -> Tally {
        self.ground.tally.note(Event::Carved);
        self.count();
        for (nth, step) in steps.iter().enumerate() {
            tell(nth, step);
            self.step(step);
            self.count();
            if self.watch.is_some_and(|every| nth % every == 0) {
                self.inspect();
            }
        }
        tell(steps.len(), &"the end");
        self.inspect();
        self.end();
        assert_eq!(self.ground.free, self.ground.allocator.plan().frames, "the model's frames");
        self.machine().assert_sound();
        self.ground.tally
    }

    fn step(&mut self, step: &Step) {
        let cpu = usize::from(step.cpu) % self.cpus;
        on_cpu(cpu, || {
            let starved = step.leave.and_then(|leave| self.ground.starve(usize::from(leave) % FEW));
            match &step.operation {
                Operation::Memories(operation) => self.memories.step(&mut self.ground, operation, cpu),
                Operation::Others(_) if self.on_demand => {}
                Operation::Others(operation) => self.others.step(&mut self.ground, operation, cpu),
                Operation::Regions(operation) => self.regions.step(&mut self.ground, operation),
                Operation::Ask(anywhere, access) => self.ask(*anywhere, *access),
                Operation::Inspect => {
                    self.inspect();
                    self.machine().audit();
                }
            }
            if let Some(starved) = starved {
                self.count();
                self.ground.feed(&starved);
            }
        });
    }

    /// What a fault means, is answered for any address.
    fn ask(&self, anywhere: Anywhere, access: Access) {
        let plan = self.ground.allocator.plan();
        let address = match anywhere {
            Anywhere::Wild(address) => VirtAddr(address),
            Anywhere::InWindow(offset) => {
                let slabs = [plan.memories.slab, plan.tables.slab, plan.stacks.slab];
                let slots: usize = slabs.iter().map(|slab| slab.total).sum();
                let carved = (plan.region_space + slots + PAGE) as u64;
                VirtAddr(plan.window.start.0 + offset % carved)
            }
        };
        let access = access.into();
        let allowed = self.memories.allows(address, access)
            || self.others.allows(address, access)
            || self.regions.allows(address, access);
        match self.ground.allocator.fault(address, access) {
            Verdict::Resume => assert!(allowed, "{access} at {address} is nobody's right"),
            Verdict::Trap(report) => {
                assert!(!allowed && plan.window.contains(&address), "{report}");
                assert_eq!((report.address, report.access), (address, access));
            }
            Verdict::NotOurs => assert!(!allowed, "{access} at {address} is somebody's right"),
        }
    }

    /// What is counted is what the model has.
    fn count(&mut self) {
        let metrics = self.ground.allocator.metrics();
        self.ground.count(metrics.available_frames);
        let total = self.ground.allocator.plan().memories.slab.total_memories;
        let slots = if self.on_demand { 0 } else { self.memories.len() };
        assert_eq!((metrics.memories, metrics.free_memories), (slots, total - slots), "memories");
        assert_eq!((metrics.tables, metrics.stacks), self.others.len(), "tables and stacks");
        assert!(metrics.idle_frames <= metrics.available_frames, "{metrics:?}");
    }

    fn inspect(&self) {
        self.memories.inspect(&self.ground);
        self.others.inspect(&self.ground);
        self.regions.inspect(&self.ground);
    }

    /// Gives everything back, on one CPU after the other.
    fn end(&mut self) {
        for cpu in (0..self.cpus).cycle() {
            let more = on_cpu(cpu, || {
                self.memories.end_one(&mut self.ground)
                    | self.others.end_one(&mut self.ground)
                    | self.regions.end_one(&mut self.ground)
            });
            self.count();
            if !more {
                return;
            }
        }
    }

    fn machine(&self) -> &'a Emulated<F> {
        self.ground.allocator.arch()
    }
}
