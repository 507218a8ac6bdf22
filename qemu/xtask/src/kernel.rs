//! Building the kernels: the one that runs programs, the one that counts, and that of the specification's tests.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::{cargo, install, progress};

/// The kernels' package.
const PACKAGE: &str = "allotment-run";
/// The program that runs a module.
pub(crate) const RUN: &str = "run";
/// The program that counts.
const BENCH: &str = "bench";
/// The package, and its program, for the specification's tests.
const SPEC: (&str, &str) = ("allotment-spec", "spec");

/// What a kernel carries beside what every one has. Nobody pays for the rest, not even some instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    Nothing,
    /// Asynchronous calls.
    Async,
}

/// Builds the kernel that runs programs, optimised, and returns its ELF file.
pub(crate) fn build_run(arch: Arch) -> Result<PathBuf> {
    build_of(arch, PACKAGE, RUN, &[])
}

/// The same for the benchmark. The file is replaced by the next one that is built.
pub(crate) fn build_bench(arch: Arch, with: With) -> Result<PathBuf> {
    // It runs no programs.
    let features: &[&str] = match with {
        With::Nothing => &["--no-default-features"],
        With::Async => &["--no-default-features", "--features", "async"],
    };
    build_of(arch, PACKAGE, BENCH, features)
}

/// The same for the kernel of the specification's tests. Built alone, as it asks for more of Wasmtime.
pub(crate) fn build_spec(arch: Arch) -> Result<PathBuf> {
    build_of(arch, SPEC.0, SPEC.1, &["--no-default-features"])
}

fn build_of(arch: Arch, package: &str, program: &str, features: &[&str]) -> Result<PathBuf> {
    install::rust_target(arch.triple())?;
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", package, "--bin", program]);
    command.args(["--target", arch.triple()]).args(features);
    let made =
        progress::step(&format!("building the kernel for {arch}"), |step| cargo::build(step, &mut command))?;
    made.into_iter()
        .find(|executable| executable.name == program)
        .map(|executable| executable.path)
        .with_context(|| format!("cargo has built no program `{program}` of {package}"))
}
