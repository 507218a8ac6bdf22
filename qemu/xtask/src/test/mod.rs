//! `test`: cargo's own tests, on all targets and several machines, the examples, and a summary.

mod fuzz;
mod matrix;
mod miri;
mod tally;

use std::io::{self, IsTerminal};

use anyhow::Result;

use self::matrix::Target;
use self::tally::{Outcome, run, summary};
use crate::error::Usage;
use crate::{cargo, cli, defects, example, install};

pub(crate) use self::matrix::Levels;

/// `cargo xtask test`.
pub(crate) fn test(words: &cli::Test) -> Result<u8> {
    if let Some((first, names)) = words.words.split_first() {
        let other = match first.as_str() {
            "examples" => Some(only_examples as fn(&[String]) -> Result<u8>),
            "miri" => Some(miri::miri as _),
            "defects" => Some(defects::defects as _),
            "fuzz" => {
                names_only(words, first)?;
                return fuzz::fuzz(names, words.seconds);
            }
            _ => None,
        };
        if let Some(other) = other {
            names_only(words, first)?;
            only_for_fuzz(words)?;
            return other(names);
        }
    }
    only_for_fuzz(words)?;
    let (named, filters) = target_and_filters(&words.words);
    let rows = matrix::rows(words, named)?;
    for row in &rows {
        if let Target::Bare(arch) = row.target {
            install::rust_target(arch.triple())?;
            install::qemu(arch)?;
        }
    }
    let mut outcomes = Vec::new();
    for row in rows {
        let mut command = cargo::command();
        command.args(["test", "--no-fail-fast"]);
        // The machine is the row's, whatever is set for plain cargo.
        command.env_remove("ALLOTMENT_CPU").env_remove("ALLOTMENT_WORDS");
        row.describe(&mut command);
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
        outcomes.push(run(row.name(), &mut command)?);
    }
    let is_by_hand = words.smp.is_some() || words.cpu.is_some() || words.paging.is_some();
    let arch = match named {
        Some(Target::Host) => return Ok(summary(&outcomes)),
        Some(Target::Bare(arch)) => Some(arch),
        None => None,
    };
    // Each has a machine of its own.
    if !is_by_hand && let Some(tested) = example::test(arch, filters)? {
        outcomes.push(Outcome::of_examples(&tested));
    }
    Ok(summary(&outcomes))
}

/// `test examples`.
fn only_examples(names: &[String]) -> Result<u8> {
    match example::test(None, names)? {
        Some(tested) => Ok(summary(&[Outcome::of_examples(&tested)])),
        None => {
            let message = "no example has such a name; `cargo xtask example` says which there are";
            Err(Usage(message.to_owned()).into())
        }
    }
}

/// The first word may say where; the others are parts of names.
fn target_and_filters(words: &[String]) -> (Option<Target>, &[String]) {
    match words.split_first() {
        Some((first, filters)) if first == "all" => (None, filters),
        Some((first, filters)) => match Target::ALL.into_iter().find(|target| target.name() == first) {
            Some(target) => (Some(target), filters),
            None => (None, words),
        },
        None => (None, words),
    }
}

/// Refuses options that mean nothing to `test examples`, `test miri`, `test defects` and `test fuzz`.
fn names_only(words: &cli::Test, what: &str) -> Result<(), Usage> {
    let cli::Test { words: _, full, timeout, cpu, smp, paging, seconds: _ } = words;
    if *full || timeout.is_some() || cpu.is_some() || smp.is_some() || paging.is_some() {
        let options = if what == "fuzz" { "no option but `--seconds`" } else { "no options" };
        return Err(Usage(format!("`test {what}` takes names and {options}; leave the options out")));
    }
    Ok(())
}

/// Refuses the option that means something to `test fuzz` alone.
fn only_for_fuzz(words: &cli::Test) -> Result<(), Usage> {
    match words.seconds {
        Some(_) => Err(Usage("`--seconds` is for `test fuzz`; leave it out".to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, target_and_filters};
    use crate::arch::Arch;

    #[test]
    fn the_first_word_may_be_a_target() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (target, filters) = target_and_filters(&words);
            (target, filters.join(" "))
        };
        assert_eq!(parse(""), (None, String::new()));
        assert_eq!(parse("all a b"), (None, "a b".into()));
        assert_eq!(parse("host"), (Some(Target::Host), String::new()));
        assert_eq!(parse("aarch64 grow"), (Some(Target::Bare(Arch::Aarch64)), "grow".into()));
        assert_eq!(parse("grow host"), (None, "grow host".into()));
    }
}
