//! `docs/performance.md`: its tables are made from the data files, and its pictures are named there.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::curves::{self, Point};
use super::data::Data;
use super::density::{self, Fit};
use super::rows::{self, readable};
use crate::arch::Arch;
use crate::workspace;

/// Between these two lines of the page everything is ours.
const BEGIN: &str = "<!-- begin: written by `cargo xtask bench` -->\n";
const END: &str = "<!-- end -->\n";

/// Writes what lies between the marks anew.
pub(super) fn write(files: &[(Arch, Data)]) -> Result<()> {
    let path = path();
    let old = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = with_tables(&old, files)?;
    if new == old {
        return Ok(());
    }
    workspace::write_atomically(&path, |file| Ok(file.write_all(new.as_bytes())?))
}

fn path() -> PathBuf {
    workspace::root().join("docs/performance.md")
}

/// The page with what lies between the marks replaced.
fn with_tables(page: &str, files: &[(Arch, Data)]) -> Result<String> {
    let marks = || format!("docs/performance.md has lost its marks; put them back: {BEGIN}{END}");
    let (before, rest) = page.split_once(BEGIN).with_context(marks)?;
    let (_, after) = rest.split_once(END).with_context(marks)?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", tables(files)))
}

/// Under what was measured, and what.
fn tables(files: &[(Arch, Data)]) -> String {
    let mut text = String::new();
    for (arch, data) in files {
        text += &format!("* {arch}: {}; `{}`\n", data.conditions, data.conditions.flags);
    }
    text += "\n| instructions |";
    for (arch, _) in files {
        text += &format!(" {arch} | target |");
    }
    text += "\n|---|";
    text += &"---:|---:|".repeat(files.len());
    text.push('\n');
    for name in names(files) {
        text += &format!("| {} |", rows::title(name));
        for (arch, data) in files {
            let target = rows::find(name).and_then(|row| row.target(*arch));
            let count = data.rows.get(name).copied();
            let missed = count.zip(target).is_some_and(|(count, target)| count > target);
            let cell = |count: Option<u64>| count.map_or("-".to_owned(), |count| readable(name, count));
            let bold = if missed { "**" } else { "" };
            text += &format!(" {bold}{}{bold} | {} |", cell(count), cell(target));
        }
        text.push('\n');
    }
    text + &density::in_page(files) + &curves::in_page(files)
}

/// All rows in the table's order, but for those that are points of a curve or of the table of densities.
fn names(files: &[(Arch, Data)]) -> Vec<&str> {
    let all: BTreeSet<&str> =
        files.iter().flat_map(|(_, data)| data.rows.keys().map(String::as_str)).collect();
    let instructions = |name: &&str| Point::of_row(name).is_none() && Fit::of_row(name).is_none();
    let mut all: Vec<&str> = all.into_iter().filter(instructions).collect();
    all.sort_by_key(|name| rows::place(name));
    all
}

#[cfg(test)]
mod tests {
    use super::super::data::{all, tests::data};
    use super::{BEGIN, END, path, with_tables};
    use crate::arch::Arch;

    #[test]
    fn the_page_shows_what_the_data_files_say() {
        let page = std::fs::read_to_string(path()).unwrap();
        assert_eq!(page, with_tables(&page, &all().unwrap()).unwrap(), "write it with `cargo xtask bench`");
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let files = [
            (Arch::X86_64, data(&[("a-cycle-one-page", 7095), ("z", 1)])),
            (Arch::Aarch64, data(&[("a-cycle-one-page", 6000), ("b", 0)])),
        ];
        let page = with_tables(&format!("before\n{BEGIN}old\n{END}after\n"), &files).unwrap();
        assert!(page.starts_with("before\n") && page.ends_with("after\n") && !page.contains("old"), "{page}");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
        let expected = [
            "| instructions | x86_64 | target | aarch64 | target |",
            "| a. the same with one page of memory | **7,095** | 6,700 | 6,000 | - |",
            "| b | - | - | 0 | - |",
            "| z | 1 | - | - | - |",
        ];
        assert_eq!(rows, expected);
        assert_eq!(with_tables(&page, &files).unwrap(), page);
        assert!(with_tables("no marks", &files).unwrap_err().to_string().contains("begin"));
    }
}
