//! What a program is given: arguments, environment, files.

use std::os::unix::fs::symlink;

use crate::support::{ARCHES, Scratch, X86_64, assert_same, finish, guest, kernel, noise, run, tool};

#[test]
fn arguments_arrive_as_they_are() {
    let words =
        ["", " ", "two words", "ü€😀", "-x", "--", "it's", "\"", "a\\b", "new\nline", "$HOME", "--dir"];
    for arch in ARCHES {
        let line = [[guest("tools"), "--", "args"].as_slice(), &words].concat();
        run(arch, &line).is(0, &format!("tools.wasm\nargs\n{}\n", words.join("\n")));
    }
}

#[test]
fn an_argument_of_many_kilobytes_arrives() {
    let long = "x".repeat(100_000);
    let done = run(X86_64, &[guest("tools"), "--", "args", &long]);
    done.is(0, &format!("tools.wasm\nargs\n{long}\n"));
}

#[test]
fn the_environment_is_what_was_asked_for() {
    for arch in ARCHES {
        kernel(arch);
        let mut command = tool(["run", "--arch", arch]);
        command.args(["--env", "A=b=c", "--env", "EMPTY=", "--env", "U=ü and more", "--env", "HANDED_ON"]);
        command.args([guest("tools"), "--", "env"]).env("HANDED_ON", "as it is").env("NOT_HANDED_ON", "1");
        finish(command, b"").is(0, "A=b=c\nEMPTY=\nU=ü and more\nHANDED_ON=as it is\n");
    }
}

/// A tree with all that a directory can hold.
fn tree(name: &str) -> (Scratch, Vec<u8>) {
    let scratch = Scratch::new(name);
    let binary = noise(100_000);
    scratch.write("tree/binary", &binary);
    scratch.write("tree/empty", b"");
    scratch.write("tree/deep/er/file ü", b"content");
    scratch.write("tree/hollow/x", b"");
    std::fs::remove_file(scratch.file("tree/hollow/x")).unwrap();
    symlink("deep/er", scratch.file("tree/link")).unwrap();
    symlink("../binary", scratch.file("tree/deep/up")).unwrap();
    symlink("nowhere", scratch.file("tree/dangling")).unwrap();
    symlink("/etc/passwd", scratch.file("tree/outside")).unwrap();
    (scratch, binary)
}

#[test]
fn a_directory_is_there_as_it_was() {
    let (scratch, binary) = tree("directory");
    let directory = scratch.file("tree");
    for arch in ARCHES {
        let tools = |words: &[&str]| {
            run(arch, &[["--dir", &directory, guest("tools"), "--"].as_slice(), words].concat())
        };
        let done = tools(&["cat", "/binary"]);
        assert_eq!(done.status, Some(0), "{}", done.stderr);
        assert_same(&done.stdout, &binary);
        tools(&["cat", "/empty"]).is(0, "");
        tools(&["cat", "/link/file ü", "/deep/er/file ü", "deep/er/../er/file ü"])
            .is(0, "contentcontentcontent");
        tools(&["readlink", "/deep/up"]).is(0, "../binary\n");
        tools(&["sum", "/deep/up"]).is(0, tools(&["sum", "/binary"]).text());
        let listed = tools(&["find", "/"]);
        for name in ["/binary", "/deep/er/file ü", "/hollow", "/dangling", "/link"] {
            assert!(listed.text().lines().any(|line| line == name), "no {name} in {}", listed.text());
        }
        for missing in ["/dangling", "/outside", "/nowhere", "/../../etc/passwd"] {
            let done = tools(&["cat", missing]);
            assert_eq!((done.status, done.text()), (Some(1), ""), "{missing}: {}", done.stderr);
        }
        let done = tools(&["write", "/binary"]);
        assert_eq!(done.status, Some(0), "{}", done.text());
    }
}

#[test]
fn directories_are_where_they_were_asked_for() {
    let (scratch, _) = tree("mapped");
    scratch.write("other/file", b"other");
    let (one, two) = (scratch.file("tree::/in/one"), scratch.file("other::two"));
    for arch in ARCHES {
        let tools = |words: &[&str]| {
            run(arch, &[["--dir", &one, "--dir", &two, guest("tools"), "--"].as_slice(), words].concat())
        };
        tools(&["cat", "/in/one/deep/er/file ü", "/two/file"]).is(0, "contentother");
        assert_eq!(tools(&["cat", "/binary"]).status, Some(1));
        assert_eq!(tools(&["cat", "/two/../in/one/empty"]).text(), "");
    }
}

#[test]
fn without_a_directory_there_are_no_files() {
    for arch in ARCHES {
        let done = run(arch, &[guest("tools"), "--", "ls", "/"]);
        assert_eq!((done.status, done.text()), (Some(1), ""));
    }
}

#[test]
fn a_real_program_reads_a_real_file() {
    let scratch = Scratch::new("orders");
    scratch.write("orders.json", guest_data::orders(2000).as_bytes());
    for arch in ARCHES {
        let done = run(arch, &["--dir", scratch.path(), guest("summarise"), "--", "/orders.json"]);
        assert_eq!(done.status, Some(0), "{}", done.stderr);
        assert!(done.text().starts_with("/orders.json: 526244 bytes, 2000 orders\n"), "{}", done.text());
        let from_input = crate::support::run_with(
            arch,
            &[guest("summarise"), "--", "-"],
            guest_data::orders(2000).as_bytes(),
        );
        assert_eq!(from_input.text().split_once(' '), Some(("-:", done.text().split_once(' ').unwrap().1)));
    }
}
