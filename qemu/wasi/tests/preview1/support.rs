//! A guest whose calls the tests make one by one, and a machine that remembers what was asked of it.
//!
//! The guest is a module that imports every function under test and exports a wrapper of the same name, so
//! that the tests choose all arguments, good and bad, and look at its memory afterwards.

use wasi::{Entry, Host, Kind, Program, Stream, Tree, Wasi};
use wasmtime::{Engine, Instance, Linker, Memory, Module, Store, Val};

/// Error numbers of preview 1, written down independently of the crate's own.
pub(crate) mod errno {
    pub(crate) const BADF: i32 = 8;
    pub(crate) const EXIST: i32 = 20;
    pub(crate) const FAULT: i32 = 21;
    pub(crate) const ILSEQ: i32 = 25;
    pub(crate) const INVAL: i32 = 28;
    pub(crate) const ISDIR: i32 = 31;
    pub(crate) const LOOP: i32 = 32;
    pub(crate) const MFILE: i32 = 33;
    pub(crate) const NAMETOOLONG: i32 = 37;
    pub(crate) const NOENT: i32 = 44;
    pub(crate) const NOSYS: i32 = 52;
    pub(crate) const NOTDIR: i32 = 54;
    pub(crate) const PERM: i32 = 63;
    pub(crate) const ROFS: i32 = 69;
    pub(crate) const SPIPE: i32 = 70;
}

/// The functions and their parameters: `i` is an `i32`, `I` an `i64`.
pub(crate) const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("sched_yield", ""),
    ("random_get", "ii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// The size of the guest's memory.
pub(crate) const MEMORY: u32 = 2 * 65536;
/// Where the helpers put results.
pub(crate) const RESULT: u32 = 0x100;
/// Where the helpers put paths.
pub(crate) const PATH: u32 = 0x200;
/// Where the helpers put arrays of buffers.
pub(crate) const VECTORS: u32 = 0x8000;
/// A buffer.
pub(crate) const BUFFER: u32 = 0x1_0000;

/// A machine with a clock that moves only when someone sleeps.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) now: u64,
    pub(crate) slept: Vec<u64>,
    pub(crate) yielded: u32,
    pub(crate) stdin: Vec<u8>,
    /// As many bytes as a read of standard input gives at most; 0 means all.
    pub(crate) chunk: usize,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// How often standard output was written.
    pub(crate) writes: u32,
    pub(crate) terminal: bool,
    /// Whether standard output is only counted.
    pub(crate) discard: bool,
    pub(crate) discarded: usize,
}

/// What the realtime clock is ahead of the monotonic one.
pub(crate) const EPOCH: u64 = 1_700_000_000_000_000_000;

impl Host for Machine {
    fn monotonic_ns(&mut self) -> u64 {
        self.now
    }

    fn realtime_ns(&mut self) -> u64 {
        EPOCH + self.now
    }

    fn resolution_ns(&mut self) -> u64 {
        100
    }

    fn sleep_until(&mut self, deadline: u64) {
        self.slept.push(deadline);
        self.now = self.now.max(deadline);
    }

    fn yield_now(&mut self) {
        self.yielded += 1;
    }

    fn fill_random(&mut self, bytes: &mut [u8]) {
        bytes.fill(4);
    }

    fn stdin_read(&mut self, bytes: &mut [u8]) -> usize {
        let limit = if self.chunk == 0 { bytes.len() } else { self.chunk.min(bytes.len()) };
        let len = limit.min(self.stdin.len());
        bytes[..len].copy_from_slice(&self.stdin[..len]);
        self.stdin.drain(..len);
        len
    }

    fn stdout_write(&mut self, bytes: &[u8]) {
        self.writes += 1;
        if self.discard {
            self.discarded += bytes.len();
            return;
        }
        self.stdout.extend_from_slice(bytes);
    }

    fn stderr_write(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
    }

    fn is_terminal(&self, _: Stream) -> bool {
        self.terminal
    }
}

/// The files that most tests look at.
pub(crate) const FILES: &[(&str, Kind<'static>)] = &[
    ("/hello.txt", Kind::File(b"hello, world\n")),
    ("/empty", Kind::File(b"")),
    ("/dir/a", Kind::File(b"a")),
    ("/dir/b", Kind::File(b"bb")),
    ("/dir/sub/deep.txt", Kind::File(b"deep")),
    ("/void", Kind::Directory),
    ("/link", Kind::Link("hello.txt")),
    ("/dirlink", Kind::Link("dir")),
    ("/slashlink", Kind::Link("dir/")),
    ("/dir/up", Kind::Link("../hello.txt")),
    ("/dangling", Kind::Link("nowhere")),
    ("/absolute", Kind::Link("/hello.txt")),
    ("/outside", Kind::Link("../../etc/passwd")),
    ("/self", Kind::Link("self")),
    ("/tick", Kind::Link("tock")),
    ("/tock", Kind::Link("tick")),
    ("/data/\u{e4}\u{f6}\u{fc}.txt", Kind::File("\u{fc}mlaut".as_bytes())),
];

pub(crate) fn tree() -> Tree {
    Tree::new(FILES.iter().map(|&(path, kind)| Entry { path, kind })).expect("the tree is well formed")
}

pub(crate) fn program() -> Program {
    Program {
        args: vec![b"prog".to_vec(), b"x y".to_vec(), Vec::new()],
        env: vec![b"A=1".to_vec(), b"HOME=/".to_vec()],
        tree: tree().modified_at(EPOCH),
        preopens: vec!["/".into(), "data".into()],
    }
}

/// A guest that does what it is told.
pub(crate) struct Guest {
    pub(crate) store: Store<Wasi<Machine>>,
    pub(crate) instance: Instance,
    pub(crate) memory: Memory,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self::with(Machine::default(), program())
    }

    pub(crate) fn with(machine: Machine, program: Program) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, wrappers()).expect("the wrappers compile");
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker, |state: &mut Wasi<Machine>| state)
            .expect("nothing is defined twice");
        let state = Wasi::new(machine, program).expect("the program can be started");
        let mut store = Store::new(&engine, state);
        let instance = linker.instantiate(&mut store, &module).expect("all imports are defined");
        let memory = instance.get_memory(&mut store, "memory").expect("the guest has a memory");
        Self { store, instance, memory }
    }

    pub(crate) fn machine(&mut self) -> &mut Machine {
        self.store.data_mut().host_mut()
    }

    /// Calls `name`; integers are cut to the parameter's width.
    pub(crate) fn call(&mut self, name: &str, arguments: &[i64]) -> i32 {
        let signature = FUNCTIONS.iter().find(|(known, _)| *known == name).expect("a known function").1;
        assert_eq!(signature.len(), arguments.len(), "arguments of {name}");
        let values: Vec<Val> = signature
            .chars()
            .zip(arguments)
            .map(|(kind, &value)| if kind == 'I' { Val::I64(value) } else { Val::I32(cut(value)) })
            .collect();
        let function = self.instance.get_func(&mut self.store, name).expect("the wrapper is exported");
        let mut results = [Val::I32(-1)];
        let called = function.call(&mut self.store, &values, &mut results);
        called.unwrap_or_else(|error| panic!("{name}({arguments:?}) must not trap: {error:?}"));
        results[0].unwrap_i32()
    }

    pub(crate) fn put(&mut self, pointer: u32, bytes: &[u8]) {
        self.memory.write(&mut self.store, index(pointer), bytes).expect("inside the memory");
    }

    pub(crate) fn get(&self, pointer: u32, len: u32) -> Vec<u8> {
        self.memory.data(&self.store)[index(pointer)..][..index(len)].to_vec()
    }

    pub(crate) fn u16(&self, pointer: u32) -> u16 {
        u16::from_le_bytes(self.get(pointer, 2).try_into().expect("two bytes"))
    }

    pub(crate) fn u32(&self, pointer: u32) -> u32 {
        u32::from_le_bytes(self.get(pointer, 4).try_into().expect("four bytes"))
    }

    pub(crate) fn u64(&self, pointer: u32) -> u64 {
        u64::from_le_bytes(self.get(pointer, 8).try_into().expect("eight bytes"))
    }

    /// Puts a path at [`PATH`]; returns pointer and length.
    pub(crate) fn path(&mut self, path: &str) -> (i64, i64) {
        self.put(PATH, path.as_bytes());
        (i64::from(PATH), i64::try_from(path.len()).expect("short"))
    }

    /// Puts an array of buffers at [`VECTORS`]; returns pointer and count.
    pub(crate) fn vectors(&mut self, buffers: &[(u32, u32)]) -> (i64, i64) {
        for (at, (pointer, len)) in (VECTORS..).step_by(8).zip(buffers) {
            self.put(at, &pointer.to_le_bytes());
            self.put(at + 4, &len.to_le_bytes());
        }
        (i64::from(VECTORS), i64::try_from(buffers.len()).expect("few"))
    }

    /// Opens `path` below the first preopened directory, following links.
    pub(crate) fn open(&mut self, path: &str) -> Result<i64, i32> {
        self.open_at(3, path, 1, 0, 1 << 1)
    }

    pub(crate) fn open_at(
        &mut self,
        fd: i64,
        path: &str,
        lookup: i64,
        how: i64,
        rights: i64,
    ) -> Result<i64, i32> {
        let (pointer, len) = self.path(path);
        let result = i64::from(RESULT);
        match self.call("path_open", &[fd, lookup, pointer, len, how, rights, 0, 0, result]) {
            0 => Ok(i64::from(self.u32(RESULT))),
            errno => Err(errno),
        }
    }

    /// Reads once into one buffer of `len` bytes.
    pub(crate) fn read(&mut self, fd: i64, len: u32) -> Result<Vec<u8>, i32> {
        let (vectors, count) = self.vectors(&[(BUFFER, len)]);
        match self.call("fd_read", &[fd, vectors, count, i64::from(RESULT)]) {
            0 => Ok(self.get(BUFFER, self.u32(RESULT))),
            errno => Err(errno),
        }
    }
}

fn wrappers() -> String {
    let wasm_type = |kind| if kind == 'I' { " i64" } else { " i32" };
    let mut imports = String::new();
    let mut functions = String::new();
    for (name, signature) in FUNCTIONS {
        let parameters: String = signature.chars().map(wasm_type).collect();
        let arguments: String = (0..signature.len()).map(|index| format!(" local.get {index}")).collect();
        imports += &format!(
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param{parameters}) (result i32)))\n"
        );
        functions +=
            &format!("(func (export \"{name}\") (param{parameters}) (result i32){arguments} call ${name})\n");
    }
    format!("(module\n{imports}(memory (export \"memory\") 2 2)\n{functions})")
}

fn cut(value: i64) -> i32 {
    i32::from_le_bytes(*value.to_le_bytes().first_chunk().expect("eight bytes"))
}

fn index(pointer: u32) -> usize {
    usize::try_from(pointer).expect("at least 32 bits")
}
