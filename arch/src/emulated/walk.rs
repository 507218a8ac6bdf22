//! Walks: those that programs ask for, those that nobody asked for, and the
//! look at the tables that judges both.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{
    Descriptor, Emulated, Leaf, Mmu,
    cache::{Key, Pointer, Translation},
    state::{Drop, State},
};
use crate::{Arch, ENTRIES_PER_TABLE, PAGE_SIZE, PhysAddr, VirtAddr, index};

/// Where a walk ended.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) translation: Translation,
    /// Physical address of the entry.
    pub(super) at: u64,
    pub(super) entry: u64,
    /// Whether the entry is one of sixteen contiguous ones.
    pub(super) run: bool,
    /// Whether a cached pointer led there.
    pub(super) by_cache: bool,
}

/// What stands in the tables at a level.
pub(super) enum Place {
    /// Nothing: a table above is missing.
    Absent,
    /// A block of a level further up covers the address.
    Covered,
    /// This entry.
    Entry(u64),
}

impl Found {
    pub(super) fn frame_of(&self, address: VirtAddr) -> u64 {
        frame_of(self.key, &self.translation, address)
    }
}

/// Where a translation leads for one address.
pub(super) fn frame_of(key: Key, translation: &Translation, address: VirtAddr) -> u64 {
    translation.frame + (address.0 & (key.bytes() - 1))
}

/// Bytes of address that an entry of a table of `level` covers, as a logarithm.
pub(super) fn shift_of(level: u8) -> u32 {
    12 + 9 * u32::from(level)
}

impl<F: Mmu> Emulated<F> {
    /// A walk as the CPU does it: from a cached pointer or the root, setting
    /// accessed bits, caching all that it finds.
    pub(super) fn walk(&self, state: &mut State, cpu: usize, address: VirtAddr) -> Option<Found> {
        if !F::canonical(address, self.settings.levels) {
            return None;
        }
        let (mut level, mut pointer, by_cache) = self.start(state, cpu, address);
        loop {
            let at = pointer.table + index(address, level) as u64 * 8;
            let word = self.memory.word(at)?;
            let entry = word.load(Ordering::Acquire);
            self.check_entry(state, address, level, entry, pointer);
            match F::descriptor(level, entry) {
                Descriptor::Invalid | Descriptor::Reserved => return None,
                Descriptor::Table { frame, read_only, no_execute } => {
                    if !exchange(word, entry, F::accessed(entry)) {
                        continue;
                    }
                    pointer = Pointer {
                        table: frame.0,
                        read_only: pointer.read_only | read_only,
                        no_execute: pointer.no_execute | no_execute,
                    };
                    self.keep_pointer(state, cpu, Key::new(address, shift_of(level)), level, pointer);
                    level -= 1;
                }
                Descriptor::Leaf(leaf) => {
                    if !leaf.accessed {
                        return None;
                    }
                    let used = F::accessed(entry);
                    if !exchange(word, entry, used) {
                        continue;
                    }
                    let mut found = self.found(address, level, pointer, at, used, leaf);
                    found.by_cache = by_cache;
                    if leaf.run {
                        self.check_run(state, address, at, used, false);
                        if state.random.eighths(4) {
                            self.widen(state, &mut found, address, pointer);
                        }
                    }
                    self.keep_translation(state, cpu, found.key, found.translation);
                    return Some(found);
                }
            }
        }
    }

    /// Where a walk begins: mostly as deep as a cached pointer allows.
    fn start(&self, state: &mut State, cpu: usize, address: VirtAddr) -> (u8, Pointer, bool) {
        let levels = self.settings.levels;
        for level in 1..levels {
            let cached = state.cpus[cpu].pointers.get(Key::new(address, shift_of(level))).copied();
            if let Some(pointer) = cached
                && state.random.eighths(6)
            {
                return (level - 1, pointer, true);
            }
        }
        let table = self.root_of(state, cpu, address).0;
        (levels - 1, Pointer { table, ..self.top(address) }, false)
    }

    /// Has this CPU walk from another root, or from the machine's own again, and forget
    /// what it has cached. With aarch64 entries it is that of the upper half.
    pub fn load_root(&self, root: Option<PhysAddr>) {
        let cpu = self.current_cpu();
        self.with(|state| {
            state.cpus[cpu].root = root;
            state.cpus[cpu].forget(Drop { global: true, ..Drop::ALL });
        });
    }

    /// Where the walks of a CPU begin.
    pub(super) fn root_of(&self, state: &State, cpu: usize, address: VirtAddr) -> PhysAddr {
        match state.cpus[cpu].root {
            Some(root) if !F::SPLIT_ROOTS || address.0 >> 63 == 1 => root,
            _ => self.root(address),
        }
    }

    fn top(&self, address: VirtAddr) -> Pointer {
        Pointer { table: self.root(address).0, read_only: false, no_execute: false }
    }

    fn found(&self, address: VirtAddr, level: u8, limits: Pointer, at: u64, entry: u64, leaf: Leaf) -> Found {
        let writable = leaf.writable || leaf.markable && self.settings.hardware_dirty;
        Found {
            key: Key::new(address, shift_of(level)),
            translation: Translation {
                frame: leaf.frame.0,
                writable: writable && !limits.read_only,
                executable: leaf.executable && !limits.no_execute,
                dirty: leaf.dirty,
                global: leaf.global,
                attributes: leaf.attributes,
                level,
            },
            at,
            entry,
            run: leaf.run,
            by_cache: false,
        }
    }

    /// Makes the translation of one page that of its run of sixteen, as any one
    /// of their entries describes it.
    fn widen(&self, state: &mut State, found: &mut Found, address: VirtAddr, limits: Pointer) {
        let first = found.at & !(16 * 8 - 1);
        let key = Key::new(address, 16);
        let pick = state.random.below(16) as u64;
        for nth in (0..16).map(|nth| (pick + nth) % 16) {
            let at = first + nth * 8;
            let Some(word) = self.memory.word(at) else { continue };
            let entry = word.load(Ordering::Acquire);
            let page = key.start().offset(nth as usize * PAGE_SIZE);
            if let Descriptor::Leaf(leaf) = F::descriptor(0, entry)
                && leaf.accessed
                && leaf.run
            {
                let of_page = self.found(page, 0, limits, at, entry, leaf).translation;
                let frame = of_page.frame & !0xffff;
                found.key = key;
                found.translation = Translation { frame, ..of_page };
                return;
            }
        }
    }

    /// What the tables say now. Nothing is cached, used or changed by it.
    pub(super) fn look(&self, address: VirtAddr) -> Option<Found> {
        if !F::canonical(address, self.settings.levels) {
            return None;
        }
        let mut limits = self.top(address);
        for level in (0..self.settings.levels).rev() {
            let at = limits.table + index(address, level) as u64 * 8;
            let entry = self.memory.word(at)?.load(Ordering::Acquire);
            match F::descriptor(level, entry) {
                Descriptor::Invalid | Descriptor::Reserved => return None,
                Descriptor::Table { frame, read_only, no_execute } => {
                    limits.table = frame.0;
                    limits.read_only |= read_only;
                    limits.no_execute |= no_execute;
                }
                Descriptor::Leaf(leaf) => {
                    return Some(self.found(address, level, limits, at, entry, leaf));
                }
            }
        }
        None
    }

    /// Whether the tables lead from the root to a table at `key`, and with
    /// which limits.
    pub(super) fn look_pointer(&self, key: Key, level: u8) -> Option<Pointer> {
        let mut pointer = self.top(key.start());
        for above in (level..self.settings.levels).rev() {
            let at = pointer.table + index(key.start(), above) as u64 * 8;
            let entry = self.memory.word(at)?.load(Ordering::Acquire);
            let Descriptor::Table { frame, read_only, no_execute } = F::descriptor(above, entry) else {
                return None;
            };
            pointer.table = frame.0;
            pointer.read_only |= read_only;
            pointer.no_execute |= no_execute;
        }
        Some(pointer)
    }

    /// The entry at `level` for `address`.
    pub(super) fn place(&self, address: VirtAddr, level: u8) -> Place {
        let mut table = self.root(address).0;
        for above in (level..self.settings.levels).rev() {
            let at = table + index(address, above) as u64 * 8;
            let Some(word) = self.memory.word(at) else { return Place::Absent };
            let entry = word.load(Ordering::Acquire);
            if above == level {
                return Place::Entry(entry);
            }
            match F::descriptor(above, entry) {
                Descriptor::Table { frame, .. } => table = frame.0,
                Descriptor::Leaf(_) => return Place::Covered,
                Descriptor::Invalid | Descriptor::Reserved => return Place::Absent,
            }
        }
        Place::Absent
    }

    /// The valid entries of the run of sixteen that the entry at `at` is in,
    /// with their numbers.
    pub(super) fn run_of(&self, at: u64) -> impl Iterator<Item = (u64, u64, &AtomicU64)> {
        let first = at & !(16 * 8 - 1);
        (0..16).filter_map(move |nth| {
            let word = self.memory.word(first + nth * 8)?;
            Some((nth, word.load(Ordering::Acquire), word))
        })
    }

    /// What happens at every call: some CPUs walk to where nobody sent them,
    /// and now and then everything is looked at.
    pub(super) fn hook(&self, state: &mut State, times: u32) {
        for _ in 0..self.settings.speculation * times {
            let cpu = state.random.below(self.settings.cpus);
            if let Some(address) = self.somewhere(state) {
                self.walk(state, cpu, address);
            }
        }
        state.credit += 64 * times as usize;
        if state.credit > state.audit_cost + 4096 && state.random.eighths(1) {
            state.credit = 0;
            self.audit_at_any_time(state);
        }
    }

    /// An address that is worth a walk: what the tables have, or close to what
    /// somebody used.
    fn somewhere(&self, state: &mut State) -> Option<VirtAddr> {
        if state.learned.is_empty() || state.random.eighths(2) {
            return self.descend(state);
        }
        let nth = state.random.below(state.learned.len());
        let address = state.learned[nth];
        let step = match state.random.below(8) {
            0 => PAGE_SIZE as u64,
            1 => (PAGE_SIZE as u64).wrapping_neg(),
            2 => return Some(VirtAddr(address.0 ^ (state.random.next() & 0xf000))),
            3 => return Some(VirtAddr(address.0 ^ (state.random.next() & 0x1f_f000))),
            4 => 1 << 21,
            _ => 0,
        };
        Some(VirtAddr(address.0.wrapping_add(step)))
    }

    /// Down from a root through entries that are there, at random.
    fn descend(&self, state: &mut State) -> Option<VirtAddr> {
        let levels = self.settings.levels;
        let top_bit = shift_of(levels) - 1;
        let upper = !F::SPLIT_ROOTS || state.random.eighths(7);
        // Both sign extensions lead to the table that holds bit 47 (56); with
        // split roots that bit is free.
        let mut address = if F::SPLIT_ROOTS && upper { !0 << shift_of(levels) } else { 0 };
        let mut table = self.root(VirtAddr(address)).0;
        for level in (0..levels).rev() {
            let first = state.random.below(ENTRIES_PER_TABLE);
            let (nth, entry) = (0..ENTRIES_PER_TABLE).find_map(|step| {
                let nth = (first + step) % ENTRIES_PER_TABLE;
                let entry = self.memory.word(table + nth as u64 * 8)?.load(Ordering::Relaxed);
                (entry & F::PRESENT != 0).then_some((nth, entry))
            })?;
            address |= (nth as u64) << shift_of(level);
            if !F::SPLIT_ROOTS && level + 1 == levels && address >> top_bit & 1 == 1 {
                address |= !0 << top_bit;
            }
            match F::descriptor(level, entry) {
                Descriptor::Table { frame, .. } => table = frame.0,
                _ => break,
            }
        }
        state.learn(VirtAddr(address));
        Some(VirtAddr(address))
    }

    /// The table entries that lead outside the top-level entries of `window`,
    /// without what the CPU may change in them.
    pub(super) fn for_each_outside(
        &self,
        window: &core::ops::Range<VirtAddr>,
        mut each: impl FnMut(PhysAddr, u64),
    ) {
        let top = self.settings.levels - 1;
        let (first, last) = (index(window.start, top), index(VirtAddr(window.end.0 - 1), top));
        let own_root = self.root(window.start);
        let mut roots = std::vec![self.root(VirtAddr(0)), self.root(VirtAddr(!0))];
        roots.dedup();
        let mut tables = std::vec::Vec::new();
        for root in roots {
            tables.push((top, root, root == own_root));
        }
        while let Some((level, table, ours)) = tables.pop() {
            for nth in 0..ENTRIES_PER_TABLE {
                if ours && (first..=last).contains(&nth) {
                    continue;
                }
                let at = table.offset(nth * 8);
                let Some(word) = self.memory.word(at.0) else { continue };
                let entry = word.load(Ordering::Acquire);
                each(at, entry & !F::hardware_bits(entry));
                if let Descriptor::Table { frame, .. } = F::descriptor(level, entry) {
                    tables.push((level - 1, frame, false));
                }
            }
        }
    }
}

/// A locked update of an entry, which a walk repeats if it fails.
pub(super) fn exchange(word: &AtomicU64, old: u64, new: u64) -> bool {
    old == new || word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
}
