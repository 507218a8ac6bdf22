//! Who has forgotten what was taken away from one slot or region.
//!
//! A CPU that takes a page's shared frame away, in a fault, interrupts nobody:
//! others may go on seeing the shared one. So they compare before they go on with
//! the memory, and forget.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use allotment_arch::{Arch, Invalidation, Pages};

use super::{Epoch, Settled, Vm};

#[derive(Debug)]
pub(crate) struct Revoked {
    /// The epoch in which something was last taken away.
    epoch: AtomicU64,
    /// The CPU that has forgotten everything of that, by whatever means.
    clean_on: AtomicUsize,
}

/// Later than any epoch that a CPU has forgotten.
const REPLACED: u64 = u64::MAX;

/// No CPU.
const NOBODY: usize = usize::MAX;

impl Default for Revoked {
    fn default() -> Self {
        Self { epoch: AtomicU64::new(0), clean_on: AtomicUsize::new(NOBODY) }
    }
}

impl Revoked {
    /// Begins anew, on CPU `cpu`: no CPU caches anything.
    pub(crate) fn begin(&self, cpu: usize) {
        self.epoch.store(0, Ordering::Relaxed);
        self.clean_on.store(cpu, Ordering::Relaxed);
    }

    /// Whether `cpu` caches nothing that was taken away.
    #[inline(always)]
    fn is_clean_on<A: Arch>(&self, vm: &Vm<A>, cpu: usize) -> bool {
        self.clean_on.load(Ordering::Relaxed) == cpu
            || vm.epochs.has_forgotten(cpu, Epoch(self.epoch.load(Ordering::Relaxed)))
    }

    /// Makes this CPU forget what was taken away, unless it has.
    #[inline]
    pub(crate) fn forget<A: Arch>(&self, vm: &Vm<A>, cpu: usize) {
        if !self.is_clean_on(vm, cpu) {
            vm.epochs.invalidate_local(&vm.arch, cpu, Invalidation::EVERYTHING);
        }
    }

    /// Notes that `pages`, or tables above them, were taken away, and makes this CPU
    /// forget them. The caller holds what they are of.
    pub(crate) fn revoke<A: Arch>(&self, vm: &Vm<A>, pages: Pages) {
        let cpu = vm.arch.current_cpu();
        // Asked before this revocation: what is left of earlier ones is more
        // than `pages`.
        let clean = self.is_clean_on(vm, cpu);
        let stale = if clean { Invalidation::tables(pages) } else { Invalidation::EVERYTHING };
        let epoch = vm.epochs.revoke();
        vm.epochs.invalidate_local(&vm.arch, cpu, stale);
        self.epoch.store(epoch.0, Ordering::Relaxed);
        self.clean_on.store(cpu, Ordering::Relaxed);
    }

    /// Notes that this CPU, in a fault, showed another frame or table. It does not
    /// cache the old one any more; others must not go on before they forget. The
    /// caller may hold nothing.
    #[inline]
    pub(crate) fn replaced(&self, cpu: usize) {
        if self.clean_on.load(Ordering::Relaxed) != cpu {
            self.clean_on.store(NOBODY, Ordering::Relaxed);
        }
        self.epoch.store(REPLACED, Ordering::Relaxed);
    }

    /// Whether something was replaced since the last revocation.
    #[inline]
    pub(crate) fn is_replaced(&self) -> bool {
        self.epoch.load(Ordering::Relaxed) == REPLACED
    }

    /// Makes every CPU forget what was taken away, unless they have. The caller holds
    /// what that is of.
    pub(crate) fn settle<A: Arch>(&self, vm: &Vm<A>) -> Settled {
        vm.epochs.settle_since(&vm.arch, Epoch(self.epoch.load(Ordering::Relaxed)))
    }
}
