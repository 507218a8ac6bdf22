//! `spec`: the specification's tests. A short selection passes; mistakes, in files or of a kernel, are noticed.

use crate::support::{AARCH64, Done, Scratch, X86_64, finish, tool};

/// A few files of each proposal: seconds.
const SELECTION: [&str; 20] = [
    "core/memory",
    "core/linking",
    "core/traps",
    "core/float_misc",
    "core/table_grow",
    "core/start",
    "core/skip-stack-guard-page",
    "bulk-memory/memory_init",
    "custom-page-sizes/",
    "exceptions/",
    "extended-const/",
    "function-references/call_ref",
    "gc/struct",
    "gc/array_init",
    "memory64/memory64",
    "more/",
    "multi-memory/imports",
    "relaxed-simd/",
    "simd/simd_load",
    "tail-call/",
];

fn spec(words: &[&str]) -> Done {
    finish(tool(["spec"].iter().chain(words)), b"")
}

/// Checks that the selection passes, and that it was run.
#[track_caller]
fn selection_passes(arch: &str) {
    let done = spec(&[["--arch", arch].as_slice(), &SELECTION].concat());
    assert_eq!(done.status, Some(0), "{}{}", done.text(), done.stderr);
    for strategy in ["pooling", "on-demand"] {
        let line = done.text().lines().find(|line| line.starts_with(&format!("{arch}, {strategy}")));
        let line = line.unwrap_or_else(|| panic!("no {strategy} in: {}", done.text()));
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
        assert!(numbers.next().is_some_and(|passed| passed > 2000), "{line}");
    }
}

#[test]
fn a_selection_passes_on_x86_64() {
    selection_passes(X86_64);
}

#[test]
fn a_selection_passes_on_aarch64() {
    selection_passes(AARCH64);
}

#[test]
fn every_kind_of_wrong_expectation_is_a_failure_of_its_line() {
    let scratch = Scratch::new("spec");
    let file = scratch.module(
        "wrong.wast",
        r#"(module $m
  (memory (export "memory") 1)
  (global (export "g") i64 (i64.const 7))
  (func (export "one") (result i32) i32.const 1)
  (func (export "nan") (result f32) f32.const nan:0x200001)
  (func (export "lanes") (result v128) v128.const i32x4 1 2 3 4)
  (func (export "null") (result externref) ref.null extern)
  (func (export "trap") unreachable)
  (func (export "load") (drop (i32.load (i32.const 65536)))))
(assert_return (invoke "one") (i32.const 1))
(assert_return (invoke "one") (i32.const 2))
(assert_return (invoke "nan") (f32.const nan:canonical))
(assert_return (invoke "lanes") (v128.const i32x4 1 2 3 5))
(assert_return (invoke "null") (ref.extern 1))
(assert_return (get "g") (i64.const 8))
(assert_return (invoke "trap"))
(assert_trap (invoke "one") "unreachable")
(assert_trap (invoke "load") "unreachable")
(assert_trap (invoke "load") "out of bounds memory access")
(assert_exhaustion (invoke "trap") "call stack exhausted")
(assert_exception (invoke "trap"))
(assert_return (invoke "missing"))
(assert_unlinkable (module (import "spectest" "memory" (memory 1))) "unknown import")
(assert_unlinkable (module (import "spectest" "no" (memory 1))) "unknown import")
(assert_invalid (module) "nothing is wrong with it")
(module (import "no" "no" (func)))
(assert_return (invoke $m "one") (i32.const 1))
"#,
    );
    let done = spec(&["--arch", X86_64, "--strategy", "pooling", &file]);
    assert_eq!(done.status, Some(1), "{}", done.stderr);
    let failed = |line: u32| done.text().contains(&format!("wrong.wast:{line}: "));
    let lines: Vec<u32> = (1..=30).filter(|line| failed(*line)).collect();
    assert_eq!(lines, [11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 25, 26], "{}", done.text());
    assert!(done.text().contains("expected I32(2) as result 0, got I32(1)"), "{}", done.text());
}

#[test]
fn a_file_that_does_not_end_has_failed_and_the_next_one_is_run() {
    let scratch = Scratch::new("spec");
    let text = "(module (func (export \"for-ever\") (loop (br 0))))\n(invoke \"for-ever\")";
    let endless = scratch.module("endless.wast", text);
    let text = r#"(module (func (export "one"))) (assert_return (invoke "one"))"#;
    let next = scratch.module("next.wast", text);
    let line = ["--arch", X86_64, "--strategy", "on-demand", "--timeout", "2", &endless, &next];
    let done = spec(&line);
    assert_eq!(done.status, Some(1), "{}", done.stderr);
    let text = done.text();
    assert!(
        text.contains("endless.wast: ") && text.contains("at line 2: ") && text.contains("--timeout"),
        "{text}"
    );
    assert!(!text.contains("next.wast"), "{text}");
    let words: Vec<&str> =
        text.lines().find(|line| line.starts_with("x86_64")).unwrap().split_whitespace().collect();
    assert_eq!(words, ["x86_64,", "on-demand", "1", "1", "0"]);
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_built() {
    let scratch = Scratch::new("spec");
    spec(&["no/such/file.wast"]).says(2, &["no/such/file.wast", "--list"]);
    spec(&["no-such-name"]).says(2, &["no-such-name", "--list"]);
    let broken = scratch.module("broken.wast", "(module)\n\n(assert_nothing)");
    spec(&["--arch", X86_64, &broken]).says(126, &["broken.wast:3: "]);
    spec(&["--timeout", "0"]).says(2, &["--timeout"]);
}
