//! Functions of the embedder, which modules import.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use allotment::instance::{Instance, InstanceError, MemoryIndex};
use wasmparser::{FuncType, ValType};

use crate::{Guarded, InstanceId, Store, Trap, Value, module::Signature};

/// What a host function does: the caller, arguments, and where results go.
type Function<'a, A> = dyn FnMut(Caller<'_, 'a, A>, &[Value]) -> Result<Vec<Value>, Trap> + 'a;

/// The host functions of a store.
pub(crate) struct Hosts<'a, A: Guarded> {
    functions: Vec<(FuncType, Box<Function<'a, A>>)>,
    by_name: BTreeMap<(Box<str>, Box<str>), (usize, Signature)>,
}

impl<A: Guarded> Default for Hosts<'_, A> {
    fn default() -> Self {
        Self { functions: Vec::new(), by_name: BTreeMap::new() }
    }
}

impl<A: Guarded> Hosts<'_, A> {
    /// The number and type of a function.
    pub(crate) fn find(&self, module: &str, name: &str) -> Option<(usize, Signature)> {
        self.by_name.get(&(module.into(), name.into())).copied()
    }
}

/// The instance that calls a host function.
#[derive(Debug)]
pub struct Caller<'c, 'a, A: Guarded> {
    instance: &'c mut Instance<'a, A>,
}

impl<A: Guarded> Caller<'_, '_, A> {
    /// Copies bytes of its memory `memory` out.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`].
    pub fn read(&self, memory: u32, from: u64, into: &mut [u8]) -> Result<(), Trap> {
        Ok(self.instance.read_memory(MemoryIndex::from_u32(memory), from, into)?)
    }

    /// Copies bytes into its memory `memory`.
    ///
    /// # Errors
    ///
    /// [`Trap::MemoryOutOfBounds`], before anything is written.
    pub fn write(&mut self, memory: u32, to: u64, bytes: &[u8]) -> Result<(), Trap> {
        Ok(self.instance.write_memory(MemoryIndex::from_u32(memory), to, bytes)?)
    }
}

impl<'a, A: Guarded> Store<'_, 'a, A> {
    /// Lets modules import `name` from `module` as a function of the host.
    pub fn host_function(
        &mut self,
        module: &str,
        name: &str,
        params: &[ValType],
        results: &[ValType],
        function: impl FnMut(Caller<'_, 'a, A>, &[Value]) -> Result<Vec<Value>, Trap> + 'a,
    ) {
        let ty = FuncType::new(params.iter().copied(), results.iter().copied());
        let signature = self.engine.intern(ty.clone());
        let number = self.hosts.functions.len();
        self.hosts.functions.push((ty, Box::new(function)));
        self.hosts.by_name.insert((module.into(), name.into()), (number, signature));
    }

    /// Calls host function `number` for `caller`, with arguments from the stack.
    pub(crate) fn call_host(&mut self, caller: InstanceId, number: usize) -> Result<(), Trap> {
        let missing = InstanceError::NotFound { what: "host function", index: number };
        let (ty, function) = self.hosts.functions.get_mut(number).ok_or(missing)?;
        let arguments = self.stack.slots();
        let first = arguments.len().saturating_sub(ty.params().len());
        let arguments = arguments[first..].iter().zip(ty.params());
        let arguments: Vec<Value> =
            arguments.map(|(&slot, &ty)| Value::from_slot(slot, ty, self.number)).collect();
        let instance = &mut *self.instances[caller.0].handle;
        let results = function(Caller { instance }, &arguments)?;
        if results.len() != ty.results().len() {
            return Err(Trap::Host("a host function gave other values than it declares"));
        }
        self.stack.truncate(first);
        for (result, &ty) in results.iter().zip(ty.results()) {
            let wrong = Trap::Host("a host function gave other values than it declares");
            self.stack.push(result.into_slot(ty, self.number).ok_or(wrong)?);
        }
        Ok(())
    }
}
