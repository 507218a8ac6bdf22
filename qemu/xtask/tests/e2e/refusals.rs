//! Modules that are not run: status 126 and a message that names what is wrong.

use std::fs;

use allotment::wasmtime::{Target, configure_compiler};
use object::{Object, ObjectSection};
use wasmtime::{Config, Engine};

use crate::support::{ARCHES, Scratch, X86_64, finish, guest, kernel, run, tool};

/// A change to a compiler's settings.
type Change = fn(&mut Config);

const RETURNS: &str = "(module (memory 1) (func (export \"_start\")))";

/// A good `.cwasm`.
fn compiled(arch: &str, scratch: &Scratch) -> Vec<u8> {
    let source = scratch.module("source.wat", RETURNS);
    let output = scratch.file("good.cwasm");
    finish(tool(["compile", &source, "--arch", arch, "-o", &output]), b"").is(0, "");
    fs::read(output).unwrap()
}

#[test]
fn what_is_no_module_is_named() {
    let scratch = Scratch::new("no-module");
    let whole = fs::read(guest("tools")).unwrap();
    for (name, content, words) in [
        ("empty.wasm", b"".as_slice(), ["empty.wasm", "empty"]),
        ("text.wasm", b"#!/bin/sh\n", ["text.wasm", "not a WebAssembly module"]),
        ("picture.wasm", b"\x89PNG\r\n\x1a\n\0", ["picture.wasm", "not a WebAssembly module"]),
        ("header.wasm", &whole[..6], ["header.wasm", "cut off"]),
        ("half.wasm", &whole[..whole.len() / 2], ["half.wasm", "unexpected end"]),
        ("less.wasm", &whole[..whole.len() - 1], ["less.wasm", "unexpected end"]),
        ("component.wasm", b"\0asm\x0d\0\x01\0", ["component.wasm", "component"]),
        ("wrong.wat", b"(module (memori 1))", ["wrong.wat", "memori"]),
        ("invalid.wat", b"(module (func (result i32)))", ["invalid.wat", "type mismatch"]),
        ("library.wat", b"(module)", ["library.wat", "_start"]),
        ("takes.wat", b"(module (func (export \"_start\") (param i32)))", ["takes.wat", "_start"]),
    ] {
        let module = scratch.module(name, content);
        run(X86_64, &[&module]).says(126, &words);
    }
    run(X86_64, &["nowhere.wasm"]).says(126, &["nowhere.wasm", "No such file"]);
    run(X86_64, &[scratch.path()]).says(126, &[scratch.path(), "directory"]);
}

#[test]
fn a_missing_import_is_named() {
    let scratch = Scratch::new("import");
    let wrong_type = scratch.module(
        "type.wat",
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))) (func (export "_start")))"#,
    );
    for arch in ARCHES {
        run(arch, &[guest("missing_import")]).says(126, &["missing_import", "elsewhere::wanted"]);
        run(arch, &[&wrong_type]).says(126, &["wasi_snapshot_preview1::proc_exit", "type"]);
    }
}

#[test]
fn a_memory_beyond_the_limit_is_refused_with_both_sizes() {
    let scratch = Scratch::new("sizes");
    // 40 MiB in a machine of 32: less than a memory may have, more than there is.
    let module = scratch.module("forty.wat", "(module (memory 640) (func (export \"_start\")))");
    for arch in ARCHES {
        let done = run(arch, &[guest("huge_memory")]);
        done.says(126, &["huge_memory", "0xffff0000", "limit of 0x"]);
        let done = run(arch, &["--memory", "32M", &module]);
        done.says(126, &["forty.wat", "0x2800000", "limit of 0x"]);
    }
}

#[test]
fn a_machine_too_small_for_what_it_is_given_is_refused_with_both_sizes() {
    let scratch = Scratch::new("small");
    scratch.write("files/large", &vec![1; 40 << 20]);
    for arch in ARCHES {
        let words = ["--memory", "48M", "--dir", &scratch.file("files"), guest("tools"), "--", "ls"];
        run(arch, &words).says(126, &["48M", "--memory"]);
    }
}

#[test]
fn an_arena_that_runs_out_is_refused_or_reported_never_a_crash() {
    let scratch = Scratch::new("arena");
    for arch in ARCHES {
        for mebibytes in (8..64).step_by(9) {
            let text = format!("(module (memory {}) (func (export \"_start\")))", mebibytes * 16);
            let module = scratch.module(&format!("{mebibytes}.wat"), text);
            let done = run(arch, &["--memory", "48M", &module]);
            match done.status {
                Some(0) => assert_eq!(done.stderr, ""),
                // More than the arena is, or than is free of it.
                _ if done.stderr.contains("limit") => {
                    _ = done.says(126, &[&format!("{mebibytes}.wat"), &format!("{:#x}", mebibytes << 20)]);
                }
                _ => {
                    _ = done.says(126, &[&format!("{mebibytes}.wat"), "frames of 4 KiB are needed", "free"]);
                }
            }
        }
    }
}

#[test]
fn a_cut_off_compiled_module_is_refused_wherever_it_was_cut() {
    for arch in ARCHES {
        let scratch = Scratch::new("cut");
        let whole = compiled(arch, &scratch);
        for length in [4, 17, 20, 63, 64, 65, 1000, whole.len() / 2, whole.len() - 64, whole.len() - 1] {
            let module = scratch.module("cut.cwasm", &whole[..length]);
            run(arch, &[&module]).says(126, &["cut.cwasm", "truncated"]);
        }
        let zeros = [&whole[..whole.len() / 2], &vec![0; whole.len() / 2]].concat();
        let module = scratch.module("holes.cwasm", zeros);
        run(arch, &[&module]).says(126, &["holes.cwasm"]);
        run(arch, &[&scratch.module("whole.cwasm", whole)]).is(0, "");
    }
}

#[test]
fn a_compiled_module_of_the_other_architecture_is_refused() {
    for (arch, other) in [ARCHES, [ARCHES[1], ARCHES[0]]].map(|[arch, other]| (arch, other)) {
        let scratch = Scratch::new("foreign");
        let module = scratch.module("foreign.cwasm", compiled(other, &scratch));
        run(arch, &[&module]).says(126, &["foreign.cwasm", arch, other]);
        // Without `--arch` it runs where it can.
        kernel(other);
        finish(tool(["run", &module]), b"").is(0, "");
    }
}

#[test]
fn a_compiled_module_of_another_version_is_refused() {
    for arch in ARCHES {
        let scratch = Scratch::new("version");
        let mut module = compiled(arch, &scratch);
        let section = object::File::parse(&*module)
            .unwrap()
            .section_by_name(".wasmtime.engine")
            .and_then(|section| section.file_range())
            .expect("Wasmtime's section about itself");
        // A tag, a length, and the version in decimal digits.
        let at = usize::try_from(section.0).unwrap() + 2;
        assert_eq!(&module[at..at + 2], b"48");
        module[at..at + 2].copy_from_slice(b"47");
        let module = scratch.module("old.cwasm", module);
        run(arch, &[&module]).says(126, &["old.cwasm", "47", "version"]);
    }
}

#[test]
fn a_compiled_module_with_other_settings_is_refused() {
    for (arch, target) in ARCHES.into_iter().zip([Target::X86_64, Target::Aarch64]) {
        let scratch = Scratch::new("settings");
        let settings: [(&str, Change); 4] = [
            ("memory reservation", |config| _ = config.memory_reservation(1 << 30)),
            ("guard size", |config| _ = config.memory_guard_size(1 << 16)),
            ("CoW", |config| _ = config.memory_init_cow(false)),
            ("fuel", |config| _ = config.consume_fuel(true)),
        ];
        for (word, change) in settings {
            let mut config = Config::new();
            configure_compiler!(&mut config, target).unwrap();
            change(&mut config);
            let module = Engine::new(&config).unwrap().precompile_module(RETURNS.as_bytes()).unwrap();
            let module = scratch.module("other.cwasm", module);
            run(arch, &[&module]).says(126, &["other.cwasm", word]);
        }
    }
}

#[test]
fn compile_and_image_refuse_in_the_same_words() {
    let scratch = Scratch::new("same");
    let (module, output) = (scratch.module("wrong.wat", "(module (memori 1))"), scratch.file("out"));
    for command in ["compile", "image"] {
        let line = [command, &module, "--arch", X86_64, "-o", &output];
        finish(tool(line), b"").says(126, &["wrong.wat", "memori"]);
        assert!(!fs::exists(&output).unwrap());
    }
}
