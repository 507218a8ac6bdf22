//! What was measured, in a file: `docs/performance/ARCH.json`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;
use std::{env, fmt, fs};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::counted::Group;
use crate::arch::Arch;
use crate::workspace;

/// Under what something was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    /// As rustc says it: `1.95.0 (59807616e 2026-04-14)`.
    pub(super) rustc: String,
    /// `7.2.22`.
    pub(super) qemu: String,
    /// Of the last run that was written; with a `+` if the tree was not quite that commit.
    pub(super) commit: String,
    /// What of QEMU's line decides about the numbers.
    pub(super) flags: String,
}

impl Conditions {
    /// Those of now.
    pub(super) fn now(arch: Arch, flags: String) -> Result<Self> {
        let rustc =
            said(Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version"))?;
        let qemu = said(Command::new(arch.qemu()).arg("--version"))?;
        let version = qemu.split_once("version ").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(Self {
            rustc: rustc.trim().trim_start_matches("rustc ").to_owned(),
            qemu: version.with_context(|| format!("{} does not say its version", arch.qemu()))?.to_owned(),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            flags,
        })
    }

    /// Whether numbers may be compared: everything is the same but the commit.
    pub(super) fn compare_with(&self, other: &Self) -> bool {
        (&self.rustc, &self.qemu, &self.flags) == (&other.rustc, &other.qemu, &other.flags)
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, qemu, commit, .. } = self;
        write!(f, "rustc {rustc}, QEMU {qemu}, commit {commit}")
    }
}

/// The commit of the tree. None outside of git, as in a source archive.
fn commit() -> Option<String> {
    let git = |words: &[&str]| said(Command::new("git").current_dir(workspace::root()).args(words)).ok();
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // What we write ourselves does not count.
    let words = ["status", "--porcelain", "--", ".", ":!docs/performance", ":!docs/performance.md"];
    let dirty = if git(&words)?.trim().is_empty() { "" } else { "+" };
    Some(format!("{}{dirty}", commit.trim()))
}

fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The data files there are.
pub(super) fn all() -> Result<Vec<(Arch, Data)>> {
    let mut files = Vec::new();
    for arch in Arch::ALL {
        files.extend(Data::read(arch)?.map(|data| (arch, data)));
    }
    Ok(files)
}

/// A data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) conditions: Conditions,
    pub(super) rows: BTreeMap<String, u64>,
}

impl Data {
    pub(super) fn new(conditions: Conditions, rows: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self { conditions, rows: rows.into_iter().collect() }
    }

    /// The same with some rows measured again.
    pub(super) fn updated(mut self, now: Conditions, rows: Vec<(String, u64)>) -> Self {
        self.conditions = now;
        self.rows.extend(rows);
        self
    }

    /// Rows that no group has any more.
    pub(super) fn without(&self, groups: &[Group]) -> Vec<&str> {
        let counted = |row: &String| groups.iter().any(|group| group.rows.contains(row));
        self.rows.keys().filter(|row| !counted(row)).map(String::as_str).collect()
    }

    fn path(arch: Arch) -> PathBuf {
        workspace::root().join(format!("docs/performance/{arch}.json"))
    }

    /// The file of `arch`, if there is one.
    pub(super) fn read(arch: Arch) -> Result<Option<Self>> {
        let path = Self::path(arch);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map(Some).with_context(|| {
                format!("{} is damaged; restore it, or remove it and measure again", path.display())
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(super) fn write(&self, arch: Arch) -> Result<()> {
        let path = Self::path(arch);
        fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        workspace::write_atomically(&path, |file| Ok(file.write_all(self.text()?.as_bytes())?))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let word = |name: &str| {
            value[name].as_str().map(str::to_owned).with_context(|| format!("no text called `{name}`"))
        };
        let conditions = Conditions {
            rustc: word("rustc")?,
            qemu: word("qemu")?,
            commit: word("commit")?,
            flags: word("flags")?,
        };
        let mut rows = BTreeMap::new();
        for (name, count) in value["rows"].as_object().context("no object called `rows`")? {
            rows.insert(name.clone(), count.as_u64().with_context(|| format!("row `{name}` is no count"))?);
        }
        Ok(Self { conditions, rows })
    }

    fn text(&self) -> Result<String> {
        let Conditions { rustc, qemu, commit, flags } = &self.conditions;
        let value = json!({
            "rustc": rustc, "qemu": qemu, "commit": commit, "flags": flags, "rows": self.rows
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Conditions, Data, Group};
    use crate::kernel::With;
    use crate::setup::Cpus;

    pub(crate) fn data(rows: &[(&str, u64)]) -> Data {
        let conditions = Conditions {
            rustc: "1.95.0 (59807616e 2026-04-14)".to_owned(),
            qemu: "7.2.22".to_owned(),
            commit: "0123456789ab+".to_owned(),
            flags: "-M virt".to_owned(),
        };
        Data::new(conditions, rows.iter().map(|(name, count)| ((*name).to_owned(), *count)))
    }

    #[test]
    fn a_file_comes_back() {
        let data = data(&[("b", 2), ("a", 1)]);
        assert_eq!(Data::parse(&data.text().unwrap()).unwrap(), data);
        for wrong in ["", "{}", "[]", r#"{"rustc":"","qemu":"","commit":"","flags":"","rows":{"a":-1}}"#] {
            assert!(Data::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_measured_again_leaves_the_rest() {
        let old = data(&[("a", 1), ("b", 2)]);
        let mut now = old.conditions.clone();
        now.commit = "another".to_owned();
        assert!(old.conditions.compare_with(&now));
        let new = old.clone().updated(now.clone(), vec![("b".to_owned(), 3), ("c".to_owned(), 4)]);
        assert_eq!(new, Data { conditions: now.clone(), ..data(&[("a", 1), ("b", 3), ("c", 4)]) });
        now.qemu = "8.0.0".to_owned();
        assert!(!old.conditions.compare_with(&now));
    }

    #[test]
    fn rows_that_nobody_counts_are_found() {
        let rows = vec!["a".to_owned(), "c".to_owned()];
        let group = Group { name: "g".to_owned(), kernel: With::Nothing, quick: true, cpus: Cpus::ONE, rows };
        assert_eq!(data(&[("a", 1), ("b", 2)]).without(&[group]), ["b"]);
    }
}
