//! An engine as far as tests need one: it makes instances of modules, and takes
//! them back.

use alloc::{boxed::Box, vec, vec::Vec};

use allotment::{
    Config, Metrics, PoolingAllocationConfig,
    arch::{Arch, VirtAddr},
    instance::{
        self, Imports, Instance, InstanceAllocationRequest, InstanceAllocator, InstanceError, InstanceHandle,
        MemoryIndex, StorePtr,
    },
};

use super::{Code, TestStore, memory, module};
use crate::common::{Fault, MIB, Machine, TestArch, pooled};

/// An instance allocator, as an engine holds it, on some machine.
pub struct Engine<'a, A: TestArch> {
    pub m: &'a Machine<A>,
    pub instances: Box<dyn InstanceAllocator<'a, A> + 'a>,
    /// Whether it has images made of modules before it makes instances of them.
    pub images: bool,
}

impl<'a, A: TestArch> Engine<'a, A> {
    /// By the strategy that the machine is configured for.
    pub fn new(m: &'a Machine<A>) -> Self {
        let instances = instance::build(&m.allocator).expect("the test's instances fit");
        Self { m, instances, images: false }
    }

    /// The same, with images of the modules whose data can be one.
    pub fn with_images(m: &'a Machine<A>) -> Self {
        Self { images: true, ..Self::new(m) }
    }

    /// The same, with frames for a page of each context of a pool: those stay with it, and would be
    /// missing in [`counts`](Self::counts) after its first instance.
    pub fn settled(m: &'a Machine<A>) -> Self {
        let engine = Self::new(m);
        let code = module().id(None).build();
        let mut held = Vec::new();
        while let Some(instance) = engine.pools().then(|| engine.instantiate(&code).ok()).flatten() {
            held.push(instance);
        }
        held.into_iter().for_each(|instance| engine.end(instance));
        engine
    }

    /// Whether it has pools.
    pub fn pools(&self) -> bool {
        self.m.allocator.pooling_allocator_metrics().is_some()
    }

    /// Allocates and initialises an instance without imports, in no store.
    pub fn instantiate(&self, code: &Code) -> Result<InstanceHandle<'a, A>, InstanceError> {
        self.instantiate_with(code, Imports::none(), None)
    }

    /// The same, in a store.
    pub fn instantiate_in(
        &self,
        store: &mut TestStore,
        code: &Code,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        self.instantiate_with(code, Imports::none(), Some(store))
    }

    /// Allocates and initialises an instance. One whose segments do not fit is given back.
    pub fn instantiate_with(
        &self,
        code: &Code,
        imports: Imports<'_>,
        store: Option<&mut TestStore>,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        let mut handle = self.allocate(code, imports, store)?;
        if let Err(error) = handle.initialize() {
            self.end(handle);
            return Err(error);
        }
        Ok(handle)
    }

    /// Allocates an instance.
    pub fn allocate(
        &self,
        code: &Code,
        imports: Imports<'_>,
        store: Option<&mut TestStore>,
    ) -> Result<InstanceHandle<'a, A>, InstanceError> {
        let store = store.map_or_else(StorePtr::empty, |store| StorePtr::new(store));
        if self.images {
            self.instances.prepare_images(&**code)?;
        }
        let host_state = Box::new(());
        self.instances.allocate(InstanceAllocationRequest { runtime_info: code, imports, host_state, store })
    }

    /// Takes an instance back.
    pub fn end(&self, handle: InstanceHandle<'a, A>) {
        // SAFETY: no test uses an instance after this, or one that imports from it.
        unsafe { self.instances.deallocate(handle) };
    }

    /// The address of a byte of a memory, as code would compute it.
    pub fn address(&self, instance: &Instance<'a, A>, memory: MemoryIndex, offset: u64) -> VirtAddr {
        let base = instance.memory_definition(memory).expect("there is that memory").base;
        VirtAddr(base.0.wrapping_add(offset))
    }

    /// Loads a byte as running code would, which relies on guards.
    pub fn load(&self, instance: &Instance<'a, A>, offset: u64) -> Result<u8, Fault> {
        self.m.load_at(self.address(instance, memory(0), offset))
    }

    /// Stores a byte as running code would, which relies on guards.
    pub fn store(&self, instance: &Instance<'a, A>, offset: u64, byte: u8) -> Result<(), Fault> {
        self.m.store_at(self.address(instance, memory(0), offset), byte)
    }

    /// All that is counted and has to be as before once everything is given back. Frames that warm
    /// slots keep are available. Of an engine that is [`settled`](Self::settled).
    pub fn counts(&self) -> [usize; 8] {
        let Metrics { memories, free_memories, tables, stacks, gc_heaps, regions, available_frames, .. } =
            self.m.allocator.metrics();
        let pooling = self.m.allocator.pooling_allocator_metrics();
        let live = pooling.map_or(0, |pooling| pooling.core_instances);
        let live = usize::try_from(live).expect("a count of instances");
        [memories, free_memories, tables, stacks, gc_heaps, regions, available_frames, live]
    }
}

/// Bytes of a memory of the instance.
pub fn bytes<A: Arch>(instance: &Instance<'_, A>, memory: MemoryIndex, from: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    instance.read_memory(memory, from, &mut bytes).expect("the bytes are in bounds");
    bytes
}

/// Runs a case with pools, and with everything made on demand.
pub fn by_either_strategy<A: TestArch>(pool: PoolingAllocationConfig, case: impl Fn(&Engine<'_, A>)) {
    for config in [pooled(pool), Config::new()] {
        let m = Machine::<A>::new(&config, 8 * MIB);
        case(&Engine::settled(&m));
    }
}

/// The same, and with pools that have images of the modules.
pub fn with_and_without_images<A: TestArch>(pool: PoolingAllocationConfig, case: impl Fn(&Engine<'_, A>)) {
    by_either_strategy(pool, &case);
    // The kernel that boots these tests answers faults of their probes only, so
    // there the host's own first write to a page has nobody to ask.
    if !cfg!(target_os = "none") {
        let m = Machine::<A>::new(&pooled(pool), 12 * MIB);
        case(&Engine::with_images(&m));
    }
}
