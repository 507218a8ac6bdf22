//! Files as `docs/architecture.md` names them.
//!
//! A row begins with names in backticks. A name without a directory is in the one of the name before it:
//! `pooling/slot_pool.rs`, `slot.rs`. One that ends in `/` stands for all that is below; of that the rest of
//! the row may name some.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn compare() {
    let architecture = include_str!("../../docs/architecture.md");
    for (header, directory) in [("| `arch/src` | |", "arch/src"), ("| `src` | |", "src")] {
        let named = named(architecture, header);
        let there = files(&root().join(directory));
        assert!(named.len() > 10, "{} names are few for {directory}", named.len());
        let (unknown, unnamed) = differences(&named, &there);
        assert!(unknown.is_empty(), "docs/architecture.md names what is not in {directory}: {unknown:?}");
        assert!(unnamed.is_empty(), "docs/architecture.md says nothing of these in {directory}: {unnamed:?}");
    }
}

pub(crate) fn mistakes() {
    let page = "| `x` | |\n|---|---|\n| `a/b.rs`, `c.rs`, `lost.rs` | `Not::This` |\n| `d/` | `gone.rs` |\n\n| `other.rs` | |\n";
    let named = named(page, "| `x` | |");
    let there = ["a/b.rs", "a/c.rs", "a/new.rs", "d/e/f.rs", "lib.rs"].map(str::to_owned).into();
    let (unknown, unnamed) = differences(&named, &there);
    assert_eq!(unknown, ["a/lost.rs", "d/gone.rs"]);
    assert_eq!(unnamed, ["a/new.rs"]);
}

/// What is named and not there, and the other way round.
fn differences(named: &BTreeSet<String>, there: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    let below = |name: &String, file: &String| name == file || name.ends_with('/') && file.starts_with(name);
    let unknown = named.iter().filter(|name| !there.iter().any(|file| below(name, file)));
    // What a directory or crate as a whole is, its first file says.
    let named_elsewhere = |file: &String| file.ends_with("mod.rs") || file == "lib.rs";
    let unnamed =
        there.iter().filter(|file| !named_elsewhere(file) && !named.iter().any(|name| below(name, file)));
    (unknown.cloned().collect(), unnamed.cloned().collect())
}

/// The files in the table that begins with `header`.
fn named(page: &str, header: &str) -> BTreeSet<String> {
    let (_, table) = page.split_once(header).expect("the table is there");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut names = BTreeSet::new();
    for row in rows {
        let mut directory = "";
        let quoted = row.split('`').skip(1).step_by(2);
        for name in quoted.filter(|name| name.ends_with(".rs") || name.ends_with('/')) {
            if let Some(end) = name.rfind('/') {
                directory = &name[..=end];
                names.insert(name.to_owned());
            } else {
                names.insert(format!("{directory}{name}"));
            }
        }
    }
    names
}

/// The Rust files below a directory, by their paths from there.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(directory.join(&below)).expect("a directory of the source") {
            let entry = entry.expect("an entry of it");
            let path = below.join(entry.file_name());
            if entry.path().is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
