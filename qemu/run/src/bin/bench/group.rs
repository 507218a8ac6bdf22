//! What there is to count.

use kernel::{BootInfo, println};

use crate::curves::Curve;

/// Rows that are counted on one machine, one after the other.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Whether it is counted by `--quick`: the machine layer alone, in little time.
    quick: bool,
    /// How many CPUs its machine has.
    cpus: u8,
    /// Everything that `run` prints by [`row`](crate::count::row).
    rows: &'static [&'static str],
    /// And then by [`Curve::count`].
    curve: Option<&'static Curve>,
    pub(crate) run: fn(&'static BootInfo),
}

/// A group for a machine with one CPU.
pub(crate) const fn group(
    name: &'static str,
    quick: bool,
    rows: &'static [&'static str],
    run: fn(&'static BootInfo),
) -> Group {
    Group { name, quick, cpus: 1, rows, curve: None, run }
}

impl Group {
    /// The same that counts the points of a curve as well.
    pub(crate) const fn curve(self, curve: &'static Curve) -> Self {
        Self { curve: Some(curve), ..self }
    }

    /// The same on a machine with several CPUs.
    pub(crate) const fn on_cpus(self, cpus: u8) -> Self {
        Self { cpus, ..self }
    }

    /// Prints the group as the program that boots us reads it.
    pub(crate) fn list(&self) {
        let kind = if self.quick { "quick" } else { "whole" };
        kernel::print!("group {} {kind} {}", self.name, self.cpus);
        self.rows.iter().for_each(|row| kernel::print!(" {row}"));
        self.curve.into_iter().flat_map(Curve::points).for_each(|point| kernel::print!(" {point}"));
        println!();
    }
}
