//! A store: instances that use one another, and everything they run with.
//!
//! ```text
//!   Store ─┬─ instances   handles, in the order in which they were made
//!          ├─ names       by which later modules import from them
//!          ├─ hosts       functions of the embedder
//!          ├─ limits      who is asked before anything grows
//!          └─ stack       operands and frames of the program that runs
//! ```
//!
//! An instance imports from earlier ones only. So they go in the opposite order:
//! nobody is left who uses what another one defines.

use alloc::{boxed::Box, collections::BTreeMap, string::ToString, sync::Arc, vec::Vec};
use core::{fmt, mem};

use allotment::{
    FaultReport,
    instance::{
        self, EntityIndex, Export, FuncIndex, Imports, Instance, InstanceAllocationRequest, InstanceError,
        InstanceHandle, MemoryIndex, ModuleRuntimeInfo, ResourceLimiter, StorePtr, ValRaw,
        cranelift_entity::EntityRef,
    },
};
use wasmparser::FuncType;

use crate::{Code, Engine, Error, Guarded, Trap, Value, host::Hosts, module::val_type, stack::Stack};

/// Instances and what they run with. They end with it.
pub struct Store<'e, 'a, A: Guarded> {
    pub(crate) engine: &'e Engine<'a, A>,
    /// By which its functions are told from another store's.
    pub(crate) number: u64,
    pub(crate) instances: Vec<Entry<'a, A>>,
    pub(crate) names: BTreeMap<Box<str>, InstanceId>,
    pub(crate) hosts: Hosts<'a, A>,
    pub(crate) limits: Limits,
    pub(crate) stack: Stack,
    pub(crate) fuel: Option<u64>,
    /// The fault that became the last trap.
    pub(crate) fault: Option<Box<FaultReport>>,
}

/// An instance of a store, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceId(pub(crate) usize);

/// What a store keeps of an instance. Its code is in the instance's own host state.
pub(crate) struct Entry<'a, A: Guarded> {
    pub(crate) handle: InstanceHandle<'a, A>,
    /// Which of its memories need no bounds checks.
    pub(crate) guarded: Box<[bool]>,
}

impl<A: Guarded> Entry<'_, A> {
    pub(crate) fn code(&self) -> Result<Arc<Code>, InstanceError> {
        let state = self.handle.host_state().and_then(|state| state.downcast_ref::<Arc<Code>>());
        state.cloned().ok_or(InstanceError::NotFound { what: "code of instance", index: 0 })
    }
}

/// What an allocator sees of a store.
#[derive(Default)]
pub(crate) struct Limits {
    pub(crate) limiter: Option<Box<dyn ResourceLimiter>>,
}

impl Limits {
    pub(crate) fn limiter(&mut self) -> Option<&mut (dyn ResourceLimiter + 'static)> {
        self.limiter.as_deref_mut()
    }
}

impl instance::Store for Limits {
    fn limiter(&mut self) -> Option<&mut dyn ResourceLimiter> {
        match &mut self.limiter {
            Some(limiter) => Some(&mut **limiter),
            None => None,
        }
    }
}

impl<'e, 'a, A: Guarded> Store<'e, 'a, A> {
    /// An empty store.
    #[must_use]
    pub fn new(engine: &'e Engine<'a, A>) -> Self {
        Self {
            engine,
            number: engine.next_number(),
            instances: Vec::new(),
            names: BTreeMap::new(),
            hosts: Hosts::default(),
            limits: Limits::default(),
            stack: Stack::default(),
            fuel: None,
            fault: None,
        }
    }

    /// Asks `limiter` from now on before a memory or table is made or grows.
    pub fn set_limiter(&mut self, limiter: Box<dyn ResourceLimiter>) {
        self.limits.limiter = Some(limiter);
    }

    /// Has programs trap after so many branches and calls, all in all; `None` for
    /// no limit.
    pub fn set_fuel(&mut self, fuel: Option<u64>) {
        self.fuel = fuel;
    }

    /// Makes an instance and runs its start function. Later modules may import from
    /// it by `name`.
    ///
    /// # Errors
    ///
    /// [`Error`] says what of it cannot be had, and what its segments or start
    /// function did.
    pub fn instantiate(&mut self, name: &str, code: &Arc<Code>) -> Result<InstanceId, Error> {
        let instances = &self.engine.instances;
        instances.validate(&code.module).map_err(|error| Error::DoesNotFit(error.to_string()))?;
        let resolved = self.resolve(code)?;
        // SAFETY: they are exports of this store's instances, which end after all that
        // are made later, and of the types that the module declares. A store is used by
        // one CPU at a time, as `&mut` says.
        let imports = unsafe {
            Imports::new(&resolved.functions, &resolved.tables, &resolved.memories, &resolved.globals)
        };
        let store = StorePtr::new(&mut self.limits);
        let runtime_info: Arc<dyn ModuleRuntimeInfo> = Arc::<Code>::clone(code);
        let handle = instances.allocate(InstanceAllocationRequest {
            runtime_info: &runtime_info,
            imports,
            host_state: Box::new(Arc::clone(code)),
            store,
        })?;
        let id = InstanceId(self.instances.len());
        // From here on the store is who gives it back, also if what follows fails:
        // another instance's table may refer to its functions by then.
        self.instances.push(Entry { handle, guarded: Box::default() });
        self.prepare(id, code)?;
        if let Some(start) = code.module.start {
            self.run(id, |store| store.call_function(id, code, start))?;
        }
        self.names.insert(name.into(), id);
        Ok(id)
    }

    /// Gives a new instance what the engine wants to find in it, and its contents.
    fn prepare(&mut self, id: InstanceId, code: &Code) -> Result<(), Error> {
        let Entry { handle, guarded } = &mut self.instances[id.0];
        // Calls find the instance by its context: the number is 0 in none.
        handle.set_embedder(id.0 as u64 + 1)?;
        *guarded = code
            .module
            .memories
            .keys()
            .map(|memory| Ok(!handle.memory_needs_bounds_checks(memory)?))
            .collect::<Result<_, InstanceError>>()?;
        handle.initialize().map_err(|error| match Trap::from(error) {
            Trap::Refused(error) => Error::Instance(error),
            trap => Error::Trap(trap, None),
        })
    }

    /// Calls an exported function.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::WrongValues`], and [`Error::Trap`] when
    /// the program does not come to its end.
    pub fn call(&mut self, id: InstanceId, name: &str, arguments: &[Value]) -> Result<Vec<Value>, Error> {
        let (code, index) = self.exported(id, name)?;
        let ty = self.type_of(&code, index)?;
        if ty.params().len() != arguments.len() {
            return Err(Error::WrongValues);
        }
        self.stack.clear();
        for (argument, &ty) in arguments.iter().zip(ty.params()) {
            let slot = argument.into_slot(ty, self.number).ok_or(Error::WrongValues)?;
            self.stack.push(slot);
        }
        self.run(id, |store| store.call_function(id, &code, index))?;
        let results = self.stack.slots().iter().zip(ty.results());
        Ok(results.map(|(&slot, &ty)| Value::from_slot(slot, ty, self.number)).collect())
    }

    /// The type of an exported function: what it takes and gives.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`].
    pub fn function_type(&self, id: InstanceId, name: &str) -> Result<FuncType, Error> {
        let (code, index) = self.exported(id, name)?;
        Ok((*self.type_of(&code, index)?).clone())
    }

    /// The value of an exported global.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`].
    pub fn global(&self, id: InstanceId, name: &str) -> Result<Value, Error> {
        let unknown = || Error::UnknownExport(name.into());
        let handle = self.handle(id).ok_or_else(unknown)?;
        let Some(&EntityIndex::Global(index)) = handle.module()?.exports.get(name) else {
            return Err(unknown());
        };
        let Some(Export::Global { ty, .. }) = handle.lookup(name)? else { return Err(unknown()) };
        let slot = slot_of(handle.global(index)?);
        let types = [wasmparser::ValType::I32, wasmparser::ValType::I64, wasmparser::ValType::F32]
            .into_iter()
            .chain([wasmparser::ValType::F64, wasmparser::ValType::FUNCREF, wasmparser::ValType::EXTERNREF]);
        let ty = types.into_iter().find(|&is| val_type(is) == Ok(ty.content)).ok_or_else(unknown)?;
        Ok(Value::from_slot(slot, ty, self.number))
    }

    /// Copies bytes of an exported memory out.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], and [`Error::Instance`] out of bounds.
    pub fn read_memory(&self, id: InstanceId, name: &str, from: u64, into: &mut [u8]) -> Result<(), Error> {
        let (handle, index) = self.exported_memory(id, name)?;
        Ok(handle.read_memory(index, from, into)?)
    }

    /// The instance, with all that Allotment says of it.
    #[must_use]
    pub fn handle(&self, id: InstanceId) -> Option<&Instance<'a, A>> {
        self.instances.get(id.0).map(|entry| &*entry.handle)
    }

    /// The names of its instances, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    fn exported_memory(&self, id: InstanceId, name: &str) -> Result<(&Instance<'a, A>, MemoryIndex), Error> {
        let unknown = || Error::UnknownExport(name.into());
        let handle = self.handle(id).ok_or_else(unknown)?;
        match handle.module()?.exports.get(name) {
            Some(&EntityIndex::Memory(index)) => Ok((handle, index)),
            _ => Err(unknown()),
        }
    }

    fn exported(&self, id: InstanceId, name: &str) -> Result<(Arc<Code>, FuncIndex), Error> {
        let unknown = || Error::UnknownExport(name.into());
        let code = self.instances.get(id.0).ok_or_else(unknown)?.code()?;
        match code.module.exports.get(name) {
            Some(&EntityIndex::Function(index)) => Ok((code, index)),
            _ => Err(unknown()),
        }
    }

    fn type_of(&self, code: &Code, index: FuncIndex) -> Result<Arc<FuncType>, Error> {
        let missing = InstanceError::NotFound { what: "function", index: index.index() };
        let function = code.module.functions.get(index).ok_or(missing)?;
        Ok(self.engine.function_type(function.signature).ok_or(missing)?)
    }
}

/// The low half of a value: all of it, without vectors.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
pub(crate) fn slot_of(value: ValRaw) -> u64 {
    value.0 as u64
}

impl<A: Guarded> Drop for Store<'_, '_, A> {
    fn drop(&mut self) {
        for entry in mem::take(&mut self.instances).into_iter().rev() {
            // SAFETY: nothing runs any more, and those that import from it are gone.
            unsafe { self.engine.instances.deallocate(entry.handle) };
        }
    }
}

impl<A: Guarded> fmt::Debug for Store<'_, '_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("number", &self.number)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
