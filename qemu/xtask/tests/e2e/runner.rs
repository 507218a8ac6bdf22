//! The runner, which cargo calls with kernels: tests fail alone, and libtest's words work.

use std::path::Path;
use std::process::Command;

use crate::support::{AARCH64, ARCHES, Done, X86_64, example, finish, tool};

/// All tests of `qemu/harness/examples/failing.rs`, in their order.
const TESTS: [&str; 9] = [
    "passes",
    "panics",
    "returns_an_error",
    "hangs",
    "faults",
    "resets",
    "ends_the_machine_too_early",
    "is_ignored",
    "passes_too",
];

fn runner(arch: &str, words: &[&str]) -> Done {
    runner_with(arch, words, &[])
}

/// The same with more of an environment.
fn runner_with(arch: &str, words: &[&str], variables: &[(&str, &str)]) -> Done {
    let mut command = tool(["runner"]);
    command.arg(example(arch, "allotment-harness", "failing")).args(words).env("ALLOTMENT_TEST_TIMEOUT", "2");
    command.envs(variables.iter().copied());
    finish(command, b"")
}

/// The names of tests that passed.
fn passed(done: &Done) -> Vec<&str> {
    let lines = done.text().lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
    let mut names: Vec<&str> = lines.map(str::trim).collect();
    names.sort_unstable();
    names
}

#[test]
fn each_failing_test_fails_alone() {
    for arch in ARCHES {
        let done = runner(arch, &[]);
        assert_eq!(done.status, Some(101), "{}", done.stderr);
        assert_eq!(passed(&done), ["passes", "passes_too"], "{}", done.text());
        let reset = if arch == X86_64 { "a triple fault" } else { "was reset" };
        for words in [
            "2 passed; 6 failed; 1 ignored",
            "arithmetic is as it was",
            "test returned an error: \"no luck\"",
            "stopped after 2 s",
            "CPU 0, program counter ",
            "page fault: read at 0x10, no page there",
            reset,
            "never said that `ends_the_machine_too_early` passed",
        ] {
            assert!(done.text().contains(words), "no `{words}` in: {}", done.text());
        }
        // Names in the backtraces, for where a CPU hangs, and on x86_64 the exceptions before the reset.
        let named =
            |function: &str| done.text().contains(&format!("{function} (qemu/harness/examples/failing.rs:"));
        assert!(named("panics") && named("faults") && named("hangs"), "{}", done.text());
        assert!(arch == AARCH64 || named("reset"), "{}", done.text());
    }
}

#[test]
fn libtests_words_select_tests() {
    for (words, names) in [
        (["passes"].as_slice(), ["passes", "passes_too"].as_slice()),
        (&["passes", "--exact"], &["passes"]),
        (&["--exact", "passes_too", "passes"], &["passes", "passes_too"]),
        (&["passes", "--skip", "too"], &["passes"]),
        (&["--ignored"], &["is_ignored"]),
        (&["--include-ignored", "passes", "ignored"], &["is_ignored", "passes", "passes_too"]),
        (&["nothing_has_this_name"], &[]),
        (&["passes", "--test-threads", "1", "--color", "never"], &["passes", "passes_too"]),
    ] {
        let done = runner(X86_64, words);
        assert_eq!((done.status, passed(&done)), (Some(0), names.to_vec()), "{words:?}: {}", done.stderr);
    }
    assert_eq!(runner(X86_64, &["--nonsense"]).status, Some(2));
}

#[test]
fn tests_are_listed_without_being_run() {
    for arch in ARCHES {
        let lines = TESTS.map(|name| format!("{name}: test\n")).concat();
        runner(arch, &["--list", "--format", "terse"]).is(0, &lines);
        runner(arch, &["--list"]).is(0, &format!("{lines}\n9 tests, 0 benchmarks\n"));
        runner(arch, &["--list", "--format", "terse", "--ignored"]).is(0, "is_ignored: test\n");
    }
}

#[test]
fn output_is_shown_as_it_comes_if_asked_for() {
    for arch in ARCHES {
        let done = runner(arch, &["passes", "--exact", "--nocapture"]);
        assert_eq!(done.status, Some(0));
        assert!(done.stderr.contains("test passes ..."), "{}", done.stderr);
        assert_eq!(runner(arch, &["passes", "--exact"]).stderr, "");
    }
}

#[test]
fn the_environment_says_what_machine() {
    let words = ["passes", "--exact"];
    for arch in ARCHES {
        let done = runner_with(arch, &words, &[("ALLOTMENT_SMP", "4"), ("ALLOTMENT_CPU", "max")]);
        assert_eq!((done.status, passed(&done)), (Some(0), vec!["passes"]), "{}", done.stderr);
        // A word of the kernel's command line: this one names a test that fails.
        let done = runner_with(arch, &words, &[("ALLOTMENT_WORDS", "--nocapture panics")]);
        assert!(done.text().contains("arithmetic is as it was"), "{}", done.text());
    }
    runner_with(X86_64, &words, &[("ALLOTMENT_SMP", "0")]).says(2, &["ALLOTMENT_SMP", "`0`", "1 to 8"]);
    let done = runner_with(X86_64, &words, &[("ALLOTMENT_CPU", "nonsense")]);
    assert!(done.status != Some(0) && done.text().contains("nonsense"), "{}", done.text());
}

#[test]
fn what_is_no_kernel_is_refused() {
    finish(tool(["runner", "/dev/null"]), b"").says(125, &["/dev/null", "no ELF file"]);
    finish(tool(["runner", "/nowhere"]), b"").says(125, &["/nowhere", "No such file"]);
}

/// Cargo in the root package.
fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).args(words);
    // Cargo tells these to its children, whom they do not concern.
    for name in ["NEXTEST", "NEXTEST_EXECUTION_MODE", "CARGO_MANIFEST_DIR", "ALLOTMENT_FULL"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn plain_cargo_tests_three_worlds_in_one_command() {
    let line = ["test", "--quiet", "--target", "x86_64-unknown-none", "--target", "aarch64-unknown-none"];
    let mut command = cargo(&line);
    command.args(["--target", "host-tuple", "--test", "layout"]);
    let done = finish(command, b"");
    assert_eq!(done.status, Some(0), "{}\n{}", done.text(), done.stderr);
    assert_eq!(done.text().matches("test result: ok.").count(), 3, "{}", done.text());
}

#[test]
fn nextest_finds_the_same_tests() {
    if !finish(cargo(&["nextest", "--version"]), b"").text().starts_with("cargo-nextest") {
        return;
    }
    for target in ["x86_64-unknown-none", "aarch64-unknown-none"] {
        let line = ["--quiet", "--target", target, "--test", "layout"];
        let listed = finish(
            cargo(&[["test"].as_slice(), &line, &["--", "--list", "--format", "terse"]].concat()),
            b"",
        );
        let mut names: Vec<&str> =
            listed.text().lines().filter_map(|line| line.strip_suffix(": test")).collect();
        let found = finish(
            cargo(&[["nextest", "list", "--message-format", "oneline"].as_slice(), &line[1..]].concat()),
            b"",
        );
        let mut found_names: Vec<&str> =
            found.text().lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        names.sort_unstable();
        found_names.sort_unstable();
        assert!(!names.is_empty(), "{}", listed.stderr);
        assert_eq!(names, found_names, "{}", found.stderr);
        let ran = finish(cargo(&[["nextest", "run"].as_slice(), &line[1..]].concat()), b"");
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("{} passed", names.len())), "{}", ran.stderr);
    }
}
