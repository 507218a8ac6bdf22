//! Configurations for people to read.

use core::fmt;

use super::{Config, MemorySizes, PoolingAllocationConfig};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gc_heap = self.gc_heap();
        let before = if self.guard_before_linear_memory { " before and" } else { "" };
        write!(f, "memories: {}, guard{before} after; copy-on-write images ", self.memory())?;
        writeln!(
            f,
            "{}, dense up to {}",
            on(self.memory_init_cow),
            Bytes(self.memory_guaranteed_dense_image_size)
        )?;
        writeln!(f, "GC heaps: {gc_heap}; {} at first", Bytes(self.gc_heap_initial_size))?;
        writeln!(
            f,
            "stacks: {}, {} of them for wasm; zeroing {}",
            Bytes(self.async_stack_size),
            Bytes(self.max_wasm_stack),
            on(self.async_stack_zeroing)
        )?;
        writeln!(
            f,
            "traps by signals {}, lazy tables {}, shared memory {}",
            on(self.signals_based_traps),
            on(self.table_lazy_init),
            on(self.shared_memory)
        )?;
        writeln!(f, "regions: {} of address space", Bytes(self.region_space))?;
        match self.pooling() {
            None => f.write_str("on demand"),
            Some(pooling) => pooling.fmt(f),
        }
    }
}

impl fmt::Display for PoolingAllocationConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "pooling: backing {}, scrub {}, poison {}, clean when idle {}",
            self.backing,
            self.scrub,
            on(self.poison),
            on(self.clean_when_idle)
        )?;
        writeln!(
            f,
            "memories: {} of at most {}, premapped tables {}",
            self.total_memories,
            Bytes(self.max_memory_size),
            self.premapped_tables
        )?;
        for (number, pool) in (1..).zip(self.memory_pools.iter()) {
            writeln!(f, "memory pool {number}: {pool}")?;
        }
        writeln!(f, "tables: {} of {} elements", self.total_tables, self.table_elements)?;
        writeln!(f, "stacks: {}; GC heaps: {}", self.total_stacks, self.total_gc_heaps)?;
        writeln!(
            f,
            "core instances: {} of at most {}; component instances: {} of at most {}",
            self.total_core_instances,
            Bytes(self.max_core_instance_size),
            self.total_component_instances,
            Bytes(self.max_component_instance_size)
        )?;
        writeln!(
            f,
            "per module: {} memories, {} tables; per component: {} core instances, {} memories, {} tables",
            self.max_memories_per_module,
            self.max_tables_per_module,
            self.max_core_instances_per_component,
            self.max_memories_per_component,
            self.max_tables_per_component
        )?;
        write!(
            f,
            "idle slots keep: memories {}, tables {}, stacks {}; {} unused warm slots, batches of {}",
            Bytes(self.linear_memory_keep_resident),
            Bytes(self.table_keep_resident),
            Bytes(self.async_stack_keep_resident),
            self.max_unused_warm_slots,
            self.decommit_batch_size
        )
    }
}

impl fmt::Display for MemorySizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reserved, {} of guard, {} for growth, {}",
            Bytes(self.reservation),
            Bytes(self.guard_size),
            Bytes(self.reservation_for_growth),
            if self.may_move { "may move" } else { "never move" }
        )
    }
}

/// Bytes: in GiB, MiB or KiB where that is exact, and `all` for the most.
pub(super) struct Bytes(pub(super) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|&(bits, _)| bytes != 0 && bytes.is_multiple_of(1 << bits)) {
            _ if bytes == usize::MAX => f.write_str("all"),
            Some((bits, unit)) => write!(f, "{} {unit}", bytes >> bits),
            None => write!(f, "{bytes} bytes"),
        }
    }
}

fn on(enabled: bool) -> &'static str {
    if enabled { "on" } else { "off" }
}
