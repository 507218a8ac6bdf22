//! The timer's interrupt, for as long as a program wants it.
//!
//! ```text
//!   during(period, tick, work)
//!      |- timer on, interrupts let in     this CPU only
//!      |- work() ........... interrupt -> all registers saved -> tick() -> back to where it was
//!      '- timer off, interrupts masked
//! ```
//!
//! It is the only interrupt that is ever let in, and it decides nothing: `tick` leaves a mark, such as
//! Wasmtime's epoch, and whoever was interrupted finds it in time.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::arch;

/// What happens at each tick. It interrupts like an exception, but at any instruction: it takes no lock,
/// allocates nothing, prints nothing and touches only memory that is mapped.
pub type Tick = fn();

/// The tick as an address: all CPUs have the same.
static TICK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Whether `during` runs.
static BUSY: AtomicBool = AtomicBool::new(false);

/// The shortest period, in nanoseconds: below it an emulated CPU does nothing but tick.
pub const LEAST_PERIOD: u64 = 100_000;

/// Does `work` with the timer on: it interrupts this CPU every `period` nanoseconds, or every
/// [`LEAST_PERIOD`] if that is longer. What the timer cannot count up to, a second or more, becomes what it can.
///
/// # Errors
/// [`NoTimer`] if the machine has none that this kernel knows; `work` is then not done.
///
/// # Panics
/// If called while it runs, on whichever CPU.
pub fn during<R>(period: u64, tick: Tick, work: impl FnOnce() -> R) -> Result<R, NoTimer> {
    assert!(
        !BUSY.swap(true, Ordering::Acquire),
        "`timer::during` was called while it runs; there is one tick, which all can use"
    );
    TICK.store(tick as *mut (), Ordering::Release);
    let started = arch::timer::start(period.max(LEAST_PERIOD));
    let done = started.then(|| {
        let done = work();
        arch::timer::stop();
        done
    });
    BUSY.store(false, Ordering::Release);
    done.ok_or(NoTimer)
}

/// What the interrupt calls.
pub(crate) fn ticked() {
    let tick = TICK.load(Ordering::Acquire);
    if !tick.is_null() {
        // SAFETY: `during` is the only writer, and it stores a `Tick`.
        let tick = unsafe { core::mem::transmute::<*mut (), Tick>(tick) };
        tick();
    }
}

/// The machine has no timer that this kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTimer;

impl fmt::Display for NoTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this machine has no timer that the kernel knows (x86_64: a local APIC, aarch64: a GICv2); \
             start it without --machine",
        )
    }
}

impl core::error::Error for NoTimer {}
