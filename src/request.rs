//! What a caller asks for, in the caller's words.

use core::fmt;

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

/// What a linear memory is asked to be. A plain number of bytes asks for that
/// minimum, and nothing else.
///
/// ```
/// use allotment::{CompiledModuleId, MemoryRequest};
///
/// let request = MemoryRequest::new(2 << 16).maximum(16 << 16).module(CompiledModuleId(7), 0);
/// assert_ne!(request, MemoryRequest::from(2 << 16));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct MemoryRequest {
    pub(crate) minimum: usize,
    pub(crate) maximum: Option<usize>,
    pub(crate) module: Option<MemoryInModule>,
    pub(crate) page_size_log2: u8,
    pub(crate) memory64: bool,
    pub(crate) shared: bool,
}

impl MemoryRequest {
    /// A memory of `minimum` bytes, with 32-bit addresses and pages of 64 KiB,
    /// that no module defines.
    pub fn new(minimum: usize) -> Self {
        Self { minimum, maximum: None, module: None, page_size_log2: 16, memory64: false, shared: false }
    }

    /// It never has more than these bytes.
    pub fn maximum(mut self, bytes: usize) -> Self {
        self.maximum = Some(bytes);
        self
    }

    /// It is memory `memory_index` of those that `module` defines.
    pub fn module(mut self, module: CompiledModuleId, memory_index: u32) -> Self {
        self.module = Some(MemoryInModule { module, index: memory_index });
        self
    }

    /// The logarithm of its pages' size: 16 for 64 KiB, 0 for single bytes.
    pub fn page_size_log2(mut self, log2: u8) -> Self {
        self.page_size_log2 = log2;
        self
    }

    /// Whether its addresses have 64 bits.
    pub fn memory64(mut self, enable: bool) -> Self {
        self.memory64 = enable;
        self
    }

    /// Whether several threads use it at once. It never moves then.
    pub fn shared(mut self, enable: bool) -> Self {
        self.shared = enable;
        self
    }
}

impl From<usize> for MemoryRequest {
    fn from(minimum: usize) -> Self {
        Self::new(minimum)
    }
}
