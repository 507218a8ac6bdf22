//! One file: its store, its instances and their names, step by step.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use protocol::spec::{Action, Directive, Packed, Report, Step};
use wasmtime::{Engine, Extern, Instance, Linker, Module, Store, ThrownException, Trap, Val};

use crate::{reports::Reports, spectest, traps, values};

/// Goes through a script and reports each step that does not come out as it has to.
pub(crate) fn run(engine: &Engine, script: &[u8], reports: &mut Reports) {
    let mut file = match File::new(engine) {
        Ok(file) => file,
        Err(error) => {
            let why = format!("there is no room for the module `spectest`: {error:?}");
            return reports.say(&Report::Failed { line: 0, why: &why });
        }
    };
    let mut rest = script;
    let mut last = 0;
    loop {
        match Step::read(rest) {
            Ok(None) => return,
            Ok(Some((step, behind))) => {
                (rest, last) = (behind, step.line);
                reports.say(&Report::At(last));
                if let Err(why) = file.step(&step.directive) {
                    reports.say(&Report::Failed { line: step.line, why: &why });
                }
            }
            Err(error) => {
                let why = format!("the step behind this one cannot be read: {error}");
                return reports.say(&Report::Failed { line: last, why: &why });
            }
        }
    }
}

/// What a file has made so far. All of it lives until its end.
struct File {
    engine: Engine,
    store: Store<()>,
    linker: Linker<()>,
    modules: BTreeMap<String, Module>,
    last_module: Option<Module>,
    instances: BTreeMap<String, Instance>,
    last_instance: Option<Instance>,
}

/// What came of an action. The outer error is no answer at all: a name that is not there, say.
type Outcome = Result<wasmtime::Result<Vec<Val>>, String>;

impl File {
    fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut store = Store::new(engine, ());
        let mut linker = Linker::new(engine);
        // A name may be registered again.
        linker.allow_shadowing(true);
        spectest::define(&mut linker, &mut store)?;
        Ok(Self {
            engine: engine.clone(),
            store,
            linker,
            modules: BTreeMap::new(),
            last_module: None,
            instances: BTreeMap::new(),
            last_instance: None,
        })
    }

    fn step(&mut self, directive: &Directive<'_>) -> Result<(), String> {
        match directive {
            Directive::Define { name, module } => {
                let module = self.load(module)?;
                if let Some(name) = name {
                    self.modules.insert((*name).to_string(), module.clone());
                }
                self.last_module = Some(module);
                Ok(())
            }
            Directive::Instantiate { name, module } => {
                // Whatever fails, steps that follow must not mean the instance before.
                self.last_instance = None;
                let module = self.load(module)?;
                if let Some(name) = name {
                    self.modules.insert((*name).to_string(), module.clone());
                }
                self.instantiate(*name, &module)
            }
            Directive::InstantiateDefined { name, module } => {
                self.last_instance = None;
                let defined = match module {
                    Some(name) => self.modules.get(*name),
                    None => self.last_module.as_ref(),
                };
                let defined = defined.cloned().ok_or_else(|| format!("no module {}", named(*module)))?;
                self.instantiate(*name, &defined)
            }
            Directive::Register { name, instance } => {
                let instance = self.instance(*instance)?;
                let registered = self.linker.instance(&mut self.store, name, instance);
                registered.map(drop).map_err(|error| format!("cannot be registered: {error:?}"))
            }
            Directive::Do(action) => self.act(action)?.map(drop).map_err(|error| self.unexpected(&error)),
            Directive::Return { action, results } => match self.act(action)? {
                Ok(values) => values::check(&mut self.store, &values, results),
                Err(error) => Err(self.unexpected(&error)),
            },
            Directive::Trap { action, message } => match self.act(action)? {
                Err(error) if error.is::<Trap>() => traps::check(&error, message),
                Err(error) => Err(format!("expected the trap `{message}`, got {}", self.unexpected(&error))),
                Ok(values) => Err(format!("expected the trap `{message}`, got {values:?}")),
            },
            Directive::Exception(action) => match self.act(action)? {
                Err(error) if error.is::<ThrownException>() => {
                    let thrown = self.store.take_pending_exception();
                    thrown.map(drop).ok_or_else(|| "an exception was thrown, and is not there".to_string())
                }
                Err(error) => Err(format!("expected an exception, got {error:?}")),
                Ok(values) => Err(format!("expected an exception, got {values:?}")),
            },
            Directive::Unlinkable { module, message } => {
                let module = self.load(module)?;
                match self.linker.instantiate(&mut self.store, &module) {
                    Err(error) if error.is::<Trap>() => {
                        Err(format!("expected to be refused as `{message}`, got {error:?}"))
                    }
                    Err(error) => traps::check(&error, message),
                    Ok(_) => Err(format!("expected to be refused as `{message}`, was instantiated")),
                }
            }
        }
    }

    fn load(&self, module: &Packed<'_>) -> Result<Module, String> {
        let code = module.unpack().map_err(|error| error.to_string())?;
        // SAFETY: whoever made the boot image vouches for its modules, as for the kernel
        // itself: compiled code is trusted, not checked.
        let module = unsafe { Module::deserialize(&self.engine, &code) };
        module.map_err(|error| format!("the module cannot be loaded: {error:?}"))
    }

    fn instantiate(&mut self, name: Option<&str>, module: &Module) -> Result<(), String> {
        let instance = self.linker.instantiate(&mut self.store, module);
        let instance = instance.map_err(|error| format!("cannot be instantiated: {error:?}"))?;
        if let Some(name) = name {
            self.instances.insert(name.to_string(), instance);
        }
        self.last_instance = Some(instance);
        Ok(())
    }

    fn instance(&self, name: Option<&str>) -> Result<Instance, String> {
        let instance = match name {
            Some(name) => self.instances.get(name).copied(),
            None => self.last_instance,
        };
        instance.ok_or_else(|| format!("no instance {}", named(name)))
    }

    fn act(&mut self, action: &Action<'_>) -> Outcome {
        match action {
            Action::Invoke { instance, function, arguments } => {
                let Extern::Func(called) = self.export(*instance, function)? else {
                    return Err(format!("the export `{function}` is no function"));
                };
                let arguments: wasmtime::Result<Vec<_>> =
                    arguments.iter().map(|value| values::argument(&mut self.store, value)).collect();
                let arguments =
                    arguments.map_err(|error| format!("an argument is not to be had: {error:?}"))?;
                let mut results = values::room(called.ty(&self.store).results().len());
                Ok(called.call(&mut self.store, &arguments, &mut results).map(|()| results))
            }
            Action::Get { instance, global } => match self.export(*instance, global)? {
                Extern::Global(found) => Ok(Ok(alloc::vec![found.get(&mut self.store)])),
                _ => Err(format!("the export `{global}` is no global")),
            },
            Action::Instantiate(module) => {
                let module = self.load(module)?;
                Ok(self.linker.instantiate(&mut self.store, &module).map(|_| Vec::new()))
            }
        }
    }

    fn export(&mut self, instance: Option<&str>, name: &str) -> Result<Extern, String> {
        let export = self.instance(instance)?.get_export(&mut self.store, name);
        export.ok_or_else(|| format!("no export `{name}`"))
    }

    /// What an error says that should not be. An exception nobody expected must not stay behind.
    fn unexpected(&mut self, error: &wasmtime::Error) -> String {
        match self.store.take_pending_exception() {
            Some(_) => format!("an exception: {error:?}"),
            None => format!("{error:?}"),
        }
    }
}

fn named(name: Option<&str>) -> String {
    name.map_or("before this line".to_string(), |name| format!("${name}"))
}
