//! The index spaces of a module, by Wasmtime's names.
//!
//! ```text
//!   FuncIndex     imported functions | defined functions
//!                                      '-- DefinedFuncIndex counts from here
//! ```

use cranelift_entity::entity_impl;

macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u32);
        entity_impl!($name);
    )*};
}

indices! {
    /// A function, imports first.
    FuncIndex;
    /// A function that the module defines.
    DefinedFuncIndex;
    /// A table, imports first.
    TableIndex;
    /// A table that the module defines.
    DefinedTableIndex;
    /// A memory, imports first.
    MemoryIndex;
    /// A memory that the module defines.
    DefinedMemoryIndex;
    /// A global, imports first.
    GlobalIndex;
    /// A global that the module defines.
    DefinedGlobalIndex;
    /// A function that may be referred to, and so has a [`VMFuncRef`](super::VMFuncRef).
    FuncRefIndex;
    /// A data segment.
    DataIndex;
    /// An element segment.
    ElemIndex;
}

/// The type of a function, by the number that the engine gave it: two functions
/// have the same type if they have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VMSharedTypeIndex(pub u32);

/// Anything that is imported or exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntityIndex {
    /// A function.
    Function(FuncIndex),
    /// A table.
    Table(TableIndex),
    /// A memory.
    Memory(MemoryIndex),
    /// A global.
    Global(GlobalIndex),
}
