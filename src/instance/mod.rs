#![doc = include_str!("book.md")]

mod allocator;
mod const_expr;
mod context;
mod core_instance;
mod entity;
mod error;
mod exports;
mod handle;
mod image;
mod initialize;
mod limiter;
mod limits;
mod memory;
mod module;
mod module_images;
mod offsets;
mod on_demand;
mod operations;
mod pooling;
mod request;
mod runtime_memory;
mod shared;
mod snapshot;
mod stack;
mod table;
mod types;
mod vmcontext;

use alloc::{boxed::Box, sync::Arc};

use allotment_arch::Arch;
use cranelift_entity::EntityRef;
pub use cranelift_entity::{self, PrimaryMap};

pub use allocator::{InstanceAllocator, InstanceIndex};
pub use const_expr::{ConstExpr, ConstOp, MAX_OPERANDS};
pub use core_instance::Instance;
pub use entity::{
    DataIndex, DefinedFuncIndex, DefinedGlobalIndex, DefinedMemoryIndex, DefinedTableIndex, ElemIndex,
    EntityIndex, FuncIndex, FuncRefIndex, GlobalIndex, MemoryIndex, TableIndex, VMSharedTypeIndex,
};
pub use error::{BadModule, InstanceError, Trap};
pub use exports::Export;
pub use handle::InstanceHandle;
pub use limiter::{LimiterError, ResourceLimiter};
pub use memory::{Memory, StaticMemory};
pub use module::{
    DataSegment, ElementSegment, FunctionType, Module, ModuleInfo, SegmentElements, SegmentMode,
};
pub use offsets::VMOffsets;
pub use on_demand::OnDemandInstanceAllocator;
pub use pooling::PoolingInstanceAllocator;
pub use request::{
    FunctionBody, Imports, InstanceAllocationRequest, ModuleRuntimeInfo, Store, StorePointers, StorePtr,
};
pub use runtime_memory::{RuntimeLinearMemory, RuntimeMemoryCreator};
pub use shared::{AtomicWaiter, SharedMemory, WaitResult};
pub use snapshot::InstanceSnapshot;
pub use stack::{Stack, StackCreator, StackMemory};
pub use table::{Table, TableElement};
pub use types::{GlobalType, MemoryType, TableElementType, TableType, ValRaw, ValType};
pub use vmcontext::{
    VMCONTEXT_MAGIC, VMContext, VMFuncRef, VMFunctionImport, VMGlobalDefinition, VMGlobalImport,
    VMMemoryDefinition, VMMemoryImport, VMTableDefinition, VMTableImport,
};

use crate::{Allocator, MemoryInModule};

/// The allocator of the strategy that the core allocator is configured for.
///
/// # Errors
///
/// As for [`PoolingInstanceAllocator::new`].
pub fn build<'a, A: Arch>(
    allocator: &'a Allocator<A>,
) -> Result<Box<dyn InstanceAllocator<'a, A> + 'a>, InstanceError> {
    Ok(match allocator.config.pooling() {
        Some(_) => Box::new(PoolingInstanceAllocator::new(allocator)?),
        None => Box::new(OnDemandInstanceAllocator::new(allocator)?),
    })
}

/// Whose a memory or table is, for its slot and for fault reports.
fn owner(info: &Arc<dyn ModuleRuntimeInfo>, index: impl EntityRef) -> Option<MemoryInModule> {
    let index = u32::try_from(index.index()).ok()?;
    info.unique_id().map(|module| MemoryInModule { module, index })
}

static_assertions::assert_obj_safe!(InstanceAllocator<'static>);
static_assertions::assert_impl_all!(dyn InstanceAllocator<'static>: Send, Sync);
static_assertions::assert_not_impl_any!(InstanceHandle<'static>: Clone, Copy, Sync);
static_assertions::assert_impl_all!(InstanceHandle<'static>: Send);
static_assertions::assert_not_impl_any!(StorePtr<'static>: Clone, Copy);
