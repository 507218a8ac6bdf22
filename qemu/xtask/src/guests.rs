//! The guest programs in `qemu/guests`: where they are and how they are built.
//!
//! ```text
//!   qemu/guests/wat/NAME.wat      compiled as it is            -> guest NAME
//!   qemu/guests/Cargo.toml        Rust, for wasm32-wasip1      -> guest NAME per program
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{cargo, install, progress, workspace};

const TARGET: &str = "wasm32-wasip1";

/// A guest program, as a `.wat` or `.wasm` file.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// Its name, unique among all guests.
    pub(crate) name: String,
    /// Its file.
    pub(crate) module: PathBuf,
}

/// All guests by name; Rust programs are built first.
pub(crate) fn all() -> Result<Vec<Guest>> {
    let mut guests = texts()?;
    guests.extend(programs()?);
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some([first, second]) = guests.windows(2).find_map(|pair| match pair {
        [a, b] if a.name == b.name => Some([a, b]),
        _ => None,
    }) {
        bail!(
            "two guests are called `{}`: {} and {}",
            first.name,
            first.module.display(),
            second.module.display()
        );
    }
    Ok(guests)
}

/// The file of a guest in text form.
pub(crate) fn text(name: &str) -> PathBuf {
    workspace::root().join(format!("qemu/guests/wat/{name}.wat"))
}

/// `cargo xtask guests`: a line with the file of each.
pub(crate) fn print() -> Result<u8> {
    for guest in all()? {
        writeln!(io::stdout(), "{}", guest.module.display()).context("cannot write standard output")?;
    }
    Ok(0)
}

/// Guests in text form.
fn texts() -> Result<Vec<Guest>> {
    let directory = workspace::root().join("qemu/guests/wat");
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let failed = || format!("cannot read {}", directory.display());
    let mut guests = Vec::new();
    for entry in fs::read_dir(&directory).with_context(failed)? {
        let module = entry.with_context(failed)?.path();
        if module.extension().is_some_and(|extension| extension == "wat") {
            let name = module.file_stem().unwrap_or_default();
            guests.push(Guest { name: name.to_string_lossy().into_owned(), module });
        }
    }
    Ok(guests)
}

/// Guests in Rust.
fn programs() -> Result<Vec<Guest>> {
    let directory = workspace::root().join("qemu/guests");
    if !directory.join("Cargo.toml").is_file() {
        return Ok(Vec::new());
    }
    install::rust_target(TARGET)?;
    // A workspace of its own: it has other profiles than the kernel's.
    let mut command = cargo::command();
    command
        .current_dir(&directory)
        .args(["build", "--release", "--workspace", "--bins", "--target", TARGET])
        .env("CARGO_TARGET_DIR", workspace::target().join("guests"));
    let made = progress::step("building the guest programs", |step| cargo::build(step, &mut command))?;
    Ok(made.into_iter().map(|executable| Guest { name: executable.name, module: executable.path }).collect())
}
