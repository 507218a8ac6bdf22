//! All tables and all caches, at rest or at any time.

use core::sync::atomic::Ordering;
use std::collections::{HashMap, HashSet};

use super::{
    Descriptor, Emulated, Mmu, Violation, cache::Pointer, check::level_of, state::State, walk::shift_of,
};
use crate::{Arch, ENTRIES_PER_TABLE, PAGE_SIZE, PhysAddr, VirtAddr};

/// What the tables use each frame for.
#[derive(Default)]
struct Uses {
    pages: HashMap<u64, Use>,
    tables: HashMap<u64, (u8, Use)>,
    visited: HashSet<(u64, u8, bool, bool)>,
    entries: usize,
}

/// One use of a frame, or several of the same kind.
#[derive(Clone, Copy)]
struct Use {
    /// The first of them.
    place: VirtAddr,
    several: bool,
    /// Whether one of them may write.
    writable: bool,
}

impl Use {
    fn new(place: VirtAddr, writable: bool) -> Self {
        Self { place, several: false, writable }
    }

    fn add(&mut self, place: VirtAddr, writable: bool) {
        self.several |= place != self.place;
        self.writable |= writable;
    }

    /// Whether it is used at another place than this. At this place alone, what
    /// is stale now was taken away since: a thread's edit that is under way.
    fn beside(&self, place: VirtAddr) -> bool {
        self.several || self.place != place
    }
}

impl<F: Mmu> Emulated<F> {
    /// Applies every rule that holds when no edit is under way: entries, runs,
    /// what lies outside the window, and all caches against the tables.
    ///
    /// # Panics
    ///
    /// At a [`Violation`], unless they are collected.
    pub fn audit(&self) {
        self.with(|state| self.audit_all(state, true));
    }

    /// Between any two calls, hence also in the midst of an edit.
    pub(super) fn audit_at_any_time(&self, state: &mut State) {
        self.audit_all(state, false);
    }

    fn audit_all(&self, state: &mut State, at_rest: bool) {
        let mut uses = Uses::default();
        let mut roots = std::vec![(self.root(VirtAddr(0)), 0), (self.root(VirtAddr(!0)), !0)];
        roots.dedup_by_key(|(root, _)| *root);
        for (root, half) in roots {
            let base = if F::SPLIT_ROOTS && half != 0 { !0 << shift_of(self.settings.levels) } else { 0 };
            let top = Pointer { table: root.0, read_only: false, no_execute: false };
            self.visit(state, &mut uses, VirtAddr(base), self.settings.levels - 1, top, at_rest);
        }
        state.audit_cost = uses.entries;
        self.check_outside(state);
        self.check_uses(state, &uses);
        for cpu in 0..state.cpus.len() {
            self.check_cache(state, cpu, usize::MAX);
        }
    }

    fn visit(
        &self,
        state: &mut State,
        uses: &mut Uses,
        base: VirtAddr,
        level: u8,
        limits: Pointer,
        at_rest: bool,
    ) {
        let seen = (limits.table, level, limits.read_only, limits.no_execute);
        let first = (level, Use::new(base, !limits.read_only));
        uses.tables.entry(limits.table).or_insert(first).1.add(base, !limits.read_only);
        // A shared table is as good or bad at each of its places.
        if !uses.visited.insert(seen) {
            return;
        }
        for nth in 0..ENTRIES_PER_TABLE {
            let at = limits.table + nth as u64 * 8;
            let Some(word) = self.memory.word(at) else { return };
            let entry = word.load(Ordering::Acquire);
            uses.entries += 1;
            if entry == 0 {
                continue;
            }
            let address = self.extend(VirtAddr(base.0 | (nth as u64) << shift_of(level)));
            self.check_entry(state, address, level, entry, limits);
            match F::descriptor(level, entry) {
                Descriptor::Invalid | Descriptor::Reserved => {}
                Descriptor::Table { frame, read_only, no_execute } => {
                    let below = Pointer {
                        table: frame.0,
                        read_only: limits.read_only | read_only,
                        no_execute: limits.no_execute | no_execute,
                    };
                    self.visit(state, uses, address, level - 1, below, at_rest);
                }
                Descriptor::Leaf(leaf) => {
                    let writable = (leaf.writable || leaf.markable) && !limits.read_only;
                    for page in (0..1u64 << shift_of(level)).step_by(PAGE_SIZE) {
                        let place = VirtAddr(address.0 + page);
                        let of_page = uses.pages.entry(leaf.frame.0 + page);
                        of_page.or_insert(Use::new(place, writable)).add(place, writable);
                    }
                    if leaf.run {
                        self.check_run(state, address, at, entry, at_rest);
                    }
                }
            }
        }
    }

    /// An address put together from indices, as the CPU wants it.
    fn extend(&self, address: VirtAddr) -> VirtAddr {
        let top = shift_of(self.settings.levels) - 1;
        if !F::SPLIT_ROOTS && address.0 >> top & 1 == 1 { VirtAddr(address.0 | !0 << top) } else { address }
    }

    fn check_outside(&self, state: &mut State) {
        let Some(window) = &state.window else { return };
        let mut now = HashMap::new();
        self.for_each_outside(&window.addresses, |at, entry| {
            now.insert(at, entry);
        });
        let changed = window.outside.iter().find_map(|&(at, before)| {
            let after = now.get(&at).copied().unwrap_or(0);
            (before != after).then_some((at, before, after))
        });
        state.audit_cost += now.len();
        if let Some((entry, before, after)) = changed {
            state.report(Violation::OutsideWindow { entry, before, after });
        }
    }

    /// Stale entries of any CPU whose frame has a new use.
    fn check_uses(&self, state: &mut State, uses: &Uses) {
        let mut wrong = std::vec::Vec::new();
        for (cpu, of_cpu) in state.cpus.iter().enumerate() {
            for (key, cached) in of_cpu.translations.iter() {
                for page in (0..key.bytes()).step_by(PAGE_SIZE) {
                    let (address, frame) = (VirtAddr(key.start().0 + page), cached.frame + page);
                    let page = uses.pages.get(&frame).filter(|used| used.beside(address));
                    let table = uses.tables.contains_key(&frame);
                    let matters = table || page.is_some_and(|used| used.writable || cached.writable);
                    let stale = || self.look(address).is_none_or(|now| now.frame_of(address) != frame);
                    if matters && stale() {
                        wrong.push(Violation::ReusedFrame { cpu, address, frame: PhysAddr(frame) });
                    }
                }
            }
            for &(key, cached) in of_cpu.pointers.iter() {
                let level = level_of(key);
                let as_table = uses.tables.get(&cached.table).is_some_and(|(of_level, used)| {
                    let elsewhere = of_level + 1 != level || used.beside(key.start());
                    elsewhere && (of_level + 1 != level || used.writable || !cached.read_only)
                });
                let used = as_table || uses.pages.contains_key(&cached.table);
                if used && self.is_stale_pointer(key, cached) {
                    let (address, frame) = (key.start(), PhysAddr(cached.table));
                    wrong.push(Violation::ReusedTable { cpu, address, level, frame });
                }
            }
        }
        wrong.into_iter().for_each(|violation| state.report(violation));
    }

    /// All caches against the tables, or a random part of large ones.
    pub(super) fn check_caches(&self, state: &mut State) {
        for cpu in 0..state.cpus.len() {
            self.check_cache(state, cpu, 16);
        }
    }

    fn check_cache(&self, state: &mut State, cpu: usize, most: usize) {
        if !F::BREAKS {
            return;
        }
        let count = state.cpus[cpu].translations.len();
        for nth in 0..count.min(most) {
            let nth = if count > most { state.random.below(count) } else { nth };
            let (key, translation) = *state.cpus[cpu].translations.nth(nth);
            self.check_break(state, cpu, key, translation);
        }
        let count = state.cpus[cpu].pointers.len();
        for nth in 0..count.min(most) {
            let nth = if count > most { state.random.below(count) } else { nth };
            let (key, pointer) = *state.cpus[cpu].pointers.nth(nth);
            self.check_pointer_break(state, cpu, key, pointer);
        }
    }
}
