//! Building the kernels: the one that runs programs, the one that counts, and that of the specification's tests.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::{cargo, install, progress};

/// The kernels' package.
const PACKAGE: &str = "allotment-run";
/// The program that runs a module.
pub(crate) const RUN: &str = "run";
/// The package, and its program, for the specification's tests.
const SPEC: (&str, &str) = ("allotment-spec", "spec");

/// Builds a program of the kernel, optimised, and returns its ELF file.
pub(crate) fn build(arch: Arch, program: &str) -> Result<PathBuf> {
    build_of(arch, PACKAGE, program)
}

/// The same for the kernel of the specification's tests. Built alone, as it asks for more of Wasmtime.
pub(crate) fn build_spec(arch: Arch) -> Result<PathBuf> {
    build_of(arch, SPEC.0, SPEC.1)
}

fn build_of(arch: Arch, package: &str, program: &str) -> Result<PathBuf> {
    install::rust_target(arch.triple())?;
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", package, "--bin", program]);
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
        .with_context(|| format!("cargo has built no program `{program}` of {package}"))
}
