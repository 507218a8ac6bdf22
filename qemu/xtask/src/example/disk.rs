//! The disk of a machine that boots by UEFI: a directory that QEMU shows as a file system.
//!
//! ```text
//!   EFI/BOOT/BOOTX64.EFI   the loader, where firmware looks for one on a disk without an entry of its own
//!   kernel-x86_64          by the names that the loader knows
//!   ramdisk
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::table::Example;
use super::target;
use crate::{cargo, install, progress, workspace};

/// Rust's target for what a firmware starts.
const TARGET: &str = "x86_64-unknown-uefi";

/// The directory, with all that there is to load.
pub(super) fn disk(example: &Example, kernel: &Path, ramdisk: Option<&Path>) -> Result<PathBuf> {
    let disk = workspace::cache(&format!("examples/{}-disk", example.name))?;
    let put = |from: &Path, name: &str| {
        let to = disk.join(name);
        fs::copy(from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
    };
    fs::create_dir_all(disk.join("EFI/BOOT")).with_context(|| format!("cannot fill {}", disk.display()))?;
    put(&loader(example)?, "EFI/BOOT/BOOTX64.EFI")?;
    put(kernel, "kernel-x86_64")?;
    if let Some(ramdisk) = ramdisk {
        put(ramdisk, "ramdisk")?;
    }
    Ok(disk)
}

/// Builds the loader: a program of a dependency, which takes features that are not stable. They concern
/// the loader alone.
fn loader(example: &Example) -> Result<PathBuf> {
    install::rust_target(TARGET)?;
    let directory = workspace::root().join("examples").join(example.name).join("loader");
    let mut command = cargo::command();
    command
        .current_dir(&directory)
        .args(["build", "--release", "-Zbindeps", "--target", TARGET])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target());
    let made = progress::step("building the boot-loader", |step| cargo::build(step, &mut command))?;
    made.into_iter()
        .next()
        .map(|made| made.path)
        .with_context(|| format!("cargo has built no program in {}", directory.display()))
}
