//! The C symbols of Wasmtime's [locks](super::locks).
//!
//! Before a platform is installed they are as good, but no thread stays on its CPU.

use super::{Lock, RwLock, installed};

/// # Safety
///
/// `word` is a lock word of Wasmtime's, live for `'a`, which nobody touches but the
/// functions of one kind of lock.
unsafe fn lock_at<'a, L>(word: *mut usize) -> &'a L {
    // SAFETY: by this function's contract: both kinds are atomics that fit a word, and begin
    // as zeros.
    unsafe { &*word.cast::<L>() }
}

macro_rules! symbols {
    ($($symbol:ident: $lock:ty => $method:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol(lock: *mut usize) {
            // SAFETY: Wasmtime passes its lock, of this kind.
            let lock: &$lock = unsafe { lock_at(lock) };
            match installed() {
                Some(platform) => platform.$method(lock),
                None => lock.$method(),
            }
        }
    )*};
}

symbols! {
    wasmtime_sync_lock_acquire: Lock => acquire;
    wasmtime_sync_lock_release: Lock => release;
    wasmtime_sync_rwlock_read: RwLock => read;
    wasmtime_sync_rwlock_read_release: RwLock => release_read;
    wasmtime_sync_rwlock_write: RwLock => write;
    wasmtime_sync_rwlock_write_release: RwLock => release_write;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_lock_free(_lock: *mut usize) {}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_free(_lock: *mut usize) {}
