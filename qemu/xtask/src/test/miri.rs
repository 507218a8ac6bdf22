//! `test miri`: what of the tests Miri can run, which finds undefined behaviour.

use std::process::Command;

use anyhow::Result;

use super::tally::{run, summary};
use crate::{install, workspace};

/// A package whose tests Miri runs.
struct Run {
    package: &'static str,
    /// Cargo's words for it.
    words: &'static [&'static str],
    /// Tests that take Miri too long.
    skipped: &'static [&'static str],
}

/// What Miri runs. No assembly, no compiler, no QEMU; and nothing that fills machines of 16 MiB, which
/// takes Miri hours.
const RUNS: &[Run] = &[
    Run { package: "allotment", words: &["--test", "layout"], skipped: &[] },
    Run { package: "allotment-arch", words: &["--lib", "--features", "emulated"], skipped: &[] },
    Run {
        package: "allotment-protocol",
        words: &["--lib", "--features", "std"],
        // Whole archives, again and again, in code that denies `unsafe`.
        skipped: &["payload::tests"],
    },
];

/// Runs what can be run of the tests that `filters` select.
pub(super) fn miri(filters: &[String]) -> Result<u8> {
    install::miri()?;
    let mut outcomes = Vec::new();
    for Run { package, words, skipped } in RUNS {
        let mut command = Command::new("rustup");
        command
            .current_dir(workspace::root())
            .args(["run", install::NIGHTLY, "cargo", "miri", "test", "--package", package])
            .args(*words)
            // Page tables hold addresses as numbers, and `bitvec` is at odds with Stacked Borrows.
            .env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-tree-borrows")
            // The cargo that runs us has told its own compiler to its children.
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .env_remove("RUSTUP_TOOLCHAIN");
        command.arg("--").args(filters);
        command.args(skipped.iter().flat_map(|test| ["--skip", test]));
        outcomes.push(run(format!("miri, {package}"), &mut command)?);
    }
    Ok(summary(&outcomes))
}
