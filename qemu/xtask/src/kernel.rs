//! Building the kernel that runs programs.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::{cargo, install, progress};

/// The kernel's package and program.
const PACKAGE: &str = "allotment-run";
const PROGRAM: &str = "run";

/// Builds the kernel, optimised, and returns its ELF file.
pub(crate) fn build(arch: Arch) -> Result<PathBuf> {
    install::rust_target(arch.triple())?;
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", PACKAGE, "--bin", PROGRAM]);
    command.args(["--target", arch.triple()]);
    let made =
        progress::step(&format!("building the kernel for {arch}"), |step| cargo::build(step, &mut command))?;
    made.into_iter()
        .find(|executable| executable.name == PROGRAM)
        .map(|executable| executable.path)
        .with_context(|| format!("cargo has built no program `{PROGRAM}` of {PACKAGE}"))
}
