//! Who may still have cached what was taken away.
//!
//! ```text
//!   now      1    2    3    4          every revocation begins an epoch
//!   slot 7        2                    revoked in epoch 2
//!   CPU 0               3              has forgotten all that was revoked up to 3
//!   CPU 1    1                         may still cache pages of slot 7
//! ```
//!
//! Any CPU may have cached any page of the window, by speculation. A slot that
//! stays what it is, and is only used anew, concerns just the CPU that uses it:
//! that one invalidates when it takes the slot, unless it has done so since the
//! slot's last revocation. No other is interrupted. Frames and tables that
//! become something else concern all: they wait for a [`Settled`].

#[cfg(feature = "wasmtime-platform")]
use core::sync::atomic::AtomicPtr;
use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use allotment_arch::{Arch, Invalidation, Scope};

use super::Records;
use crate::Invalidations;

/// A revocation's number. Later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(pub(crate) u64);

/// Proof that no CPU caches anything of what was taken away before: frames and
/// tables may become something else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled(PhantomData<()>);

/// What one CPU did. On a cache line of its own, as only that CPU writes it
/// as a rule.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct CpuRecord {
    /// The last epoch of which it has forgotten everything.
    forgotten: AtomicU64,
    /// How often it invalidated by itself.
    local: AtomicUsize,
    #[cfg(feature = "wasmtime-platform")]
    above: AboveCpu,
}

/// Room on each CPU for whoever stands above: nothing here reads or writes it.
#[cfg(feature = "wasmtime-platform")]
#[derive(Debug, Default)]
pub(crate) struct AboveCpu {
    pub(crate) pointers: [AtomicPtr<u8>; 2],
    pub(crate) numbers: [AtomicUsize; 4],
    pub(crate) trapped: [AtomicUsize; 3],
}

#[derive(Debug)]
pub(crate) struct Epochs {
    now: AtomicU64,
    cpus: Records<CpuRecord>,
    /// How often all CPUs were made to forget.
    everywhere: AtomicUsize,
}

impl Epochs {
    pub(crate) fn new(cpus: Records<CpuRecord>) -> Self {
        Self { now: AtomicU64::new(0), cpus, everywhere: AtomicUsize::new(0) }
    }

    /// Begins an epoch, after entries were taken away.
    pub(crate) fn revoke(&self) -> Epoch {
        Epoch(self.now.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Whether `cpu` has forgotten everything that was revoked up to `epoch`.
    #[inline]
    pub(crate) fn has_forgotten(&self, cpu: usize, epoch: Epoch) -> bool {
        // Another CPU may have made this one forget.
        self.of(cpu).forgotten.load(Ordering::Acquire) >= epoch.0
    }

    /// Makes this CPU forget, which is number `cpu`.
    #[inline]
    pub(crate) fn invalidate_local<A: Arch>(&self, arch: &A, cpu: usize, what: Invalidation) {
        if what.is_nothing() {
            return;
        }
        let cpu = self.of(cpu);
        // Before the invalidation: what is revoked meanwhile may be cached again.
        let now = self.now.load(Ordering::Acquire);
        arch.invalidate_local(what);
        if what.scope() == Scope::Everything {
            cpu.forgotten.fetch_max(now, Ordering::Release);
        }
        cpu.local.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes every CPU forget what an edit took away.
    pub(crate) fn settle<A: Arch>(&self, arch: &A, what: Invalidation) -> Settled {
        if !what.is_nothing() {
            let now = self.now.load(Ordering::Acquire);
            arch.invalidate_everywhere(what);
            if what.scope() == Scope::Everything {
                for cpu in self.cpus.as_slice() {
                    cpu.forgotten.fetch_max(now, Ordering::Release);
                }
            }
            self.everywhere.fetch_add(1, Ordering::Relaxed);
        }
        Settled(PhantomData)
    }

    /// Makes every CPU forget all that was revoked up to `epoch`, unless they
    /// have.
    pub(crate) fn settle_since<A: Arch>(&self, arch: &A, epoch: Epoch) -> Settled {
        let behind = |cpu: &CpuRecord| cpu.forgotten.load(Ordering::Acquire) < epoch.0;
        if self.cpus.as_slice().iter().any(behind) {
            return self.settle(arch, Invalidation::EVERYTHING);
        }
        Settled(PhantomData)
    }

    /// How often a CPU invalidated for itself, and how often for all.
    pub(crate) fn counts(&self) -> Invalidations {
        let local = self.cpus.as_slice().iter().map(|cpu| cpu.local.load(Ordering::Relaxed)).sum();
        Invalidations { local, everywhere: self.everywhere.load(Ordering::Relaxed) }
    }

    /// The room of CPU `cpu`.
    #[cfg(feature = "wasmtime-platform")]
    #[inline]
    pub(crate) fn above(&self, cpu: usize) -> &AboveCpu {
        &self.of(cpu).above
    }

    fn of(&self, cpu: usize) -> &CpuRecord {
        &self.cpus.as_slice()[cpu]
    }
}
