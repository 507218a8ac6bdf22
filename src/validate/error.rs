//! Why a pool would never hold a module or component.

use core::fmt;

/// A memory that fits no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// Its minimum is more bytes than a number of 64 bits can name.
    Unrepresentable {
        /// Pages that it begins with.
        minimum_pages: u64,
        /// Logarithm of its page size in bytes.
        page_size_log2: u8,
    },
    /// Its minimum exceeds `max_memory_size`.
    TooLarge {
        /// Bytes that it begins with.
        bytes: u64,
        /// `max_memory_size` in bytes.
        limit: usize,
    },
    /// Threads would share it; a slot has one tenant.
    Shared,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrepresentable { minimum_pages, page_size_log2 } => write!(
                f,
                "a minimum of {minimum_pages} pages of 2^{page_size_log2} bytes has no size in bytes; lower it"
            ),
            Self::TooLarge { bytes, limit } => write!(
                f,
                "a minimum of {bytes:#x} bytes exceeds the limit of {limit:#x} bytes; raise max_memory_size"
            ),
            Self::Shared => f.write_str(
                "shared memories have no slot in a pool; define it unshared, or allocate on demand",
            ),
        }
    }
}

impl core::error::Error for MemoryError {}

/// A module that no instance can be allocated of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModuleError<'a> {
    /// It defines more memories than `max_memories_per_module`.
    TooManyMemories {
        /// Memories that it defines.
        count: usize,
        /// `max_memories_per_module`.
        limit: u32,
    },
    /// One of its memories fits no slot.
    Memory {
        /// Which, among those that it defines.
        index: usize,
        /// Why.
        error: MemoryError,
    },
    /// It defines more tables than `max_tables_per_module`.
    TooManyTables {
        /// Tables that it defines.
        count: usize,
        /// `max_tables_per_module`.
        limit: u32,
    },
    /// It defines more tables than there are slots.
    MoreTablesThanSlots {
        /// Tables that it defines.
        count: usize,
        /// `total_tables`, at most.
        limit: usize,
    },
    /// One of its tables begins larger than a slot.
    TableTooLarge {
        /// Which, among those that it defines.
        index: usize,
        /// Elements that it begins with.
        minimum: u64,
        /// Elements of that size that a slot holds.
        limit: usize,
    },
    /// Its instances exceed `max_core_instance_size`.
    InstanceTooLarge {
        /// Bytes of an instance.
        size: usize,
        /// `max_core_instance_size` in bytes.
        limit: usize,
        /// What the bytes are.
        parts: &'a [(&'static str, usize)],
    },
}

impl fmt::Display for ModuleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooManyMemories { count, limit } => write!(
                f,
                "the module defines {count} memories, the limit is {limit}; raise max_memories_per_module"
            ),
            Self::Memory { index, ref error } => {
                write!(f, "memory {index} of the module fits no slot: {error}")
            }
            Self::TooManyTables { count, limit } => {
                write!(
                    f,
                    "the module defines {count} tables, the limit is {limit}; raise max_tables_per_module"
                )
            }
            Self::MoreTablesThanSlots { count, limit } => {
                write!(f, "the module defines {count} tables, the pool has {limit} slots; raise total_tables")
            }
            Self::TableTooLarge { index, minimum, limit } => write!(
                f,
                "table {index} of the module begins with {minimum} elements, a slot holds {limit}; \
                 raise table_elements"
            ),
            Self::InstanceTooLarge { size, limit, parts } => {
                write!(
                    f,
                    "an instance of the module takes {size} bytes, the limit is {limit}; \
                     raise max_core_instance_size"
                )?;
                write_parts(f, size, parts)
            }
        }
    }
}

/// The parts that matter: those above a twentieth.
fn write_parts(f: &mut fmt::Formatter<'_>, size: usize, parts: &[(&str, usize)]) -> fmt::Result {
    let large = parts.iter().filter(|(_, bytes)| *bytes > size / 20);
    for (n, (name, bytes)) in large.enumerate() {
        let before = if n == 0 { "; of them" } else { "," };
        // The parts are the caller's, and may be as large as they like.
        let percent = (*bytes as u128) * 100 / (size.max(1) as u128);
        write!(f, "{before} {bytes} bytes ({percent} %) for {name}")?;
    }
    Ok(())
}

impl core::error::Error for ModuleError<'_> {}

/// A component that no instance can be allocated of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComponentError<'a> {
    /// One of its modules is refused.
    Module {
        /// Which, among those that it instantiates.
        index: usize,
        /// Why.
        error: ModuleError<'a>,
    },
    /// It instantiates more than `max_core_instances_per_component`.
    TooManyInstances {
        /// Core instances in it.
        count: usize,
        /// `max_core_instances_per_component`.
        limit: u32,
    },
    /// Its instances define more than `max_memories_per_component`.
    TooManyMemories {
        /// Memories in it.
        count: usize,
        /// `max_memories_per_component`.
        limit: u32,
    },
    /// Its instances define more than `max_tables_per_component`.
    TooManyTables {
        /// Tables in it.
        count: usize,
        /// `max_tables_per_component`.
        limit: u32,
    },
    /// Its context and instances exceed `max_component_instance_size`.
    TooLarge {
        /// Bytes of both.
        size: usize,
        /// `max_component_instance_size` in bytes.
        limit: usize,
    },
}

impl fmt::Display for ComponentError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module { index, error } => write!(f, "core instance {index} of the component: {error}"),
            Self::TooManyInstances { count, limit } => write!(
                f,
                "the component has {count} core instances, the limit is {limit}; \
                 raise max_core_instances_per_component"
            ),
            Self::TooManyMemories { count, limit } => write!(
                f,
                "the component has {count} memories, the limit is {limit}; raise max_memories_per_component"
            ),
            Self::TooManyTables { count, limit } => write!(
                f,
                "the component has {count} tables, the limit is {limit}; raise max_tables_per_component"
            ),
            Self::TooLarge { size, limit } => write!(
                f,
                "the component and its core instances take {size} bytes, the limit is {limit}; \
                 raise max_component_instance_size"
            ),
        }
    }
}

impl core::error::Error for ComponentError<'_> {}
