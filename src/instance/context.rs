//! The context of an instance: written when that is made, cleared when it ends, and
//! read and changed in between.

use alloc::sync::Arc;
use core::{mem::offset_of, ptr::NonNull};

use allotment_arch::{Arch, VirtAddr};
use cranelift_entity::EntityRef;

use super::{
    FuncIndex, GlobalIndex, Instance, InstanceAllocationRequest, InstanceError, MemoryIndex, TableIndex,
    VMCONTEXT_MAGIC, VMContext,
    core_instance::{Life, SizedInstance},
};
use crate::{Allocator, Error, access::Plain};

impl<A: Arch> Instance<'_, A> {
    /// Writes the context of a new instance, which is at address `instance` for as
    /// long as it lives: all but globals and segments.
    pub(super) fn write_context(
        &mut self,
        request: InstanceAllocationRequest<'_>,
        instance: usize,
    ) -> Result<(), InstanceError> {
        let InstanceAllocationRequest { runtime_info, imports, host_state, mut store } = request;
        self.life = Some(Life { runtime_info: Arc::clone(runtime_info), host_state });
        let pointers = store.get().map(|store| store.pointers()).unwrap_or_default();
        let type_ids = runtime_info.type_ids().as_ptr().expose_provenance();
        self.put(
            0,
            VMContext {
                magic: VMCONTEXT_MAGIC,
                store_context: pointers.store_context,
                builtin_functions: pointers.builtin_functions,
                epoch: pointers.epoch,
                gc_heap: pointers.gc_heap,
                type_ids: VirtAddr(type_ids as u64),
                embedder: 0,
                instance: instance as u64,
            },
        )?;
        let module = runtime_info.module();
        let offsets = module.offsets();
        for (number, &import) in imports.functions().iter().enumerate() {
            self.put(offsets.imported_function(FuncIndex::new(number)), import)?;
        }
        for (number, &import) in imports.tables().iter().enumerate() {
            self.put(offsets.imported_table(TableIndex::new(number)), import)?;
        }
        for (number, &import) in imports.memories().iter().enumerate() {
            self.put(offsets.imported_memory(MemoryIndex::new(number)), import)?;
        }
        for (number, &import) in imports.globals().iter().enumerate() {
            self.put(offsets.imported_global(GlobalIndex::new(number)), import)?;
        }
        let mut owned = 0;
        for (index, memory) in &self.memories {
            let definition = match memory.as_shared() {
                Some(shared) => shared.definition(),
                None => {
                    let offset = offsets.owned_memory(owned);
                    owned += 1;
                    self.put(offset, memory.vmmemory())?;
                    self.vmctx.offset(offset)
                }
            };
            self.put(offsets.memory_address(index), definition)?;
        }
        for (index, table) in &self.tables {
            self.put(offsets.table(index), table.vmtable())?;
        }
        Ok(())
    }

    /// Forgets the last instance, and leaves zeros where its context was.
    pub(super) fn clear(&mut self) {
        let Some(life) = self.life.take() else { return };
        let used = life.runtime_info.module().offsets().vmctx_size();
        // SAFETY: the context is this instance's alone, and has so many bytes.
        let cleared = unsafe { self.allocator.fill(self.vmctx, 0, used) };
        debug_assert_eq!(cleared, Ok(()), "a context is accessible");
    }

    /// Loads a part of the context.
    #[inline(always)]
    pub(super) fn get<T: Plain>(&self, offset: usize) -> Result<T, InstanceError> {
        debug_assert!(offset + size_of::<T>() <= self.vmctx_capacity, "places are within the context");
        // SAFETY: the context has room for all that its module's offsets place, and is
        // this instance's alone.
        Ok(unsafe { self.allocator.read(self.vmctx.offset(offset)) }?)
    }

    /// Stores a part of the context.
    #[inline(always)]
    pub(super) fn put<T: Plain>(&self, offset: usize, value: T) -> Result<(), InstanceError> {
        debug_assert!(offset + size_of::<T>() <= self.vmctx_capacity, "places are within the context");
        // SAFETY: as above.
        Ok(unsafe { self.allocator.write(self.vmctx.offset(offset), value) }?)
    }
}

/// The instance whose context is at `vmctx`.
///
/// # Safety
///
/// It is the context of an instance of `allocator` that lives.
pub(super) unsafe fn instance_of<'a, A: Arch>(
    allocator: &'a Allocator<A>,
    vmctx: VirtAddr,
) -> Result<NonNull<Instance<'a, A>>, InstanceError> {
    // SAFETY: by this function's contract.
    let word: u64 = unsafe { allocator.read(vmctx.offset(offset_of!(VMContext, instance))) }?;
    let instance = usize::try_from(word).ok().map(core::ptr::with_exposed_provenance_mut);
    let instance: NonNull<SizedInstance<'a, A>> =
        instance.and_then(NonNull::new).ok_or(Error::Inaccessible { address: vmctx })?;
    Ok(instance)
}
