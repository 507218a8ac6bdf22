//! Standard streams, arguments, environment, randomness, exit.

use wasi::{Exit, Program, ProgramError, Wasi};
use wasmtime::{Engine, Linker, Module, Store};

use crate::support::{BUFFER, Guest, Machine, RESULT, errno, program, tree};

const R: i64 = RESULT as i64;
const BUF: i64 = BUFFER as i64;

#[test]
fn output_goes_out_whole_and_in_order() {
    let mut guest = Guest::new();
    guest.put(BUFFER, b"one two\0\xff\n");
    let (vectors, count) = guest.vectors(&[(BUFFER, 4), (BUFFER, 0), (BUFFER + 4, 6)]);
    assert_eq!(guest.call("fd_write", &[1, vectors, count, R]), 0);
    assert_eq!(guest.u32(RESULT), 10);
    assert_eq!(guest.call("fd_write", &[2, vectors, 1, R]), 0);
    assert_eq!(guest.machine().stdout, b"one two\0\xff\n");
    assert_eq!(guest.machine().stderr, b"one ");
    assert_eq!(guest.machine().writes, 2, "nothing is written for an empty buffer");
    assert_eq!(guest.call("fd_write", &[0, vectors, count, R]), errno::BADF);
    assert_eq!(guest.call("fd_pwrite", &[1, vectors, count, 0, R]), errno::SPIPE);
    assert_eq!(guest.call("fd_close", &[1]), 0);
    assert_eq!(guest.call("fd_write", &[1, vectors, count, R]), errno::BADF);
}

#[test]
fn input_comes_as_it_is_and_ends() {
    let input: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let mut guest =
        Guest::with(Machine { stdin: input.clone(), chunk: 300, ..Default::default() }, program());
    let mut seen = Vec::new();
    loop {
        let bytes = guest.read(0, 256).unwrap();
        if bytes.is_empty() {
            break;
        }
        seen.extend_from_slice(&bytes);
    }
    assert_eq!(seen, input);
    assert_eq!(guest.read(0, 256).unwrap(), b"");
    assert_eq!(guest.read(1, 256), Err(errno::BADF));
}

#[test]
fn an_empty_read_does_not_wait_for_input() {
    let mut guest = Guest::with(Machine { stdin: b"abc".to_vec(), ..Default::default() }, program());
    assert_eq!(guest.read(0, 0).unwrap(), b"");
    let (vectors, count) = guest.vectors(&[(0, 0), (BUFFER, 2), (BUFFER + 2, 2)]);
    assert_eq!(guest.call("fd_read", &[0, vectors, count, R]), 0);
    assert_eq!((guest.u32(RESULT), guest.get(BUFFER, 2)), (2, b"ab".to_vec()));
}

#[test]
fn arguments_and_environment_are_laid_out_for_c() {
    let mut guest = Guest::new();
    for (sizes, get, expected) in [
        ("args_sizes_get", "args_get", &b"prog\0x y\0\0"[..]),
        ("environ_sizes_get", "environ_get", b"A=1\0HOME=/\0"),
    ] {
        assert_eq!(guest.call(sizes, &[R, R + 4]), 0);
        let (count, size) = (guest.u32(RESULT), guest.u32(RESULT + 4));
        assert_eq!(usize::try_from(size).unwrap(), expected.len());
        assert_eq!(guest.call(get, &[R, BUF]), 0);
        assert_eq!(guest.get(BUFFER, size), expected);
        let starts: Vec<_> = (0..count).map(|index| guest.u32(RESULT + 4 * index) - BUFFER).collect();
        let mut start = 0;
        let strings = expected.split_inclusive(|&byte| byte == 0);
        let places: Vec<_> = strings
            .map(|string| {
                let place = start;
                start += u32::try_from(string.len()).unwrap();
                place
            })
            .collect();
        assert_eq!(starts, places);
    }
}

#[test]
fn randomness_fills_exactly_what_was_asked() {
    let mut guest = Guest::new();
    assert_eq!(guest.call("random_get", &[BUF, 3]), 0);
    assert_eq!(guest.get(BUFFER, 5), [4, 4, 4, 0, 0]);
    assert_eq!(guest.call("random_get", &[BUF, 0]), 0);
    assert_eq!(guest.call("sched_yield", &[]), 0);
    assert_eq!(guest.machine().yielded, 1);
}

#[test]
fn exit_is_an_error_of_its_own() {
    let engine = Engine::default();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "exit") (param i32) local.get 0 call $exit unreachable))"#;
    let module = Module::new(&engine, text).unwrap();
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker, |state: &mut Wasi<Machine>| state).unwrap();
    for (code, status) in [(0, 0), (1, 1), (125, 125), (126, 126), (255, 255), (256, 0), (-1, 255)] {
        let state = Wasi::new(Machine::default(), Program::default()).unwrap();
        let mut store = Store::new(&engine, state);
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let exit = instance.get_typed_func::<i32, ()>(&mut store, "exit").unwrap();
        let error = exit.call(&mut store, code).unwrap_err();
        assert_eq!(error.downcast_ref::<Exit>().unwrap().status(), status);
        assert!(error.downcast_ref::<wasmtime::Trap>().is_none());
    }
}

#[test]
fn preopened_directories_must_be_there() {
    let start = |names: &[&str]| {
        let preopens = names.iter().map(|&name| name.to_owned()).collect();
        Wasi::new(Machine::default(), Program { tree: tree(), preopens, ..Default::default() }).map(drop)
    };
    assert_eq!(start(&["/", ".", "/dir", "dir/sub", "/dir/", "dirlink"]), Ok(()));
    for name in ["/nowhere", "/hello.txt", "..", "/dangling"] {
        assert_eq!(start(&["/", name]), Err(ProgramError::NoSuchPreopen(name.to_owned())));
    }
    let error = start(&["/"; 1022]).unwrap_err();
    assert_eq!(error, ProgramError::TooManyPreopens { preopens: 1022, limit: 1024 });
    assert!(error.to_string().contains("1022") && error.to_string().contains("1024"));
}
