//! How a machine is made: what its CPUs can do, and what else is mapped.

use core::{
    marker::PhantomData,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};
use std::{sync::Mutex, vec::Vec};

use super::{
    Emulated, Mmu,
    memory::Memory,
    state::{State, Window},
};
use crate::{Arch, PAGE_SIZE, PhysAddr, VirtAddr, index, x86_64::invalidate::Method};

/// What does not change once the machine runs.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) cpus: usize,
    pub(super) levels: u8,
    pub(super) hardware_dirty: bool,
    pub(super) ranges: bool,
    pub(super) method: Method,
    /// Walks that nobody asked for, per call.
    pub(super) speculation: u32,
    pub(super) collect: bool,
}

impl<F: Mmu> Emulated<F> {
    /// A machine with `bytes` of physical memory, rounded down to pages, two
    /// empty roots in the first two of them, and one CPU.
    ///
    /// # Panics
    ///
    /// When `bytes` is less than the two roots.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let frames = bytes / PAGE_SIZE;
        assert!(frames >= 2, "an emulated machine needs two pages for its roots, {bytes} bytes are too few");
        let settings = Settings {
            cpus: 1,
            levels: 4,
            hardware_dirty: true,
            ranges: false,
            method: Method::Invlpg,
            speculation: 4,
            collect: false,
        };
        Self {
            memory: Memory::new(frames),
            settings,
            state: Mutex::new(State::new(frames)),
            handler: Mutex::new(None),
            racing: AtomicBool::new(false),
            format: PhantomData,
        }
    }

    /// The same with `cpus` CPUs.
    ///
    /// # Panics
    ///
    /// When there are none.
    #[must_use]
    pub fn with_cpus(mut self, cpus: usize) -> Self {
        assert!(cpus > 0, "a machine needs at least one CPU");
        self.settings.cpus = cpus;
        self.lock().set_cpus(cpus);
        self
    }

    /// The same without dirty state in hardware, like an aarch64 CPU without
    /// FEAT_HAFDBS. Every x86_64 CPU has it.
    #[must_use]
    pub fn without_hardware_dirty(mut self) -> Self {
        self.settings.hardware_dirty = F::ALWAYS_DIRTY;
        self
    }

    /// The same with so many levels of tables: 4, on x86_64 also 5 (CR4.LA57), on aarch64 also 3
    /// (addresses of 39 bits).
    ///
    /// # Panics
    ///
    /// When the architecture has no such number.
    #[must_use]
    pub fn with_levels(mut self, levels: u8) -> Self {
        assert!(F::LEVELS.contains(&levels), "{} has {:?} levels, not {levels}", F::NAME, F::LEVELS);
        self.settings.levels = levels;
        self
    }

    /// The same with other choices where the architecture leaves one.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        self.lock().random.seed(seed);
        self
    }

    /// The same with other instructions for x86_64 invalidations. `Invpcid`
    /// means that the CPUs run under that identifier.
    #[must_use]
    pub fn with_method(mut self, method: Method) -> Self {
        self.settings.method = method;
        self
    }

    /// The same with or without FEAT_TLBIRANGE; a machine has it not.
    #[must_use]
    pub fn with_ranges(mut self, ranges: bool) -> Self {
        self.settings.ranges = ranges;
        self
    }

    /// The same with so many walks per call to addresses that nobody asked for;
    /// 4 unless told, 0 for CPUs that cache only what they access.
    #[must_use]
    pub fn with_speculation(mut self, walks: u32) -> Self {
        self.settings.speculation = walks;
        self
    }

    /// The same, keeping violations for [`violations`](Self::violations)
    /// instead of panicking.
    #[must_use]
    pub fn collect_violations(mut self) -> Self {
        self.settings.collect = true;
        self
    }

    /// Maps `pages` fresh pages at `address`, readable and writable, as the
    /// embedder's kernel would before anybody else is there. Tables and frames
    /// come from the end of [`free_memory`](Self::free_memory), which shrinks.
    ///
    /// # Panics
    ///
    /// When there is too little memory.
    pub fn map_foreign(&mut self, address: VirtAddr, pages: usize) {
        for page in 0..pages {
            let address = address.offset(page * PAGE_SIZE);
            let mut table = self.root(address);
            for level in (0..self.settings.levels).rev() {
                let at = table.0 + index(address, level) as u64 * 8;
                let old = self.load(at);
                table = if old == 0 {
                    let frame = self.memory.take();
                    let new = if level == 0 { F::foreign_page(frame) } else { F::foreign_table(frame) };
                    self.store(at, new);
                    frame
                } else {
                    PhysAddr(old & F::FRAME)
                };
            }
        }
    }

    /// From now on an edit of what lies outside the top-level entries of
    /// `window` is a violation, and the rules for entries hold only inside.
    pub fn guard_window(&self, window: Range<VirtAddr>) {
        self.with(|state| {
            state.window = None;
            let mut outside = Vec::new();
            self.for_each_outside(&window, |at, entry| outside.push((at, entry)));
            state.window = Some(Window { addresses: window, outside });
        });
    }

    fn load(&self, at: u64) -> u64 {
        self.memory.word(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, at: u64, entry: u64) {
        if let Some(word) = self.memory.word(at) {
            word.store(entry, Ordering::Release);
        }
    }
}
