//! `docs/wasmtime-tests.md` beside the sources: each test that it names exists.
//!
//! ```text
//!   | Wasmtime's | what it shows | .. `tests/FILE.rs`: `test`, `test`; `tests/OTHER.rs`: `test` |
//! ```

use std::{
    fs,
    path::Path,
    string::{String, ToString},
    vec::Vec,
};

pub(crate) fn agrees() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/wasmtime-tests.md")).unwrap();
    let mut count = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Wasmtime's |")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, shows, ours] = cells[..] else { panic!("a row has three cells: {row}") };
        assert!(!shows.is_empty() && !ours.is_empty(), "a row says what is shown, and by which test: {row}");
        for (file, test) in named(ours) {
            let text = fs::read_to_string(root.join(&file)).unwrap_or_default();
            assert!(
                text.contains(&std::format!("fn {test}")),
                "{file} has no test {test}, which the page names"
            );
            count += 1;
        }
    }
    assert!(count > 50, "only {count} tests were found on the page: was it written in another way?");
}

/// The tests that a cell names: words in backticks after a file in backticks.
fn named(cell: &str) -> Vec<(String, String)> {
    let (mut file, mut tests) = ("", Vec::new());
    for word in cell.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            file = word;
        } else if !file.is_empty() {
            tests.push((file.to_string(), word.to_string()));
        }
    }
    tests
}
