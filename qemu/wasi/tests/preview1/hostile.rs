//! Guests that mean harm, or that were miscompiled: no call traps or panics, whatever its arguments.

use wasi::{Program, Wasi};
use wasmtime::{Engine, Linker, Module, Store};

use crate::support::{BUFFER, FUNCTIONS, Guest, MEMORY, Machine, RESULT, VECTORS, errno, program};

const R: i64 = RESULT as i64;
const END: i64 = MEMORY as i64;

#[test]
fn pointers_out_of_the_memory_give_efault() {
    let mut guest = Guest::new();
    let file = guest.open("hello.txt").unwrap();
    for bad in [END - 1, END, 0x7fff_ffff, 0xffff_fff0, 0xffff_ffff] {
        let (path, len) = guest.path("link");
        let (vectors, one) = guest.vectors(&[(BUFFER, 4)]);
        for (name, arguments) in [
            ("args_get", vec![bad, R]),
            ("args_get", vec![R, bad]),
            ("args_sizes_get", vec![bad, R]),
            ("args_sizes_get", vec![R, bad]),
            ("environ_get", vec![bad, R]),
            ("environ_sizes_get", vec![R, bad]),
            ("clock_res_get", vec![0, bad]),
            ("clock_time_get", vec![1, 0, bad]),
            ("random_get", vec![bad, 8]),
            ("fd_fdstat_get", vec![0, bad]),
            ("fd_filestat_get", vec![file, bad]),
            ("fd_prestat_get", vec![3, bad]),
            ("fd_seek", vec![file, 1, 1, bad]),
            ("fd_tell", vec![file, bad]),
            ("fd_read", vec![file, bad, 1, R]),
            ("fd_read", vec![file, vectors, one, bad]),
            ("fd_read", vec![0, bad, 1, R]),
            ("fd_pread", vec![file, bad, 1, 0, R]),
            ("fd_write", vec![1, bad, 1, R]),
            ("fd_write", vec![1, vectors, one, bad]),
            ("fd_readdir", vec![3, bad, 64, 0, R]),
            ("fd_readdir", vec![3, R, 64, 0, bad]),
            ("path_open", vec![3, 1, bad, 4, 0, 0, 0, 0, R]),
            ("path_open", vec![3, 1, path, len, 0, 0, 0, 0, bad]),
            ("path_filestat_get", vec![3, 0, bad, 4, R]),
            ("path_filestat_get", vec![3, 0, path, len, bad]),
            ("path_readlink", vec![3, bad, 4, R, 64, R]),
            ("path_readlink", vec![3, path, len, bad, 64, R]),
            ("path_readlink", vec![3, path, len, R, 64, bad]),
            ("path_create_directory", vec![3, bad, 4]),
            ("path_unlink_file", vec![3, bad, 4]),
            ("path_rename", vec![3, path, len, 3, bad, 4]),
            ("poll_oneoff", vec![bad, R, 1, R]),
            ("poll_oneoff", vec![R, bad, 1, R]),
            ("poll_oneoff", vec![R, R, 1, bad]),
        ] {
            assert_eq!(guest.call(name, &arguments), errno::FAULT, "{name}({arguments:?})");
        }
    }
    // Nothing was consumed or moved by any of that.
    assert_eq!(guest.read(file, 5).unwrap(), b"hello");
    assert_eq!(guest.machine().stdout, b"");
    assert_eq!(guest.open("hello.txt"), Ok(file + 1));
}

#[test]
fn buffers_are_checked_before_any_byte_moves() {
    let mut guest = Guest::with(Machine { stdin: b"input".to_vec(), ..Default::default() }, program());
    let file = guest.open("hello.txt").unwrap();
    for bad in [(MEMORY - 3, 4), (MEMORY + 1, 0), (0, MEMORY + 1), (u32::MAX, u32::MAX), (8, u32::MAX)] {
        let (vectors, count) = guest.vectors(&[(BUFFER, 4), bad]);
        assert_eq!(guest.call("fd_write", &[1, vectors, count, R]), errno::FAULT, "{bad:?}");
        assert_eq!(guest.call("fd_read", &[0, vectors, count, R]), errno::FAULT, "{bad:?}");
        assert_eq!(guest.call("fd_read", &[file, vectors, count, R]), errno::FAULT, "{bad:?}");
    }
    assert_eq!(guest.machine().stdout, b"");
    assert_eq!(guest.read(0, 9).unwrap(), b"input");
    assert_eq!(guest.read(file, 5).unwrap(), b"hello");
}

#[test]
fn numbers_of_buffers_are_taken_as_they_come() {
    let mut guest = Guest::new();
    let file = guest.open("hello.txt").unwrap();
    for count in [0x4001, 0x1000_0000, 0x1fff_ffff, 0x2000_0000, 0x2000_0001, 0xffff_ffff] {
        for (fd, name) in [(1, "fd_write"), (0, "fd_read"), (file, "fd_read")] {
            assert_eq!(guest.call(name, &[fd, 0, count, R]), errno::FAULT, "{name} {count:#x}");
        }
    }
    // Many buffers, and none at all, are no error.
    let buffers: Vec<_> = (0..3000).map(|index| (BUFFER + index, 1)).collect();
    let (vectors, count) = guest.vectors(&buffers);
    assert_eq!(guest.call("fd_write", &[1, vectors, count, R]), 0);
    assert_eq!(guest.u32(RESULT), 3000);
    assert_eq!(guest.call("fd_read", &[file, vectors, count, R]), 0);
    assert_eq!(guest.u32(RESULT), 13);
    assert_eq!(guest.call("fd_write", &[1, vectors, 0, R]), 0);
    assert_eq!(guest.u32(RESULT), 0);
}

/// Buffers that overlap can add up to more than the memory; like Linux, a call stops at 2 GiB less a page.
#[test]
fn lengths_that_add_up_beyond_the_limit_are_cut() {
    let mut guest = Guest::with(Machine { discard: true, ..Default::default() }, program());
    // An array that fills the memory, each of its buffers the whole memory.
    let count = MEMORY / 8;
    let vectors: Vec<u8> = [[0; 4], MEMORY.to_le_bytes()].as_flattened().repeat(count.try_into().unwrap());
    guest.put(0, &vectors);
    assert!(u64::from(count) * u64::from(MEMORY) > 0x7fff_f000);
    assert_eq!(guest.call("fd_write", &[1, 0, i64::from(count), R]), 0);
    assert_eq!(guest.u32(RESULT), 0x7fff_f000);
    assert_eq!(guest.machine().discarded, 0x7fff_f000);
}

#[test]
fn an_array_that_is_read_over_ends_the_read() {
    let mut guest = Guest::new();
    let file = guest.open("hello.txt").unwrap();
    // The first buffer lies over the second's description.
    let (vectors, count) = guest.vectors(&[(VECTORS + 8, 8), (BUFFER, 5)]);
    assert_eq!(guest.call("fd_read", &[file, vectors, count, R]), 0);
    assert_eq!(guest.get(VECTORS + 8, 8), b"hello, w");
    assert_eq!(guest.u32(RESULT), 8);
}

#[test]
fn arguments_of_every_kind_do_no_harm() {
    let values: [i64; 12] = [0, 1, 3, 4, 8, 5, R, END - 4, END, i64::from(u32::MAX), i64::MIN, -1];
    // A generator of its own, so that the test needs no crate and repeats.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[usize::try_from(state % 12).unwrap()]
    };
    let mut guest = Guest::new();
    guest.open("hello.txt").unwrap();
    for round in 0..600 {
        for (name, signature) in FUNCTIONS {
            let arguments: Vec<_> = signature.chars().map(|_| next()).collect();
            let errno = guest.call(name, &arguments);
            assert!((0..=76).contains(&errno), "{name}({arguments:?}) gave {errno} in round {round}");
        }
        if round % 100 == 99 {
            guest = Guest::new();
            guest.open("hello.txt").unwrap();
        }
    }
}

#[test]
fn a_module_without_a_memory_has_only_bad_pointers() {
    let engine = Engine::default();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (func (export "random") (result i32) i32.const 0 i32.const 1 call $random)
        (func (export "yield") (result i32) call $yield)
        (func (export "memory")))"#;
    let module = Module::new(&engine, text).unwrap();
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker, |state: &mut Wasi<Machine>| state).unwrap();
    let state = Wasi::new(Machine::default(), Program::default()).unwrap();
    let mut store = Store::new(&engine, state);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    for (name, expected) in [("random", errno::FAULT), ("yield", 0)] {
        let function = instance.get_typed_func::<(), i32>(&mut store, name).unwrap();
        assert_eq!(function.call(&mut store, ()).unwrap(), expected);
    }
}
