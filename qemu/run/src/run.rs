//! Running the one module of the payload.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kernel::BootInfo;
use protocol::payload::{Payload, strings};
use wasi::{Entry, Exit, Kind, Program, Tree, Wasi};
use wasmtime::{Engine, Linker, Module, Store, Trap};

use crate::{
    exceptions, machine,
    streams::{Outcome, Streams},
};

type State = Wasi<Streams>;

/// Runs the payload's module and ends the machine. The status says how it
/// ended.
pub fn run(boot: &'static BootInfo) -> ! {
    let (mut streams, outcome) = match prepare(boot) {
        Ok(prepared) => prepared.run(),
        Err(refused) => (Streams::open(), refused),
    };
    streams.finish(&outcome)
}

/// All that can be wrong before the program has its streams is right.
struct Prepared {
    engine: Engine,
    module: Module,
    name: String,
    program: Program,
}

fn prepare(boot: &'static BootInfo) -> Result<Prepared, Outcome> {
    let bytes = boot.payload.ok_or(Outcome::Refused("the boot image carries no module".to_string()))?;
    let payload = Payload::parse(bytes).map_err(|error| Outcome::Refused(error.to_string()))?;
    let compiled = payload.get("module").ok_or(Outcome::Refused("the payload has no module".to_string()))?;
    let name = String::from_utf8_lossy(payload.get("module-name").unwrap_or(b"module")).into_owned();
    let program = program(&payload).map_err(Outcome::Refused)?;

    let (engine, _) = machine::start(boot).map_err(|error| Outcome::Refused(error.to_string()))?;
    check_header(compiled).map_err(|why| Outcome::Refused(format!("{name}: {why}")))?;
    // SAFETY: whoever made the boot image vouches for its module, as for the
    // kernel itself: compiled code is trusted, not checked.
    let module = unsafe { Module::deserialize(&engine, compiled) }.map_err(|error| refuse(&name, &error))?;
    Ok(Prepared { engine, module, name, program })
}

impl Prepared {
    fn run(self) -> (Streams, Outcome) {
        let Self { engine, module, name, program } = self;
        let mut linker: Linker<State> = Linker::new(&engine);
        if let Err(error) = wasi::add_to_linker(&mut linker, |state| state) {
            return (Streams::open(), refuse(&name, &error));
        }
        let state = match Wasi::new(Streams::open(), program) {
            Ok(state) => state,
            Err(error) => return (Streams::open(), Outcome::Refused(error.to_string())),
        };
        let mut store = Store::new(&engine, state);
        let outcome = match linker.instantiate(&mut store, &module) {
            Err(error) if ended_by_itself(&error) => ended(&error),
            Err(error) => refuse(&name, &error),
            Ok(instance) => match instance.get_typed_func::<(), ()>(&mut store, "_start") {
                Err(_) => Outcome::Refused(format!(
                    "{name} exports no function `_start` without parameters; only WASI command modules run here"
                )),
                Ok(start) => match start.call(&mut store, ()) {
                    Ok(()) => Outcome::Exited(0),
                    Err(error) => ended(&error),
                },
            },
        };
        (store.into_data().into_host(), outcome)
    }
}

/// What the program is started with, from the payload's entries.
fn program(payload: &Payload<'static>) -> Result<Program, String> {
    let list = |name| strings(payload.get(name).unwrap_or_default()).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let files = payload.with_prefix("fs/").map(|entry| {
        let path = entry.name.strip_prefix("fs").unwrap_or(entry.name);
        let kind = if path.ends_with('/') { Kind::Directory } else { Kind::File(entry.data) };
        Entry { path, kind }
    });
    let links = payload.with_prefix("link/").filter_map(|entry| {
        let path = entry.name.strip_prefix("link")?;
        Some(Entry { path, kind: Kind::Link(core::str::from_utf8(entry.data).ok()?) })
    });
    // Every file is as old as the image.
    let made = payload.get("time").and_then(|time| Some(u64::from_le_bytes(time.try_into().ok()?)));
    let tree =
        Tree::new(files.chain(links)).map_err(|error| error.to_string())?.modified_at(made.unwrap_or(0));
    let preopens = list("preopens").iter().map(|name| text(name)).collect();
    Ok(Program { args: list("args"), env: list("env"), tree, preopens })
}

/// Says what is wrong with a file that is no module of this machine, before
/// Wasmtime says so less clearly.
fn check_header(compiled: &[u8]) -> Result<(), String> {
    const ELF: &[u8] = b"\x7fELF";
    const EM_X86_64: u16 = 62;
    const EM_AARCH64: u16 = 183;
    let here = if cfg!(target_arch = "x86_64") { EM_X86_64 } else { EM_AARCH64 };
    if !compiled.starts_with(ELF) {
        return Err("not a precompiled module (.cwasm); compile it with `cargo xtask compile`".to_string());
    }
    let Some(&[low, high]) = compiled.get(18..20) else {
        return Err(format!("truncated: {} bytes are not even a header", compiled.len()));
    };
    match u16::from_le_bytes([low, high]) {
        machine if machine == here => {}
        EM_X86_64 => return Err("compiled for x86_64, this machine is aarch64".to_string()),
        EM_AARCH64 => return Err("compiled for aarch64, this machine is x86_64".to_string()),
        machine => return Err(format!("compiled for machine {machine:#x}, not for this one")),
    }
    // The section headers of an ELF file come last: e_shoff and e_shnum.
    let field = |at: usize, len: usize| {
        let bytes = compiled.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    let end = field(40, 8).zip(field(60, 2)).and_then(|(start, count)| start.checked_add(64 * count));
    match end {
        Some(end) if end <= compiled.len() as u64 => Ok(()),
        Some(end) => Err(format!("truncated: {end} bytes were written, {} are here", compiled.len())),
        None => Err(format!("truncated: {} bytes are not even a header", compiled.len())),
    }
}

/// Whether instantiation failed because the program's own code ended it.
fn ended_by_itself(error: &wasmtime::Error) -> bool {
    error.is::<Exit>() || error.is::<Trap>()
}

fn ended(error: &wasmtime::Error) -> Outcome {
    match error.downcast_ref::<Exit>() {
        Some(exit) => Outcome::Exited(exit.status()),
        None => Outcome::Trapped(trap_message(error)),
    }
}

/// What Wasmtime says of a trap, and what Allotment does of the access.
fn trap_message(error: &wasmtime::Error) -> String {
    let text = format!("{error:?}").trim_end().to_string();
    match exceptions::take_last_trap() {
        Some(report) if error.is::<Trap>() => format!("{text}\n\n{report}"),
        _ => text,
    }
}

/// A refusal, with what the allocator had to say about it.
fn refuse(name: &str, error: &wasmtime::Error) -> Outcome {
    let cause = allotment::wasmtime::installed().and_then(allotment::wasmtime::Platform::take_last_error);
    match cause {
        Some(cause) => Outcome::Refused(format!("{name}: {cause} ({error:#})")),
        None => Outcome::refused(name, error),
    }
}
