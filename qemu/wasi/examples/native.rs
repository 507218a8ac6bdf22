//! Runs a command module on this computer, over the same preview 1 as on bare metal: to see what a program
//! does before it is put on a machine, and to compare.
//!
//! ```sh
//! cargo run -p allotment-wasi --example native -- [--dir DIRECTORY] MODULE [ARGUMENTS...]
//! ```

use core::time::Duration;
use std::{
    env, fs,
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use wasi::{Entry, Exit, Host, Kind, Program, Tree, Wasi};
use wasmtime::{Engine, Linker, Module, Result, Store};

struct Native {
    started: Instant,
}

impl Host for Native {
    fn monotonic_ns(&mut self) -> u64 {
        nanoseconds(self.started.elapsed())
    }

    fn realtime_ns(&mut self) -> u64 {
        nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn sleep_until(&mut self, deadline: u64) {
        thread::sleep(Duration::from_nanos(deadline).saturating_sub(self.started.elapsed()));
    }

    fn fill_random(&mut self, bytes: &mut [u8]) {
        let source = fs::File::open("/dev/urandom");
        source.and_then(|mut source| source.read_exact(bytes)).expect("this computer has randomness");
    }

    fn stdin_read(&mut self, bytes: &mut [u8]) -> usize {
        std::io::stdin().read(bytes).unwrap_or(0)
    }

    fn stdout_write(&mut self, bytes: &[u8]) {
        // What goes wrong out there is not the program's concern.
        let _ = std::io::stdout().write_all(bytes);
        let _ = std::io::stdout().flush();
    }

    fn stderr_write(&mut self, bytes: &[u8]) {
        let _ = std::io::stderr().write_all(bytes);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Something found on disk, to outlive the tree of names.
enum Found {
    File(&'static [u8]),
    Directory,
    Link(String),
}

fn collect(directory: &Path, prefix: &str, found: &mut Vec<(String, Found)>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &path, found)?;
            found.push((path, Found::Directory));
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path())?.to_string_lossy().into_owned();
            found.push((path, Found::Link(target)));
        } else if kind.is_file() {
            // Like the files in a boot image, these stay as long as the program runs.
            found.push((path, Found::File(fs::read(entry.path())?.leak())));
        }
    }
    Ok(())
}

fn main() -> Result<ExitCode> {
    let mut arguments = env::args().skip(1).peekable();
    let mut program = Program::default();
    if arguments.next_if(|argument| argument == "--dir").is_some() {
        let mut found = Vec::new();
        let directory = arguments.next().unwrap_or_default();
        collect(Path::new(&directory), "", &mut found)?;
        let entries = found.iter().map(|(path, found)| {
            let kind = match found {
                Found::File(contents) => Kind::File(contents),
                Found::Directory => Kind::Directory,
                Found::Link(target) => Kind::Link(target),
            };
            Entry { path, kind }
        });
        program.tree = Tree::new(entries)?;
        program.preopens.push("/".into());
    }
    program.args = arguments.map(String::into_bytes).collect();
    let Some(path) = program.args.first() else {
        eprintln!("usage: native [--dir DIRECTORY] MODULE [ARGUMENTS...]");
        return Ok(ExitCode::from(2));
    };
    let path = String::from_utf8_lossy(path).into_owned();
    program.env = env::vars().map(|(name, value)| format!("{name}={value}").into_bytes()).collect();

    let engine = Engine::default();
    let module = Module::from_file(&engine, &path)?;
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker, |state: &mut Wasi<Native>| state)?;
    let state = Wasi::new(Native { started: Instant::now() }, program)?;
    let mut store = Store::new(&engine, state);
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    match start.call(&mut store, ()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<Exit>() {
            Some(exit) => Ok(ExitCode::from(exit.status())),
            None => {
                eprintln!("{error:?}");
                Ok(ExitCode::from(134))
            }
        },
    }
}
