//! All CPUs of the machine, at work or waiting for it.
//!
//! ```text
//!   boot CPU 0   boot::start -> start()             together(n, work)          together returns
//!                                  |                  |- work(0)                  ^
//!   CPU 1, 2, .. arch code --------'- run: waits ... -'- work(1), work(2), ..  ---'- waits ...
//! ```
//!
//! Every CPU has stacks of its own, the boot CPU's page tables and its control registers. Interrupts are
//! masked on all of them, but for the [timer](crate::timer)'s on one that wants it. What one CPU panics about ends the machine, whatever the others do.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use crate::ranges::Ranges;
use crate::{arch, clock, stack};

#[cfg(target_arch = "x86_64")]
mod interrupt;
#[cfg(target_arch = "x86_64")]
pub(crate) use interrupt::answer;
#[cfg(target_arch = "x86_64")]
pub use interrupt::interrupt_others;

/// The most CPUs that are used; a machine may have more.
pub const MAX: usize = 8;

/// How long the CPUs may take to start. An emulator on a busy host may take its time.
const PATIENCE: u64 = 20_000_000_000;

/// CPUs that run.
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// CPUs that have started, the boot CPU included.
static STARTED: AtomicUsize = AtomicUsize::new(1);

/// By CPU, whether it has work: set by CPU 0, cleared by the one that has done it.
static AT_WORK: [AtomicBool; MAX] = [const { AtomicBool::new(false) }; MAX];

/// Where the `Work` lies that everybody is to do.
static WORK: AtomicPtr<Work<'static>> = AtomicPtr::new(core::ptr::null_mut());

/// What [`together`] runs.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// CPUs that run, from 1 to [`MAX`].
#[must_use]
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// This CPU's number. The boot CPU is 0.
///
/// An instruction or two; it may be called in exception handlers too.
#[inline]
#[must_use]
pub fn current() -> usize {
    arch::cpus::current()
}

/// What a loop does that waits for another CPU.
#[inline]
pub fn relax() {
    #[cfg(target_arch = "x86_64")]
    arch::cpus::admit();
    arch::cpu::relax();
}

/// Interrupts between CPUs that `interrupt_others` has sent so far. That exists on x86_64 only, so that
/// elsewhere this stays 0. Work that [`together`] hands out does not count.
#[must_use]
pub fn interrupts() -> u64 {
    #[cfg(target_arch = "x86_64")]
    return interrupt::sent();
    #[cfg(not(target_arch = "x86_64"))]
    return 0;
}

/// Runs `work` on the CPUs `0..cpus` at once, with the CPU's number; returns when all have returned.
///
/// # Panics
/// If called on another CPU than 0, inside other work, or for more CPUs than there are.
pub fn together(cpus: usize, work: &(dyn Fn(usize) + Sync)) {
    static BUSY: AtomicBool = AtomicBool::new(false);
    let current = current();
    assert!(current == 0, "`cpus::together` was called on CPU {current}; call it on CPU 0");
    assert!(
        (1..=count()).contains(&cpus),
        "work for {cpus} CPUs on a machine with {}; give it more (-smp {cpus}, at most {MAX}) or ask for \
         1 to `cpus::count()`",
        count()
    );
    assert!(
        !BUSY.swap(true, Ordering::Relaxed),
        "`cpus::together` was called inside of what it runs; do the inner work in place"
    );
    WORK.store((&raw const work).cast_mut().cast(), Ordering::Relaxed);
    let others = &AT_WORK[1..cpus];
    for at_work in others {
        // After what the work refers to.
        at_work.store(true, Ordering::Release);
    }
    (1..cpus).for_each(arch::cpus::wake);
    work(0);
    for at_work in others {
        while at_work.load(Ordering::Acquire) {
            relax();
        }
    }
    BUSY.store(false, Ordering::Relaxed);
}

/// Sets aside the stacks of CPUs 1 and up, of which the machine has `cpus` in all with the boot CPU, and
/// says how many are used.
///
/// # Panics
/// If the machine has too little memory.
pub(crate) fn reserve(cpus: usize, usable: &mut Ranges) -> usize {
    let cpus = cpus.clamp(1, MAX);
    (1..cpus).for_each(|cpu| stack::reserve(cpu, usable));
    cpus
}

/// Starts CPUs 1 and up, for which stacks are set aside and mapped, and waits until they run.
///
/// # Panics
/// If one does not.
pub(crate) fn start(cpus: usize) {
    if cpus == 1 {
        return;
    }
    arch::cpus::start(cpus);
    let begin = clock::monotonic_ns();
    while STARTED.load(Ordering::Acquire) < cpus {
        let started = STARTED.load(Ordering::Relaxed);
        assert!(
            clock::monotonic_ns() - begin < PATIENCE,
            "{started} of {cpus} CPUs have started; start the machine with fewer (-smp 1)"
        );
        arch::cpu::relax();
    }
    COUNT.store(cpus, Ordering::Release);
}

/// What CPU `cpu` does once it is set up, on its own stack: it runs.
pub(crate) fn run(cpu: usize) -> ! {
    STARTED.fetch_add(1, Ordering::Release);
    let at_work = &AT_WORK[cpu];
    loop {
        while !at_work.load(Ordering::Acquire) {
            arch::cpus::wait(at_work);
        }
        let work = WORK.load(Ordering::Relaxed);
        // SAFETY: `together` put it there before it set `at_work`, and leaves it until that is cleared.
        let work = unsafe { *work };
        work(cpu);
        at_work.store(false, Ordering::Release);
    }
}

/// Whether this CPU may have others beside it.
pub(crate) fn several() -> bool {
    count() > 1 || current() > 0
}
