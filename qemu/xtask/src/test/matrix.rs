//! Which tests run where: the rows of `cargo xtask test`.
//!
//! ```text
//!   first tier       host                            the workspace
//!                    x86_64, aarch64                 all test kernels, on machines with one CPU
//!                    the other corner of each        the core's test kernels
//!   --full           those, and every corner         the core's test kernels
//!   --smp, --cpu,
//!   --paging         that machine                    all test kernels
//! ```

use std::process::Command;

use clap::ValueEnum;

use crate::arch::Arch;
use crate::cli;
use crate::error::Usage;
use crate::setup::Cpus;

/// Has the boot kernel walk five levels, where the CPU can.
const FIVE_LEVELS_WORD: &str = "la57";

/// Packages whose tests are kernels.
const ALL: &[&str] = &["allotment", "allotment-run", "allotment-example-engine"];
/// The one of them to which CPUs and levels matter.
const CORE: &[&str] = &["allotment"];

/// Where tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Host,
    Bare(Arch),
}

impl Target {
    pub(super) const ALL: [Self; 3] = [Self::Host, Self::Bare(Arch::X86_64), Self::Bare(Arch::Aarch64)];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Bare(arch) => arch.name(),
        }
    }
}

/// How many levels x86_64's page tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Levels {
    #[value(name = "4")]
    Four,
    #[value(name = "5")]
    Five,
}

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine<'a> {
    cpu: Option<&'a str>,
    levels: Levels,
    smp: Cpus,
}

impl<'a> Machine<'a> {
    const USUAL: Self = Self { cpu: None, levels: Levels::Four, smp: Cpus::ONE };

    const fn with(cpu: &'a str) -> Self {
        Self { cpu: Some(cpu), ..Self::USUAL }
    }
}

/// What of a CPU matters to page tables: each kind is one row with one CPU and one with four.
const KINDS: [(Arch, Machine<'_>); 6] = [
    (Arch::X86_64, Machine::USUAL),
    (Arch::X86_64, Machine { levels: Levels::Five, ..Machine::USUAL }),
    (Arch::X86_64, Machine::with("max,la57=off")),
    (Arch::Aarch64, Machine::USUAL),
    // Neither marks written pages itself (FEAT_HAFDBS).
    (Arch::Aarch64, Machine::with("cortex-a72")),
    (Arch::Aarch64, Machine::with("cortex-a53")),
];

/// The corner of each architecture that differs most from its usual machine.
const CORNERS: [(Arch, Machine<'_>); 2] = [
    (Arch::X86_64, Machine { levels: Levels::Five, smp: Cpus::FOUR, ..Machine::USUAL }),
    (Arch::Aarch64, Machine { smp: Cpus::FOUR, ..Machine::with("cortex-a72") }),
];

/// One run of cargo's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) target: Target,
    machine: Machine<'a>,
    packages: &'static [&'static str],
}

impl Row<'_> {
    /// As the summary calls it: `x86_64, 5 levels, 4 CPUs`.
    pub(super) fn name(&self) -> String {
        let Machine { cpu, levels, smp } = self.machine;
        let mut name = self.target.name().to_owned();
        if let Some(cpu) = cpu {
            name += &format!(", {cpu}");
        }
        if levels == Levels::Five {
            name += ", 5 levels";
        }
        if smp != Cpus::ONE {
            name += &format!(", {smp} CPUs");
        }
        name
    }

    /// Adds what cargo and the runner behind it must know.
    pub(super) fn describe(&self, command: &mut Command) {
        let Target::Bare(arch) = self.target else {
            command.arg("--workspace");
            return;
        };
        for package in self.packages {
            command.args(["--package", package]);
        }
        command.args(["--target", arch.triple()]);
        let Machine { cpu, levels, smp } = self.machine;
        command.env("ALLOTMENT_SMP", smp.to_string());
        if let Some(cpu) = cpu {
            command.env("ALLOTMENT_CPU", cpu);
        }
        if levels == Levels::Five {
            command.env("ALLOTMENT_WORDS", FIVE_LEVELS_WORD);
        }
    }
}

/// The rows of a command line. `named` is the target it starts with, if it does.
pub(super) fn rows(words: &cli::Test, named: Option<Target>) -> Result<Vec<Row<'_>>, Usage> {
    let wanted = |target: Target| named.is_none_or(|named| named == target);
    if words.smp.is_some() || words.cpu.is_some() || words.paging.is_some() {
        return by_hand(words, named);
    }
    let mut rows: Vec<Row<'_>> = Target::ALL
        .map(|target| Row { target, machine: Machine::USUAL, packages: ALL })
        .into_iter()
        .chain(CORNERS.map(of_core))
        .collect();
    if words.full {
        for (arch, kind) in KINDS {
            for smp in [Cpus::ONE, Cpus::FOUR] {
                let row = of_core((arch, Machine { smp, ..kind }));
                // The usual machine has run the core's tests among all others.
                let has_run = rows.iter().any(|ran| ran.name() == row.name());
                if !has_run {
                    rows.push(row);
                }
            }
        }
    }
    rows.retain(|row| wanted(row.target));
    Ok(rows)
}

fn of_core((arch, machine): (Arch, Machine<'static>)) -> Row<'static> {
    Row { target: Target::Bare(arch), machine, packages: CORE }
}

/// The one machine that a command line describes, of each architecture that it may have.
fn by_hand(words: &cli::Test, named: Option<Target>) -> Result<Vec<Row<'_>>, Usage> {
    let machine = Machine {
        cpu: words.cpu.as_deref(),
        levels: words.paging.unwrap_or(Levels::Four),
        smp: words.smp.unwrap_or(Cpus::ONE),
    };
    let targets = match named {
        Some(Target::Host) => {
            let hint = "give x86_64 or aarch64, or leave them out";
            return Err(Usage(format!(
                "--smp, --cpu and --paging are a machine's and not the host's; {hint}"
            )));
        }
        Some(Target::Bare(Arch::Aarch64)) if words.paging.is_some() => {
            return Err(Usage("--paging is x86_64's: aarch64 has 4 levels; leave it out".to_owned()));
        }
        Some(target) => vec![target],
        None if words.paging.is_some() => vec![Target::Bare(Arch::X86_64)],
        None if words.cpu.as_deref().is_some_and(|model| model != "max") => {
            return Err(Usage(
                "a CPU model is one architecture's: give x86_64 or aarch64 as the first word".to_owned(),
            ));
        }
        None => Arch::ALL.map(Target::Bare).to_vec(),
    };
    Ok(targets.into_iter().map(|target| Row { target, machine, packages: ALL }).collect())
}

#[cfg(test)]
mod tests {
    use super::{Target, rows};
    use crate::arch::Arch;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    /// The names of the rows of a line, or the message that refuses it.
    fn names(line: &str, named: Option<Target>) -> Result<Vec<String>, String> {
        let line = format!("xtask test {line}");
        let Command::Test(words) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("not test");
        };
        let rows = rows(&words, named).map_err(|error| error.to_string())?;
        Ok(rows.iter().map(super::Row::name).collect())
    }

    #[test]
    fn the_first_tier_has_the_usual_machines_and_a_corner_of_each() {
        let corner = "x86_64, 5 levels, 4 CPUs";
        let all = ["host", "x86_64", "aarch64", corner, "aarch64, cortex-a72, 4 CPUs"];
        assert_eq!(names("", None).unwrap(), all);
        assert_eq!(names("", Some(Target::Host)).unwrap(), ["host"]);
        assert_eq!(names("", Some(Target::Bare(Arch::X86_64))).unwrap(), ["x86_64", corner]);
    }

    #[test]
    fn a_model_of_one_architecture_is_not_asked_of_the_other() {
        assert!(names("--cpu cortex-a53", None).unwrap_err().contains("aarch64"));
        assert_eq!(names("--cpu max --smp 2", None).unwrap().len(), 2);
        let aarch64 = Some(Target::Bare(Arch::Aarch64));
        assert_eq!(names("--cpu cortex-a53", aarch64).unwrap(), ["aarch64, cortex-a53"]);
    }

    #[test]
    fn a_machine_by_hand_is_the_only_one() {
        assert_eq!(names("--smp 2", None).unwrap(), ["x86_64, 2 CPUs", "aarch64, 2 CPUs"]);
        assert_eq!(names("--paging 5 --smp 4", None).unwrap(), ["x86_64, 5 levels, 4 CPUs"]);
        let aarch64 = Some(Target::Bare(Arch::Aarch64));
        assert_eq!(names("--full --cpu cortex-a53", aarch64).unwrap(), ["aarch64, cortex-a53"]);
        assert!(names("--paging 5", aarch64).unwrap_err().contains("x86_64"));
        assert!(names("--smp 2", Some(Target::Host)).unwrap_err().contains("x86_64 or aarch64"));
    }

    #[test]
    fn full_has_every_corner_once() {
        let all = names("--full", None).unwrap();
        let mut different = all.clone();
        different.sort();
        different.dedup();
        assert_eq!((all.len(), different.len()), (13, 13), "{all:?}");
        assert!(all.contains(&"x86_64, max,la57=off, 4 CPUs".to_owned()), "{all:?}");
    }
}
