//! Wasmtime's locks: who has them, and in what order.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use allotment::wasmtime::{Lock, RwLock};

use crate::{
    common::{TestArch, cpus, together},
    platform,
    threads::staying,
};

/// The next one gets it, and nobody else.
pub(crate) fn first_come_first_served() {
    let lock = Lock::default();
    for _ in 0..3 {
        let turns = [(); 4].map(|()| lock.join());
        for next in 0..turns.len() {
            for (number, &turn) in turns.iter().enumerate().skip(next) {
                assert_eq!(lock.begin(turn), number == next, "{number} when it is the turn of {next}");
            }
            lock.release();
        }
    }
    lock.acquire();
    lock.release();
}

/// Readers before a writer share; those behind it wait until it has been.
pub(crate) fn writers_are_not_passed() {
    let lock = RwLock::default();
    // More often than a counter counts.
    for round in 0..70_000 {
        let [first, second] = [(); 2].map(|()| lock.join());
        assert!(lock.begin_read(first));
        let writer = lock.join();
        let third = lock.join();
        assert!(!lock.begin_write(writer) && !lock.begin_read(third), "round {round}");
        assert!(lock.begin_read(second), "a reader that came before a writer waits for it");
        lock.release_read();
        assert!(!lock.begin_write(writer), "a writer begins while one still reads");
        lock.release_read();
        assert!(!lock.begin_read(third), "a reader passed a writer");
        assert!(lock.begin_write(writer));
        let last = lock.join();
        assert!(!lock.begin_read(third) && !lock.begin_write(last));
        lock.release_write();
        assert!(!lock.begin_write(last), "a writer passed a reader");
        assert!(lock.begin_read(third));
        lock.release_read();
        assert!(lock.begin_write(last));
        lock.release_write();
    }
    lock.read();
    lock.read();
    lock.release_read();
    lock.release_read();
    lock.write();
    lock.release_write();
}

/// Numbers that only a lock keeps apart.
#[derive(Default)]
struct Shared {
    numbers: [AtomicUsize; 2],
    written: AtomicBool,
}

impl Shared {
    fn count(&self) {
        assert!(!self.written.swap(true, Ordering::Relaxed), "two at a time");
        for number in &self.numbers {
            number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        self.written.store(false, Ordering::Relaxed);
    }

    fn look(&self) {
        let [first, second] = self.numbers.each_ref().map(|number| number.load(Ordering::Relaxed));
        assert!(!self.written.load(Ordering::Relaxed), "a reader beside a writer");
        assert_eq!(first, second);
    }
}

/// Every CPU at once.
pub(crate) fn cpus_at_once<A: TestArch>() {
    const ROUNDS: usize = 500;
    let platform = platform::<A>();
    let (lock, rw) = (Lock::default(), RwLock::default());
    let [by_lock, by_rw] = [(); 2].map(|()| Shared::default());
    together(cpus(), |cpu| {
        for round in 0..ROUNDS {
            platform.acquire(&lock);
            by_lock.count();
            platform.release(&lock);
            if (round + cpu).is_multiple_of(3) {
                platform.write(&rw);
                by_rw.count();
                platform.release_write(&rw);
            } else {
                platform.read(&rw);
                by_rw.look();
                platform.release_read(&rw);
            }
        }
    });
    let writes = (0..cpus()).map(|cpu| (0..ROUNDS).filter(|round| (round + cpu).is_multiple_of(3)).count());
    assert_eq!(by_lock.numbers[0].load(Ordering::Relaxed), ROUNDS * cpus());
    assert_eq!(by_rw.numbers[1].load(Ordering::Relaxed), writes.sum::<usize>());
}

/// A thread stays on its CPU while it holds any lock, in whatever order they end.
pub(crate) fn holders_stay<A: TestArch>() {
    let (platform, held) = staying::<A>();
    let (lock, rw) = (Lock::default(), RwLock::default());
    platform.acquire(&lock);
    assert!(held() > 0);
    platform.release(&lock);
    assert_eq!(held(), 0);
    platform.write(&rw);
    platform.acquire(&lock);
    platform.release_write(&rw);
    assert!(held() > 0, "the first lock's end put back what was before the second");
    platform.set_tls(0, core::ptr::null_mut());
    platform.read(&rw);
    platform.release(&lock);
    assert!(held() > 0, "a reader may be switched away from");
    platform.release_read(&rw);
    assert_eq!(held(), 0);
}
