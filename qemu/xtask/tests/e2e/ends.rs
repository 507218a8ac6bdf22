//! How programs end, and what the tool makes of it.

use std::time::{Duration, Instant};

use crate::support::{ARCHES, Scratch, X86_64, finish, guest, run, tool};

#[test]
fn the_exit_status_is_the_programs_own() {
    let scratch = Scratch::new("status");
    let returns = scratch.module("returns.wat", "(module (func (export \"_start\")))");
    for arch in ARCHES {
        run(arch, &[&returns]).is(0, "");
        run(arch, &[guest("proc_exit")]).is(42, "leaving\n");
        for status in ["0", "1", "2", "42", "124", "125", "126", "134", "255"] {
            let done = run(arch, &[guest("tools"), "--", "exit", status]);
            done.is(status.parse().unwrap(), &format!("exiting with {status}"));
            assert_eq!(done.stderr, "");
        }
    }
}

#[test]
fn a_trap_is_status_134_with_wasmtimes_message() {
    for arch in ARCHES {
        for (misdeed, words) in [
            ("unreachable", ["wasm `unreachable` instruction executed", "wasm backtrace", "misbehave"]),
            (
                "load-past-the-end",
                ["out of bounds memory access", "memory fault at wasm address 0x", "misbehave"],
            ),
            ("divide-by-zero", ["integer divide by zero", "wasm backtrace", "misbehave"]),
            ("call-null", ["uninitialized element", "wasm backtrace", "misbehave"]),
            ("overflow-the-stack", ["call stack exhausted", "wasm backtrace", "misbehave"]),
        ] {
            let done = run(arch, &[guest("misbehave"), "--", misdeed]);
            done.says(134, &words[..2]);
            assert!(done.stderr.starts_with("allotment: "), "{}", done.stderr);
            assert!(!done.stderr.ends_with("\n\n"), "{}", done.stderr);
            // Whose memory it was, where a memory was accessed.
            let report =
                ": memory, offset 0x10000 of 0x10000 accessible bytes, slot 0 of memories (generation 1)";
            assert_eq!(done.stderr.contains(report), misdeed == "load-past-the-end", "{}", done.stderr);
        }
    }
}

#[test]
fn a_trap_in_the_start_function_is_a_trap() {
    let scratch = Scratch::new("start");
    let module =
        scratch.module("start.wat", "(module (func $s unreachable) (start $s) (func (export \"_start\")))");
    run(X86_64, &[&module]).says(134, &["unreachable"]);
}

#[test]
fn output_before_a_trap_or_a_panic_is_kept() {
    for arch in ARCHES {
        let done = run(arch, &[guest("tools"), "--", "panic", "over and ü"]);
        done.says(134, &["over and ü", "panicked at", "wasm `unreachable`"]);
        let done = run(arch, &[guest("tools"), "--", "exit", "300"]);
        assert_ne!(done.status, Some(0));
    }
}

#[test]
fn a_deadline_ends_an_endless_loop() {
    for arch in ARCHES {
        run(arch, &[guest("tools"), "--", "exit", "0"]);
        let begin = Instant::now();
        run(arch, &["--timeout", "1.5", guest("loop")]).says(124, &["deadline of 1.5 s"]);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        run(arch, &["--timeout", "30", guest("proc_exit")]).is(42, "leaving\n");
    }
}

#[test]
fn a_deadline_passes_while_a_program_waits_for_input() {
    let mut command = tool(["run", "--arch", X86_64, "--timeout", "1", guest("tools"), "--", "cat"]);
    let mut child = crate::support::start(command.stdin(std::process::Stdio::piped()));
    let open = child.stdin.take();
    crate::support::wait(child).says(124, &["deadline"]);
    drop(open);
}

#[test]
fn time_passes_in_the_machine_as_outside() {
    for arch in ARCHES {
        let begin = Instant::now();
        run(arch, &[guest("tools"), "--", "sleep", "700"]).is(0, "slept\n");
        assert!(begin.elapsed() >= Duration::from_millis(650), "{:?}", begin.elapsed());
        run(arch, &[guest("tools"), "--", "clock"]).is(0, "the clocks agree\n");
        run(arch, &[guest("tools"), "--", "random"]).is(0, "random\n");
    }
}

#[test]
fn usage_errors_are_status_2() {
    let scratch = Scratch::new("usage");
    for (words, mistake) in [
        (vec!["run", "--memory", "lots", "m.wasm"], "lots"),
        (vec!["run", "--memory", "16M", "m.wasm"], "32M"),
        (vec!["run", "--timeout", "0", "m.wasm"], "seconds"),
        (vec!["run", "--arch", "riscv64", "m.wasm"], "riscv64"),
        (vec!["run", "m.wasm", "argument"], "argument"),
        (vec!["run", "--gdb"], "MODULE"),
        (vec!["run", "--instances", "2"], "MODULE"),
        (vec!["run", "--instances", "0", "m.wasm"], "1 to 100000"),
        (vec!["run", "--instances", "100001", "m.wasm"], "1 to 100000"),
        (vec!["run", "--strategy", "slots", "m.wasm"], "on-demand"),
        (vec!["draw", "--instances", "many"], "many"),
        (vec!["draw", "--strategy", "none"], "pooling"),
        (vec!["draw", "--timeout=-1"], "seconds"),
        (vec!["draw", "a.wasm", "b.wasm"], "b.wasm"),
        (vec!["run", "--dir", "/nowhere", guest("loop")], "/nowhere"),
        (vec!["compile", "m.wasm"], "--arch"),
        (vec!["nonsense"], "nonsense"),
        (vec![], "Usage"),
    ] {
        let mut command = tool(&words);
        command.current_dir(scratch.path());
        finish(command, b"").says(2, &[mistake]);
    }
}

#[test]
fn help_is_everywhere_and_names_the_statuses() {
    for words in [vec!["--help"], vec!["run", "--help"], vec!["run", "-h"]] {
        let done = finish(tool(&words), b"");
        assert_eq!((done.status, &*done.stderr), (Some(0), ""));
        for status in ["124", "125", "126", "134", "141"] {
            assert!(done.text().contains(status), "{words:?}: {}", done.text());
        }
    }
    for command in ["compile", "draw", "image", "test", "bench"] {
        let done = finish(tool([command, "--help"]), b"");
        assert_eq!(done.status, Some(0), "{}", done.stderr);
        assert!(done.text().contains("Example") && done.text().contains("Exit status"), "{}", done.text());
    }
}
