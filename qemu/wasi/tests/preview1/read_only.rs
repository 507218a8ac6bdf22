//! What writes is refused, what is not implemented says so, and bad descriptors are named first.

use crate::support::{BUFFER, FUNCTIONS, Guest, RESULT, errno};

const R: i64 = RESULT as i64;

#[test]
fn files_take_no_writes() {
    let mut guest = Guest::new();
    let fd = guest.open("hello.txt").unwrap();
    let (vectors, count) = guest.vectors(&[(BUFFER, 4)]);
    assert_eq!(guest.call("fd_write", &[fd, vectors, count, R]), errno::ROFS);
    assert_eq!(guest.call("fd_pwrite", &[fd, vectors, count, 0, R]), errno::ROFS);
    assert_eq!(guest.call("fd_allocate", &[fd, 0, 9]), errno::ROFS);
    assert_eq!(guest.call("fd_filestat_set_size", &[fd, 0]), errno::ROFS);
    assert_eq!(guest.call("fd_filestat_set_times", &[fd, 0, 0, 0]), errno::ROFS);
    assert_eq!(guest.call("fd_filestat_set_times", &[3, 0, 0, 0]), errno::ROFS);
    assert_eq!(guest.read(fd, 5).unwrap(), b"hello");
    // A directory is nothing to write to, on any file system.
    assert_eq!(guest.call("fd_write", &[3, vectors, count, R]), errno::BADF);
    assert_eq!(guest.call("fd_allocate", &[3, 0, 9]), errno::BADF);
    assert_eq!(guest.call("fd_filestat_set_size", &[3, 0]), errno::BADF);
}

#[test]
fn opening_to_write_is_refused() {
    const CREATE: i64 = 1;
    const DIRECTORY: i64 = 2;
    const EXCLUSIVE: i64 = 4;
    const TRUNCATE: i64 = 8;
    const READ: i64 = 1 << 1;
    const WRITE: i64 = 1 << 6;
    let mut guest = Guest::new();
    for (path, how, rights, expected) in [
        ("new", CREATE, READ, Err(errno::ROFS)),
        ("new", CREATE | TRUNCATE, WRITE, Err(errno::ROFS)),
        ("new", CREATE | EXCLUSIVE, WRITE, Err(errno::ROFS)),
        ("dir/new", CREATE, WRITE, Err(errno::ROFS)),
        ("dangling", CREATE, WRITE, Err(errno::ROFS)),
        ("new", 0, WRITE, Err(errno::NOENT)),
        ("nowhere/new", CREATE, WRITE, Err(errno::NOENT)),
        ("hello.txt/new", CREATE, WRITE, Err(errno::NOTDIR)),
        ("hello.txt", 0, WRITE, Err(errno::ROFS)),
        ("hello.txt", 0, READ | WRITE, Err(errno::ROFS)),
        ("hello.txt", TRUNCATE, READ, Err(errno::ROFS)),
        ("link", TRUNCATE, READ, Err(errno::ROFS)),
        ("hello.txt", CREATE | EXCLUSIVE, WRITE, Err(errno::EXIST)),
        ("dangling", CREATE | EXCLUSIVE, WRITE, Err(errno::EXIST)),
        ("dir", 0, WRITE, Err(errno::ISDIR)),
        ("dir", CREATE, READ, Err(errno::ISDIR)),
        ("hello.txt", DIRECTORY, READ, Err(errno::NOTDIR)),
        ("dir", CREATE | DIRECTORY, READ, Err(errno::INVAL)),
        ("dir", 16, READ, Err(errno::INVAL)),
        // Nothing is written by these.
        ("hello.txt", CREATE, READ, Ok(5)),
        ("dir", DIRECTORY, READ, Ok(6)),
    ] {
        assert_eq!(guest.open_at(3, path, 1, how, rights), expected, "{path} {how:#x} {rights:#x}");
    }
    assert_eq!(guest.open_at(0, "x", 0, 0, 2), Err(errno::BADF));
    assert_eq!(guest.open_at(5, "x", 0, 0, 2), Err(errno::NOTDIR));
    assert_eq!(guest.open_at(99, "x", 0, 0, 2), Err(errno::BADF));
}

#[test]
fn the_tree_cannot_be_changed() {
    let mut guest = Guest::new();
    for (path, made, removed) in [
        ("new", errno::ROFS, errno::ROFS),
        ("new/", errno::ROFS, errno::ROFS),
        ("dir/new", errno::ROFS, errno::ROFS),
        ("dir", errno::EXIST, errno::ROFS),
        ("link", errno::EXIST, errno::ROFS),
        (".", errno::EXIST, errno::ROFS),
        ("hello.txt", errno::EXIST, errno::ROFS),
        ("nowhere/new", errno::NOENT, errno::NOENT),
        ("hello.txt/new", errno::NOTDIR, errno::NOTDIR),
        ("../new", errno::PERM, errno::PERM),
    ] {
        let (pointer, len) = guest.path(path);
        assert_eq!(guest.call("path_create_directory", &[3, pointer, len]), made, "{path}");
        assert_eq!(guest.call("path_symlink", &[pointer, len, 3, pointer, len]), made, "{path}");
        assert_eq!(guest.call("path_remove_directory", &[3, pointer, len]), removed, "{path}");
        assert_eq!(guest.call("path_unlink_file", &[3, pointer, len]), removed, "{path}");
        assert_eq!(guest.call("path_rename", &[3, pointer, len, 3, pointer, len]), removed, "{path}");
    }
    let (pointer, len) = guest.path("hello.txt");
    assert_eq!(guest.call("path_filestat_set_times", &[3, 0, pointer, len, 0, 0, 0]), errno::ROFS);
    assert_eq!(guest.call("path_link", &[3, 0, pointer, len, 3, pointer, len]), errno::EXIST);
    assert_eq!(guest.call("path_link", &[3, 0, pointer, len, 3, pointer, 3]), errno::ROFS);
    assert_eq!(guest.call("path_link", &[3, 0, pointer, 3, 3, pointer, 3]), errno::NOENT);
    assert_eq!(guest.call("path_filestat_set_times", &[3, 0, pointer, 3, 0, 0, 0]), errno::NOENT);
}

#[test]
fn what_is_not_implemented_says_so() {
    let mut guest = Guest::new();
    for (name, signature) in FUNCTIONS {
        let expected = match *name {
            "fd_advise" | "fd_datasync" | "fd_fdstat_set_rights" | "fd_sync" | "proc_raise" => true,
            name => name.starts_with("sock_"),
        };
        if expected {
            assert_eq!(guest.call(name, &vec![0; signature.len()]), errno::NOSYS, "{name}");
        }
    }
}

#[test]
fn descriptors_that_are_not_open_come_first() {
    let mut guest = Guest::new();
    for (name, signature) in FUNCTIONS {
        let takes_descriptor = name.starts_with("fd_") || name.starts_with("path_");
        let not_implemented =
            matches!(*name, "fd_advise" | "fd_datasync" | "fd_fdstat_set_rights" | "fd_sync");
        if !takes_descriptor || not_implemented {
            continue;
        }
        for fd in [5, 1024, 1025, i64::from(i32::MAX), -1] {
            let mut arguments = vec![-1; signature.len()];
            let place = if *name == "path_symlink" { 2 } else { 0 };
            arguments[place] = fd;
            assert_eq!(guest.call(name, &arguments), errno::BADF, "{name} of {fd}");
        }
    }
    // The second descriptor as well.
    assert_eq!(guest.call("path_rename", &[3, 0, 0, 9, 0, 0]), errno::BADF);
    assert_eq!(guest.call("path_link", &[3, 0, 0, 0, 9, 0, 0]), errno::BADF);
    assert_eq!(guest.call("fd_renumber", &[3, 9]), errno::BADF);
}
