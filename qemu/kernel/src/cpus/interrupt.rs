//! Interrupts between CPUs, which nothing can hold up.
//!
//! ```text
//!   CPU a   owed = {b, c} --- NMI to b, to c ---- waits ---------- owed is empty: returns
//!   CPU b                        `- for each CPU that is owed something by b: work, owed -= b
//!   CPU c                              `- likewise
//! ```
//!
//! Non-maskable, so that a CPU that spins on a lock with interrupts masked answers too. Two that arrive at
//! a CPU while it answers become one: that is why each answers all that it owes. None is lost by that, as a
//! request is visible before its interrupt is sent.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::{MAX, count, current, relax};
use crate::{Frame, arch, exception};

/// What others are asked to run.
type Work<'a> = &'a (dyn Fn() + Sync);

/// What one CPU asks of others; it waits until the last has answered.
struct Request {
    /// One bit for each CPU that has not answered yet.
    owed: AtomicUsize,
    /// Where the work lies, while anybody owes an answer.
    work: AtomicPtr<Work<'static>>,
}

/// By the CPU that asks.
static REQUESTS: [Request; MAX] =
    [const { Request { owed: AtomicUsize::new(0), work: AtomicPtr::new(core::ptr::null_mut()) } }; MAX];

/// By CPU, whether it is answering.
static ANSWERING: [AtomicBool; MAX] = [const { AtomicBool::new(false) }; MAX];

static SENT: AtomicU64 = AtomicU64::new(0);

/// Runs `work` on every other CPU, now, whatever it is doing; returns when all have run it. x86_64 only.
///
/// Any CPU may call this, several at once, and also one that answers an exception. `work` interrupts like an
/// exception, but at any instruction: it takes no lock, allocates nothing, prints nothing and touches only
/// memory that is mapped.
///
/// # Panics
/// If `work` calls it.
pub fn interrupt_others(work: &(dyn Fn() + Sync)) {
    let me = current();
    assert!(
        !ANSWERING[me].load(Ordering::Relaxed),
        "`cpus::interrupt_others` was called by what it runs; call it after it has returned"
    );
    let others = ((1 << count()) - 1) & !(1 << me);
    if others == 0 {
        return;
    }
    let Request { owed, work: place } = &REQUESTS[me];
    place.store((&raw const work).cast_mut().cast(), Ordering::Relaxed);
    // After the work and all that the caller wrote before, and before the interrupts.
    owed.store(others, Ordering::SeqCst);
    for cpu in (0..count()).filter(|cpu| others & 1 << cpu != 0) {
        arch::cpus::interrupt(cpu);
    }
    SENT.fetch_add(u64::from(others.count_ones()), Ordering::Relaxed);
    while owed.load(Ordering::Acquire) != 0 {
        relax();
    }
}

pub(super) fn sent() -> u64 {
    SENT.load(Ordering::Relaxed)
}

/// Answers everybody, in the interrupt that had hit `frame`.
pub(crate) fn answer(frame: &mut Frame) {
    let me = current();
    // A fault in the work then counts as one inside a handler, which it is.
    let interrupted = exception::begin(frame);
    ANSWERING[me].store(true, Ordering::Relaxed);
    for Request { owed, work } in &REQUESTS {
        if owed.load(Ordering::Acquire) & 1 << me != 0 {
            let work = work.load(Ordering::Relaxed);
            // SAFETY: `interrupt_others` put it there before it set our bit, and leaves it until we clear that.
            let work = unsafe { *work };
            work();
            owed.fetch_and(!(1 << me), Ordering::Release);
        }
    }
    ANSWERING[me].store(false, Ordering::Relaxed);
    exception::resume(interrupted);
}
