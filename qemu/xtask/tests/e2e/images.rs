//! `compile` and `image`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{ARCHES, Scratch, finish, guest, kernel, tool};

#[test]
fn a_compiled_module_runs_where_it_was_compiled_for() {
    for arch in ARCHES {
        kernel(arch);
        let scratch = Scratch::new("compiled");
        let output = scratch.file("tools.cwasm");
        finish(tool(["compile", guest("tools"), "--arch", arch, "-o", &output]), b"").is(0, "");
        finish(tool(["run", &output, "--", "cat"]), b"\0\xff").is_bytes(0, b"\0\xff");
    }
}

#[test]
fn the_printed_line_boots_the_image() {
    for arch in ARCHES {
        let scratch = Scratch::new("an image");
        scratch.write("files/name", b"from a file\n");
        let image = scratch.file("tools.elf");
        let mut command = tool(["image", "--arch", arch, guest("tools"), "-o", &image, "--memory", "96M"]);
        command.args(["--smp", "2", "--dir", &scratch.file("files"), "--env", "A=b", "--", "cat", "/name"]);
        let line = finish(command, b"");
        assert_eq!((line.status, line.text().lines().count()), (Some(0), 1), "{}", line.stderr);
        assert!(line.text().starts_with(&format!("qemu-system-{arch} ")) && line.text().contains("96M"));
        assert!(line.text().contains(" -smp 2 "), "{}", line.text());

        let mut shell = Command::new("timeout");
        shell.args(["60", "sh", "-c", line.text()]);
        let booted = finish(shell, b"");
        let console = booted.text().replace('\r', "");
        let expected =
            "from a file\nallotment: the program exited with status 0\nallotment: machine ended well\n";
        assert!(console.ends_with(expected), "{console}");
    }
}

#[test]
fn an_image_reports_traps_and_reads_the_console() {
    let scratch = Scratch::new("console");
    // Reads a byte, writes it, and traps.
    let module = scratch.module(
        "echo.wat",
        r#"(module
          (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\10\00\00\00\01\00\00\00")
          (func (export "_start")
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            unreachable))"#,
    );
    for arch in ARCHES {
        let image = scratch.file("echo.elf");
        let line = finish(tool(["image", "--arch", arch, &module, "-o", &image]), b"");
        let mut shell = Command::new("timeout");
        shell.args(["60", "sh", "-c", line.text()]);
        let booted = finish(shell, b"Q");
        for words in ["Q", "allotment: the program trapped", "unreachable", "allotment: machine ended well"] {
            assert!(booted.text().contains(words), "no `{words}` in: {}", booted.text());
        }
    }
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let scratch = Scratch::new("unwritable");
    let output = scratch.file("nowhere/out");
    for command in ["compile", "image"] {
        let line = [command, guest("loop"), "--arch", "x86_64", "-o", &output];
        finish(tool(line), b"").says(125, &[&output, "No such file"]);
    }
    // Nothing half-written is left, and what is written is a usual file.
    let output = scratch.file("out");
    finish(tool(["compile", guest("loop"), "--arch", "x86_64", "-o", &output]), b"").is(0, "");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o400, 0o400);
}
