//! Standard input, output and error.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::Stdio;

use crate::support::{
    ARCHES, Scratch, X86_64, assert_same, finish, guest, kernel, noise, run, run_with, start, text, tool,
    wait,
};

/// Writes `y` and a newline for ever, or until that fails.
const YES: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\02\00\00\00")
  (data (i32.const 16) "y\n")
  (func (export "_start")
    (loop $again
      (br_if $again (i32.eqz (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))))"#;

#[test]
fn standard_input_arrives_byte_for_byte_with_its_end() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let long = noise(1 << 20);
    for arch in ARCHES {
        for input in [&[], b"\0".as_slice(), b"no newline", &every_byte, &long] {
            let done = run_with(arch, &[guest("tools"), "--", "cat"], input);
            assert_eq!((done.status, &*done.stderr), (Some(0), ""));
            assert_same(&done.stdout, input);
        }
    }
}

#[test]
fn input_that_is_not_read_stays_there() {
    let scratch = Scratch::new("unread");
    let path = scratch.write("input", &noise(1 << 20));
    for arch in ARCHES {
        kernel(arch);
        let mut file = File::open(&path).unwrap();
        let mut command = tool(["run", "--arch", arch, guest("tools"), "--", "args"]);
        let done = wait(start(command.stdin(file.try_clone().unwrap())));
        done.is(0, "tools.wasm\nargs\n");
        assert_eq!(file.stream_position().unwrap(), 0);
    }
}

#[test]
fn an_input_that_stays_open_keeps_no_program_from_its_end() {
    kernel(X86_64);
    let mut command = tool(["run", "--arch", X86_64, guest("tools"), "--", "args"]);
    let mut child = start(command.stdin(Stdio::piped()));
    let open = child.stdin.take();
    wait(child).is(0, "tools.wasm\nargs\n");
    drop(open);
}

#[test]
fn an_input_that_comes_in_pieces_is_read_as_it_comes() {
    for arch in ARCHES {
        kernel(arch);
        let mut command = tool(["run", "--arch", arch, guest("tools"), "--", "cat"]);
        let mut child = start(command.stdin(Stdio::piped()));
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        for piece in ["one\n", "\0\n", "\n"] {
            stdin.write_all(piece.as_bytes()).unwrap();
            let mut echo = vec![0; piece.len()];
            stdout.read_exact(&mut echo).unwrap();
            assert_eq!(echo, piece.as_bytes());
        }
        drop(stdin);
        wait(child).is(0, "");
    }
}

#[test]
fn a_closed_input_is_an_empty_one() {
    kernel(X86_64);
    let line = format!("exec '{}' run --arch x86_64 '{}' -- cat <&-", tool_path(), guest("tools"));
    finish(shell(&line), b"").is(0, "");
}

#[test]
fn output_of_tens_of_mebibytes_arrives_byte_for_byte() {
    let scratch = Scratch::new("large");
    let large = noise(32 << 20);
    scratch.write("files/large", &large);
    for arch in ARCHES {
        let done = run(arch, &["--dir", &scratch.file("files"), guest("tools"), "--", "cat", "/large"]);
        assert_eq!((done.status, &*done.stderr), (Some(0), ""));
        assert_same(&done.stdout, &large);
    }
}

#[test]
fn output_and_errors_are_kept_apart_and_nothing_is_added() {
    for arch in ARCHES {
        let done = run(arch, &[guest("tools"), "--", "exit", "0"]);
        assert_eq!(done.is(0, "exiting with 0").stderr, "");
        let done = run(arch, &[guest("tools"), "--", "cat", "/nowhere"]);
        assert_eq!((done.status, done.text()), (Some(1), ""));
        assert!(done.stderr.starts_with("cat: ") && done.stderr.lines().count() == 1, "{}", done.stderr);
    }
}

#[test]
fn a_program_whose_reader_goes_away_ends() {
    let scratch = Scratch::new("yes");
    let module = scratch.module("yes.wat", YES);
    for arch in ARCHES {
        kernel(arch);
        let tool = tool_path();
        let line = format!("('{tool}' run --arch {arch} --timeout 30 '{module}'; echo $? >&2) | head -n 1");
        let done = finish(shell(&line), b"");
        assert_eq!((done.text(), &*done.stderr), ("y\n", "141\n"));
    }
}

#[test]
fn a_message_that_nobody_reads_changes_no_status() {
    let scratch = Scratch::new("unheard");
    let module = scratch.module("trap.wat", "(module (func (export \"_start\") unreachable))");
    kernel(X86_64);
    let line = format!("('{}' run --arch x86_64 '{module}' 2>&3; echo $?) 3>&1 >&4 | :", tool_path());
    let done = finish(shell(&format!("{{ {line}; }} 4>&1")), b"");
    assert_eq!(done.text(), "134\n", "{}", done.stderr);
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure_of_ours() {
    kernel(X86_64);
    let line = format!("exec '{}' run --arch x86_64 '{}' -- args >/dev/full", tool_path(), guest("tools"));
    finish(shell(&line), b"").says(125, &["cannot write standard output", "No space left"]);
}

fn tool_path() -> String {
    text(tool([""; 0]).get_program().as_ref()).to_owned()
}

fn shell(line: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", line]);
    command
}
