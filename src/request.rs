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
