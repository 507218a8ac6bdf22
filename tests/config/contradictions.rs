//! What is refused however large the machine is, and its twin that is not.

use alloc::{format, string::ToString};

use allotment::{Backing, Commit, Config, ConfigError, PoolingAllocationConfig, Total};

use super::{GIB, MIB, MOST, memories_only, pooled};

pub(crate) fn stacks() {
    assert_eq!(Config::new().max_wasm_stack(0).validate(), Err(ConfigError::NoWasmStack));
    let config = Config::new().async_stack_size(MIB);
    assert_eq!(config.max_wasm_stack(MIB).validate(), Ok(()));
    let refused = config.max_wasm_stack(MIB + 1).validate();
    let error = ConfigError::WasmStackLargerThanAsyncStack { max_wasm_stack: MIB + 1, async_stack_size: MIB };
    assert_eq!(refused, Err(error));
    assert_says(error, &["max_wasm_stack", "0x100001", "async_stack_size", "0x100000", "raise"]);
    // No fibers, no limit.
    assert_eq!(config.async_stack_size(0).validate(), Ok(()));
}

pub(crate) fn gc_heaps() {
    let pool = PoolingAllocationConfig::new();
    let equal = Config::new()
        .gc_heap_reservation(4 * GIB)
        .gc_heap_guard_size(32 * MIB)
        .gc_heap_reservation_for_growth(2 * GIB)
        .gc_heap_may_move(true);
    assert_eq!(equal.allocation_strategy(pool).validate(), Ok(()));
    let different = [
        (
            equal.gc_heap_reservation(8 * GIB),
            ConfigError::GcHeapReservationDiffers {
                gc_heap_reservation: 8 * GIB,
                memory_reservation: 4 * GIB,
            },
            ["gc_heap_reservation", "0x200000000", "memory_reservation", "0x100000000"],
        ),
        (
            equal.gc_heap_guard_size(MIB),
            ConfigError::GcHeapGuardSizeDiffers { gc_heap_guard_size: MIB, memory_guard_size: 32 * MIB },
            ["gc_heap_guard_size", "0x100000", "memory_guard_size", "0x2000000"],
        ),
        (
            equal.gc_heap_reservation_for_growth(0),
            ConfigError::GcHeapReservationForGrowthDiffers {
                gc_heap_reservation_for_growth: 0,
                memory_reservation_for_growth: 2 * GIB,
            },
            ["gc_heap_reservation_for_growth", "0x0", "memory_reservation_for_growth", "0x80000000"],
        ),
        (
            equal.gc_heap_may_move(false),
            ConfigError::GcHeapMayMoveDiffers { gc_heap_may_move: false, memory_may_move: true },
            ["gc_heap_may_move", "false", "memory_may_move", "true"],
        ),
    ];
    for (config, error, parts) in different {
        assert_eq!(config.allocation_strategy(pool).validate(), Err(error));
        assert_says(error, &parts);
        // They lie in slots of a pool only, and only if there are any.
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.allocation_strategy(pool.total_gc_heaps(0)).validate(), Ok(()));
    }
}

pub(crate) fn sizes() {
    let too_large = |knob, value| Err(ConfigError::TooLarge { knob, value });
    let usual = PoolingAllocationConfig::new();
    assert_eq!(pooled(usual).validate(), Ok(()));
    assert_eq!(pooled(usual).memory_guard_size(MOST).validate(), too_large("memory_guard_size", MOST));
    assert_eq!(pooled(usual).memory_reservation(MOST).validate(), too_large("memory_reservation", MOST));
    assert_eq!(pooled(usual).async_stack_size(MOST).validate(), too_large("async_stack_size", MOST));
    for elements in [MOST, MOST / 8 + 1, MOST / 8] {
        let refused = pooled(usual.table_elements(elements)).validate();
        assert_eq!(refused, too_large("table_elements", elements));
    }
    let refused = pooled(usual).memory_reservation(MIB).validate();
    let error =
        ConfigError::MemoryLargerThanReservation { max_memory_size: 4 * GIB, memory_reservation: MIB };
    assert_eq!(refused, Err(error));
    assert_says(error, &["max_memory_size", "0x100000000", "memory_reservation", "0x100000"]);
    assert_eq!(pooled(usual.max_memory_size(MIB)).memory_reservation(MIB).validate(), Ok(()));

    let pools = [
        (usual.total_memories(MOST), "total_memories", 4 * GIB + 32 * MIB),
        (usual.total_tables(MOST), "total_tables", 2 * MIB),
        (usual.total_stacks(MOST), "total_stacks", 4 * MIB),
    ];
    for (pool, knob, each) in pools {
        let error = ConfigError::PoolTooLarge { knob, count: MOST, each };
        assert_eq!(pooled(pool).validate(), Err(error));
        assert_says(error, &[knob, "18446744073709551615", &format!("{each:#x}"), "lower"]);
    }
    // What is left open becomes what fits, and nothing at all is a pool too.
    let open = usual.total_memories(Total::AtMost(MOST)).total_stacks(Total::AtMost(MOST));
    assert_eq!(pooled(open).validate(), Ok(()));
    let none = memories_only().total_memories(0).total_gc_heaps(0).total_core_instances(0);
    assert_eq!(pooled(none.max_memory_size(0).table_elements(0)).validate(), Ok(()));

    // Whatever else is enormous is refused in the window.
    let space = Config::new().region_space(MOST).resolve(1 << 47, 1 << 30, 1);
    assert_eq!(space.map(drop), too_large("region_space", MOST));
}

pub(crate) fn bound() {
    let pool = |commit| pooled(PoolingAllocationConfig::new().backing(Backing::Elastic(commit)));
    let bound = pool(Commit::PerInstance(7));
    assert_eq!(bound.validate(), Ok(()));
    let error = ConfigError::CommitNeedsTraps { pages: 7 };
    assert_eq!(bound.signals_based_traps(false).validate(), Err(error));
    assert_says(error, &["7 pages", "signals_based_traps", "Strict"]);
    assert_eq!(pool(Commit::Strict).signals_based_traps(false).validate(), Ok(()));
}

fn assert_says(error: ConfigError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}
