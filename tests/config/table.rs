//! The table in `docs/configuration.md` beside the code's defaults.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use allotment::{Config, PoolingAllocationConfig, Total};

use super::{GIB, KIB, MIB, MOST};

/// Every knob, with its default as the table writes it.
fn defaults() -> Vec<(&'static str, String)> {
    let (config, pool) = (Config::new(), PoolingAllocationConfig::new());
    let memories = [
        ("memory_reservation", bytes(config.memory_reservation)),
        ("memory_guard_size", bytes(config.memory_guard_size)),
        ("memory_reservation_for_growth", bytes(config.memory_reservation_for_growth)),
        ("guard_before_linear_memory", config.guard_before_linear_memory.to_string()),
        ("memory_may_move", config.memory_may_move.to_string()),
        ("memory_init_cow", config.memory_init_cow.to_string()),
        ("memory_guaranteed_dense_image_size", bytes(config.memory_guaranteed_dense_image_size)),
        ("signals_based_traps", config.signals_based_traps.to_string()),
        ("table_lazy_init", config.table_lazy_init.to_string()),
        ("shared_memory", config.shared_memory.to_string()),
        ("max_wasm_stack", bytes(config.max_wasm_stack)),
        ("async_stack_size", bytes(config.async_stack_size)),
        ("async_stack_zeroing", config.async_stack_zeroing.to_string()),
        ("gc_heap_initial_size", bytes(config.gc_heap_initial_size)),
        ("region_space", bytes(config.region_space)),
    ];
    let pools = [
        ("total_component_instances", total(pool.total_component_instances)),
        ("total_core_instances", total(pool.total_core_instances)),
        ("total_memories", total(pool.total_memories)),
        ("total_tables", total(pool.total_tables)),
        ("total_stacks", total(pool.total_stacks)),
        ("total_gc_heaps", total(pool.total_gc_heaps)),
        ("max_memory_size", bytes(pool.max_memory_size)),
        ("table_elements", pool.table_elements.to_string()),
        ("max_component_instance_size", bytes(pool.max_component_instance_size)),
        ("max_core_instance_size", bytes(pool.max_core_instance_size)),
        ("max_core_instances_per_component", number(pool.max_core_instances_per_component)),
        ("max_memories_per_component", number(pool.max_memories_per_component)),
        ("max_tables_per_component", number(pool.max_tables_per_component)),
        ("max_memories_per_module", number(pool.max_memories_per_module)),
        ("max_tables_per_module", number(pool.max_tables_per_module)),
        ("max_unused_warm_slots", number(pool.max_unused_warm_slots)),
        ("decommit_batch_size", pool.decommit_batch_size.to_string()),
        ("linear_memory_keep_resident", bytes(pool.linear_memory_keep_resident)),
        ("table_keep_resident", bytes(pool.table_keep_resident)),
        ("async_stack_keep_resident", bytes(pool.async_stack_keep_resident)),
        ("backing", format!("`{:?}`", pool.backing)),
        ("scrub", format!("`{:?}`", pool.scrub)),
        ("memory_pools", if pool.memory_pools.added() == 0 { "none".into() } else { "some".into() }),
        ("premapped_tables", format!("`{:?}`", pool.premapped_tables)),
    ];
    memories.into_iter().chain(pools).collect()
}

pub(crate) fn agrees() {
    let table = include_str!("../../docs/configuration.md");
    for (knob, ours) in defaults() {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{knob}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md has no row for {knob}"));
        let mut cells = row.split('|').map(str::trim).skip(2);
        let (wasmtime, cell) = (cells.next().unwrap(), cells.next().unwrap());
        let cell = if cell == "same" { wasmtime } else { cell };
        assert_eq!(cell, ours, "the default of {knob}");
    }
}

fn bytes(bytes: usize) -> String {
    match bytes {
        MOST => "all".to_string(),
        _ if bytes > 0 && bytes.is_multiple_of(GIB) => format!("{} GiB", bytes / GIB),
        _ if bytes > 0 && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes > 0 && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => bytes.to_string(),
    }
}

fn number(number: u32) -> String {
    if number == u32::MAX { "no limit".to_string() } else { number.to_string() }
}

fn total(total: Total) -> String {
    format!("`{total:?}`")
}
