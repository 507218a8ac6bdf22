//! `test` and `miri`: cargo's own tests, on all targets, and a summary.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::progress::say;
use crate::{cargo, cli, install};

/// Packages whose tests Miri can run: no assembly, no compiler, no QEMU.
const MIRI_PACKAGES: [&str; 3] = ["allotment", "allotment-arch", "allotment-protocol"];

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
            Target::Bare(arch) => command.args(["--target", arch.triple()]),
        };
        command.arg("--").args(filters);
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
        .args(["run", install::NIGHTLY, "cargo", "miri", "test", "--lib", "--tests"])
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
    passed: bool,
    took: Duration,
}

fn run(name: &'static str, command: &mut Command) -> Result<Outcome> {
    say(format_args!("testing: {name}"));
    let begin = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    Ok(Outcome { name, passed: status.success(), took: begin.elapsed() })
}

/// Says how all went, and returns the exit status.
fn summary(outcomes: &[Outcome]) -> u8 {
    say("summary");
    for outcome in outcomes {
        let result = if outcome.passed { "ok" } else { "FAILED" };
        eprintln!("  {:<8} {result:<6} {:>6.1} s", outcome.name, outcome.took.as_secs_f32());
    }
    u8::from(!outcomes.iter().all(|outcome| outcome.passed))
}

#[cfg(test)]
mod tests {
    use super::{Target, targets_and_filters};
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
}
