//! Instances of the payload's module, each with a store, arguments, environment
//! and files of its own.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use kernel::clock::monotonic_ns;
use protocol::{
    payload::{Payload, strings},
    settings::{Key, Settings},
};
use wasi::{Entry, Exit, Kind, Program, Tree, Wasi};
use wasmtime::{
    Engine, ExternType, Instance, InstancePre, Linker, Module, Store, StoreLimits, Trap, TypedFunc,
};

use crate::{
    exceptions, executor,
    module::{self, refuse},
    settings::{self, Time},
    streams::{Outcome, Streams},
    ticks,
};

/// What belongs to one instance.
pub(crate) struct State {
    wasi: Wasi<Streams>,
    limits: StoreLimits,
}

/// A module that is ready to be instantiated, as often as wanted.
pub(crate) struct Launcher {
    engine: Engine,
    module: InstancePre<State>,
    name: String,
    payload: Payload<'static>,
    settings: Settings,
    time: Time,
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
        settings: Settings,
        time: Time,
    ) -> Result<Self, Outcome> {
        let name = String::from_utf8_lossy(payload.get("module-name").unwrap_or(b"module")).into_owned();
        let module = module::load(&engine, &name, compiled)?;
        let module = link(&engine, &module, &settings, &time).map_err(|error| refuse(&name, &error))?;
        Ok(Self { engine, module, name, payload, settings, time })
    }

    /// Does `work` while the timer ticks, if programs are to be interrupted.
    pub(crate) fn ticking<R>(&self, work: impl FnOnce() -> R) -> Result<R, String> {
        ticks::during(&self.engine, &self.time, work)
    }

    /// Makes an instance, with `variable` in its environment besides, and runs
    /// its program to the end.
    pub(crate) fn launch(&self, streams: Streams, variable: Option<String>) -> Result<Launched, Outcome> {
        // The kernel's stack is made for what wasm may use by default.
        if settings::has_own_stack(&self.settings) {
            return executor::block_on(self.launch_async(streams, variable));
        }
        let mut store = self.store(streams, variable)?;
        let begin = monotonic_ns();
        let instance = self.module.instantiate(&mut store);
        let instantiated = monotonic_ns();
        let outcome = match self.start(&mut store, instance)? {
            Ok(start) => ended(start.call(&mut store, ())),
            Err(outcome) => outcome,
        };
        let run = monotonic_ns() - instantiated;
        Ok(Launched { store, outcome, instantiate: instantiated - begin, run })
    }

    /// The same on a stack of its own, which can wait for its turn.
    pub(crate) async fn launch_async(
        &self,
        streams: Streams,
        variable: Option<String>,
    ) -> Result<Launched, Outcome> {
        let mut store = self.store(streams, variable)?;
        let begin = monotonic_ns();
        let instance = self.module.instantiate_async(&mut store).await;
        let instantiated = monotonic_ns();
        let outcome = match self.start(&mut store, instance)? {
            Ok(start) => ended(start.call_async(&mut store, ()).await),
            Err(outcome) => outcome,
        };
        let run = monotonic_ns() - instantiated;
        Ok(Launched { store, outcome, instantiate: instantiated - begin, run })
    }

    fn store(&self, streams: Streams, variable: Option<String>) -> Result<Store<State>, Outcome> {
        let mut program = program(&self.payload).map_err(Outcome::Refused)?;
        program.env.extend(variable.map(String::into_bytes));
        let wasi = Wasi::new(streams, program).map_err(|error| Outcome::Refused(error.to_string()))?;
        let state = State { wasi, limits: settings::limits(&self.settings) };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        if let Some(fuel) = self.settings.get(Key::Fuel) {
            store.set_fuel(fuel).map_err(|error| refuse(&self.name, &error))?;
        }
        ticks::watch(&mut store, &self.time);
        Ok(store)
    }

    /// The program of an instance, or how it ended before it was one.
    fn start(
        &self,
        store: &mut Store<State>,
        instance: wasmtime::Result<Instance>,
    ) -> Result<Result<TypedFunc<(), ()>, Outcome>, Outcome> {
        let instance = match instance {
            Err(error) if ended_by_itself(&error) => return Ok(Err(ended(Err(error)))),
            Err(error) => return Err(refuse(&self.name, &error)),
            Ok(instance) => instance,
        };
        match instance.get_typed_func::<(), ()>(store, "_start") {
            Ok(start) => Ok(Ok(start)),
            Err(_) => Err(Outcome::Refused(format!(
                "{} exports no function `_start` without parameters; only WASI command modules run here",
                self.name
            ))),
        }
    }
}

/// Gives the module its imports.
fn link(
    engine: &Engine,
    module: &Module,
    settings: &Settings,
    time: &Time,
) -> wasmtime::Result<InstancePre<State>> {
    let mut linker: Linker<State> = Linker::new(engine);
    wasi::add_to_linker(&mut linker, |state| &mut state.wasi)?;
    if time.slice.is_some() {
        wasi::add_waiting_to_linker(&mut linker, |state| &mut state.wasi, executor::sleep_until)?;
    }
    if settings.is_on(Key::UnknownImportsTrap) {
        linker.define_unknown_imports_as_traps(module)?;
    }
    if settings.is_on(Key::UnknownImportsDefault) {
        define_defaults(&mut linker, module);
    }
    linker.instantiate_pre(module)
}

/// Gives functions that nobody has, which return zeros and null references. Wasmtime's own belong to one store,
/// and here each instance has another.
fn define_defaults(linker: &mut Linker<State>, module: &Module) {
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else { continue };
        let results = ty.clone();
        let defined = linker.func_new(import.module(), import.name(), ty, move |_, _, values| {
            for (value, ty) in values.iter_mut().zip(results.results()) {
                *value = ty.default_value().ok_or(Trap::NullReference)?;
            }
            Ok(())
        });
        // A linker refuses a name that it has: that one is known.
        drop(defined);
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

fn ended(result: wasmtime::Result<()>) -> Outcome {
    let Err(error) = result else { return Outcome::Exited(0) };
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return Outcome::Exited(exit.status());
    }
    let cause = error.downcast_ref::<Trap>().map_or("trapped".to_string(), ToString::to_string);
    Outcome::Trapped { cause, message: trap_message(&error) }
}

/// What Wasmtime says of a trap, and what Allotment does of the access.
fn trap_message(error: &wasmtime::Error) -> String {
    let text = format!("{error:?}").trim_end().to_string();
    match exceptions::take_last_trap() {
        Some(report) if error.is::<Trap>() => format!("{text}\n\n{report}"),
        _ => text,
    }
}
