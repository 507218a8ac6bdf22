//! The copy of the source in which mistakes are made.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Defect;
use crate::workspace;

/// A copy, and beside it a target directory of its own.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Copies all that git knows or does not ignore, as it is now. Files that are the same already
    /// keep their time, so that cargo does not build them again.
    pub(super) fn copy(below: &Path) -> Result<Self> {
        let tree = Self { root: below.join("tree"), target: below.join("target") };
        let mut kept = BTreeSet::new();
        for name in files()? {
            let (from, to) = (workspace::root().join(&name), tree.root.join(&name));
            // Listed, but removed and not yet committed.
            let Ok(content) = fs::read(&from) else { continue };
            if fs::read(&to).ok().as_ref() != Some(&content) {
                write(&to, &content)?;
            }
            kept.insert(to);
        }
        remove_others(&tree.root, &kept)?;
        Ok(tree)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Whether the mistake can be made.
    pub(super) fn check(&self, defect: &Defect) -> Result<()> {
        changed(&self.read(defect)?, defect).map(drop)
    }

    /// Makes the mistake.
    pub(super) fn apply(&self, defect: &Defect) -> Result<Applied> {
        let unchanged = self.read(defect)?;
        let applied = Applied { path: self.root.join(defect.file), unchanged };
        write(&applied.path, changed(&applied.unchanged, defect)?.as_bytes())?;
        Ok(applied)
    }

    fn read(&self, defect: &Defect) -> Result<String> {
        let (name, file) = (defect.name, defect.file);
        fs::read_to_string(self.root.join(file)).with_context(|| {
            format!("defect `{name}`: cannot read {file}; is qemu/xtask/src/defects/table.rs out of date?")
        })
    }
}

/// A mistake that is made now. (If we are killed before it is undone, the next copy undoes it.)
#[derive(Debug)]
pub(super) struct Applied {
    path: PathBuf,
    unchanged: String,
}

impl Applied {
    pub(super) fn undo(self) -> Result<()> {
        write(&self.path, self.unchanged.as_bytes())
    }
}

/// A file's text with the mistake in it.
pub(super) fn changed(text: &str, defect: &Defect) -> Result<String> {
    let Defect { name, file, from, to, .. } = defect;
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        times => bail!(
            "defect `{name}`: its text occurs {times} times in {file}, not once; \
             qemu/xtask/src/defects/table.rs is out of date"
        ),
    }
}

/// The files of the source, relative to its root.
fn files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .current_dir(workspace::root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("cannot start git, which knows the files of the source; install it")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file's name is not in UTF-8")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes files that an earlier copy had.
fn remove_others(directory: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_others(&entry.path(), kept)?;
        } else if !kept.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
