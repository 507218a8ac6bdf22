//! Running tests, counting them, and the summary at the end.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::example::Tested;
use crate::progress::say;

/// How one row's tests went.
pub(super) struct Outcome {
    name: String,
    ended_well: bool,
    took: Duration,
    tally: Tally,
}

impl Outcome {
    pub(super) fn of_examples(tested: &Tested) -> Self {
        let &Tested { passed, failed, took } = tested;
        let tally = Tally { passed, failed, ignored: 0 };
        Self { name: "examples".to_owned(), ended_well: failed == 0, took, tally }
    }

    pub(super) fn ended_well(&self) -> bool {
        self.ended_well
    }
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

pub(super) fn run(name: String, command: &mut Command) -> Result<Outcome> {
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

/// Runs a command that counts as one test: it passes if it ends well.
pub(super) fn run_as_one(name: String, command: &mut Command) -> Result<Outcome> {
    let outcome = run(name, command)?;
    let passed = u64::from(outcome.ended_well);
    Ok(Outcome { tally: Tally { passed, failed: 1 - passed, ignored: 0 }, ..outcome })
}

/// Says how all went, and returns the exit status.
pub(super) fn summary(outcomes: &[Outcome]) -> u8 {
    say("summary");
    let mut all = Tally::default();
    let width = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0);
    for Outcome { name, ended_well, took, tally } in outcomes {
        let result = if *ended_well { "ok" } else { "FAILED" };
        eprintln!(
            "  {name:<width$}  {result:<6} {:>6.1} s  {} passed, {} failed",
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
    use super::Tally;

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(Tally::of_line(line), Some(Tally { passed: 10, failed: 2, ignored: 1 }));
        let coloured = "test result: \u{1b}[32mok\u{1b}[0m. 3 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(Tally::of_line(coloured), Some(Tally { passed: 3, failed: 0, ignored: 0 }));
        assert_eq!(Tally::of_line("test grow ... ok"), None);
    }
}
