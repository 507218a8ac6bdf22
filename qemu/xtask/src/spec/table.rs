//! What came of everything, as a table.
//!
//! ```text
//!                  files   here: passed  failed  skipped   in machines: passed  failed  skipped
//!   core              97           4711       0        0                 35000       0        0
//!   gc                17  ..
//! ```

use core::fmt::Write;

use super::judge::Tally;
use super::skips::Reason;

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) files: usize,
    pub(super) here: Tally,
    pub(super) there: Tally,
}

/// The table of all groups, the sum, and what the machines did one by one.
pub(super) fn table(groups: &[Row], machines: &[(String, Tally)]) -> String {
    let names = groups.iter().map(|row| &row.name).chain(machines.iter().map(|(name, _)| name));
    let width = names.map(String::len).max().unwrap_or(0).max("all".len());
    let mut text = format!(
        "{:width$}  {:>5}  {:>32}  {:>32}\n{:width$}  {:>5}  {}  {}\n",
        "",
        "",
        "invalid modules, refused here",
        "assertions, in machines",
        "",
        "files",
        head(),
        head()
    );
    let mut all = Row { name: "all".to_owned(), ..Row::default() };
    for row in groups {
        all.files += row.files;
        all.here.add(row.here);
        all.there.add(row.there);
    }
    for row in groups.iter().chain([&all]) {
        let Row { name, files, here, there } = row;
        // Writing to a `String` cannot fail, here and below.
        let _ = writeln!(text, "{name:width$}  {files:>5}  {}  {}", numbers(here), numbers(there));
    }
    text.push('\n');
    for (name, tally) in machines {
        let _ = writeln!(text, "{name:width$}  {:>5}  {:>32}  {}", "", "", numbers(tally));
    }
    let mut skipped = all.here;
    skipped.add(all.there);
    for (reason, count) in Reason::ALL.iter().zip(skipped.skipped) {
        if count > 0 {
            let _ = writeln!(text, "skipped: {count} assertions: {reason}");
        }
    }
    text
}

fn head() -> String {
    format!("{:>12}{:>10}{:>10}", "passed", "failed", "skipped")
}

fn numbers(tally: &Tally) -> String {
    format!("{:>12}{:>10}{:>10}", tally.passed, tally.failed, tally.all_skipped())
}
