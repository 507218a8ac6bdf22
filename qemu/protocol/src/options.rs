//! What the kernel is to do beside running its module: the payload's entry [`ENTRY`].
//!
//! One line of words, in any order; no entry at all means the defaults:
//!
//! ```text
//!   strategy=pooling|on-demand   where memories come from          default: pooling
//!   instances=N                  run the module N times, and sum up
//!   slice=NS                     all at a time, in turns of so many nanoseconds
//!   plan                         say first what was carved
//!   metrics                      say last what is in use
//!   draw                         keep instances, and write a dump of the machine
//! ```

use core::fmt;
use core::ops::RangeInclusive;

/// The name of the payload's entry.
pub const ENTRY: &str = "options";

/// How many instances may be asked for.
pub const INSTANCES: RangeInclusive<u32> = 1..=100_000;

/// Where linear memories come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Slots that were carved at boot.
    #[default]
    Pooling,
    /// Address space and frames at the time when they are needed.
    OnDemand,
}

impl Strategy {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pooling, Self::OnDemand];

    /// The strategy of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    /// Its name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pooling => "pooling",
            Self::OnDemand => "on-demand",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the kernel is to do. Written with `Display`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where memories come from.
    pub strategy: Strategy,
    /// How many instances, one after another; if this is said, even of 1, the kernel sums up at the end.
    pub instances: Option<u32>,
    /// Nanoseconds of a turn, if instances are to live all at a time and take turns.
    pub slice: Option<u64>,
    /// Whether to say first what was carved.
    pub plan: bool,
    /// Whether to say last what is in use.
    pub metrics: bool,
    /// Whether to keep the instances, and write a [`dump`](crate::dump) of the machine.
    pub draw: bool,
}

impl Options {
    /// Reads the content of an entry.
    ///
    /// # Errors
    /// For a word that is none of those above.
    pub fn parse(content: &[u8]) -> Result<Self, OptionsError<'_>> {
        let text = core::str::from_utf8(content).map_err(|_| OptionsError { word: "(not UTF-8)" })?;
        let mut options = Self::default();
        for word in text.split_ascii_whitespace() {
            let unknown = OptionsError { word };
            match word.split_once('=') {
                None if word == "plan" => options.plan = true,
                None if word == "metrics" => options.metrics = true,
                None if word == "draw" => options.draw = true,
                Some(("strategy", name)) => options.strategy = Strategy::parse(name).ok_or(unknown)?,
                Some(("instances", count)) => {
                    let count = count.parse().ok().filter(|count| INSTANCES.contains(count));
                    options.instances = Some(count.ok_or(unknown)?);
                }
                Some(("slice", time)) => {
                    options.slice = Some(time.parse().ok().filter(|time| *time > 0).ok_or(unknown)?);
                }
                _ => return Err(unknown),
            }
        }
        Ok(options)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strategy={}", self.strategy)?;
        if let Some(count) = self.instances {
            write!(f, " instances={count}")?;
        }
        if let Some(time) = self.slice {
            write!(f, " slice={time}")?;
        }
        for (is_set, word) in [(self.plan, " plan"), (self.metrics, " metrics"), (self.draw, " draw")] {
            f.write_str(if is_set { word } else { "" })?;
        }
        Ok(())
    }
}

/// A word that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionsError<'a> {
    /// The word.
    pub word: &'a str,
}

impl fmt::Display for OptionsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload's options have the word `{}`, which this kernel does not know", self.word)
    }
}

impl core::error::Error for OptionsError<'_> {}

#[cfg(test)]
mod tests {
    use super::{Options, OptionsError, Strategy};

    #[test]
    fn every_combination_comes_back() {
        for strategy in Strategy::ALL {
            for instances in [None, Some(1), Some(100_000)] {
                for bits in 0..8_u32 {
                    let [plan, metrics, draw] = [0, 1, 2].map(|bit| bits & 1 << bit != 0);
                    let slice = plan.then_some(5_000_000);
                    let options = Options { strategy, instances, slice, plan, metrics, draw };
                    assert_eq!(Options::parse(options.to_string().as_bytes()), Ok(options));
                }
            }
        }
        assert_eq!(Options::parse(b""), Ok(Options::default()));
    }

    #[test]
    fn words_that_mean_nothing_are_named() {
        for word in [
            "plane",
            "plan=1",
            "strategy=none",
            "strategy",
            "instances=0",
            "instances=100001",
            "instances=-1",
            "slice=0",
        ] {
            let line = format!("metrics {word}");
            assert_eq!(Options::parse(line.as_bytes()), Err(OptionsError { word }));
        }
        assert!(Options::parse(b"\xff").is_err());
        assert!(OptionsError { word: "x" }.to_string().contains("`x`"));
    }
}
