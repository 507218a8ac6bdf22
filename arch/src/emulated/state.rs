//! What changes while a machine runs: its CPUs, and the adversary's memory.

use core::ops::Range;
use std::vec::Vec;

use super::{
    Violation,
    cache::{Cache, Key, Pointer, Translation},
};
use crate::{PAGE_SIZE, PhysAddr, VirtAddr};

pub(super) struct State {
    pub(super) cpus: Vec<Cpu>,
    pub(super) random: Random,
    /// Addresses worth walking to.
    pub(super) learned: Vec<VirtAddr>,
    /// By frame number.
    pub(super) tags: Vec<Tag>,
    pub(super) window: Option<Window>,
    pub(super) violations: Vec<Violation>,
    pub(super) interrupts: usize,
    pub(super) invalidations: Invalidations,
    /// Entries that an audit may look at before the calls since the last one
    /// would become slow by it.
    pub(super) credit: usize,
    /// Entries that the last audit looked at.
    pub(super) audit_cost: usize,
}

/// How many invalidations were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invalidations {
    /// Of the CPU that asked.
    pub local: usize,
    /// Of every CPU.
    pub everywhere: usize,
}

pub(super) struct Cpu {
    pub(super) translations: Cache<Translation>,
    pub(super) pointers: Cache<Pointer>,
    /// Where its walks begin, if not at the machine's own root.
    pub(super) root: Option<PhysAddr>,
    /// Whether `dsb ish` ran since the last sequence of invalidations.
    pub(super) ordered: bool,
    /// Invalidations that this CPU began and did not wait for yet.
    pub(super) pending: Vec<Pending>,
}

/// An invalidation that has begun.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub(super) drop: Drop,
    /// Whether it is for every CPU.
    pub(super) shared: bool,
}

/// What an instruction makes a CPU forget.
#[derive(Clone, Copy)]
pub(super) struct Drop {
    pub(super) start: VirtAddr,
    /// 0 for all addresses.
    pub(super) bytes: u64,
    /// Only translations from entries of this level.
    pub(super) level: Option<u8>,
    pub(super) pointers: Pointers,
    /// Whether global translations go as well.
    pub(super) global: bool,
}

/// Which pointers to tables an instruction drops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pointers {
    None,
    OnTheWay,
    All,
}

impl Drop {
    pub(super) const ALL: Self =
        Self { start: VirtAddr(0), bytes: 0, level: None, pointers: Pointers::All, global: false };
}

/// Whom a frame was last cached for; saves a search as long as nobody else
/// comes.
#[derive(Clone, Copy, Default)]
pub(super) struct Tag {
    /// As this page.
    pub(super) page: Option<VirtAddr>,
    /// Some translation to it was writable.
    pub(super) writable: bool,
    /// As a table at this place.
    pub(super) table: Option<Key>,
}

/// The range that may be edited, and the entries outside of it.
pub(super) struct Window {
    pub(super) addresses: Range<VirtAddr>,
    pub(super) outside: Vec<(PhysAddr, u64)>,
}

impl Cpu {
    fn new() -> Self {
        Self {
            translations: Cache::new(),
            pointers: Cache::new(),
            root: None,
            ordered: false,
            pending: Vec::new(),
        }
    }

    pub(super) fn forget(&mut self, what: Drop) {
        let goes = |key: Key, found: &Translation| {
            let covered = what.bytes == 0 || key.overlaps(what.start, what.bytes);
            let level = what.level.is_none_or(|only| only == found.level);
            covered && level && (what.global || !found.global)
        };
        if what.bytes == PAGE_SIZE as u64 {
            for shift in Translation::SHIFTS {
                let key = Key::new(what.start, shift);
                if self.translations.get(key).is_some_and(|found| goes(key, found)) {
                    self.translations.remove(key);
                }
            }
        } else {
            self.translations.retain(|key, found| !goes(key, found));
        }
        match what.pointers {
            Pointers::None => {}
            Pointers::OnTheWay => self.pointers.retain(|key, _| !key.overlaps(what.start, what.bytes)),
            Pointers::All => self.pointers.clear(),
        }
    }
}

impl State {
    pub(super) fn new(frames: usize) -> Self {
        let mut state = Self {
            cpus: Vec::new(),
            random: Random(1),
            learned: Vec::new(),
            tags: std::vec![Tag::default(); frames],
            window: None,
            violations: Vec::new(),
            interrupts: 0,
            invalidations: Invalidations::default(),
            credit: 0,
            audit_cost: 0,
        };
        state.set_cpus(1);
        state
    }

    pub(super) fn set_cpus(&mut self, cpus: usize) {
        self.cpus = (0..cpus).map(|_| Cpu::new()).collect();
    }

    /// Whether the rules for entries hold at `address`.
    pub(super) fn in_window(&self, address: VirtAddr) -> bool {
        self.window.as_ref().is_none_or(|window| window.addresses.contains(&address))
    }

    /// Notes what is wrong, each only once.
    pub(super) fn report(&mut self, violation: Violation) {
        const MOST: usize = 64;
        if self.violations.len() < MOST && !self.violations.contains(&violation) {
            self.violations.push(violation);
        }
    }

    pub(super) fn learn(&mut self, address: VirtAddr) {
        const MOST: usize = 128;
        let address = VirtAddr(address.0 & !0xfff);
        if self.learned.last() == Some(&address) {
            return;
        }
        if self.learned.len() == MOST {
            let victim = self.random.below(MOST);
            self.learned.swap_remove(victim);
        }
        self.learned.push(address);
    }
}

/// SplitMix64: the adversary's choices, the same for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn seed(&mut self, seed: u64) {
        self.0 = seed;
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True `of` times out of 8.
    pub(super) fn eighths(&mut self, of: u64) -> bool {
        self.next() >> 61 < of
    }
}
