//! An index allocator with an oracle: a bit per slot says whether it is in use,
//! and everything that is handed out or taken back is checked against it.

use alloc::{vec, vec::Vec};
use core::{ops::Deref, sync::atomic::AtomicU32};

use allotment::{
    CompiledModuleId, MemoryInModule,
    pooling::{Allocated, Link, ModuleAffinityIndexAllocator, buckets},
};
use bitvec::{order::Lsb0, view::BitView};
use spin::Mutex;

pub(crate) type Key = Option<MemoryInModule>;
pub(crate) type Index = ModuleAffinityIndexAllocator<Vec<Link>, Vec<AtomicU32>>;

pub(crate) fn key(module: u64, index: u32) -> Key {
    Some(MemoryInModule { module: CompiledModuleId(module), index })
}

pub(crate) fn index(capacity: usize, cpus: usize, max_unused_warm_slots: u32) -> Index {
    with_storage(capacity, buckets(capacity), cpus, max_unused_warm_slots)
}

fn with_storage(links: usize, buckets: usize, cpus: usize, max_unused_warm_slots: u32) -> Index {
    let links = core::iter::repeat_with(Link::default).take(links).collect();
    let buckets = core::iter::repeat_with(AtomicU32::default).take(buckets).collect();
    Index::new(links, buckets, cpus, max_unused_warm_slots)
}

pub(crate) struct Slots {
    index: Index,
    /// A bit for each slot that is in use.
    used: Mutex<Vec<u64>>,
}

impl Slots {
    pub(crate) fn new(capacity: usize, cpus: usize, max_unused_warm_slots: u32) -> Self {
        Self::with_storage(capacity, buckets(capacity), cpus, max_unused_warm_slots)
    }

    pub(crate) fn with_storage(
        links: usize,
        buckets: usize,
        cpus: usize,
        max_unused_warm_slots: u32,
    ) -> Self {
        let index = with_storage(links, buckets, cpus, max_unused_warm_slots);
        let words = index.capacity().div_ceil(64);
        Self { index, used: Mutex::new(vec![0; words]) }
    }

    pub(crate) fn alloc(&self, cpu: usize, key: Key) -> Option<Allocated> {
        self.index.alloc(cpu, key).inspect(|taken| assert!(self.note(taken.slot)))
    }

    /// A slot, of which some must be left.
    pub(crate) fn take(&self, cpu: usize, key: Key) -> Allocated {
        self.alloc(cpu, key).expect("not all slots are in use")
    }

    pub(crate) fn purge(&self, module: CompiledModuleId, memories: u32) -> Option<u32> {
        self.index.take_module(module, memories).inspect(|&slot| assert!(self.note(slot)))
    }

    pub(crate) fn reclaim(&self) -> Option<(u32, usize)> {
        self.index.take_least_recently_used().inspect(|&(slot, _)| assert!(self.note(slot)))
    }

    pub(crate) fn free(&self, slot: u32, bytes_resident: usize) -> bool {
        self.forget(slot, self.index.free(slot, bytes_resident))
    }

    pub(crate) fn free_cold(&self, slot: u32) -> bool {
        self.forget(slot, self.index.free_cold(slot))
    }

    /// Notes that a slot was handed out, which it was not before.
    pub(crate) fn note(&self, slot: u32) -> bool {
        assert!((slot as usize) < self.index.capacity(), "there is no slot {slot}");
        let mut used = self.used.lock();
        let used = used.view_bits_mut::<Lsb0>();
        assert!(!used.replace(slot as usize, true), "slot {slot} was handed out while in use");
        assert_eq!(used.count_ones(), self.index.used());
        true
    }

    /// Notes that a slot was taken back, unless it was refused.
    fn forget(&self, slot: u32, freed: bool) -> bool {
        let mut used = self.used.lock();
        let used = used.view_bits_mut::<Lsb0>();
        let was_used = used.get(slot as usize).is_some_and(|bit| *bit);
        assert_eq!(freed, was_used, "of slot {slot}");
        if freed {
            used.set(slot as usize, false);
        }
        assert_eq!(used.count_ones(), self.index.used());
        freed
    }
}

/// For what hands nothing out.
impl Deref for Slots {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}
