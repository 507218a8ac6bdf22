//! Where everything is in a VMContext, as pure arithmetic over a module's counts.

use cranelift_entity::EntityRef;

use super::{
    BadModule, DataIndex, DefinedGlobalIndex, DefinedMemoryIndex, DefinedTableIndex, ElemIndex, FuncIndex,
    FuncRefIndex, GlobalIndex, MemoryIndex, ModuleInfo, TableIndex, VMContext, VMFuncRef, VMFunctionImport,
    VMGlobalDefinition, VMGlobalImport, VMMemoryDefinition, VMMemoryImport, VMTableDefinition, VMTableImport,
    core_instance::SizedInstance,
};

/// Offsets in bytes from the vmctx of an instance of some module: the compiler's
/// constants, and what the host writes by. [`Module::offsets`](super::Module::offsets)
/// has them; the [book](super#what-compiled-code-finds-where) draws an example.
///
/// They are arithmetic only: of an index that the module does not have, the place
/// is somebody else's.
///
/// ```ignore-none
/// use allotment::instance::{ModuleInfo, MemoryType, VMOffsets};
///
/// let mut info = ModuleInfo::default();
/// info.memories.push(MemoryType::new(1, None));
/// let offsets = VMOffsets::new(&info)?;
/// assert_eq!(offsets.vmctx_size(), 64 + 8 + 16 + 8); // fixed part, address, definition, padding
/// let parts: usize = offsets.parts().iter().map(|(_, bytes)| bytes).sum();
/// assert_eq!(parts, offsets.size());
/// # Ok::<(), allotment::instance::BadModule>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VMOffsets {
    /// Where each part begins, in the order of [`PARTS`], and where the last ends.
    starts: [u32; PARTS.len() + 1],
    /// The instance itself, and each part: names and bytes.
    parts: [(&'static str, usize); PARTS.len() + 1],
    num_data: u32,
}

/// A part: its name, and the bytes of one element.
const PARTS: [(&str, usize); 12] = [
    ("fixed part", size_of::<VMContext>()),
    ("imported functions", size_of::<VMFunctionImport>()),
    ("imported tables", size_of::<VMTableImport>()),
    ("imported memories", size_of::<VMMemoryImport>()),
    ("imported globals", size_of::<VMGlobalImport>()),
    ("addresses of memories", size_of::<u64>()),
    ("owned memories", size_of::<VMMemoryDefinition>()),
    ("defined tables", size_of::<VMTableDefinition>()),
    ("function references", size_of::<VMFuncRef>()),
    // 8 bytes if they are needed, so that the next part is 16-aligned.
    ("padding", size_of::<u64>()),
    ("defined globals", size_of::<VMGlobalDefinition>()),
    ("dropped segments", size_of::<u64>()),
];

const IMPORTED_FUNCTIONS: usize = 1;
const IMPORTED_TABLES: usize = 2;
const IMPORTED_MEMORIES: usize = 3;
const IMPORTED_GLOBALS: usize = 4;
const MEMORY_ADDRESSES: usize = 5;
const MEMORIES: usize = 6;
const TABLES: usize = 7;
const FUNC_REFS: usize = 8;
const PADDING: usize = 9;
const GLOBALS: usize = 10;
const DROPPED: usize = 11;

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident($index:ty) = $part:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        #[inline]
        pub fn $name(&self, index: $index) -> usize {
            self.starts[$part] as usize + index.index() * PARTS[$part].1
        }
    )*};
}

impl VMOffsets {
    /// Lays out the context of a module's instances.
    ///
    /// # Errors
    ///
    /// [`BadModule::TooLarge`] if it is larger than 32 bits can say.
    pub fn new(info: &ModuleInfo) -> Result<Self, BadModule> {
        let owned = info.defined_memories().filter(|(_, ty)| !ty.shared).count();
        let mut counts = [
            1,
            info.num_imported_functions,
            info.num_imported_tables,
            info.num_imported_memories,
            info.num_imported_globals,
            info.num_defined_memories(),
            owned,
            info.num_defined_tables(),
            info.num_func_refs,
            0,
            info.num_defined_globals(),
            (info.data.len() + info.elements.len()).div_ceil(64),
        ];
        let mut starts = [0u32; PARTS.len() + 1];
        let mut parts = [("instance", size_of::<SizedInstance<'static>>()); PARTS.len() + 1];
        let mut at = 0usize;
        for (part, &(name, size)) in PARTS.iter().enumerate() {
            if part == PADDING {
                counts[part] = usize::from(!at.is_multiple_of(align_of::<VMGlobalDefinition>()));
            }
            let bytes = counts[part].saturating_mul(size);
            parts[part + 1] = (name, bytes);
            at = at.saturating_add(bytes);
            let limit = u64::from(u32::MAX);
            let too_large = BadModule::TooLarge { what: "context in bytes", value: at as u64, limit };
            starts[part + 1] = u32::try_from(at).map_err(|_| too_large)?;
        }
        let num_data = u32::try_from(info.data.len()).unwrap_or(u32::MAX);
        Ok(Self { starts, parts, num_data })
    }

    /// Bytes of the context.
    #[must_use]
    #[inline]
    pub fn vmctx_size(&self) -> usize {
        self.starts[PARTS.len()] as usize
    }

    /// Bytes of an [`Instance`](super::Instance) with its context: what `max_core_instance_size`
    /// limits.
    #[must_use]
    pub fn size(&self) -> usize {
        self.vmctx_size() + size_of::<SizedInstance<'static>>()
    }

    /// What [`size`](Self::size) consists of: names and bytes, the instance first.
    #[must_use]
    pub fn parts(&self) -> &[(&'static str, usize)] {
        &self.parts
    }

    places! {
        /// A [`VMFunctionImport`].
        imported_function(FuncIndex) = IMPORTED_FUNCTIONS;
        /// A [`VMTableImport`].
        imported_table(TableIndex) = IMPORTED_TABLES;
        /// A [`VMMemoryImport`].
        imported_memory(MemoryIndex) = IMPORTED_MEMORIES;
        /// A [`VMGlobalImport`].
        imported_global(GlobalIndex) = IMPORTED_GLOBALS;
        /// The address of the [`VMMemoryDefinition`] of a defined memory: of the one
        /// here, or of that of a shared memory.
        memory_address(DefinedMemoryIndex) = MEMORY_ADDRESSES;
        /// A [`VMTableDefinition`].
        table(DefinedTableIndex) = TABLES;
        /// A [`VMFuncRef`]. One that nobody asked for yet is zeros.
        func_ref(FuncRefIndex) = FUNC_REFS;
        /// A [`VMGlobalDefinition`].
        global(DefinedGlobalIndex) = GLOBALS;
    }

    /// A [`VMMemoryDefinition`] of the memories that this instance alone has: the
    /// `nth` of those that are not shared.
    #[must_use]
    #[inline]
    pub fn owned_memory(&self, nth: usize) -> usize {
        self.starts[MEMORIES] as usize + nth * PARTS[MEMORIES].1
    }

    /// The words that say which segments are dropped.
    pub(super) fn dropped_words(&self) -> impl Iterator<Item = usize> + use<> {
        (self.starts[DROPPED] as usize..self.vmctx_size()).step_by(size_of::<u64>())
    }

    /// The word and the bit in it that say whether a segment of data is dropped.
    pub(super) fn dropped_data(&self, index: DataIndex) -> (usize, u64) {
        self.dropped(index.index())
    }

    /// The same of elements.
    pub(super) fn dropped_elements(&self, index: ElemIndex) -> (usize, u64) {
        self.dropped(self.num_data as usize + index.index())
    }

    fn dropped(&self, nth: usize) -> (usize, u64) {
        (self.starts[DROPPED] as usize + nth / 64 * 8, 1 << (nth % 64))
    }
}
