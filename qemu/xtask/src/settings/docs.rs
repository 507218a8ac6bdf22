//! `docs/config.md` beside Wasmtime's source, the tables, and the tests that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Group, Place, Tool};
use crate::{arch::Arch, cargo, workspace};

/// A row of a table: what the cells have between backquotes.
struct Row {
    cells: Vec<Vec<String>>,
}

fn page() -> String {
    fs::read_to_string(workspace::root().join("docs/config.md")).unwrap()
}

/// The rows below the heading `title`, or below all if there is none.
fn rows(page: &str, title: Option<&str>) -> Vec<Row> {
    let mut below = title.is_none();
    let mut rows = Vec::new();
    for line in page.lines() {
        if let (Some(heading), Some(title)) = (line.strip_prefix("## "), title) {
            below = heading == title;
        }
        if let Some(inner) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"))
            && below
        {
            let cells = inner.split(" | ").map(quoted).collect();
            rows.push(Row { cells });
        }
    }
    rows
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The source of the Wasmtime that is used here.
fn wasmtime() -> PathBuf {
    let mut command = cargo::command();
    command.args(["metadata", "--format-version=1", "--filter-platform", Arch::X86_64.triple()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "wasmtime").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("src")
}

/// The public methods of `impl Config`, but for `new`.
fn methods(source: &str) -> BTreeSet<String> {
    let body = source.lines().skip_while(|line| *line != "impl Config {").take_while(|line| *line != "}");
    let name = |line: &str| {
        let rest = line.strip_prefix("    pub ")?;
        let rest = rest.strip_prefix("unsafe ").unwrap_or(rest).strip_prefix("fn ")?;
        rest.split_once(['(', '<']).map(|(name, _)| name.to_owned())
    };
    body.filter_map(name).filter(|name| name != "new").collect()
}

#[test]
fn every_method_of_wasmtimes_config_has_its_place() {
    let methods = methods(&fs::read_to_string(wasmtime().join("config.rs")).unwrap());
    assert!(methods.len() > 80, "{methods:?}");
    let mut placed = BTreeMap::new();
    for title in
        ["What instances may do", "Proposals", "Memories", "Compiling", "Tools of an operating system"]
    {
        for row in rows(&page(), Some(title)) {
            if let Some([method]) = row.cells.first().map(Vec::as_slice) {
                *placed.entry(method.clone()).or_insert(0) += 1;
            }
        }
    }
    assert!(placed.values().all(|&times| times == 1), "placed twice: {placed:?}");
    let placed: BTreeSet<String> = placed.into_keys().collect();
    let missing: Vec<_> = methods.difference(&placed).collect();
    assert!(missing.is_empty(), "docs/config.md has no row for {missing:?}: place them");
    let gone: Vec<_> = placed.difference(&methods).collect();
    assert!(gone.is_empty(), "docs/config.md has rows for {gone:?}, which Wasmtime's Config no longer has");
}

#[test]
fn every_option_is_in_the_page_and_no_other() {
    let page = page();
    let written: BTreeSet<(char, &str)> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| {
            let (letter, name) = word.strip_prefix('-')?.split_once(' ')?;
            let letter: char = letter.parse().ok()?;
            Some((letter, name.split('=').next().unwrap_or(name)))
        })
        .filter(|(letter, name)| letter.is_ascii_uppercase() && *name != "help")
        .collect();
    let settings =
        Group::ALL.map(|group| group.settings().iter().map(move |setting| (group.letter(), setting)));
    let there: BTreeSet<(char, &str)> =
        settings.into_iter().flatten().map(|(letter, setting)| (letter, setting.name)).collect();
    let missing: Vec<_> = there.difference(&written).collect();
    assert!(missing.is_empty(), "docs/config.md has no word of {missing:?}");
    let unknown: Vec<_> = written.difference(&there).collect();
    assert!(unknown.is_empty(), "docs/config.md has {unknown:?}, which are no options");
}

#[test]
fn every_row_names_a_test_that_exists() {
    let mut tests = String::new();
    for place in ["qemu/xtask/src", "qemu/xtask/tests", "qemu/run/tests", "tests"] {
        gather(&workspace::root().join(place), &mut tests);
    }
    let mut named = 0;
    for row in rows(&page(), None) {
        let Some([_, ..]) = row.cells.first().map(Vec::as_slice) else { continue };
        // Tables without a column for it begin with commands.
        if row.cells.len() < 3 {
            continue;
        }
        let test = row.cells.last().and_then(|cell| cell.first());
        let test = test.unwrap_or_else(|| panic!("{:?} names no test", row.cells[0]));
        assert!(
            tests.contains(&format!("fn {test}()")),
            "no test is called {test}, which {:?} names",
            row.cells[0]
        );
        named += 1;
    }
    assert!(named > 100, "{named}");
}

fn gather(place: &Path, into: &mut String) {
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn what_is_not_to_be_had_says_so_in_the_page_too() {
    let page = page();
    for title in
        ["What instances may do", "Proposals", "Memories", "Compiling", "Tools of an operating system"]
    {
        let section = page.split("## ").find(|section| section.starts_with(title)).unwrap();
        for line in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split(" | ").collect();
            let options = quoted(cells[2]);
            for setting in Group::ALL.iter().flat_map(|group| group.settings()) {
                let is_here = options.iter().any(|option| option.split(' ').nth(1) == Some(setting.name));
                let nowhere = matches!(setting.place, Place::Nowhere(_));
                if is_here && !matches!(setting.place, Place::Tool(Tool::Cranelift)) {
                    assert_eq!(nowhere, cells[1] == "-", "{line}");
                }
            }
        }
    }
}
