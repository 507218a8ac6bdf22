//! The tests as a usual program that speaks libtest's command line.

use std::process::ExitCode;

use libtest_mimic::Trial;

use crate::Test;
use crate::libtest::CommandLine;

/// Whether the long stresses are asked for (environment `ALLOTMENT_FULL=1`, which
/// `cargo xtask test --full` sets).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("ALLOTMENT_FULL").is_some_and(|value| value == "1")
}

/// Runs the tests that the program's arguments select.
#[doc(hidden)]
#[must_use]
pub fn run_tests(tests: &'static [&'static [Test]]) -> ExitCode {
    let trials = tests.iter().copied().flatten().map(|test| {
        // A panic is caught by libtest-mimic and fails the trial.
        let run = || {
            (test.run)();
            Ok(())
        };
        Trial::test(test.name, run).with_ignored_flag(test.ignored)
    });
    CommandLine::parse(std::env::args_os()).run(trials.collect())
}
