//! Building the kernels: the one that runs programs, and the one that counts.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::{cargo, install, progress};

/// The kernels' package.
const PACKAGE: &str = "allotment-run";
/// The program that runs a module.
pub(crate) const RUN: &str = "run";

/// Builds a program of the kernel, optimised, and returns its ELF file.
pub(crate) fn build(arch: Arch, program: &str) -> Result<PathBuf> {
    install::rust_target(arch.triple())?;
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", PACKAGE, "--bin", program]);
    command.args(["--target", arch.triple()]);
    if program != RUN {
        // The benchmark runs no programs.
        command.arg("--no-default-features");
    }
    let made =
        progress::step(&format!("building the kernel for {arch}"), |step| cargo::build(step, &mut command))?;
    made.into_iter()
        .find(|executable| executable.name == program)
        .map(|executable| executable.path)
        .with_context(|| format!("cargo has built no program `{program}` of {PACKAGE}"))
}
