//! Counting, saying what was counted, and showing the counted instructions to who explains a row.
//!
//! ```text
//!   row(NAME, ..)
//!     counted(..)      bench_explain_begin        if NAME is the row to be explained
//!                      clock | operations | clock
//!                      bench_explain_end          likewise
//! ```
//!
//! A debugger waits at the two marks and has each instruction between them logged: `cargo xtask bench
//! --explain NAME`. They lie outside of what the clock counts, so that the numbers are the same.

extern crate alloc;

use alloc::{boxed::Box, string::ToString};
use core::{
    arch::global_asm,
    fmt::Display,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed},
};

use kernel::{clock::instructions, println};

const ROUNDS: u64 = 200;

/// The row to be explained; null for none.
static EXPLAINED: AtomicPtr<&'static str> = AtomicPtr::new(ptr::null_mut());
/// Whether that row is being counted.
static WATCHED: AtomicBool = AtomicBool::new(false);
/// What was counted for it, and for how many operations.
static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Instructions of one operation, after some to warm up.
pub(crate) fn average(mut operation: impl FnMut()) -> u64 {
    for _ in 0..10 {
        operation();
    }
    average_of(ROUNDS, operation)
}

/// Without rounds to warm up.
pub(crate) fn average_of(rounds: u64, mut operation: impl FnMut()) -> u64 {
    counted(rounds, || (0..rounds).for_each(|_| operation())) / rounds
}

/// Instructions of so many operations together; 0 operations only warm up, and are not explained.
#[inline(always)]
pub(crate) fn counted(operations: u64, work: impl FnOnce()) -> u64 {
    let explained = operations > 0 && WATCHED.load(Relaxed);
    if explained {
        // SAFETY: it returns.
        unsafe { bench_explain_begin() };
    }
    let before = instructions();
    work();
    let count = instructions() - before;
    if explained {
        // SAFETY: as above.
        unsafe { bench_explain_end() };
        OPERATIONS.fetch_add(operations, Relaxed);
        INSTRUCTIONS.fetch_add(count, Relaxed);
    }
    count
}

/// Counts one of the rows that the group has named, and says it.
pub(crate) fn row(name: impl Display, count: impl FnOnce() -> u64) -> u64 {
    let count = part_of(&name, count);
    println!("row {name} {count}");
    count
}

/// What [`counted`] counts meanwhile is of the row of this name.
pub(crate) fn part_of<T>(name: impl Display, work: impl FnOnce() -> T) -> T {
    let watched = explained().is_some_and(|explained| name.to_string() == explained);
    let before = WATCHED.swap(watched, Relaxed);
    let made = work();
    WATCHED.store(before, Relaxed);
    made
}

/// Has the row of this name explained.
pub(crate) fn explain(name: &'static str) {
    EXPLAINED.store(Box::leak(Box::new(name)), Relaxed);
}

fn explained() -> Option<&'static str> {
    // SAFETY: null, or what `explain` has leaked.
    unsafe { EXPLAINED.load(Relaxed).as_ref() }.copied()
}

/// Says how much of the explained row was counted, for how many operations.
pub(crate) fn say_explained() {
    if let Some(name) = explained() {
        println!("explained {name} {} {}", INSTRUCTIONS.load(Relaxed), OPERATIONS.load(Relaxed));
    }
}

unsafe extern "C" {
    fn bench_explain_begin();
    fn bench_explain_end();
}

global_asm!(
    ".global bench_explain_begin, bench_explain_end",
    "bench_explain_begin: ret",
    "bench_explain_end: ret"
);
