//! Curves as an SVG file: a pure function of the figures. The same figures are the same bytes, on any host.
//!
//! ```text
//!   title
//!   -o- one line   -<>- another              legend: colour and mark, then dashes
//!
//!   instructions
//!   6,000 |                          o       axis    round ticks, and where a value stands
//!   4,000 |            o
//!   2,000 |    o
//!       0 +-//-+-------+-------+-----+       svg     the file; what it says in words is in its <desc>
//!         0    1       2       4     8
//!                pages written
//! ```

mod axis;
mod svg;
#[cfg(test)]
mod tests;

pub(crate) use self::axis::Scale;
pub(crate) use self::svg::write;

use crate::units;

/// What is to be drawn.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What the curves show, in a sentence, for those who do not see them.
    pub(crate) description: String,
    /// What the horizontal axis counts: `pages written`.
    pub(crate) x: String,
    pub(crate) unit: Unit,
    pub(crate) scale: Scale,
    /// What the vertical axis counts: `instructions`.
    pub(crate) y: String,
    pub(crate) lines: Vec<Line>,
}

/// A curve and its entry in the legend.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// The number of its colour and its marks; there are two.
    pub(crate) colour: usize,
    /// The number of its dashes; there are three, and the first is a whole line.
    pub(crate) dashes: usize,
    /// In the order of their first numbers.
    pub(crate) points: Vec<(u64, u64)>,
}

/// What the numbers of the horizontal axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Bytes,
}

impl Unit {
    fn name(self, value: u64) -> String {
        match self {
            Self::Count => units::thousands(value),
            Self::Bytes => units::bytes(value),
        }
    }
}
