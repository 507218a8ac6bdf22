//! What there is to count.

use kernel::{BootInfo, println};

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
    pub(crate) run: fn(&'static BootInfo),
}

/// A group for a machine with one CPU.
pub(crate) const fn group(
    name: &'static str,
    quick: bool,
    rows: &'static [&'static str],
    run: fn(&'static BootInfo),
) -> Group {
    Group { name, quick, cpus: 1, rows, run }
}

impl Group {
    /// The same on a machine with several CPUs.
    pub(crate) const fn on_cpus(self, cpus: u8) -> Self {
        Self { cpus, ..self }
    }

    /// Prints the group as the program that boots us reads it.
    pub(crate) fn list(&self) {
        let kind = if self.quick { "quick" } else { "whole" };
        kernel::print!("group {} {kind} {}", self.name, self.cpus);
        self.rows.iter().for_each(|row| kernel::print!(" {row}"));
        println!();
    }
}
