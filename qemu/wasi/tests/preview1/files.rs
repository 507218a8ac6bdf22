//! Files: opening, reading, positions, attributes, directories, links.

use crate::support::{BUFFER, EPOCH, Guest, Machine, PATH, RESULT, errno, program};

const R: i64 = RESULT as i64;
const BUF: i64 = BUFFER as i64;

#[test]
fn preopened_directories_are_named() {
    let mut guest = Guest::new();
    assert_eq!(guest.call("fd_prestat_get", &[3, R]), 0);
    assert_eq!((guest.get(RESULT, 1)[0], guest.u32(RESULT + 4)), (0, 1));
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, BUF, 1]), 0);
    assert_eq!(guest.get(BUFFER, 1), b"/");
    assert_eq!(guest.call("fd_prestat_get", &[4, R]), 0);
    assert_eq!(guest.u32(RESULT + 4), 4);
    assert_eq!(guest.call("fd_prestat_dir_name", &[4, BUF, 3]), errno::NAMETOOLONG);
    assert_eq!(guest.call("fd_prestat_dir_name", &[4, BUF, 100]), 0);
    assert_eq!(guest.get(BUFFER, 4), b"data");
    // The walk of a C library ends here.
    assert_eq!(guest.call("fd_prestat_get", &[5, R]), errno::BADF);
    assert_eq!(guest.call("fd_prestat_get", &[0, R]), errno::BADF);
    // An opened directory is not a preopened one.
    let fd = guest.open("dir").unwrap();
    assert_eq!(guest.call("fd_prestat_get", &[fd, R]), errno::BADF);
    assert_eq!(guest.call("fd_prestat_dir_name", &[fd, BUF, 9]), errno::NOTDIR);
    assert_eq!(guest.open_at(4, "\u{e4}\u{f6}\u{fc}.txt", 0, 0, 2), Ok(6));
    assert_eq!(guest.read(6, 100).unwrap(), "\u{fc}mlaut".as_bytes());
}

#[test]
fn a_file_reads_to_its_end() {
    let mut guest = Guest::new();
    let fd = guest.open("hello.txt").unwrap();
    assert_eq!(guest.read(fd, 5).unwrap(), b"hello");
    assert_eq!(guest.call("fd_tell", &[fd, R]), 0);
    assert_eq!(guest.u64(RESULT), 5);
    // Two buffers and an empty one between them.
    let (vectors, count) = guest.vectors(&[(BUFFER, 3), (0, 0), (BUFFER + 0x100, 100)]);
    assert_eq!(guest.call("fd_read", &[fd, vectors, count, R]), 0);
    assert_eq!(guest.u32(RESULT), 8);
    assert_eq!(guest.get(BUFFER, 3), b", w");
    assert_eq!(guest.get(BUFFER + 0x100, 5), b"orld\n");
    assert_eq!(guest.read(fd, 100).unwrap(), b"");
    let empty = guest.open("empty").unwrap();
    assert_eq!(guest.read(empty, 1).unwrap(), b"");
}

#[test]
fn positions_move_as_told() {
    let mut guest = Guest::new();
    let fd = guest.open("hello.txt").unwrap();
    let seek = |guest: &mut Guest, offset: i64, whence| match guest.call("fd_seek", &[fd, offset, whence, R])
    {
        0 => Ok(guest.u64(RESULT)),
        errno => Err(errno),
    };
    assert_eq!(seek(&mut guest, 7, 0), Ok(7));
    assert_eq!(guest.read(fd, 5).unwrap(), b"world");
    assert_eq!(seek(&mut guest, -1, 2), Ok(12));
    assert_eq!(seek(&mut guest, -10, 1), Ok(2));
    assert_eq!(guest.read(fd, 3).unwrap(), b"llo");
    assert_eq!(seek(&mut guest, 1000, 2), Ok(1013));
    assert_eq!(guest.read(fd, 3).unwrap(), b"");
    for (offset, whence) in [(-1, 0), (-14, 2), (-1014, 1), (i64::MAX, 1), (i64::MIN, 1), (0, 3), (0, -1)] {
        assert_eq!(seek(&mut guest, offset, whence), Err(errno::INVAL), "{offset} {whence}");
    }
    assert_eq!(seek(&mut guest, 0, 1), Ok(1013), "failures leave the position alone");
    assert_eq!(seek(&mut guest, i64::MAX, 0), Ok(u64::try_from(i64::MAX).unwrap()));
    assert_eq!(guest.read(fd, 3).unwrap(), b"");
    for stream in [0, 1, 2] {
        assert_eq!(guest.call("fd_seek", &[stream, 0, 1, R]), errno::SPIPE);
        assert_eq!(guest.call("fd_tell", &[stream, R]), errno::SPIPE);
    }
    assert_eq!(guest.call("fd_seek", &[3, 0, 1, R]), errno::BADF);
    assert_eq!(guest.call("fd_tell", &[3, R]), errno::BADF);
}

#[test]
fn pread_leaves_the_position_alone() {
    let mut guest = Guest::new();
    let fd = guest.open("hello.txt").unwrap();
    let (vectors, count) = guest.vectors(&[(BUFFER, 4), (BUFFER + 8, 100)]);
    for (offset, expected) in [(0, 13), (7, 6), (13, 0), (14, 0), (-1, 0)] {
        assert_eq!(guest.call("fd_pread", &[fd, vectors, count, offset, R]), 0);
        assert_eq!(guest.u32(RESULT), expected, "offset {offset}");
    }
    assert_eq!(guest.read(fd, 5).unwrap(), b"hello");
    assert_eq!(guest.call("fd_pread", &[0, vectors, count, 0, R]), errno::SPIPE);
    assert_eq!(guest.call("fd_pread", &[1, vectors, count, 0, R]), errno::BADF);
    assert_eq!(guest.call("fd_pread", &[3, vectors, count, 0, R]), errno::BADF);
}

#[test]
fn paths_resolve_within_the_directory() {
    let mut guest = Guest::new();
    for (path, contents) in [
        ("hello.txt", &b"hello"[..]),
        ("./dir//../dir/./sub/../a", b"a"),
        ("link", b"hello"),
        ("dirlink/b", b"bb"),
        ("slashlink/b", b"bb"),
        ("dir/up", b"hello"),
        ("dirlink/up", b"hello"),
        ("dir/sub/../../void/../dir/sub/deep.txt", b"deep"),
    ] {
        let fd = guest.open(path).unwrap_or_else(|errno| panic!("{path}: {errno}"));
        assert_eq!(guest.read(fd, 5).unwrap(), contents, "{path}");
    }
    for (path, errno) in [
        ("", errno::NOENT),
        ("nowhere", errno::NOENT),
        ("nowhere/else", errno::NOENT),
        ("dangling", errno::NOENT),
        ("hello.txt/", errno::NOTDIR),
        ("hello.txt///", errno::NOTDIR),
        ("link/", errno::NOTDIR),
        ("hello.txt/.", errno::NOTDIR),
        ("hello.txt/..", errno::NOTDIR),
        ("hello.txt/x", errno::NOTDIR),
        ("/hello.txt", errno::PERM),
        ("..", errno::PERM),
        ("../hello.txt", errno::PERM),
        ("dir/sub/../../../dir/a", errno::PERM),
        ("absolute", errno::PERM),
        ("outside", errno::PERM),
        ("self", errno::LOOP),
        ("tick", errno::LOOP),
        ("tick/x", errno::LOOP),
        ("hello.txt\0", errno::INVAL),
    ] {
        assert_eq!(guest.open(path), Err(errno), "{path:?}");
    }
    // A directory cannot be left through its own descriptor either.
    let dir = guest.open("dir").unwrap();
    assert_eq!(guest.open_at(dir, "../hello.txt", 1, 0, 2), Err(errno::PERM));
    assert_eq!(guest.open_at(dir, "up", 1, 0, 2), Err(errno::PERM));
    assert!(guest.open_at(dir, "sub/../a", 1, 0, 2).is_ok());
}

#[test]
fn long_names_and_bad_text_are_refused() {
    let mut guest = Guest::new();
    assert_eq!(guest.open(&"x".repeat(255)), Err(errno::NOENT));
    assert_eq!(guest.open(&"x".repeat(256)), Err(errno::NAMETOOLONG));
    assert_eq!(guest.open(&"./".repeat(2000)), Ok(5));
    assert_eq!(guest.open(&"./".repeat(2048)), Err(errno::NAMETOOLONG));
    guest.put(PATH, b"\xff\xfe");
    assert_eq!(guest.call("path_open", &[3, 0, i64::from(PATH), 2, 0, 0, 0, 0, R]), errno::ILSEQ);
}

#[test]
fn links_are_followed_only_when_asked() {
    let mut guest = Guest::new();
    assert_eq!(guest.open_at(3, "link", 0, 0, 2), Err(errno::LOOP));
    assert_eq!(guest.open_at(3, "dirlink", 0, 2, 2), Err(errno::LOOP));
    assert!(guest.open_at(3, "dirlink/", 0, 2, 2).is_ok());
    assert!(guest.open_at(3, "dirlink/a", 0, 0, 2).is_ok());
    let readlink = |guest: &mut Guest, path: &str, len: i64| {
        let (pointer, path_len) = guest.path(path);
        match guest.call("path_readlink", &[3, pointer, path_len, BUF, len, R]) {
            0 => Ok(guest.get(BUFFER, guest.u32(RESULT))),
            errno => Err(errno),
        }
    };
    assert_eq!(readlink(&mut guest, "link", 100).unwrap(), b"hello.txt");
    assert_eq!(readlink(&mut guest, "link", 4).unwrap(), b"hell");
    assert_eq!(readlink(&mut guest, "link", 0).unwrap(), b"");
    assert_eq!(readlink(&mut guest, "absolute", 100).unwrap(), b"/hello.txt");
    assert_eq!(readlink(&mut guest, "self", 100).unwrap(), b"self");
    assert_eq!(readlink(&mut guest, "hello.txt", 100), Err(errno::INVAL));
    assert_eq!(readlink(&mut guest, "dirlink/", 100), Err(errno::INVAL));
    assert_eq!(readlink(&mut guest, "nowhere", 100), Err(errno::NOENT));
}

#[test]
fn attributes_are_told() {
    let mut guest = Guest::new();
    let stat = |guest: &mut Guest, path: &str, lookup| {
        let (pointer, len) = guest.path(path);
        match guest.call("path_filestat_get", &[3, lookup, pointer, len, R]) {
            0 => Ok((guest.get(RESULT + 16, 1)[0], guest.u64(RESULT + 24), guest.u64(RESULT + 32))),
            errno => Err(errno),
        }
    };
    assert_eq!(stat(&mut guest, "hello.txt", 0), Ok((4, 1, 13)));
    assert_eq!([40, 48, 56].map(|at| guest.u64(RESULT + at)), [EPOCH; 3]);
    assert_eq!(guest.u64(RESULT), 1);
    let inode = guest.u64(RESULT + 8);
    assert_eq!(stat(&mut guest, "link", 1), Ok((4, 1, 13)));
    assert_eq!(guest.u64(RESULT + 8), inode);
    assert_eq!(stat(&mut guest, "link", 0), Ok((7, 1, 9)));
    assert_ne!(guest.u64(RESULT + 8), inode);
    assert_eq!(stat(&mut guest, "dir", 0), Ok((3, 3, 0)));
    assert_eq!(stat(&mut guest, ".", 0).map(|stat| stat.0), Ok(3));
    assert_eq!(stat(&mut guest, "nowhere", 0), Err(errno::NOENT));
    assert_eq!(stat(&mut guest, "hello.txt", 2), Err(errno::INVAL));

    let fd = guest.open("hello.txt").unwrap();
    assert_eq!(guest.call("fd_filestat_get", &[fd, R]), 0);
    assert_eq!((guest.u64(RESULT + 8), guest.get(RESULT + 16, 1)[0]), (inode, 4));
    assert_eq!(guest.call("fd_filestat_get", &[1, R]), 0);
    assert_eq!((guest.get(RESULT + 16, 1)[0], guest.u64(RESULT + 32)), (0, 0));
}

/// All names that `fd_readdir` gives with a buffer of `len` bytes: cookie, inode, type, name.
fn list(guest: &mut Guest, fd: i64, len: u32) -> Vec<(u64, u64, u8, String)> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        assert_eq!(
            guest.call("fd_readdir", &[fd, BUF, i64::from(len), i64::try_from(cookie).unwrap(), R]),
            0
        );
        let used = guest.u32(RESULT);
        let mut at = 0;
        let before = names.len();
        while at + 24 <= used {
            let name_len = guest.u32(BUFFER + at + 16);
            if at + 24 + name_len > used {
                break;
            }
            let name = String::from_utf8(guest.get(BUFFER + at + 24, name_len)).unwrap();
            cookie = guest.u64(BUFFER + at);
            names.push((cookie, guest.u64(BUFFER + at + 8), guest.get(BUFFER + at + 20, 1)[0], name));
            at += 24 + name_len;
        }
        if used < len {
            return names;
        }
        assert!(names.len() > before, "the buffer is too small for a name");
    }
}

#[test]
fn directories_list_their_names_in_pieces_of_any_size() {
    let mut guest = Guest::new();
    let fd = guest.open("dir").unwrap();
    let whole = list(&mut guest, fd, 4096);
    let names: Vec<_> = whole.iter().map(|(cookie, _, kind, name)| (*cookie, *kind, name.as_str())).collect();
    assert_eq!(names, [(1, 3, "."), (2, 3, ".."), (3, 4, "a"), (4, 4, "b"), (5, 3, "sub"), (6, 7, "up")]);
    for len in 27..200 {
        assert_eq!(list(&mut guest, fd, len), whole, "buffer of {len} bytes");
    }
    let root = list(&mut guest, 3, 4096);
    assert_eq!(root[0].1, root[1].1, "a preopened directory is its own parent");
    assert_eq!(whole[1].1, root[0].1);
    let void = guest.open("void").unwrap();
    assert_eq!(list(&mut guest, void, 4096).len(), 2);
    // A cookie from nowhere is the end, not an error.
    assert_eq!(guest.call("fd_readdir", &[fd, BUF, 100, -1, R]), 0);
    assert_eq!(guest.u32(RESULT), 0);
    assert_eq!(guest.call("fd_readdir", &[fd, BUF, 0, 0, R]), 0);
    let file = guest.open("hello.txt").unwrap();
    assert_eq!(guest.call("fd_readdir", &[file, BUF, 100, 0, R]), errno::BADF);
}

#[test]
fn descriptors_are_numbered_from_the_lowest() {
    let mut guest = Guest::new();
    assert_eq!(guest.open("hello.txt"), Ok(5));
    assert_eq!(guest.open("dir/b"), Ok(6));
    assert_eq!(guest.call("fd_close", &[5]), 0);
    assert_eq!(guest.call("fd_close", &[5]), errno::BADF);
    assert_eq!(guest.open("dir/a"), Ok(5));
    assert_eq!(guest.call("fd_renumber", &[6, 5]), 0);
    assert_eq!(guest.read(5, 9).unwrap(), b"bb");
    assert_eq!(guest.read(6, 9), Err(errno::BADF));
    assert_eq!(guest.call("fd_renumber", &[5, 5]), 0);
    assert_eq!(guest.call("fd_renumber", &[5, 77]), errno::BADF);
    assert_eq!(guest.call("fd_renumber", &[77, 5]), errno::BADF);
    // A file in the place of standard input, as a shell would do.
    assert_eq!(guest.open("hello.txt"), Ok(6));
    assert_eq!(guest.call("fd_renumber", &[6, 0]), 0);
    assert_eq!(guest.read(0, 5).unwrap(), b"hello");
    // They end.
    let mut last = Ok(0);
    for _ in 0..2000 {
        last = guest.open("hello.txt");
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(errno::MFILE));
    assert_eq!(guest.call("fd_close", &[100]), 0);
    assert_eq!(guest.open("hello.txt"), Ok(100));
}

#[test]
fn flags_and_rights_are_told() {
    let mut guest = Guest::with(Machine { terminal: true, ..Default::default() }, program());
    let stat = |guest: &mut Guest, fd| {
        assert_eq!(guest.call("fd_fdstat_get", &[fd, R]), 0);
        (guest.get(RESULT, 1)[0], guest.u16(RESULT + 2), guest.u64(RESULT + 8), guest.u64(RESULT + 16))
    };
    assert_eq!(stat(&mut guest, 0), (2, 0, 2, 2));
    assert_eq!(stat(&mut guest, 1), (2, 0, 64, 64));
    guest.machine().terminal = false;
    assert_eq!(stat(&mut guest, 2), (0, 0, 64, 64));
    // As Wasmtime's preopened directories.
    assert_eq!(stat(&mut guest, 3), (3, 0, 0x07b7_fe00, 0x0ff7_ffff));
    let file = guest.open("hello.txt").unwrap();
    let (kind, flags, base, _) = stat(&mut guest, file);
    assert_eq!((kind, flags, base & (1 << 1), base & (1 << 6)), (4, 0, 2, 0));
    assert_eq!(guest.call("fd_fdstat_set_flags", &[file, 5]), 0);
    assert_eq!(stat(&mut guest, file).1, 5);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[file, 0]), 0);
    assert_eq!(stat(&mut guest, file).1, 0);
    for flags in [2, 8, 16, 32, 0x1_0000, -1] {
        assert_eq!(guest.call("fd_fdstat_set_flags", &[file, flags]), errno::INVAL);
    }
    assert_eq!(guest.call("fd_fdstat_set_flags", &[1, 4]), 0);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[3, 4]), errno::BADF);
}
