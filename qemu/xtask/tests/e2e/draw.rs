//! `draw`: a picture of a running machine, in a file and on the terminal.

use std::fs;
use std::process::Command;

use crate::support::{ARCHES, Done, Scratch, X86_64, finish, guest, kernel, tool};

/// Draws to `out`; how text looks is not left to the computer's owner.
fn draw(arch: &str, locale: &str, out: &str, words: &[&str]) -> Done {
    kernel(arch);
    let mut command: Command = tool(["draw", "--arch", arch, "-o", out].iter().chain(words));
    command.env("LC_ALL", locale).env("COLUMNS", "100").env_remove("NO_COLOR");
    finish(command, b"")
}

#[test]
fn a_machine_is_drawn_twice() {
    let scratch = Scratch::new("draw");
    for arch in ARCHES {
        let out = scratch.file(&format!("{arch}.svg"));
        let done = draw(arch, "C.UTF-8", &out, &[]);
        assert_eq!((done.status, &*done.stderr), (Some(0), ""), "{}", done.text());
        let text = done.text();
        assert!(text.starts_with(&format!("draw.wat on {arch}, pooling: 4 of ")), "{text}");
        // The sizes of the bundled program's first instances, and one that was given back.
        for word in ["│", "256 KiB\n", "1 MiB\n", "16 MiB\n", "free, keeps 1.9 MiB\n", "code\n", "Arena "] {
            assert!(text.contains(word), "no `{word}` in: {text}");
        }
        assert!(!text.contains('\x1b'), "colour where there is no terminal");
        assert_eq!(text.lines().next_back(), Some(&*out));
        let svg = fs::read_to_string(&out).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for word in [">256 KiB<", ">free, keeps 1.9 MiB<", &format!("draw.wat on {arch}"), "0xffff90"] {
            assert!(svg.contains(word), "no `{word}` in: {svg}");
        }
    }
}

#[test]
fn on_demand_there_are_regions_only_and_ascii_suffices() {
    let scratch = Scratch::new("regions");
    let out = scratch.file("out.svg");
    let done = draw(X86_64, "C", &out, &["--strategy", "on-demand", "--instances", "2"]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    // Two memories, and code.
    assert!(done.text().starts_with("draw.wat on x86_64, on-demand: 3 regions\n"), "{}", done.text());
    assert!(done.text().is_ascii() && !done.text().contains("slots"), "{}", done.text());
}

#[test]
fn a_program_of_ones_own_is_drawn_whatever_becomes_of_it() {
    let scratch = Scratch::new("own");
    let out = scratch.file("out.svg");
    let done = draw(X86_64, "C", &out, &["--instances", "1", guest("proc_exit")]);
    assert_eq!((done.status, &*done.stderr), (Some(0), ""));
    assert!(done.text().starts_with("proc_exit.wat on x86_64, pooling: 1 of "), "{}", done.text());
    let module = scratch.module("trap.wat", "(module (memory 3) (func (export \"_start\") unreachable))");
    let done = draw(X86_64, "C", &out, &["--instances", "2", &module]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("instance 2: wasm trap: wasm `unreachable`"), "{}", done.stderr);
    assert_eq!(done.text().matches("192 KiB\n").count(), 2, "{}", done.text());
}

#[test]
fn what_cannot_be_drawn_is_named_and_leaves_no_file() {
    let scratch = Scratch::new("undrawn");
    let out = scratch.file("out.svg");
    draw(X86_64, "C", &out, &["--instances", "1000"]).says(126, &["for memories reached"]);
    draw(X86_64, "C", &out, &["--timeout", "1.5", guest("loop")]).says(124, &["deadline of 1.5 s"]);
    draw(X86_64, "C", &out, &["nowhere.wasm"]).says(126, &["nowhere.wasm", "No such file"]);
    assert_eq!(fs::metadata(&out).map_err(|error| error.kind()).err(), Some(std::io::ErrorKind::NotFound));
    draw(X86_64, "C", &scratch.file("no/out.svg"), &[]).says(125, &["no/out.svg", "No such file"]);
}
