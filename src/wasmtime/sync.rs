//! Wasmtime's locks, each one zero-initialised word.
//!
//! ```text
//!   mutex:   0 free, 1 held
//!   rwlock:  0 free, n readers, usize::MAX a writer
//! ```
//!
//! They spin. Wasmtime holds them briefly, around its registries of engines
//! and code; on one CPU without preemption nobody else runs meanwhile.

use core::sync::atomic::{AtomicUsize, Ordering};

const WRITER: usize = usize::MAX;

/// # Safety
///
/// `lock` is a lock word of Wasmtime's, live for `'a`.
unsafe fn word<'a>(lock: *mut usize) -> &'a AtomicUsize {
    // SAFETY: by this function's contract; Wasmtime gives an aligned word and
    // touches it through these functions only.
    unsafe { AtomicUsize::from_ptr(lock) }
}

fn spin_until(mut taken: impl FnMut() -> bool) {
    while !taken() {
        core::hint::spin_loop();
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_lock_acquire(lock: *mut usize) {
    // SAFETY: Wasmtime passes its lock.
    let lock = unsafe { word(lock) };
    spin_until(|| lock.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok());
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_lock_release(lock: *mut usize) {
    // SAFETY: as above.
    unsafe { word(lock) }.store(0, Ordering::Release);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_lock_free(_lock: *mut usize) {}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_read(lock: *mut usize) {
    // SAFETY: as above.
    let lock = unsafe { word(lock) };
    let one_more = |readers: usize| (readers < WRITER - 1).then(|| readers + 1);
    spin_until(|| lock.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).is_ok());
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_read_release(lock: *mut usize) {
    // SAFETY: as above.
    unsafe { word(lock) }.fetch_sub(1, Ordering::Release);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_write(lock: *mut usize) {
    // SAFETY: as above.
    let lock = unsafe { word(lock) };
    spin_until(|| lock.compare_exchange_weak(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok());
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_write_release(lock: *mut usize) {
    // SAFETY: as above.
    unsafe { word(lock) }.store(0, Ordering::Release);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_free(_lock: *mut usize) {}
