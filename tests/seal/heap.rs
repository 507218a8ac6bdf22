//! A heap that can be closed. Who asks for memory then ends the program.
//!
//! On bare metal it is the kernel's. On a host it is closed per thread: the
//! other tests go on.

#[cfg(target_os = "none")]
pub(crate) use kernel::heap::{allow, forbid};

/// What runs in here is the machine's own doing, not the allocator's. On bare
/// metal the machine is none that could use a heap.
#[cfg(target_os = "none")]
pub(crate) fn excused<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(not(target_os = "none"))]
pub(crate) use host::{allow, counted, excused, forbid};

#[cfg(not(target_os = "none"))]
mod host {
    use core::{
        alloc::{GlobalAlloc, Layout},
        cell::Cell,
    };
    use std::{alloc::System, process::abort};

    #[derive(Clone, Copy)]
    enum Asking {
        Allowed,
        Forbidden,
        Counted(usize),
    }

    thread_local! {
        static ASKING: Cell<Asking> = const { Cell::new(Asking::Allowed) };
    }

    pub(crate) fn forbid() {
        ASKING.set(Asking::Forbidden);
    }

    pub(crate) fn allow() {
        ASKING.set(Asking::Allowed);
    }

    /// How often `work` asks.
    pub(crate) fn counted(work: impl FnOnce()) -> usize {
        ASKING.set(Asking::Counted(0));
        work();
        match ASKING.replace(Asking::Allowed) {
            Asking::Counted(times) => times,
            Asking::Allowed | Asking::Forbidden => 0,
        }
    }

    /// What runs in here is the emulator's doing: it may ask.
    pub(crate) fn excused<T>(work: impl FnOnce() -> T) -> T {
        let before = ASKING.replace(Asking::Allowed);
        let done = work();
        ASKING.set(before);
        done
    }

    struct Watched;

    #[global_allocator]
    static WATCHED: Watched = Watched;

    impl Watched {
        fn asked(layout: Layout) {
            match ASKING.get() {
                Asking::Allowed => {}
                // A test that fails says why.
                Asking::Forbidden if std::thread::panicking() => ASKING.set(Asking::Allowed),
                Asking::Counted(times) => ASKING.set(Asking::Counted(times + 1)),
                Asking::Forbidden => {
                    // An allocator must not unwind. What says so may ask.
                    ASKING.set(Asking::Allowed);
                    let trace = std::backtrace::Backtrace::force_capture();
                    eprintln!("{} bytes of heap are asked for after seal()\n{trace}", layout.size());
                    abort();
                }
            }
        }
    }

    // SAFETY: it is the system's allocator, or the end.
    unsafe impl GlobalAlloc for Watched {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            Self::asked(layout);
            // SAFETY: the caller's promise is the one asked for.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as above.
            unsafe { System.dealloc(block, layout) }
        }
    }
}
