//! The timer's interrupt as Wasmtime's epoch.
//!
//! ```text
//!   timer -> tick: epoch += 1 ... compiled code, at a loop's head or a function's start: epoch passed the deadline
//!              -> watch: its time is over -> Interrupt: it traps
//!                        they take turns  -> Yield: the next one's turn
//!                        else             -> Continue
//! ```

use alloc::string::{String, ToString};

use kernel::{clock::monotonic_ns, timer};
use spin::Once;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::settings::Time;

/// The engine whose epoch it is: a machine has one that runs.
static ENGINE: Once<Engine> = Once::new();

/// Does `work` while the epoch goes on, if it is to.
///
/// # Errors
/// In words, if the machine has no timer.
pub(crate) fn during<R>(engine: &Engine, time: &Time, work: impl FnOnce() -> R) -> Result<R, String> {
    let Some(period) = time.period() else { return Ok(work()) };
    ENGINE.call_once(|| engine.clone());
    timer::during(period, tick, work).map_err(|error| error.to_string())
}

/// Takes no lock: the engine is there, and its epoch is an atomic number.
fn tick() {
    if let Some(engine) = ENGINE.get() {
        engine.increment_epoch();
    }
}

/// Has a store look at its time at each tick.
pub(crate) fn watch<T: 'static>(store: &mut Store<T>, time: &Time) {
    if time.period().is_none() {
        return;
    }
    let Time { slice, timeout, .. } = *time;
    let begin = monotonic_ns();
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let is_over = timeout.is_some_and(|timeout| monotonic_ns() - begin >= timeout);
        Ok(match slice {
            _ if is_over => UpdateDeadline::Interrupt,
            Some(_) => UpdateDeadline::Yield(1),
            None => UpdateDeadline::Continue(1),
        })
    });
}
