//! Where memories come from, how often a program runs, and what the kernel says about it.

use crate::support::{AARCH64, ARCHES, Done, Scratch, X86_64, finish, guest, kernel, run, run_with, tool};

const STRATEGIES: [&str; 2] = ["pooling", "on-demand"];

/// Reads one byte of standard input and exits with it; at its end with 0.
const EXITS_WITH_INPUT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")
  (func (export "_start")
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $proc_exit (i32.load8_u (i32.const 16)))))"#;

/// Checks that standard error has all of `words`.
#[track_caller]
fn assert_told(done: &Done, words: &[&str]) {
    for word in words {
        assert!(done.stderr.contains(word), "no `{word}` in: {}", done.stderr);
    }
}

/// The numbers in the line of a summary that begins with `name`.
fn numbers(done: &Done, name: &str) -> Vec<u64> {
    let line = done.stderr.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no line `{name}` in: {}", done.stderr));
    line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn a_program_runs_and_is_contained_with_either_strategy() {
    for arch in ARCHES {
        for strategy in STRATEGIES {
            let with = |words: &[&str]| run(arch, &[["--strategy", strategy].as_slice(), words].concat());
            with(&[guest("tools"), "--", "allocate", "20"]).status.filter(|status| *status == 0).unwrap();
            with(&[guest("proc_exit")]).is(42, "leaving\n");
            for misdeed in ["load-past-the-end", "load-at-the-end-of-the-guard", "load-beyond-the-guard"] {
                with(&[guest("misbehave"), "--", misdeed]).says(134, &["out of bounds memory access"]);
            }
        }
    }
}

#[test]
fn each_strategy_takes_memories_from_where_it_says() {
    let metrics = |strategy| run(X86_64, &["--strategy", strategy, "--metrics", guest("proc_exit")]);
    let done = metrics("pooling");
    done.is(42, "leaving\n");
    assert_told(&done, &["allotment: metrics\nin use   ", "frames   ", "live     ", "invalidations: "]);
    assert!(!done.stderr.contains("(0 free)"), "{}", done.stderr);
    let done = metrics("on-demand");
    done.is(42, "leaving\n");
    assert_told(&done, &["(0 free)"]);
    assert!(!done.stderr.contains("\nlive     "), "pools where none were carved: {}", done.stderr);
}

#[test]
fn instances_end_as_they_like_and_are_summed_up() {
    let scratch = Scratch::new("instances");
    let module = scratch.module("exits.wat", EXITS_WITH_INPUT);
    for (arch, strategy) in [(X86_64, "pooling"), (X86_64, "on-demand"), (AARCH64, "pooling")] {
        // The fifth finds the input at its end.
        let line = ["--instances", "5", "--strategy", strategy, &module];
        let done = run_with(arch, &line, b"\0\x07\0\x03");
        done.is(7, "");
        let ends = "allotment: 5 of 5 instances: 3 exited with 0, 1 exited with 7, 1 exited with 3\n";
        assert_told(&done, &[ends, "first      median       total\n"]);
        for step in ["instantiate ", "run ", "give back "] {
            let times: Vec<f64> = numbers_with_units(&done, step);
            let [first, median, total] = times[..] else { panic!("{times:?} in: {}", done.stderr) };
            assert!(first <= total && median <= total && total > 0.0, "{step}: {times:?}");
        }
        let frames = numbers(&done, "frames ");
        let [_, with_first, with_last, _] = frames[..] else { panic!("{frames:?} in: {}", done.stderr) };
        assert_eq!(with_first, with_last, "instances leave frames behind: {}", done.stderr);
        let slots = numbers(&done, "slots ");
        assert_eq!(slots.first(), (strategy == "pooling").then_some(&1), "{}", done.stderr);
    }
}

/// The times in a line, in microseconds.
fn numbers_with_units(done: &Done, name: &str) -> Vec<f64> {
    let line = done.stderr.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let words: Vec<&str> = line.strip_prefix(name).unwrap_or_default().split_ascii_whitespace().collect();
    let time = |pair: &[&str]| {
        let unit = match pair[1] {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            unit => panic!("`{unit}` is no unit of time: {line}"),
        };
        pair[0].parse::<f64>().unwrap() * unit
    };
    words.chunks_exact(2).map(time).collect()
}

#[test]
fn every_instance_gets_the_same() {
    let line = ["--instances", "2", "--env", "A=b", guest("tools"), "--"];
    let done = run(X86_64, &[line.as_slice(), &["args", "x"]].concat());
    done.is(0, "tools.wasm\nargs\nx\ntools.wasm\nargs\nx\n");
    run(X86_64, &[line.as_slice(), &["env"]].concat()).is(0, "A=b\nA=b\n");
}

#[test]
fn traps_and_refusals_of_instances_are_told_apart() {
    let done = run(X86_64, &["--instances", "3", guest("misbehave"), "--", "unreachable"]);
    done.says(134, &["3 of 3 instances: 3 wasm trap: wasm `unreachable` instruction executed", "backtrace"]);
    let done = run(X86_64, &["--instances", "3", guest("huge_memory")]);
    done.says(126, &["0 of 3 instances\n", "huge_memory"]);
    run(X86_64, &["--instances", "3", guest("missing_import")]).says(126, &["elsewhere::wanted"]);
}

#[test]
fn a_plan_is_said_first_or_alone() {
    for arch in ARCHES {
        kernel(arch);
        let done = finish(tool(["run", "--arch", arch, "--plan", "--memory", "96M"]), b"");
        assert_eq!((done.status, &*done.stderr), (Some(0), ""));
        for word in ["window   0xffff900000000000..", "arena    0x", "memories 16 slots ", "frames   "] {
            assert!(done.text().contains(word), "no `{word}` in: {}", done.text());
        }
        let done = finish(tool(["run", "--arch", arch, "--plan", "--strategy", "on-demand"]), b"");
        assert!(done.text().contains("memories none "), "{}", done.text());
    }
    let done = run(X86_64, &["--plan", guest("proc_exit")]);
    done.is(42, "leaving\n");
    assert!(done.stderr.starts_with("allotment: plan (pooling)\nwindow   0x"), "{}", done.stderr);
}
