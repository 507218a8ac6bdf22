//! What compiled code finds in memory: the parts of a VMContext, `repr(C)`.
//!
//! ```text
//!   vmctx ─> | VMContext   fixed: store, builtins, epoch, GC heap, types, embedder's word
//!            | VMFunctionImport ...   VMTableImport ...   VMMemoryImport ...   VMGlobalImport ...
//!            | address of a VMMemoryDefinition, for each defined memory
//!            | VMMemoryDefinition ...   VMTableDefinition ...   VMFuncRef ...
//!            | VMGlobalDefinition ...   (16-aligned)
//!            | bits: dropped segments
//! ```
//!
//! [`VMOffsets`](super::VMOffsets) has the places. All addresses are as compiled
//! code uses them. On the emulated machine, which runs no compiled code, they
//! mean something to that machine only.

use core::ptr::NonNull;

use allotment_arch::VirtAddr;
use static_assertions::const_assert_eq;

use crate::access::Plain;

/// First bytes of every context, to tell one in a dump: "allotctx".
pub const VMCONTEXT_MAGIC: u64 = u64::from_le_bytes(*b"allotctx");

/// The fixed part of a context.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VMContext {
    /// [`VMCONTEXT_MAGIC`].
    pub magic: u64,
    /// The embedder's context of the store: stack limit, fuel and the like.
    pub store_context: VirtAddr,
    /// The embedder's array of built-in functions.
    pub builtin_functions: VirtAddr,
    /// The engine's epoch counter.
    pub epoch: VirtAddr,
    /// The definition of the store's GC heap.
    pub gc_heap: VirtAddr,
    /// The array of the module's [`VMSharedTypeIndex`](super::VMSharedTypeIndex), from
    /// [`type_ids`](super::ModuleRuntimeInfo::type_ids). It is on the heap.
    pub type_ids: VirtAddr,
    /// A word of the embedder's own, 0 at first.
    pub embedder: u64,
    /// Where Allotment keeps the rest of the instance. No business of compiled
    /// code.
    pub(super) instance: u64,
}

/// A linear memory, as it is now: rewritten when it grows. That of a shared memory
/// keeps its base, and its length changes by one store of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VMMemoryDefinition {
    /// Address of its first byte.
    pub base: VirtAddr,
    /// Bytes that it has.
    pub current_length: u64,
}

/// A table, as it is now: rewritten when it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VMTableDefinition {
    /// Address of its first element.
    pub base: VirtAddr,
    /// Elements that it has.
    pub current_elements: u64,
}

/// A global: 16 bytes for a value of any type, little-endian, as
/// [`ValRaw`](super::ValRaw) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct VMGlobalDefinition(pub [u8; 16]);

/// A function that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VMFunctionImport {
    /// Its entry by the convention of compiled code.
    pub wasm_call: VirtAddr,
    /// Its entry with arguments in an array, for hosts.
    pub array_call: VirtAddr,
    /// The context that it runs in.
    pub vmctx: VirtAddr,
}

/// A table that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VMTableImport {
    /// Its [`VMTableDefinition`].
    pub from: VirtAddr,
    /// The context of the instance that defines it.
    pub vmctx: VirtAddr,
    /// Which of the tables that that one defines.
    pub index: u32,
    /// 0, to fill the last word.
    pub reserved: u32,
}

/// A memory that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VMMemoryImport {
    /// Its [`VMMemoryDefinition`].
    pub from: VirtAddr,
    /// The context of the instance that defines it; 0 for a shared memory that none
    /// does.
    pub vmctx: VirtAddr,
    /// Which of the memories that that one defines.
    pub index: u32,
    /// 0, to fill the last word.
    pub reserved: u32,
}

/// A global that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VMGlobalImport {
    /// Its [`VMGlobalDefinition`].
    pub from: VirtAddr,
}

/// A reference to a function: zeros until it is
/// [asked for](super::Instance::func_ref).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VMFuncRef {
    /// Its entry with arguments in an array, for hosts.
    pub array_call: VirtAddr,
    /// Its entry by the convention of compiled code.
    pub wasm_call: VirtAddr,
    /// Its type, a [`VMSharedTypeIndex`](super::VMSharedTypeIndex).
    pub type_index: u32,
    /// Not 0 once the reference is filled in.
    pub filled: u32,
    /// The context that it runs in.
    pub vmctx: VirtAddr,
}

macro_rules! plain {
    ($($name:ident: $size:literal, $align:literal;)*) => {$(
        const_assert_eq!(size_of::<$name>(), $size);
        const_assert_eq!(align_of::<$name>(), $align);
        // SAFETY: integers only, which add up to the size that is asserted.
        unsafe impl Plain for $name {}
    )*};
}

plain! {
    VMContext: 64, 8;
    VMMemoryDefinition: 16, 8;
    VMTableDefinition: 16, 8;
    VMGlobalDefinition: 16, 16;
    VMFunctionImport: 24, 8;
    VMTableImport: 24, 8;
    VMMemoryImport: 24, 8;
    VMGlobalImport: 8, 8;
    VMFuncRef: 32, 8;
}

/// Where a pointer to the window points.
#[inline]
pub(super) fn address(pointer: NonNull<u8>) -> VirtAddr {
    VirtAddr(pointer.as_ptr().expose_provenance() as u64)
}
