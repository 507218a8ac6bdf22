//! Instances of the payload's module, each with a store, arguments, environment
//! and files of its own.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kernel::clock::monotonic_ns;
use protocol::payload::{Payload, strings};
use wasi::{Entry, Exit, Kind, Program, Tree, Wasi};
use wasmtime::{Engine, InstancePre, Linker, Store, Trap};

use crate::{
    exceptions,
    module::{self, refuse},
    streams::{Outcome, Streams},
};

type State = Wasi<Streams>;

/// A module that is ready to be instantiated, as often as wanted.
pub(crate) struct Launcher {
    engine: Engine,
    module: InstancePre<State>,
    name: String,
    payload: Payload<'static>,
}

/// An instance that has run. It lives, with its memory, until it is dropped.
pub(crate) struct Launched {
    pub(crate) store: Store<State>,
    pub(crate) outcome: Outcome,
    /// Nanoseconds from a new store to an instance.
    pub(crate) instantiate: u64,
    /// Nanoseconds that its program took.
    pub(crate) run: u64,
}

impl Launcher {
    /// All that can be wrong with the module itself is right.
    pub(crate) fn new(
        engine: Engine,
        payload: Payload<'static>,
        compiled: &'static [u8],
    ) -> Result<Self, Outcome> {
        let name = String::from_utf8_lossy(payload.get("module-name").unwrap_or(b"module")).into_owned();
        let module = module::load(&engine, &name, compiled)?;
        let mut linker: Linker<State> = Linker::new(&engine);
        wasi::add_to_linker(&mut linker, |state| state).map_err(|error| refuse(&name, &error))?;
        let module = linker.instantiate_pre(&module).map_err(|error| refuse(&name, &error))?;
        Ok(Self { engine, module, name, payload })
    }

    /// Makes an instance, with `variable` in its environment besides, and runs
    /// its program to the end.
    pub(crate) fn launch(&self, streams: Streams, variable: Option<String>) -> Result<Launched, Outcome> {
        let mut program = program(&self.payload).map_err(Outcome::Refused)?;
        program.env.extend(variable.map(String::into_bytes));
        let state = Wasi::new(streams, program).map_err(|error| Outcome::Refused(error.to_string()))?;
        let begin = monotonic_ns();
        let mut store = Store::new(&self.engine, state);
        let instance = self.module.instantiate(&mut store);
        let instantiated = monotonic_ns();
        let outcome = match instance {
            Err(error) if ended_by_itself(&error) => ended(&error),
            Err(error) => return Err(refuse(&self.name, &error)),
            Ok(instance) => match instance.get_typed_func::<(), ()>(&mut store, "_start") {
                Err(_) => {
                    return Err(Outcome::Refused(format!(
                        "{} exports no function `_start` without parameters; only WASI command modules run here",
                        self.name
                    )));
                }
                Ok(start) => match start.call(&mut store, ()) {
                    Ok(()) => Outcome::Exited(0),
                    Err(error) => ended(&error),
                },
            },
        };
        let run = monotonic_ns() - instantiated;
        Ok(Launched { store, outcome, instantiate: instantiated - begin, run })
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

/// Whether instantiation failed because the program's own code ended it.
fn ended_by_itself(error: &wasmtime::Error) -> bool {
    error.is::<Exit>() || error.is::<Trap>()
}

fn ended(error: &wasmtime::Error) -> Outcome {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return Outcome::Exited(exit.status());
    }
    let cause = error.downcast_ref::<Trap>().map_or("trapped".to_string(), ToString::to_string);
    Outcome::Trapped { cause, message: trap_message(error) }
}

/// What Wasmtime says of a trap, and what Allotment does of the access.
fn trap_message(error: &wasmtime::Error) -> String {
    let text = format!("{error:?}").trim_end().to_string();
    match exceptions::take_last_trap() {
        Some(report) if error.is::<Trap>() => format!("{text}\n\n{report}"),
        _ => text,
    }
}
