//! What all stores share: the allocator, and the numbers of types and modules.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};
use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use allotment::{
    Allocator,
    arch::{Arch, Native},
    instance::{self, InstanceAllocator, InstanceError, VMSharedTypeIndex},
};
use spin::mutex::SpinMutex;
use wasmparser::FuncType;

use crate::{
    Code, CompileError,
    module::{self, Signature},
};

/// Compiles modules, for instances of an allocator.
pub struct Engine<'a, A: Arch = Native> {
    pub(crate) allocator: &'a Allocator<A>,
    pub(crate) instances: Box<dyn InstanceAllocator<'a, A> + 'a>,
    types: SpinMutex<Types>,
    /// The next number of a module or store. Nothing is module 0.
    next: AtomicU64,
}

/// Each type that functions have, once.
#[derive(Default)]
struct Types {
    numbers: BTreeMap<FuncType, VMSharedTypeIndex>,
    types: Vec<Arc<FuncType>>,
}

impl<'a, A: Arch> Engine<'a, A> {
    /// An engine whose instances are of the strategy that the allocator is
    /// configured for.
    ///
    /// # Errors
    ///
    /// As for [`instance::build`].
    pub fn new(allocator: &'a Allocator<A>) -> Result<Self, InstanceError> {
        let instances = instance::build(allocator)?;
        Ok(Self { allocator, instances, types: SpinMutex::default(), next: AtomicU64::new(1) })
    }

    /// Compiles a wasm binary.
    ///
    /// # Errors
    ///
    /// [`CompileError`] says what is wrong with it.
    pub fn compile(&self, bytes: &[u8]) -> Result<Arc<Code>, CompileError> {
        module::compile(self, bytes)
    }

    /// Forgets which slots instances of a module had: there will be no more.
    pub fn purge(&self, code: &Code) {
        self.instances.purge_module(code.id);
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of a type, the same for the same type.
    pub(crate) fn intern(&self, ty: FuncType) -> Signature {
        // A validator has fewer than 2^32 of either.
        let count = |types: &[wasmparser::ValType]| u32::try_from(types.len()).unwrap_or(u32::MAX);
        let (params, results) = (count(ty.params()), count(ty.results()));
        let mut types = self.types.lock();
        let id = types.numbers.get(&ty).copied().unwrap_or_else(|| {
            let id = VMSharedTypeIndex(u32::try_from(types.types.len()).unwrap_or(u32::MAX));
            types.numbers.insert(ty.clone(), id);
            types.types.push(Arc::new(ty));
            id
        });
        Signature { id, params, results }
    }

    /// The type with a number that [`intern`](Self::intern) gave.
    pub(crate) fn function_type(&self, id: VMSharedTypeIndex) -> Option<Arc<FuncType>> {
        self.types.lock().types.get(id.0 as usize).cloned()
    }
}

impl<A: Arch> fmt::Debug for Engine<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("types", &self.types.lock().types.len()).finish_non_exhaustive()
    }
}
