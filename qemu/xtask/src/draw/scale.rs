//! Sizes as places on an axis.
//!
//! ```text
//!   0   4K      64K     1M      16M     256M    4G
//!   |---+-------+-------+-------+-------+-------|     each step sixteen times the one before
//! ```
//!
//! A slot of 4 GiB of which 64 KiB are accessible would be an empty bar on a linear axis.

use crate::units::bytes;

const PAGE: f64 = 4096.0;

/// Where a size stands on the axis that ends with `end`: 0 to 1.
pub(super) fn place(bytes: u64, end: u64) -> f64 {
    let logarithm = |bytes: u64| (1.0 + float(bytes) / PAGE).log2();
    if end == 0 { 0.0 } else { (logarithm(bytes) / logarithm(end)).min(1.0) }
}

/// The sizes to mark on the axis that ends with `end`, with their names.
pub(super) fn ticks(end: u64) -> Vec<(u64, String)> {
    (12..64)
        .step_by(4)
        .map(|bits| 1 << bits)
        .filter(|tick| *tick <= end)
        .map(|tick| (tick, bytes(tick)))
        .collect()
}

/// Close enough for a picture.
pub(super) fn float(bytes: u64) -> f64 {
    bytes as f64
}
