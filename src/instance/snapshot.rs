//! Snapshots of instances, and the instances that go on from there.
//!
//! ```text
//!   instance ──Instance::snapshot──> InstanceSnapshot ──allocate_clone──> instance
//!     memories   images of what they show                    show them
//!     tables     elements: by its functions' indices, or     references of its own,
//!                addresses of others' references             or the same addresses
//!     globals    likewise                                    likewise
//!     segments   which are dropped                           are dropped
//! ```
//!
//! A reference to one of the instance's functions is an address in its context: in
//! a clone it is the address in the clone's.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};
use core::fmt;

use allotment_arch::{Arch, Native, VirtAddr, page_ceil};
use cranelift_entity::{EntityRef, PrimaryMap};

use super::{
    DefinedGlobalIndex, DefinedMemoryIndex, DefinedTableIndex, FuncIndex, Instance,
    InstanceAllocationRequest, InstanceError, Memory, Module, ModuleRuntimeInfo, Table, TableElement,
    TableElementType, VMGlobalDefinition, ValType, memory::Beginning,
};
use crate::{Allocator, Error, MemoryImage};

/// What an instance was at some moment: any number of others can begin there, by
/// [`allocate_clone`](super::InstanceAllocator::allocate_clone).
///
/// Memories of clones share what they and the original do not write. It takes heap for
/// tables and globals, and keeps the module.
#[must_use = "a snapshot is of use to make clones from"]
pub struct InstanceSnapshot<'a, A: Arch = Native> {
    allocator: &'a Allocator<A>,
    runtime_info: Arc<dyn ModuleRuntimeInfo>,
    memories: PrimaryMap<DefinedMemoryIndex, CapturedMemory<'a, A>>,
    tables: PrimaryMap<DefinedTableIndex, Box<[Option<Reference>]>>,
    globals: PrimaryMap<DefinedGlobalIndex, CapturedGlobal>,
    /// Bits of dropped segments, as the context has them.
    dropped: Box<[u64]>,
}

struct CapturedMemory<'a, A: Arch> {
    image: MemoryImage<'a, A>,
    /// Bytes that it had.
    size: usize,
}

/// A function that a table or a global refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    Null,
    /// One of the instance's, imported ones among them.
    Own(FuncIndex),
    /// Somebody else's, at that address.
    Foreign(VirtAddr),
}

#[derive(Clone, Copy, Debug)]
enum CapturedGlobal {
    Value(VMGlobalDefinition),
    Function(Reference),
}

impl<'a, A: Arch> Instance<'a, A> {
    /// What the instance is now: its memories, tables, globals, and which segments are
    /// dropped. What it imports is not part of it, nor are `host_state` and the embedder's
    /// word.
    ///
    /// Nobody runs in it meanwhile, and its own stack, if it has one, is not part of it
    /// either: a clone begins between two calls. Another CPU that goes on with the instance
    /// [arrives](Self::arrive) first.
    ///
    /// # Errors
    ///
    /// [`InstanceError::NotCaptured`] of a shared memory, and of a table or a global that
    /// holds a GC reference; those of
    /// [`Allocator::capture_memory`](crate::Allocator::capture_memory). The instance is as
    /// it was then, and so are memories that were captured before.
    pub fn snapshot(&self) -> Result<InstanceSnapshot<'a, A>, InstanceError> {
        let info = self.runtime_info()?;
        let module = info.module();
        let functions = self.functions_by_place(module);
        let reference = |address: Option<VirtAddr>| match address {
            None => Reference::Null,
            Some(address) => {
                functions.get(&address.0).map_or(Reference::Foreign(address), |&own| Reference::Own(own))
            }
        };
        // What may be refused comes first.
        let mut tables = PrimaryMap::new();
        for (index, table) in &self.tables {
            tables.push(captured_elements(index, table, reference)?);
        }
        let mut globals = PrimaryMap::new();
        for number in 0..module.num_defined_globals() {
            globals.push(self.captured_global(module, DefinedGlobalIndex::new(number), reference)?);
        }
        let mut dropped = Vec::new();
        for word in module.offsets().dropped_words() {
            dropped.push(self.get(word)?);
        }
        for (index, memory) in &self.memories {
            if memory.as_shared().is_some() {
                return Err(InstanceError::NotCaptured { what: "shared memory", index: index.index() });
            }
        }
        let mut memories = PrimaryMap::new();
        for memory in self.memories.values() {
            let image = self.captured_memory(memory)?;
            memories.push(CapturedMemory { image, size: memory.byte_size() });
        }
        Ok(InstanceSnapshot {
            allocator: self.allocator,
            runtime_info: Arc::clone(info),
            memories,
            tables,
            globals,
            dropped: dropped.into(),
        })
    }

    /// The functions that may be referred to, by the addresses of their references.
    fn functions_by_place(&self, module: &Module) -> BTreeMap<u64, FuncIndex> {
        let places = module.functions.iter().filter_map(|(function, ty)| {
            let place = module.offsets().func_ref(ty.func_ref?);
            Some((self.vmctx.offset(place).0, function))
        });
        places.collect()
    }

    fn captured_global(
        &self,
        module: &Module,
        index: DefinedGlobalIndex,
        reference: impl Fn(Option<VirtAddr>) -> Reference,
    ) -> Result<CapturedGlobal, InstanceError> {
        let definition: VMGlobalDefinition = self.get(module.offsets().global(index))?;
        let value = u128::from_le_bytes(definition.0);
        match module.globals.values().nth(module.num_imported_globals + index.index()).map(|ty| ty.content) {
            Some(ValType::GcRef) if value != 0 => {
                Err(InstanceError::NotCaptured { what: "GC reference of global", index: index.index() })
            }
            Some(ValType::FuncRef) => {
                let address = u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0);
                Ok(CapturedGlobal::Function(reference((address != 0).then_some(VirtAddr(address)))))
            }
            _ => Ok(CapturedGlobal::Value(definition)),
        }
    }

    fn captured_memory(&self, memory: &Memory<'a, A>) -> Result<MemoryImage<'a, A>, InstanceError> {
        if let Memory::Static { memory, .. } = memory {
            return Ok(self.allocator.capture_memory(&memory.0)?);
        }
        // It may be of the embedder's own making: what it shows is read.
        let (base, size) = (memory.vmmemory().base, memory.byte_size());
        let bytes = page_ceil(size).ok_or(Error::ImageTooLarge { bytes: size, limit: usize::MAX })?;
        let mut read = Ok(());
        let image = self.allocator.build_image(0, bytes, |at, page| {
            let len = page.len().min(size - at);
            // SAFETY: the bytes are the memory's, and nobody writes it meanwhile.
            let copied = unsafe { self.allocator.read_into(base.offset(at), &mut page[..len]) };
            if read.is_ok() {
                read = copied;
            }
        })?;
        read?;
        Ok(image)
    }

    /// Has a new instance, whose memories and sizes of tables are those of a snapshot, be
    /// what it says in all else.
    pub(super) fn restore(&mut self, snapshot: &InstanceSnapshot<'a, A>) -> Result<(), InstanceError> {
        let info = self.runtime_info()?.clone();
        let module = info.module();
        for (index, global) in &snapshot.globals {
            let definition = match *global {
                CapturedGlobal::Value(definition) => definition,
                CapturedGlobal::Function(reference) => {
                    let address = self.resolve(reference)?.map_or(0, |address| address.0);
                    VMGlobalDefinition(u128::from(address).to_le_bytes())
                }
            };
            self.put(module.offsets().global(index), definition)?;
        }
        for (index, elements) in &snapshot.tables {
            for (at, element) in (0..).zip(elements) {
                let Some(reference) = *element else { continue };
                let element = TableElement::FuncRef(self.resolve(reference)?);
                if let Some(table) = self.tables.get_mut(index) {
                    table.set(at, element)?;
                }
            }
        }
        for (place, &word) in module.offsets().dropped_words().zip(&snapshot.dropped) {
            self.put(place, word)?;
        }
        Ok(())
    }

    fn resolve(&self, reference: Reference) -> Result<Option<VirtAddr>, InstanceError> {
        match reference {
            Reference::Null => Ok(None),
            Reference::Own(function) => self.func_ref(function).map(Some),
            Reference::Foreign(address) => Ok(Some(address)),
        }
    }
}

/// What a table holds; `None` for what a new one holds there as well.
fn captured_elements<A: Arch>(
    index: DefinedTableIndex,
    table: &Table<'_, A>,
    reference: impl Fn(Option<VirtAddr>) -> Reference,
) -> Result<Box<[Option<Reference>]>, InstanceError> {
    let mut elements = Vec::new();
    let size = usize::try_from(table.size()).unwrap_or(usize::MAX);
    let bytes = size.saturating_mul(size_of::<Option<Reference>>());
    elements.try_reserve_exact(size).map_err(|_| InstanceError::OutOfHeap { bytes })?;
    for at in 0..table.size() {
        elements.push(match table.get(at)? {
            Some(TableElement::FuncRef(function)) => Some(reference(function)),
            Some(TableElement::GcRef(reference)) if reference != 0 => {
                return Err(InstanceError::NotCaptured {
                    what: "GC reference in table",
                    index: index.index(),
                });
            }
            _ => None,
        });
    }
    debug_assert!(table.ty().element == TableElementType::Func || elements.iter().all(Option::is_none));
    Ok(elements.into_boxed_slice())
}

impl<'a, A: Arch> InstanceSnapshot<'a, A> {
    /// The module that it is of an instance of.
    #[must_use]
    pub fn runtime_info(&self) -> &Arc<dyn ModuleRuntimeInfo> {
        &self.runtime_info
    }

    /// What the clone of a memory begins with.
    pub(super) fn begins(&self, index: DefinedMemoryIndex) -> Beginning<'_, 'a, A> {
        self.memories.get(index).map_or(Beginning::ZEROS, |memory| Beginning {
            image: Some(&memory.image),
            size: Some(memory.size),
            initialized: true,
        })
    }

    /// Refuses a request for another module.
    pub(super) fn check(&self, info: &Arc<dyn ModuleRuntimeInfo>) -> Result<(), InstanceError> {
        let same = Arc::ptr_eq(info, &self.runtime_info);
        if same { Ok(()) } else { Err(InstanceError::OtherModule) }
    }

    /// Refuses an instance of another core.
    pub(super) fn check_core(&self, instance: &Instance<'a, A>) -> Result<(), InstanceError> {
        let same = core::ptr::eq(self.allocator, instance.allocator);
        if same { Ok(()) } else { Err(Error::ForeignImage.into()) }
    }

    /// Has new memories, of whatever contents, be what they were, by copying.
    pub(super) fn copy_memories(
        &self,
        request: &mut InstanceAllocationRequest<'_>,
        memories: &mut PrimaryMap<DefinedMemoryIndex, Memory<'a, A>>,
    ) -> Result<(), InstanceError> {
        for (index, memory) in memories.iter_mut() {
            let Some(captured) = self.memories.get(index) else { continue };
            let ty = *memory.ty();
            let pages = ty.pages(captured.size as u64);
            let more = pages.saturating_sub(memory.size());
            let denied = InstanceError::MemoryDenied { minimum: pages };
            let _ = memory.grow(more, request.store.limiter())?.ok_or(denied)?;
            let base = memory.vmmemory().base;
            if memory.is_initialized() {
                // SAFETY: the memory is new, of so many bytes, and nobody else's.
                unsafe { self.allocator.fill(base, 0, captured.size) }?;
            }
            captured.image.try_for_each_page(|at, bytes| {
                let len = bytes.len().min(captured.size - at);
                // SAFETY: as above.
                unsafe { self.allocator.write_from(base.offset(at), &bytes[..len]) }
            })?;
        }
        Ok(())
    }

    /// Has new tables be as large as they were.
    pub(super) fn grow_tables(
        &self,
        request: &mut InstanceAllocationRequest<'_>,
        tables: &mut PrimaryMap<DefinedTableIndex, Table<'a, A>>,
    ) -> Result<(), InstanceError> {
        for (index, table) in tables.iter_mut() {
            let size = self.tables.get(index).map_or(0, |elements| elements.len() as u64);
            let (more, null) = (size.saturating_sub(table.size()), TableElement::null(table.ty().element));
            let denied = InstanceError::TableDenied { minimum: size };
            let _ = table.grow(more, null, request.store.limiter())?.ok_or(denied)?;
        }
        Ok(())
    }
}

impl<A: Arch> fmt::Debug for InstanceSnapshot<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSnapshot")
            .field("module", &self.runtime_info.unique_id())
            .field("memories", &self.memories.len())
            .field("tables", &self.tables.len())
            .field("globals", &self.globals.len())
            .finish_non_exhaustive()
    }
}
