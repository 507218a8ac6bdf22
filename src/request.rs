//! What a caller asks for, in the caller's words.

use core::fmt;

use crate::Error;

/// A compiled module, by the number that its embedder gave it. Memories of the
/// same module get the slots that it had before, where they can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompiledModuleId(pub u64);

impl fmt::Display for CompiledModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}", self.0)
    }
}

/// One of the memories (or tables) that a module defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryInModule {
    /// The module.
    pub module: CompiledModuleId,
    /// Which of those that the module defines, counted from 0.
    pub index: u32,
}

impl fmt::Display for MemoryInModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory {} of {}", self.index, self.module)
    }
}

/// A linear memory, as it is asked for. A plain number is one of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct MemoryRequest {
    pub(crate) minimum: usize,
    pub(crate) maximum: Option<usize>,
    pub(crate) owner: Option<MemoryInModule>,
    pub(crate) page_size_log2: u8,
    pub(crate) memory64: bool,
    pub(crate) shared: bool,
    /// Whether the maximum is merely what addresses reach: nobody asked for so much.
    pub(crate) open: bool,
    /// Bytes of address space before its guard, and of the guard, if not the main pool's.
    pub(crate) reserved: Option<(usize, usize)>,
}

impl MemoryRequest {
    /// A memory that begins with `minimum` bytes, of no module.
    pub fn new(minimum: usize) -> Self {
        Self {
            minimum,
            maximum: None,
            owner: None,
            page_size_log2: 16,
            memory64: false,
            shared: false,
            open: false,
            reserved: None,
        }
    }

    /// It never grows beyond so many bytes.
    pub fn maximum(mut self, bytes: usize) -> Self {
        self.maximum = Some(bytes);
        self
    }

    /// It is one of the memories that `module` defines: the next instance's gets
    /// this one's slot, and fault reports name it.
    pub fn module(mut self, module: CompiledModuleId, memory_index: u32) -> Self {
        self.owner = Some(MemoryInModule { module, index: memory_index });
        self
    }

    /// Its wasm pages have `1 << log2` bytes: 16 as a rule, 0 with custom page
    /// sizes.
    pub fn page_size_log2(mut self, log2: u8) -> Self {
        self.page_size_log2 = log2;
        self
    }

    /// Its addresses have 64 bits.
    pub fn memory64(mut self, enable: bool) -> Self {
        self.memory64 = enable;
        self
    }

    /// What compiled code relies on: so many bytes of address space before a guard of so
    /// many. Without it a memory is reserved as `Config` says. Less than that is for
    /// code that checks bounds, and may be had of a smaller pool.
    pub fn reserved(mut self, reservation: usize, guard_size: usize) -> Self {
        self.reserved = Some((reservation, guard_size));
        self
    }

    /// Several threads may share it, so that it never moves. On demand only, with
    /// `Config::shared_memory`.
    pub fn shared(mut self, enable: bool) -> Self {
        self.shared = enable;
        self
    }
}

impl MemoryRequest {
    /// Refuses a minimum beyond the maximum.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.maximum {
            Some(maximum) if self.minimum > maximum => {
                Err(Error::BeyondMaximum { requested: self.minimum, maximum })
            }
            _ => Ok(()),
        }
    }
}

impl From<usize> for MemoryRequest {
    fn from(minimum: usize) -> Self {
        Self::new(minimum)
    }
}

/// A wasm table, as it is asked for. A plain number is one of so many pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct TableRequest {
    pub(crate) minimum: usize,
    pub(crate) maximum: Option<usize>,
    pub(crate) owner: Option<MemoryInModule>,
    pub(crate) element_size: usize,
}

impl TableRequest {
    /// A table that begins with `minimum` elements of 8 bytes, of no module.
    pub fn new(minimum: usize) -> Self {
        Self { minimum, maximum: None, owner: None, element_size: 8 }
    }

    /// It never grows beyond so many elements.
    pub fn maximum(mut self, elements: usize) -> Self {
        self.maximum = Some(elements);
        self
    }

    /// It is one of the tables that `module` defines.
    pub fn module(mut self, module: CompiledModuleId, table_index: u32) -> Self {
        self.owner = Some(MemoryInModule { module, index: table_index });
        self
    }

    /// Its elements have so many bytes: 8 for functions, 4 for GC references,
    /// 16 for continuations. 0 is taken for 1.
    pub fn element_size(mut self, bytes: usize) -> Self {
        self.element_size = bytes.max(1);
        self
    }
}

impl From<usize> for TableRequest {
    fn from(minimum: usize) -> Self {
        Self::new(minimum)
    }
}
