//! What pools tenants share.

use alloc::vec::Vec;

use allotment::{Backing, Commit, Config};

use crate::common::{MIB, Machine, TestArch, pool, pooled};

/// One pool, and its arena.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) backing: Backing,
    keep: usize,
    slots: usize,
    /// Bytes of a slot.
    pub(crate) most: usize,
    /// Leaf tables that a slot has from the carve on: beyond them, the arena's.
    premapped: usize,
    batch: usize,
    poison: bool,
    arena: usize,
}

const STRICT: Backing = Backing::Elastic(Commit::Strict);

const fn per_instance(pages: usize) -> Backing {
    Backing::Elastic(Commit::PerInstance(pages))
}

const USUAL: Setting = Setting {
    backing: STRICT,
    keep: 0,
    slots: 5,
    most: 8 * MIB,
    premapped: 4,
    batch: 1,
    poison: false,
    arena: 16 * MIB,
};

pub(crate) const SETTINGS: [Setting; 9] = [
    USUAL,
    Setting { backing: Backing::Fixed, arena: 48 * MIB, ..USUAL },
    Setting { keep: MIB, batch: 8, slots: 12, poison: true, ..USUAL },
    Setting { most: 64 * MIB, premapped: 1, keep: usize::MAX, batch: 8, ..USUAL },
    Setting { backing: Backing::Fixed, most: MIB, premapped: 1, poison: true, ..USUAL },
    Setting { backing: per_instance(24), most: 64 * MIB, premapped: 1, batch: 8, ..USUAL },
    Setting { most: MIB, premapped: 1, keep: 16 * 4096, batch: 8, arena: 6 * MIB, ..USUAL },
    Setting { backing: per_instance(600), keep: MIB, poison: true, ..USUAL },
    Setting { premapped: 2, keep: usize::MAX, slots: 3, ..USUAL },
];

impl Setting {
    fn config(&self) -> Config {
        let pools = pool(self.slots, self.most)
            .backing(self.backing)
            .linear_memory_keep_resident(self.keep)
            .premapped_tables(self.premapped)
            .decommit_batch_size(self.batch)
            .poison(self.poison);
        pooled(pools).region_space(1 << 30)
    }

    /// Pages that one tenant may have for itself, if there is a bound.
    pub(crate) fn bound(&self) -> Option<usize> {
        match self.backing {
            Backing::Elastic(Commit::PerInstance(pages)) => Some(pages),
            _ => None,
        }
    }
}

/// The machines that there are: bare metal has no room for many, and one goes on with
/// what the seed before left of it.
pub(crate) struct Machines<A: TestArch>(Vec<(&'static Setting, Machine<A>)>);

impl<A: TestArch> Default for Machines<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: TestArch> Machines<A> {
    pub(crate) fn with(&mut self, setting: &'static Setting, live: impl FnOnce(&Machine<A>)) {
        let known = self.0.iter().position(|(known, _)| known == &setting);
        let machine = match known {
            Some(at) => self.0.swap_remove(at).1,
            None => Machine::new(&setting.config(), setting.arena),
        };
        live(&machine);
        if cfg!(target_os = "none") {
            self.0.push((setting, machine));
        }
    }
}
