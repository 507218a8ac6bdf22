//! libtest's command line on top of libtest-mimic, which leaves out a few of its words.
//!
//! Used twice: by the tests themselves on the host, and by `xtask runner`, behind which
//! each test is a machine.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use libtest_mimic::{Arguments, FormatSetting, Trial};

pub use libtest_mimic::Failed;

/// libtest's words: libtest-mimic's and what it lacks.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
struct Words {
    #[command(flatten)]
    arguments: Arguments,

    /// Same as --nocapture.
    #[arg(long)]
    no_capture: bool,

    /// More filters: a test runs if it matches any of them.
    #[arg(value_name = "FILTER")]
    more_filters: Vec<String>,
}

/// A parsed command line.
#[derive(Debug)]
pub struct CommandLine {
    arguments: Arguments,
    more_filters: Vec<String>,
}

impl CommandLine {
    /// Parses `words`, the first of which names the program. At a mistake, or for `--help`, it says
    /// so and ends the process as libtest does.
    pub fn parse(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Self {
        let Words { mut arguments, no_capture, more_filters } = Words::parse_from(words);
        arguments.nocapture |= no_capture;
        if arguments.test_threads.is_none() {
            arguments.test_threads =
                std::env::var("RUST_TEST_THREADS").ok().and_then(|threads| threads.parse().ok());
        }
        arguments.nocapture |= std::env::var("RUST_TEST_NOCAPTURE").is_ok_and(|value| value != "0");
        Self { arguments, more_filters }
    }

    /// Whether tests are to be listed and not run.
    #[must_use]
    pub fn list(&self) -> bool {
        self.arguments.list
    }

    /// Whether the tests' output is wanted as it comes.
    #[must_use]
    pub fn nocapture(&self) -> bool {
        self.arguments.nocapture
    }

    /// How many tests run at once unless the command line or `RUST_TEST_THREADS` says so.
    pub fn default_threads(&mut self, threads: usize) {
        self.arguments.test_threads.get_or_insert(threads);
    }

    /// Lists or runs the trials that the command line selects.
    #[must_use]
    pub fn run(mut self, mut trials: Vec<Trial>) -> ExitCode {
        if !self.more_filters.is_empty() {
            // libtest-mimic knows one filter. With several, select here and leave it none.
            let mut filters = core::mem::take(&mut self.more_filters);
            filters.extend(self.arguments.filter.take());
            let exact = self.arguments.exact;
            trials.retain(|trial| {
                filters.iter().any(
                    |filter| {
                        if exact { trial.name() == filter } else { trial.name().contains(filter) }
                    },
                )
            });
        }
        let selected = trials.iter().filter(|trial| !self.arguments.is_filtered_out(trial)).count();
        let code = libtest_mimic::run(&self.arguments, trials).exit_code();
        let terse = self.arguments.quiet || self.arguments.format == Some(FormatSetting::Terse);
        if self.list() && !terse {
            println!("\n{selected} tests, 0 benchmarks");
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::CommandLine;

    #[test]
    fn libtests_words_are_understood() {
        let line = CommandLine::parse([
            "test",
            "--no-capture",
            "one",
            "two",
            "--exact",
            "--skip",
            "three",
            "four",
            "--format",
            "terse",
        ]);
        assert!(line.nocapture());
        assert!(!line.list());
        assert_eq!(line.arguments.filter.as_deref(), Some("one"));
        assert_eq!(line.more_filters, ["two", "four"]);
        assert_eq!(line.arguments.skip, ["three"]);
    }
}
