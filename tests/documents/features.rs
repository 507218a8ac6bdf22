//! Features as `Cargo.toml` has them: README explains each, and `.ci/run` builds each alone.

use std::collections::BTreeSet;

pub(crate) fn compare() {
    let features = declared(include_str!("../../Cargo.toml"));
    assert!(features.len() > 5, "{features:?} are few");
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("| feature | default | gives |").expect("README has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let explained: BTreeSet<_> = rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();
    assert_eq!(explained, features, "README's table of features (left) is not Cargo.toml's (right)");

    let script = include_str!("../../.ci/run");
    let (_, list) = script.split_once("\nalone=(\"\" ").expect(".ci/run has the list");
    let (list, _) = list.split_once(')').expect("the list ends");
    let alone: BTreeSet<_> = list.split_whitespace().map(str::to_owned).collect();
    assert_eq!(alone, features, "what .ci/run builds alone (left) is not what Cargo.toml has (right)");
}

/// All but `default`, which is several others.
fn declared(manifest: &str) -> BTreeSet<String> {
    let (_, section) = manifest.split_once("\n[features]\n").expect("there are features");
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.to_owned()).filter(|name| name != "default").collect()
}
