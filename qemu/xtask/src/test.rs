//! `test` and `miri`: cargo's own tests, on all targets, and a summary.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::progress::say;
use crate::{cargo, cli, install};

/// Packages whose tests Miri can run: no assembly, no compiler, no QEMU. Of `allotment` only the
/// arithmetic: its tests fill machines of 16 MiB, which takes Miri hours.
const MIRI_PACKAGES: [&str; 3] = ["allotment", "allotment-arch", "allotment-protocol"];

/// Packages whose tests are kernels.
const BARE_PACKAGES: [&str; 4] = ["--package", "allotment", "--package", "allotment-run"];

/// Where tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Host,
    Bare(Arch),
}

impl Target {
    const ALL: [Self; 3] = [Self::Host, Self::Bare(Arch::X86_64), Self::Bare(Arch::Aarch64)];

    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Bare(arch) => arch.name(),
        }
    }
}

/// `cargo xtask test`.
pub(crate) fn test(words: &cli::Test) -> Result<u8> {
    let (targets, filters) = targets_and_filters(&words.words);
    for target in &targets {
        if let Target::Bare(arch) = target {
            install::rust_target(arch.triple())?;
            install::qemu(*arch)?;
        }
    }
    let mut results = Vec::new();
    for target in targets {
        let mut command = cargo::command();
        command.args(["test", "--no-fail-fast"]);
        match target {
            Target::Host => command.arg("--workspace"),
            Target::Bare(arch) => command.args(BARE_PACKAGES).args(["--target", arch.triple()]),
        };
        command.arg("--").args(filters);
        if io::stdout().is_terminal() {
            // They write to a pipe of ours and would leave the colours out.
            command.arg("--color=always");
        }
        if words.full {
            command.env("ALLOTMENT_FULL", "1");
        }
        if let Some(seconds) = words.timeout {
            command.env("ALLOTMENT_TEST_TIMEOUT", seconds.to_string());
        }
        if let Some(cpu) = &words.cpu {
            command.env("ALLOTMENT_CPU", cpu);
        }
        results.push(run(target.name(), &mut command)?);
    }
    Ok(summary(&results))
}

/// `cargo xtask miri`.
pub(crate) fn miri(words: &cli::Miri) -> Result<u8> {
    install::miri()?;
    let mut command = Command::new("rustup");
    command
        .current_dir(crate::workspace::root())
        .args(["run", install::NIGHTLY, "cargo", "miri", "test", "--lib", "--test", "layout"])
        // Page tables hold addresses as numbers, and `bitvec` is at odds with Stacked Borrows.
        .env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-tree-borrows")
        // The cargo that runs us has told its own compiler to its children.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    for package in MIRI_PACKAGES {
        command.args(["--package", package]);
    }
    command.args(["--features", "allotment-protocol/std"]);
    command.arg("--").args(&words.filters);
    Ok(summary(&[run("miri", &mut command)?]))
}

/// The first word may say where; the others are parts of names.
fn targets_and_filters(words: &[String]) -> (Vec<Target>, &[String]) {
    match words.split_first() {
        Some((first, filters)) if first == "all" => (Target::ALL.to_vec(), filters),
        Some((first, filters)) => match Target::ALL.iter().find(|target| target.name() == first) {
            Some(target) => (vec![*target], filters),
            None => (Target::ALL.to_vec(), words),
        },
        None => (Target::ALL.to_vec(), words),
    }
}

/// How one target's tests went.
struct Outcome {
    name: &'static str,
    ended_well: bool,
    took: Duration,
    tally: Tally,
}

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// What a line like `test result: ok. 3 passed; 0 failed; 1 ignored; ...` counts.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.split_once("test result: ")?;
        let count = |what: &str| {
            let words: Vec<&str> = counts.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            let at = words.iter().position(|word| *word == what)?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }
}

fn run(name: &'static str, command: &mut Command) -> Result<Outcome> {
    say(format_args!("testing: {name}"));
    let begin = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {program}"))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        let mut shown = io::stdout();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(|| format!("cannot read what {program} prints"))?;
            tally.add(Tally::of_line(&String::from_utf8_lossy(&line)).unwrap_or_default());
            // A closed standard output is no reason to stop testing.
            drop(shown.write_all(&line).and_then(|()| shown.write_all(b"\n")));
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
    Ok(Outcome { name, ended_well: status.success(), took: begin.elapsed(), tally })
}

/// Says how all went, and returns the exit status.
fn summary(outcomes: &[Outcome]) -> u8 {
    say("summary");
    let mut all = Tally::default();
    for Outcome { name, ended_well, took, tally } in outcomes {
        let result = if *ended_well { "ok" } else { "FAILED" };
        eprintln!(
            "  {name:<8} {result:<6} {:>6.1} s  {} passed, {} failed",
            took.as_secs_f32(),
            tally.passed,
            tally.failed
        );
        all.add(*tally);
    }
    println!("tests: {} passed, {} failed, {} skipped", all.passed, all.failed, all.ignored);
    u8::from(!outcomes.iter().all(|outcome| outcome.ended_well))
}

#[cfg(test)]
mod tests {
    use super::{Tally, Target, targets_and_filters};
    use crate::arch::Arch;

    #[test]
    fn the_first_word_may_be_a_target() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (targets, filters) = targets_and_filters(&words);
            (targets, filters.join(" "))
        };
        assert_eq!(parse(""), (Target::ALL.to_vec(), String::new()));
        assert_eq!(parse("all a b"), (Target::ALL.to_vec(), "a b".into()));
        assert_eq!(parse("host"), (vec![Target::Host], String::new()));
        assert_eq!(parse("aarch64 grow"), (vec![Target::Bare(Arch::Aarch64)], "grow".into()));
        assert_eq!(parse("grow host"), (Target::ALL.to_vec(), "grow host".into()));
    }

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(Tally::of_line(line), Some(Tally { passed: 10, failed: 2, ignored: 1 }));
        let coloured = "test result: \u{1b}[32mok\u{1b}[0m. 3 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(Tally::of_line(coloured), Some(Tally { passed: 3, failed: 0, ignored: 0 }));
        assert_eq!(Tally::of_line("test grow ... ok"), None);
    }
}
