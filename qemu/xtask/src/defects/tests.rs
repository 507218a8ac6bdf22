//! The core's tests, as programs that are run until the first failure.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::tree::Tree;
use super::{Place, prepare};
use crate::cargo::{self, Executable};
use crate::machine::die_with_parent;
use crate::progress::Step;

/// How long the tests may take together. A mistake that makes one hang is caught too.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

/// How the tests went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// The first test that failed, or the program that ended badly.
    Failed(String),
    /// The deadline passed.
    Hung,
}

/// Programs that run tests.
#[derive(Debug)]
pub(super) struct Tests {
    place: Place,
    root: PathBuf,
    programs: Vec<Executable>,
}

impl Tests {
    /// Builds them from the copy.
    pub(super) fn build(tree: &Tree, place: Place, step: &Step) -> Result<Self> {
        prepare(place)?;
        // Where this starts is where cargo finds its configuration, once: the copy may lie below it.
        let mut command = cargo::command();
        command.args(["test", "--no-run", "--tests", "--manifest-path"]).arg(tree.root().join("Cargo.toml"));
        command.arg("--target-dir").arg(tree.target()).args(["--package", "allotment"]);
        match place {
            Place::Host => command.args(["--package", "allotment-arch"]),
            Place::Machine(machine) => command.args(["--target", machine.arch.triple()]),
        };
        let mut programs = cargo::build(step, &mut command)?;
        ensure!(!programs.is_empty(), "cargo has built no tests");
        programs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { place, root: tree.root().to_owned(), programs })
    }

    /// Runs them until one fails.
    pub(super) fn run(&self) -> Result<Outcome> {
        let until = Instant::now() + DEADLINE;
        for program in &self.programs {
            let outcome = self.run_one(program, until)?;
            if outcome != Outcome::Passed {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Passed)
    }

    fn run_one(&self, program: &Executable, until: Instant) -> Result<Outcome> {
        let mut command = match self.place {
            Place::Host => Command::new(&program.path),
            Place::Machine(machine) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("runner").arg(&program.path).envs(machine.variables);
                command
            }
        };
        command.current_dir(&self.root).env_remove("ALLOTMENT_FULL").env_remove("ALLOTMENT_TEST_TIMEOUT");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
        Running::new(child).end(&program.name, until)
    }
}

/// A program that runs tests. Dropped, it is killed.
struct Running {
    child: Child,
    /// What it says, by lines.
    lines: Receiver<String>,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                // Nobody listens any more once a test has failed.
                lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
            });
        }
        Self { child, lines }
    }

    /// Waits for its end, or for its first failure.
    fn end(mut self, name: &str, until: Instant) -> Result<Outcome> {
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(test) = failed(&line) {
                        return Ok(Outcome::Failed(format!("{name}::{test}")));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Outcome::Hung),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // It says no more, and is about to end.
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().context("cannot wait for a test")? {
                let failed = || Outcome::Failed(format!("{name}, which ended early ({status})"));
                return Ok(if status.success() { Outcome::Passed } else { failed() });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Outcome::Hung)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only for a process that has ended, which is what we want.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The test of a line `test NAME ... FAILED`.
fn failed(line: &str) -> Option<&str> {
    let (test, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    result.contains("FAILED").then(|| test.trim())
}

#[cfg(test)]
mod unit_tests {
    use super::{Outcome, Running, failed};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_failing_test_is_named() {
        assert_eq!(failed("test grow_far  ... FAILED"), Some("grow_far"));
        assert_eq!(failed("test grow ... \u{1b}[31mFAILED\u{1b}[0m"), Some("grow"));
        assert_eq!(failed("test grow ... ok"), None);
        assert_eq!(failed("test result: FAILED. 1 passed; 1 failed"), None);
    }

    /// How a shell's script ends as if it were tests.
    fn end(script: &str, patience: Duration) -> Outcome {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        Running::new(shell.spawn().unwrap()).end("shell", Instant::now() + patience).unwrap()
    }

    #[test]
    fn failures_hangs_and_bad_ends_are_told_apart() {
        let long = Duration::from_secs(60);
        assert_eq!(end("echo test a ... ok", long), Outcome::Passed);
        let failed = |what: &str| Outcome::Failed(what.to_owned());
        // The first failure is enough: what comes after is not waited for.
        assert_eq!(end("echo 'test b ... FAILED'; exec sleep 1000", long), failed("shell::b"));
        let ended = end("kill -s KILL $$", long);
        assert!(
            matches!(&ended, Outcome::Failed(what) if what.contains("shell, which ended early")),
            "{ended:?}"
        );
        assert_eq!(end("exec sleep 1000", Duration::from_millis(50)), Outcome::Hung);
        assert_eq!(end("exec sleep 1000 >&-", Duration::from_millis(50)), Outcome::Hung);
    }
}
