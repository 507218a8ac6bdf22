//! An axis: its ticks, and where a value stands between the first and the last of them.
//!
//! ```text
//!   linear     0    20    40    60         even steps of 1, 2 or 5 times a power of ten, or of a power of two
//!   powers     0 // 64K   256K  1M         each step as many times the one before; zero has a place before them
//! ```

use core::iter::successors;

/// The most steps of an axis.
const STEPS: u32 = 8;

/// A quantity whose largest value is more than so many times its smallest is drawn by powers of ten: on even
/// steps most of its points would lie on the floor.
const WIDE: u64 = 100;

/// How the horizontal axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly from zero.
    Linear,
    /// By powers of two.
    Log2,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// From zero in even steps.
    Linear { step: u64, steps: u64 },
    /// `base` to the power of `first`, then on in `steps` steps of `step` powers each.
    Powers { base: u64, first: u32, step: u32, steps: u32, zero: bool },
}

impl Axis {
    /// The horizontal one, on which computers' sizes are round.
    pub(super) fn horizontal(scale: Scale, values: impl Iterator<Item = u64> + Clone) -> Self {
        match scale {
            Scale::Linear => Self::linear(&[1], 2, values),
            Scale::Log2 => Self::powers(2, values),
        }
    }

    /// The vertical one, on which people's numbers are round.
    pub(super) fn vertical(values: impl Iterator<Item = u64> + Clone) -> Self {
        let least = values.clone().min().unwrap_or(0);
        let most = values.clone().max().unwrap_or(0);
        if least > 0 && most / least > WIDE {
            Self::powers(10, values)
        } else {
            Self::linear(&[1, 2, 5], 10, values)
        }
    }

    /// The smallest step that is few enough times in the largest value.
    fn linear(leading: &[u64], base: u64, values: impl Iterator<Item = u64>) -> Self {
        let most = values.max().unwrap_or(0).max(1);
        let powers = successors(Some(1_u64), |power| power.checked_mul(base));
        let step = powers
            .flat_map(|power| leading.iter().map(move |digit| power.saturating_mul(*digit)))
            .find(|step| most.div_ceil(*step) <= u64::from(STEPS))
            .unwrap_or(u64::MAX);
        Self::Linear { step, steps: most.div_ceil(step) }
    }

    /// From the power at or below the least value to the one at or above the largest.
    fn powers(base: u64, values: impl Iterator<Item = u64> + Clone) -> Self {
        let zero = values.clone().any(|value| value == 0);
        let positive = values.filter(|value| *value > 0);
        let first = positive.clone().min().unwrap_or(1).ilog(base);
        let most = positive.max().unwrap_or(1);
        let last = most.ilog(base) + u32::from(!is_power(base, most));
        let span = last.saturating_sub(first).max(1);
        let step = span.div_ceil(STEPS);
        Self::Powers { base, first, step, steps: span.div_ceil(step), zero }
    }

    /// The values to mark, the least first.
    pub(super) fn ticks(&self) -> Vec<u64> {
        match *self {
            Self::Linear { step, steps } => (0..=steps).map(|nth| step.saturating_mul(nth)).collect(),
            Self::Powers { base, first, step, steps, zero } => {
                let powers = (0..=steps).map(|nth| base.saturating_pow(first + nth * step));
                zero.then_some(0).into_iter().chain(powers).collect()
            }
        }
    }

    /// Where a value stands: 0 at the first tick, 1 at the last.
    pub(super) fn place(&self, value: u64) -> f64 {
        let place = match *self {
            Self::Linear { step, steps } => float(value) / (float(step) * float(steps)),
            Self::Powers { zero: true, .. } if value == 0 => 0.0,
            Self::Powers { base, first, step, steps, zero } => {
                let powers = log2(value) / log2(base) - f64::from(first);
                // Zero is a step before the first power.
                let before = f64::from(zero);
                (powers / f64::from(step) + before) / (f64::from(steps) + before)
            }
        };
        place.clamp(0.0, 1.0)
    }

    /// Whether each step is as many times the one before.
    pub(super) fn is_logarithmic(&self) -> bool {
        matches!(self, Self::Powers { .. })
    }

    /// Whether the axis is cut between zero and the first power.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self, Self::Powers { zero: true, .. })
    }
}

fn is_power(base: u64, value: u64) -> bool {
    base.checked_pow(value.ilog(base)) == Some(value)
}

/// The logarithm by squaring, to 20 places: that of the host's library may differ from host to host.
/// Zero's is that of one.
fn log2(value: u64) -> f64 {
    let value = value.max(1);
    let mut logarithm = f64::from(value.ilog2());
    let mut rest = float(value) / float(1 << value.ilog2());
    let mut place = 1.0;
    for _ in 0..20 {
        (rest, place) = (rest * rest, place / 2.0);
        if rest >= 2.0 {
            (rest, logarithm) = (rest / 2.0, logarithm + place);
        }
    }
    logarithm
}

/// Close enough for a picture.
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
