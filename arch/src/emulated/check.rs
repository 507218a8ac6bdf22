//! The rules: what an entry must not be, and what must not be cached beside
//! what the tables say.

use super::{
    Descriptor, Emulated, Mmu, Violation,
    cache::{Key, Pointer, Translation},
    state::{State, Tag},
    walk::{Place, frame_of, shift_of},
};
use crate::{PAGE_SIZE, PhysAddr, VirtAddr};

impl<F: Mmu> Emulated<F> {
    /// One entry by itself, under the limits of the tables above.
    pub(super) fn check_entry(
        &self,
        state: &mut State,
        address: VirtAddr,
        level: u8,
        entry: u64,
        limits: Pointer,
    ) {
        if !state.in_window(address) {
            return;
        }
        let address = Key::new(address, shift_of(level)).start();
        match F::descriptor(level, entry) {
            Descriptor::Invalid => {
                if F::HIDES_ADDRESSES && self.memory.number(entry & 0x000f_ffff_ffff_f000).is_some() {
                    state.report(Violation::UsableAddress { address, level, entry });
                }
            }
            Descriptor::Reserved => state.report(Violation::ReservedBits { address, level, entry }),
            Descriptor::Table { .. } => {}
            Descriptor::Leaf(leaf) => {
                let writable = (leaf.writable || leaf.markable) && !limits.read_only;
                if leaf.odd {
                    state.report(Violation::ReservedBits { address, level, entry });
                }
                if writable && leaf.executable && !limits.no_execute {
                    state.report(Violation::WritableAndExecutable { address, level, entry });
                }
                if F::ALWAYS_DIRTY && leaf.dirty && !leaf.writable {
                    state.report(Violation::DirtyReadOnly { address, level, entry });
                }
            }
        }
    }

    /// A run of sixteen by one of its entries. `whole` wants all of them there;
    /// while a run is filled in, some are not yet.
    pub(super) fn check_run(&self, state: &mut State, address: VirtAddr, at: u64, entry: u64, whole: bool) {
        // What the CPU may change in one of them does not count.
        let shape =
            |entry: u64, nth: u64| (entry & !F::hardware_bits(entry)).wrapping_sub(nth * PAGE_SIZE as u64);
        let own = at / 8 % 16;
        let wrong = self.run_of(at).find_map(|(nth, other, _)| {
            let valid = other & F::PRESENT != 0;
            let fits = F::run_shape(shape(other, nth)) == F::run_shape(shape(entry, own));
            (if valid { !fits } else { whole }).then_some(other)
        });
        let misaligned = shape(entry, own) & F::FRAME & 0xf000 != 0;
        if let Some(other) = wrong.or(misaligned.then_some(entry))
            && state.in_window(address)
        {
            let address = Key::new(address, 16).start();
            state.report(Violation::InconsistentRun { address, entry, other });
        }
    }

    /// Caches a translation that a walk found, and compares it with what is
    /// cached already.
    pub(super) fn keep_translation(&self, state: &mut State, cpu: usize, key: Key, translation: Translation) {
        let old = state.cpus[cpu].translations.get(key).copied();
        if old == Some(translation) {
            return;
        }
        // A mark that was set since is seen; one that was taken away is what a
        // stale translation hides.
        let marked = old.is_some_and(|old| !old.dirty && Translation { dirty: true, ..old } == translation);
        // An old one that differs otherwise mostly stays: that is the stale one.
        if old.is_none() || marked || state.random.eighths(2) {
            let random = state.random.next();
            state.cpus[cpu].translations.insert(key, translation, random);
        }
        if marked {
            return;
        }
        if F::BREAKS {
            self.check_address(state, key.start());
        }
        let pages = key.bytes() / PAGE_SIZE as u64;
        for page in 0..pages {
            let frame = translation.frame + page * PAGE_SIZE as u64;
            let address = key.start().offset(page as usize * PAGE_SIZE);
            self.check_frame(state, address, frame, translation.writable);
        }
    }

    /// Caches a pointer that a walk found, and compares it with what is cached
    /// already.
    pub(super) fn keep_pointer(&self, state: &mut State, cpu: usize, key: Key, level: u8, pointer: Pointer) {
        let old = state.cpus[cpu].pointers.get(key).copied();
        if old == Some(pointer) || old.is_some() && state.random.eighths(6) {
            return;
        }
        let random = state.random.next();
        state.cpus[cpu].pointers.insert(key, pointer, random);
        let Some(number) = self.memory.number(pointer.table) else { return };
        let Tag { page, table, .. } = state.tags[number];
        if !table.is_none_or(|last| last == key) {
            self.check_table(state, key, level, pointer);
        }
        // A frame that tables are made of must not be reached as a page at all.
        if page.is_some() {
            self.check_pages_to(state, pointer.table, None, true);
        }
        state.tags[number] = Tag { page: None, writable: false, table: Some(key) };
    }

    /// Whatever is cached for an address must not contradict the tables.
    fn check_address(&self, state: &mut State, address: VirtAddr) {
        for cpu in 0..state.cpus.len() {
            for &shift in F::SHIFTS {
                let key = Key::new(address, shift);
                if let Some(&translation) = state.cpus[cpu].translations.get(key) {
                    self.check_break(state, cpu, key, translation);
                }
            }
        }
    }

    /// Break before make: the entry that a translation came from is the same,
    /// or not valid.
    pub(super) fn check_break(&self, state: &mut State, cpu: usize, key: Key, translation: Translation) {
        let entries = if key.shift() == 16 { 16 } else { 1 };
        for nth in 0..entries {
            let address = key.start().offset(nth as usize * PAGE_SIZE);
            let conflict = match self.place(address, translation.level) {
                Place::Absent => false,
                Place::Covered => true,
                Place::Entry(entry) => match F::descriptor(translation.level, entry) {
                    Descriptor::Invalid | Descriptor::Reserved => false,
                    Descriptor::Table { .. } => true,
                    Descriptor::Leaf(leaf) => {
                        leaf.frame.0 != frame_of(key, &translation, address)
                            || leaf.attributes != translation.attributes
                    }
                },
            };
            if conflict {
                let frame = PhysAddr(frame_of(key, &translation, address));
                state.report(Violation::BreakBeforeMake { cpu, address, level: translation.level, frame });
            }
        }
    }

    /// The same for a pointer to a table.
    pub(super) fn check_pointer_break(&self, state: &mut State, cpu: usize, key: Key, pointer: Pointer) {
        let level = level_of(key);
        let conflict = match self.place(key.start(), level) {
            Place::Absent => false,
            Place::Covered => true,
            Place::Entry(entry) => match F::descriptor(level, entry) {
                Descriptor::Invalid | Descriptor::Reserved => false,
                Descriptor::Table { frame, .. } => frame.0 != pointer.table,
                Descriptor::Leaf(_) => true,
            },
        };
        if conflict {
            let frame = PhysAddr(pointer.table);
            state.report(Violation::BreakBeforeMake { cpu, address: key.start(), level, frame });
        }
    }

    /// A frame that is in use at `address` must not be reached anywhere else
    /// by what is stale.
    fn check_frame(&self, state: &mut State, address: VirtAddr, frame: u64, writable: bool) {
        let Some(number) = self.memory.number(frame) else { return };
        let tag = state.tags[number];
        let alone = tag.page.is_none_or(|last| last == address);
        let mut new = Tag { page: Some(address), writable: tag.writable || writable, table: None };
        if tag.table.is_some() {
            self.check_tables_to(state, frame);
        }
        if !alone && new.writable {
            new.writable = self.check_pages_to(state, frame, Some(address), writable) || writable;
        }
        state.tags[number] = new;
    }

    /// A table that is in use at `key` must not be reached anywhere else by
    /// what is stale.
    fn check_table(&self, state: &mut State, key: Key, level: u8, pointer: Pointer) {
        let mut wrong = std::vec::Vec::new();
        for (cpu, of_cpu) in state.cpus.iter().enumerate() {
            for &(other, cached) in of_cpu.pointers.iter() {
                let elsewhere = other != key && cached.table == pointer.table;
                let harmless = level_of(other) == level && cached.read_only && pointer.read_only;
                if elsewhere && !harmless && self.is_stale_pointer(other, cached) {
                    let frame = PhysAddr(cached.table);
                    let (address, level) = (other.start(), level_of(other));
                    wrong.push(Violation::ReusedTable { cpu, address, level, frame });
                }
            }
        }
        wrong.into_iter().for_each(|violation| state.report(violation));
    }

    /// Stale pointers to a frame that is a page now.
    fn check_tables_to(&self, state: &mut State, frame: u64) {
        let mut wrong = std::vec::Vec::new();
        for (cpu, of_cpu) in state.cpus.iter().enumerate() {
            for &(key, cached) in of_cpu.pointers.iter() {
                if cached.table == frame && self.is_stale_pointer(key, cached) {
                    let (address, level, frame) = (key.start(), level_of(key), PhysAddr(frame));
                    wrong.push(Violation::ReusedTable { cpu, address, level, frame });
                }
            }
        }
        wrong.into_iter().for_each(|violation| state.report(violation));
    }

    /// Stale translations to a frame that is in use at `own`, or as a table.
    /// True if a writable one at another page is cached.
    fn check_pages_to(&self, state: &mut State, frame: u64, own: Option<VirtAddr>, writable: bool) -> bool {
        let (mut wrong, mut any) = (std::vec::Vec::new(), false);
        for (cpu, of_cpu) in state.cpus.iter().enumerate() {
            for (key, cached) in of_cpu.translations.iter() {
                let offset = frame.wrapping_sub(cached.frame);
                let address = VirtAddr(key.start().0 + offset % key.bytes());
                if offset >= key.bytes() || own == Some(address) {
                    continue;
                }
                any |= cached.writable;
                let stale = || self.look(address).is_none_or(|now| now.frame_of(address) != frame);
                if (writable || cached.writable) && stale() {
                    wrong.push(Violation::ReusedFrame { cpu, address, frame: PhysAddr(frame) });
                }
            }
        }
        wrong.into_iter().for_each(|violation| state.report(violation));
        any
    }

    pub(super) fn is_stale_pointer(&self, key: Key, cached: Pointer) -> bool {
        self.look_pointer(key, level_of(key)).is_none_or(|now| now.table != cached.table)
    }
}

/// The level of the table that a pointer was read from.
pub(super) fn level_of(key: Key) -> u8 {
    ((key.shift() - 12) / 9) as u8
}
