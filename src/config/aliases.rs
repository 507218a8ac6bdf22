//! Names that earlier Wasmtime releases had for some knobs.

use super::{Config, PoolingAllocationConfig};

/// Bytes of a wasm page, in which memories were once measured.
const WASM_PAGE: usize = 65536;

/// Earlier names.
impl Config {
    /// Wasmtime's name before 28 for [`memory_reservation`](Self::memory_reservation).
    pub fn static_memory_maximum_size(self, bytes: usize) -> Self {
        self.memory_reservation(bytes)
    }

    /// Wasmtime's name before 28 for [`memory_guard_size`](Self::memory_guard_size).
    pub fn static_memory_guard_size(self, bytes: usize) -> Self {
        self.memory_guard_size(bytes)
    }

    /// Another name before 28 for [`memory_guard_size`](Self::memory_guard_size).
    pub fn dynamic_memory_guard_size(self, bytes: usize) -> Self {
        self.memory_guard_size(bytes)
    }

    /// Wasmtime's name before 28 for
    /// [`memory_reservation_for_growth`](Self::memory_reservation_for_growth).
    pub fn dynamic_memory_reserved_for_growth(self, bytes: usize) -> Self {
        self.memory_reservation_for_growth(bytes)
    }

    /// Before Wasmtime 28: the opposite of [`memory_may_move`](Self::memory_may_move).
    pub fn static_memory_forced(self, force: bool) -> Self {
        self.memory_may_move(!force)
    }
}

/// Earlier names.
impl PoolingAllocationConfig {
    /// Before Wasmtime 13 one count for what is now
    /// [`total_core_instances`](Self::total_core_instances),
    /// [`total_memories`](Self::total_memories),
    /// [`total_tables`](Self::total_tables) and
    /// [`total_stacks`](Self::total_stacks): sets all four.
    pub fn instance_count(self, count: usize) -> Self {
        self.total_core_instances(count).total_memories(count).total_tables(count).total_stacks(count)
    }

    /// Wasmtime's name before 13 for [`max_core_instance_size`](Self::max_core_instance_size).
    pub fn instance_size(self, bytes: usize) -> Self {
        self.max_core_instance_size(bytes)
    }

    /// Wasmtime's name before 13 for [`max_memories_per_module`](Self::max_memories_per_module).
    pub fn instance_memories(self, count: u32) -> Self {
        self.max_memories_per_module(count)
    }

    /// Wasmtime's name before 13 for [`max_tables_per_module`](Self::max_tables_per_module).
    pub fn instance_tables(self, count: u32) -> Self {
        self.max_tables_per_module(count)
    }

    /// Wasmtime's name before 13 for [`table_elements`](Self::table_elements).
    pub fn instance_table_elements(self, count: usize) -> Self {
        self.table_elements(count)
    }

    /// Before Wasmtime 13: [`max_memory_size`](Self::max_memory_size) in pages of 64 KiB.
    pub fn instance_memory_pages(self, pages: usize) -> Self {
        self.memory_pages(pages)
    }

    /// Wasmtime 13 to 21: [`max_memory_size`](Self::max_memory_size) in pages of 64 KiB.
    pub fn memory_pages(self, pages: usize) -> Self {
        self.max_memory_size(pages.saturating_mul(WASM_PAGE))
    }
}
