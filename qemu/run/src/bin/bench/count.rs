//! Counting, and saying what was counted.

use core::fmt::Display;

use kernel::{clock::instructions, println};

const ROUNDS: u64 = 200;

/// Instructions of one operation, after some to warm up.
pub(crate) fn average(mut operation: impl FnMut()) -> u64 {
    for _ in 0..10 {
        operation();
    }
    let before = instructions();
    for _ in 0..ROUNDS {
        operation();
    }
    (instructions() - before) / ROUNDS
}

/// Says what was counted: one of the rows that the group has named.
pub(crate) fn row(name: impl Display, count: u64) {
    println!("row {name} {count}");
}
