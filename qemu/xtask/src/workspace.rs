//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the workspace.
///
/// `cargo run` says where this package is now; a program started by hand uses the place where it
/// was built.
pub(crate) fn root() -> PathBuf {
    let now = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    now.into_iter()
        .chain([PathBuf::from(env!("CARGO_MANIFEST_DIR"))])
        .filter_map(|package| package.ancestors().nth(2).map(Path::to_path_buf))
        .find(|root| root.join("qemu/xtask/Cargo.toml").is_file())
        .unwrap_or_else(|| PathBuf::from("."))
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A directory of ours below the target directory, created if need be.
pub(crate) fn cache(name: &str) -> Result<PathBuf> {
    let directory = target().join("allotment").join(name);
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Writes a file so that nobody ever sees half of it: beside its place first, then renamed.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written: Result<()> = (|| {
        let mut file = std::io::BufWriter::new(std::fs::File::create(&part)?);
        write(&mut file)?;
        file.into_inner().map_err(|error| error.into_error())?;
        std::fs::rename(&part, path)?;
        Ok(())
    })();
    if written.is_err() {
        // Nothing more to say if even that fails: the first error is the one to report.
        drop(std::fs::remove_file(&part));
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}
