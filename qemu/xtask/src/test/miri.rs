//! `test miri`: what of the tests Miri can run, which finds undefined behaviour.

use std::process::Command;

use anyhow::Result;

use super::tally::{run, summary};
use crate::{install, workspace};

/// What Miri runs: packages, and cargo's words for each. No assembly, no compiler, no QEMU; and nothing
/// that fills machines of 16 MiB, which takes Miri hours.
const RUNS: &[(&str, &[&str])] = &[
    ("allotment", &["--test", "layout"]),
    ("allotment-arch", &["--lib", "--features", "emulated"]),
    ("allotment-protocol", &["--lib", "--features", "std"]),
];

/// Runs what can be run of the tests that `filters` select.
pub(super) fn miri(filters: &[String]) -> Result<u8> {
    install::miri()?;
    let mut outcomes = Vec::new();
    for (package, words) in RUNS {
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
        outcomes.push(run(format!("miri, {package}"), &mut command)?);
    }
    Ok(summary(&outcomes))
}
