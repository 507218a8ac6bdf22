//! Wasmtime's locks: each in one word, which is 0 at first and never given back.
//!
//! ```text
//!   Lock      | next | serving |             who comes takes `next`, and waits to be served
//!
//!   RwLock    | next | read | write | - |    a reader waits for `read`, and lets the next one
//!                                            read; a writer waits for `write`, which counts
//!                                            all that have ended
//! ```
//!
//! Who came first goes first, readers and writers alike: no stream of either keeps the
//! other waiting. Readers who come one after the other read together.
//!
//! They spin. Wasmtime holds them briefly, around its registries of types and of code, and
//! while a module's image is made. Its trap handler reads the registry of code, on the stack
//! and with the interrupt state of the code that trapped. A thread that is switched away
//! from while it holds a lock, or waits in a queue, keeps all others waiting: the
//! platform therefore has its CPU [stay](super::Preemption) with it.

use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
};

use allotment_arch::Arch;
use static_assertions::const_assert;

use super::Platform;

/// A lock that one thread holds at a time.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Lock {
    next: AtomicU32,
    serving: AtomicU32,
}

/// A lock that readers share, and a writer has for itself. There may be 65,535 in its
/// queue.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RwLock {
    next: AtomicU16,
    read: AtomicU16,
    write: AtomicU16,
}

const_assert!(size_of::<Lock>() <= size_of::<usize>() && align_of::<Lock>() <= align_of::<usize>());
const_assert!(size_of::<RwLock>() <= size_of::<usize>() && align_of::<RwLock>() <= align_of::<usize>());

/// A place in the queue of a [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u32);

/// A place in the queue of a [`RwLock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RwTurn(u16);

impl Lock {
    /// Joins the queue. Whoever does waits for the turn, takes it and gives it back.
    pub fn join(&self) -> Turn {
        Turn(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether it is that one's turn, who then has the lock.
    pub fn begin(&self, turn: Turn) -> bool {
        self.serving.load(Ordering::Acquire) == turn.0
    }

    /// Returns once the caller has the lock.
    pub fn acquire(&self) {
        let turn = self.join();
        wait_until(|| self.begin(turn));
    }

    /// Gives the lock to the next one. Only who has it may.
    pub fn release(&self) {
        self.serving.fetch_add(1, Ordering::Release);
    }
}

impl RwLock {
    /// Joins the queue, as a reader or as a writer. Whoever does waits for the turn, takes
    /// it and gives it back.
    pub fn join(&self) -> RwTurn {
        RwTurn(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a reader may begin, who has the lock then, beside other readers. Not to be
    /// asked again after it was `true`.
    pub fn begin_read(&self, turn: RwTurn) -> bool {
        let begins = self.read.load(Ordering::Acquire) == turn.0;
        if begins {
            // The next one may too, if it is a reader. What the last writer published
            // goes on with this number.
            self.read.fetch_add(1, Ordering::Relaxed);
        }
        begins
    }

    /// Returns once the caller reads.
    pub fn read(&self) {
        let turn = self.join();
        wait_until(|| self.begin_read(turn));
    }

    /// Ends a reader's turn. Only who reads may.
    pub fn release_read(&self) {
        self.write.fetch_add(1, Ordering::Release);
    }

    /// Whether a writer may begin, who has the lock then.
    pub fn begin_write(&self, turn: RwTurn) -> bool {
        self.write.load(Ordering::Acquire) == turn.0
    }

    /// Returns once the caller writes.
    pub fn write(&self) {
        let turn = self.join();
        wait_until(|| self.begin_write(turn));
    }

    /// Ends a writer's turn. Only who writes may.
    pub fn release_write(&self) {
        // A writer that begins between the two ends later than this: it is the next one,
        // and waits for nothing that `read` says.
        self.read.fetch_add(1, Ordering::Release);
        self.write.fetch_add(1, Ordering::Release);
    }
}

impl<A: Arch> Platform<A> {
    /// `wasmtime_sync_lock_acquire`: returns once this thread has the lock.
    pub fn acquire(&self, lock: &Lock) {
        self.stay();
        lock.acquire();
    }

    /// `wasmtime_sync_lock_release`. Only who has the lock may.
    pub fn release(&self, lock: &Lock) {
        lock.release();
        self.leave();
    }

    /// `wasmtime_sync_rwlock_read`: returns once this thread has the lock, maybe with others.
    pub fn read(&self, lock: &RwLock) {
        self.stay();
        lock.read();
    }

    /// `wasmtime_sync_rwlock_read_release`. Only who reads may.
    pub fn release_read(&self, lock: &RwLock) {
        lock.release_read();
        self.leave();
    }

    /// `wasmtime_sync_rwlock_write`: returns once this thread has the lock.
    pub fn write(&self, lock: &RwLock) {
        self.stay();
        lock.write();
    }

    /// `wasmtime_sync_rwlock_write_release`. Only who writes may.
    pub fn release_write(&self, lock: &RwLock) {
        lock.release_write();
        self.leave();
    }
}

fn wait_until(mut begun: impl FnMut() -> bool) {
    while !begun() {
        spin_loop();
    }
}
