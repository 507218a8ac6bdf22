//! What a pooling configuration refuses before anything is allocated, as pure
//! arithmetic over what a compiler knows of a module.
//!
//! ```text
//!   ComponentSummary ── counts, context
//!     '── ModuleSummary  ── counts, instance size      one per core instance
//!           |── MemorySummary  minimum, page size
//!           '── TableSummary   minimum, element size
//! ```
//!
//! Imports count where they are defined. What passes can still be refused when
//! it is allocated, if slots or frames are in use.

mod error;

pub use error::{ComponentError, MemoryError, ModuleError};

use allotment_arch::page_ceil;

use crate::PoolingAllocationConfig;

/// A memory that a module defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySummary {
    /// Pages, of its own page size, that it begins with.
    pub minimum_pages: u64,
    /// Logarithm of its page size in bytes: 16, or 0 for pages of one byte.
    pub page_size_log2: u8,
    /// Whether threads share it.
    pub shared: bool,
}

/// A table that a module defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Elements that it begins with.
    pub minimum: u64,
    /// Bytes of an element: 8 for functions, 4 for GC references, 16 for
    /// continuations.
    pub element_size: usize,
}

/// What a module defines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleSummary<'a> {
    /// Its memories, without imports.
    pub memories: &'a [MemorySummary],
    /// Its tables, without imports.
    pub tables: &'a [TableSummary],
    /// Bytes of one of its instances with its context.
    pub instance_size: usize,
    /// What these bytes are, for the message when they are too many.
    pub instance_parts: &'a [(&'static str, usize)],
}

/// What a component instantiates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComponentSummary<'a> {
    /// The module of each core instance. A module that is instantiated twice
    /// stands here twice.
    pub modules: &'a [ModuleSummary<'a>],
    /// Core instances of modules that the component imports. Their memories and
    /// tables are not known before it is linked.
    pub imported_modules: usize,
    /// Bytes of the component's own context.
    pub vmctx_size: usize,
}

impl PoolingAllocationConfig {
    /// Whether slots can hold what a module defines.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] names the first thing that does not fit, and the knob.
    pub fn validate_module<'a>(&self, module: &ModuleSummary<'a>) -> Result<(), ModuleError<'a>> {
        self.validate_memories(module.memories)?;
        self.validate_tables(module.tables)?;
        let (size, limit) = (module.instance_size, self.max_core_instance_size);
        if size > limit {
            return Err(ModuleError::InstanceTooLarge { size, limit, parts: module.instance_parts });
        }
        Ok(())
    }

    /// Whether a component's instances stay within the limits for one.
    ///
    /// # Errors
    ///
    /// [`ComponentError`] names the first that does not, and the knob.
    pub fn validate_component<'a>(&self, component: &ComponentSummary<'a>) -> Result<(), ComponentError<'a>> {
        let modules = component.modules;
        let (mut memories, mut tables, mut size) = (0usize, 0usize, component.vmctx_size);
        for (index, module) in modules.iter().enumerate() {
            self.validate_module(module).map_err(|error| ComponentError::Module { index, error })?;
            memories = memories.saturating_add(module.memories.len());
            tables = tables.saturating_add(module.tables.len());
            size = size.saturating_add(module.instance_size);
        }
        let count = modules.len().saturating_add(component.imported_modules);
        if let Some(limit) = exceeded(count, self.max_core_instances_per_component) {
            return Err(ComponentError::TooManyInstances { count, limit });
        }
        if let Some(limit) = exceeded(memories, self.max_memories_per_component) {
            return Err(ComponentError::TooManyMemories { count: memories, limit });
        }
        if let Some(limit) = exceeded(tables, self.max_tables_per_component) {
            return Err(ComponentError::TooManyTables { count: tables, limit });
        }
        let limit = self.max_component_instance_size;
        if size > limit {
            return Err(ComponentError::TooLarge { size, limit });
        }
        Ok(())
    }

    /// Whether a slot can hold a memory, or a GC heap.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] names what does not fit, and the knob.
    pub fn validate_memory(&self, memory: &MemorySummary) -> Result<(), MemoryError> {
        let &MemorySummary { minimum_pages, page_size_log2, shared } = memory;
        let bytes = 1u64.checked_shl(page_size_log2.into()).and_then(|page| page.checked_mul(minimum_pages));
        let Some(bytes) = bytes else {
            return Err(MemoryError::Unrepresentable { minimum_pages, page_size_log2 });
        };
        let others = self.memory_pools.iter().map(|pool| pool.max_memory_size);
        let limit = others.fold(self.max_memory_size, usize::max);
        if bytes > limit as u64 {
            return Err(MemoryError::TooLarge { bytes, limit });
        }
        if shared {
            return Err(MemoryError::Shared);
        }
        Ok(())
    }

    fn validate_memories(&self, memories: &[MemorySummary]) -> Result<(), ModuleError<'static>> {
        let count = memories.len();
        if let Some(limit) = exceeded(count, self.max_memories_per_module) {
            return Err(ModuleError::TooManyMemories { count, limit });
        }
        for (index, memory) in memories.iter().enumerate() {
            self.validate_memory(memory).map_err(|error| ModuleError::Memory { index, error })?;
        }
        Ok(())
    }

    fn validate_tables(&self, tables: &[TableSummary]) -> Result<(), ModuleError<'static>> {
        let count = tables.len();
        if let Some(limit) = exceeded(count, self.max_tables_per_module) {
            return Err(ModuleError::TooManyTables { count, limit });
        }
        let limit = self.total_tables.most();
        if count > limit {
            return Err(ModuleError::MoreTablesThanSlots { count, limit });
        }
        for (index, table) in tables.iter().enumerate() {
            let limit = self.table_capacity(table.element_size);
            if table.minimum > limit as u64 {
                return Err(ModuleError::TableTooLarge { index, minimum: table.minimum, limit });
            }
        }
        Ok(())
    }

    /// Elements of so many bytes that a table slot holds: `table_elements`, or
    /// fewer of those that are larger than a pointer.
    fn table_capacity(&self, element_size: usize) -> usize {
        let slot = page_ceil(self.table_elements.saturating_mul(size_of::<u64>())).unwrap_or(usize::MAX);
        self.table_elements.min(slot / element_size.max(1))
    }
}

/// The limit, if `count` is above it.
fn exceeded(count: usize, limit: u32) -> Option<u32> {
    (count as u64 > u64::from(limit)).then_some(limit)
}
