//! Futures in turn: a small executor, for each CPU its own.
//!
//! A future that is not ready goes to the end of the row, whatever it waits for. So each has its turn after
//! at most one turn of every other, and none can keep the CPU: compiled code gives way at the first check
//! after a tick, and what waits for a clock gives way at once.

use alloc::{boxed::Box, collections::VecDeque};
use core::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use kernel::clock::monotonic_ns;

/// Futures of one CPU, the next one first.
pub struct Row<'a, R> {
    waiting: VecDeque<Waiting<'a, R>>,
    /// All turns there were.
    turns: u64,
}

struct Waiting<'a, R> {
    number: u32,
    turns: u64,
    /// When its last turn was, or when it came, in turns of the row.
    last: u64,
    waited: u64,
    future: Pin<Box<dyn Future<Output = R> + 'a>>,
}

/// What a future has come to.
#[derive(Clone, Copy, Debug)]
pub struct Done<R> {
    /// As it was pushed.
    pub number: u32,
    /// How many turns it had.
    pub turns: u64,
    /// For how many turns of others it waited at most.
    pub waited: u64,
    /// Its result.
    pub result: R,
}

impl<R> Default for Row<'_, R> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), turns: 0 }
    }
}

impl<R> core::fmt::Debug for Row<'_, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.waiting.iter().map(|waiting| (waiting.number, waiting.turns))).finish()
    }
}

impl<'a, R> Row<'a, R> {
    /// Adds a future at the end, under a number of the caller's.
    pub fn push(&mut self, number: u32, future: impl Future<Output = R> + 'a) {
        let future = Box::pin(future);
        self.waiting.push_back(Waiting { number, turns: 0, last: self.turns, waited: 0, future });
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives the first its turn; what it has come to, if it has.
    pub fn turn(&mut self) -> Option<Done<R>> {
        let mut first = self.waiting.pop_front()?;
        first.turns += 1;
        first.waited = first.waited.max(self.turns - first.last);
        self.turns += 1;
        first.last = self.turns;
        let Waiting { number, turns, waited, .. } = first;
        match first.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(Done { number, turns, waited, result }),
            Poll::Pending => {
                self.waiting.push_back(first);
                None
            }
        }
    }
}

/// Waits for one future, alone.
pub fn block_on<R>(future: impl Future<Output = R>) -> R {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => return result,
            Poll::Pending => kernel::cpus::relax(),
        }
    }
}

/// Is ready when the clock has reached `deadline`, and gives way once at least.
pub fn sleep_until(deadline: u64) -> impl Future<Output = ()> + Send {
    let mut is_first = true;
    poll_fn(move |_| {
        if core::mem::take(&mut is_first) || monotonic_ns() < deadline {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
}
