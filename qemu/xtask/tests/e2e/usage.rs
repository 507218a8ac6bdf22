//! Command lines that `test`, `bench` and `example` refuse, before anything is built or booted.

use crate::support::{finish, tool};

/// Checks that a line is a usage error whose message has all of `words`.
#[track_caller]
fn refused(line: &str, words: &[&str]) {
    finish(tool(line.split(' ')), b"").says(2, words);
}

#[test]
fn a_machine_that_cannot_be_is_refused() {
    for wrong in ["0", "9", "-1", "many"] {
        refused(&format!("test --smp={wrong}"), &[&format!("`{wrong}`"), "--smp", "1 to 8"]);
    }
    refused("test x86_64 --paging 3", &["'3'", "--paging"]);
    refused("test aarch64 --paging 5", &["--paging", "aarch64 has 4 levels"]);
    for option in ["--smp 4", "--cpu max", "--paging 4"] {
        refused(&format!("test host {option}"), &["not the host's", "x86_64 or aarch64"]);
    }
}

#[test]
fn suites_of_their_own_take_names_only() {
    for what in ["defects", "examples", "miri", "fuzz"] {
        for option in ["--full", "--smp 2", "--cpu max", "--paging 4", "--timeout 9"] {
            refused(&format!("test {what} {option}"), &[&format!("`test {what}`"), "leave the options out"]);
        }
    }
    refused("test defects no-such-name", &["`no-such-name`", "scrub-skipped"]);
    refused("test fuzz no-such-target", &["`no-such-target`", "tenants"]);
    refused("test examples no-such-kernel", &["`cargo xtask example`"]);
}

#[test]
fn seconds_are_for_fuzz_only() {
    for line in ["test", "test host", "test miri", "test defects"] {
        refused(&format!("{line} --seconds 5"), &["`--seconds`", "leave it out"]);
    }
    refused("test fuzz --seconds 0", &["--seconds"]);
}

#[test]
fn bench_says_what_it_does_not_know() {
    refused("bench --arch riscv64", &["riscv64", "x86_64", "aarch64"]);
    refused("bench --write", &["--write"]);
}

#[test]
fn examples_are_listed_and_others_refused() {
    let listed = finish(tool(["example"]), b"");
    assert!(listed.status == Some(0) && listed.text().contains("hobby "), "{}", listed.text());
    assert_eq!(finish(tool(["example", "--list"]), b"").text(), listed.text());
    refused("example no-such-kernel", &["`no-such-kernel`", "hobby"]);
}
