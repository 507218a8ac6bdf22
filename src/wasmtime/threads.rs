//! Threads: what Wasmtime keeps for each, and how a kernel switches and moves them.
//!
//! ```text
//!   CPU 0                 CPU 1              the kernel's thread
//!   word 0, word 1, ..    word 0, word 1, .. ThreadWords
//!        |                     ^                  ^
//!        '-- suspend_thread ---|------------------'
//!                              '-- resume_thread -'
//! ```
//!
//! Wasmtime asks for two words per thread. Here each CPU has two, those of the thread
//! that runs on it, and what trapped, on its way out of the exception. A kernel whose threads run to
//! their end has nothing to do. One that switches threads takes a thread's words with it.
//!
//! An asynchronous call that waits has no words: Wasmtime takes them out when its fiber is
//! left, and puts them in when it is polled again, on whatever CPU. An executor
//! that polls it on another CPU calls `arrive` first, and nothing else.

use core::{fmt, ptr, sync::atomic::Ordering};

use allotment_arch::{Arch, Invalidation};

use super::{Platform, traps::Trapped};
use crate::vm::AboveCpu;

/// How a kernel keeps a thread on its CPU, and other threads off it.
///
/// Needed where threads are switched while they use Wasmtime, not only between: a thread
/// that waits for a lock would otherwise wait for one that cannot run, and a CPU's number
/// would be another's before it was used.
///
/// Two ways are usual. A count that the scheduler looks at, in which case `before` is
/// the count. Or interrupts are masked, where none is needed to [interrupt
/// others](allotment_arch::Cpus::interrupt_others): on one CPU, on aarch64, or where that is
/// a non-maskable one. `before` is then what the flag was.
///
/// # Safety
///
/// From [`disable`](Self::disable) until the [`enable`](Self::enable) that is passed what it
/// returned, no other thread that uses Wasmtime or Allotment runs on this CPU, also not in an
/// interrupt handler, and this one on no other.
pub unsafe trait Preemption: Sync {
    /// No switches on this CPU from here on. Returns what there was before. It nests.
    fn disable(&self) -> usize;

    /// Puts back what there was before a [`disable`](Self::disable): the outermost one, if
    /// there were several.
    fn enable(&self, before: usize);
}

/// Wasmtime's words of a thread that does not run: of one that never used Wasmtime, by
/// default.
#[derive(PartialEq, Eq)]
#[must_use = "a thread whose words are lost cannot go on in Wasmtime"]
pub struct ThreadWords {
    words: [*mut u8; 2],
    /// A trap may be on its way.
    trapped: Trapped,
    /// Where the thread ran last.
    cpu: Option<usize>,
}

// SAFETY: only Wasmtime looks behind the words, on the thread that they are of.
unsafe impl Send for ThreadWords {}
// SAFETY: as above; there is nothing to do with a reference.
unsafe impl Sync for ThreadWords {}

impl Default for ThreadWords {
    fn default() -> Self {
        Self { words: [ptr::null_mut(); 2], trapped: Trapped::default(), cpu: None }
    }
}

impl fmt::Debug for ThreadWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadWords").field("words", &self.words).field("cpu", &self.cpu).finish()
    }
}

impl<A: Arch> Platform<A> {
    /// Takes the words of the thread that ran on this CPU and is switched away from. The
    /// CPU has none now, as a thread has that never used Wasmtime.
    ///
    /// Call it on this CPU's way from one thread to another, where no other can come
    /// between. It takes no lock.
    pub fn suspend_thread(&self) -> ThreadWords {
        let cpu = self.allocator().vm.arch.current_cpu();
        let here = self.allocator().vm.epochs.above(cpu);
        let words = here.pointers.each_ref().map(|word| word.swap(ptr::null_mut(), Ordering::Relaxed));
        ThreadWords { words, trapped: Trapped::kept(here), cpu: Some(cpu) }
    }

    /// Gives this CPU the words of the thread that goes on here. If that ran on another CPU
    /// before, this one [arrives](Self::arrive).
    ///
    /// Call it where [`suspend_thread`](Self::suspend_thread) is called.
    ///
    /// # Safety
    ///
    /// `thread` is what `suspend_thread` gave when this very thread was switched away from;
    /// or the default, and the thread is new.
    pub unsafe fn resume_thread(&self, thread: ThreadWords) {
        let cpu = self.allocator().vm.arch.current_cpu();
        let here = self.allocator().vm.epochs.above(cpu);
        for (place, word) in here.pointers.iter().zip(thread.words) {
            place.store(word, Ordering::Relaxed);
        }
        thread.trapped.keep(here);
        if thread.cpu.is_some_and(|last| last != cpu) {
            self.arrive();
        }
    }

    /// Must run on the CPU that goes on with a store, when another one worked with it
    /// before: when a call that waits is polled elsewhere, or when a store is handed
    /// over. [`resume_thread`](Self::resume_thread) does it for a thread.
    ///
    /// This CPU forgets all that it caches of the window, which is what the store's
    /// memories and stack need, whichever they are. Without, it may see what was there
    /// before, as [`Allocator::arrive`](crate::Allocator::arrive) has it. It takes no lock.
    pub fn arrive(&self) {
        let vm = &self.allocator().vm;
        vm.epochs.invalidate_local(&vm.arch, vm.arch.current_cpu(), Invalidation::EVERYTHING);
    }

    /// `wasmtime_tls_get`: a word of the thread that runs on this CPU. Null for a slot that
    /// is neither 0 nor 1.
    pub fn tls(&self, slot: usize) -> *mut u8 {
        self.unswitched(|| {
            let word = self.here().pointers.get(slot);
            word.map_or(ptr::null_mut(), |word| word.load(Ordering::Relaxed))
        })
    }

    /// `wasmtime_tls_set`. Does nothing for a slot that is neither 0 nor 1.
    pub fn set_tls(&self, slot: usize, value: *mut u8) {
        self.unswitched(|| {
            if let Some(word) = self.here().pointers.get(slot) {
                word.store(value, Ordering::Relaxed);
            }
        });
    }

    /// Runs `work` without a switch to another thread.
    #[inline]
    pub(super) fn unswitched<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.preemption.map(|preemption| (preemption, preemption.disable()));
        let done = work();
        if let Some((preemption, before)) = before {
            preemption.enable(before);
        }
        done
    }

    /// From here on this thread is not switched away from. Locks end in any order, so
    /// what was before the first of them is put back with the last.
    #[inline]
    pub(super) fn stay(&self) {
        let Some(preemption) = self.preemption else { return };
        let before = preemption.disable();
        let [held, outermost, ..] = &self.here().numbers;
        if held.fetch_add(1, Ordering::Relaxed) == 0 {
            outermost.store(before, Ordering::Relaxed);
        }
    }

    /// Ends one [`stay`](Self::stay).
    #[inline]
    pub(super) fn leave(&self) {
        let Some(preemption) = self.preemption else { return };
        let [held, outermost, ..] = &self.here().numbers;
        let before = outermost.load(Ordering::Relaxed);
        if held.fetch_sub(1, Ordering::Relaxed) == 1 {
            preemption.enable(before);
        }
    }

    pub(super) fn here(&self) -> &AboveCpu {
        let vm = &self.allocator().vm;
        vm.epochs.above(vm.arch.current_cpu())
    }
}
