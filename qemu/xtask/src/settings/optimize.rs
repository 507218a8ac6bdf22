//! `-O`: memories, pools and the optimizer.

use protocol::settings::Key;
use wasmtime::{OptLevel, RegallocAlgorithm};

use super::value::Kind::{Bytes, Choice, Flag, Number, Opposite, OptionalChoice};
use super::{Setting, Tool, alias, both, compiler, kernel, nowhere, tool};

/// The options of the group.
pub(super) const SETTINGS: &[Setting] = &[
    compiler(
        "opt-level",
        Choice(&["0", "1", "2", "s"]),
        |config, value| {
            config.cranelift_opt_level(match value {
                0 => OptLevel::None,
                // As Wasmtime reads them: there are three levels.
                1 | 2 => OptLevel::Speed,
                _ => OptLevel::SpeedAndSize,
            });
        },
        "how much the compiler optimizes (default: 2)",
    ),
    compiler(
        "regalloc-algorithm",
        Choice(&["backtracking", "single-pass"]),
        |config, value| {
            config.cranelift_regalloc_algorithm(match value {
                0 => RegallocAlgorithm::Backtracking,
                _ => RegallocAlgorithm::SinglePass,
            });
        },
        "how the compiler hands out registers: for fast code, or fast (default: backtracking)",
    ),
    MEMORY_RESERVATION,
    MEMORY_GUARD_SIZE,
    MEMORY_RESERVATION_FOR_GROWTH,
    MEMORY_MAY_MOVE,
    both(
        Key::GuardBeforeLinearMemory,
        Flag,
        |config, value| {
            config.guard_before_linear_memory(value != 0);
        },
        "a guard in front of memories as well (default: y)",
    ),
    both(
        Key::MemoryInitCow,
        Flag,
        |config, value| {
            config.memory_init_cow(value != 0);
        },
        "share a module's initial data, copied on the first write (default: y)",
    ),
    both(
        Key::MemoryGuaranteedDenseImageSize,
        Bytes,
        |config, value| {
            config.memory_guaranteed_dense_image_size(value);
        },
        "initial data up to this span always has an image (default: 16777216)",
    ),
    both(
        Key::TableLazyInit,
        Flag,
        |config, value| {
            config.table_lazy_init(value != 0);
        },
        "fill tables of functions in when elements are first used (default: y)",
    ),
    both(
        Key::SignalsBasedTraps,
        Flag,
        |config, value| {
            config.signals_based_traps(value != 0);
        },
        "let the CPU find accesses out of bounds (default: y); without, code checks each one",
    ),
    both(
        Key::GcHeapReservation,
        Bytes,
        |config, value| {
            config.gc_heap_reservation(value);
        },
        "address space of a collected heap (default: as memories)",
    ),
    both(
        Key::GcHeapGuardSize,
        Bytes,
        |config, value| {
            config.gc_heap_guard_size(value);
        },
        "guard behind a collected heap (default: as memories)",
    ),
    both(
        Key::GcHeapReservationForGrowth,
        Bytes,
        |config, value| {
            config.gc_heap_reservation_for_growth(value);
        },
        "address space behind a collected heap that moved (default: as memories)",
    ),
    both(
        Key::GcHeapMayMove,
        Flag,
        |config, value| {
            config.gc_heap_may_move(value != 0);
        },
        "whether a collected heap may move (default: as memories)",
    ),
    both(
        Key::GcHeapInitialSize,
        Bytes,
        |config, value| {
            config.gc_heap_initial_size(value);
        },
        "what a collected heap begins with (default: 0)",
    ),
    tool(
        "pooling-allocator",
        Flag,
        Tool::Strategy,
        "memories from slots that are carved at boot (default: y)",
    ),
    kernel(Key::PoolingTotalMemories, Number, "memory slots (default: 16)"),
    kernel(Key::PoolingTotalTables, Number, "table slots (default: 0: Wasmtime's are on the kernel's heap)"),
    kernel(Key::PoolingTotalStacks, Number, "stack slots (default: 0, with --slice one for each instance)"),
    kernel(
        Key::PoolingTotalGcHeaps,
        Number,
        "slots for collected heaps (default: 0: they are ranges on demand)",
    ),
    kernel(Key::PoolingTotalCoreInstances, Number, "the most instances at a time (default: 1000)"),
    kernel(
        Key::PoolingTotalComponentInstances,
        Number,
        "the most components' instances at a time (default: 1000)",
    ),
    kernel(Key::PoolingMaxMemorySize, Bytes, "the most that a slot can hold (default: the machine's memory)"),
    kernel(Key::PoolingTableElements, Number, "elements of a table slot (default: 20000)"),
    kernel(Key::PoolingMaxCoreInstanceSize, Bytes, "the largest context of an instance (default: 1048576)"),
    kernel(
        Key::PoolingMaxComponentInstanceSize,
        Bytes,
        "the largest context of a component (default: 1048576)",
    ),
    kernel(Key::PoolingMaxCoreInstancesPerComponent, Number, "instances in a component (default: no limit)"),
    kernel(Key::PoolingMaxMemoriesPerComponent, Number, "memories in a component (default: no limit)"),
    kernel(Key::PoolingMaxTablesPerComponent, Number, "tables in a component (default: no limit)"),
    kernel(Key::PoolingMaxMemoriesPerModule, Number, "memories that a module defines (default: 1)"),
    kernel(Key::PoolingMaxTablesPerModule, Number, "tables that a module defines (default: 1)"),
    kernel(Key::PoolingMaxUnusedWarmSlots, Number, "slots at rest that are kept as they are (default: 100)"),
    kernel(Key::PoolingDecommitBatchSize, Number, "slots whose frames are taken back together (default: 1)"),
    kernel(Key::PoolingMemoryKeepResident, Bytes, "what a memory slot at rest keeps (default: all)"),
    kernel(Key::PoolingTableKeepResident, Bytes, "what a table slot at rest keeps (default: all)"),
    kernel(Key::PoolingAsyncStackKeepResident, Bytes, "what a stack slot at rest keeps (default: all)"),
    nowhere("pooling-memory-protection-keys", OptionalChoice(ENABLED), KEYS),
    nowhere("pooling-max-memory-protection-keys", Number, KEYS),
    nowhere(
        "pooling-pagemap-scan",
        OptionalChoice(ENABLED),
        "it is a system call of Linux's; here what was written is always read from the page tables",
    ),
    alias("static-memory-maximum-size", &MEMORY_RESERVATION),
    alias("static-memory-guard-size", &MEMORY_GUARD_SIZE),
    alias("dynamic-memory-guard-size", &MEMORY_GUARD_SIZE),
    alias("dynamic-memory-reserved-for-growth", &MEMORY_RESERVATION_FOR_GROWTH),
    Setting {
        kind: Opposite,
        about: "the opposite of memory-may-move",
        ..alias("static-memory-forced", &MEMORY_MAY_MOVE)
    },
    nowhere("gc-zeal-alloc-counter", Number, "only builds of Wasmtime for its own fuzzing have it"),
];

const ENABLED: &[&str] = &["y", "n", "auto"];
const KEYS: &str = "Allotment's slots are not striped by protection key";

const MEMORY_MAY_MOVE: Setting = both(
    Key::MemoryMayMove,
    Flag,
    |config, value| {
        config.memory_may_move(value != 0);
    },
    "whether a memory may move when it outgrows its reservation (default: y)",
);

const MEMORY_RESERVATION: Setting = both(
    Key::MemoryReservation,
    Bytes,
    |config, value| {
        config.memory_reservation(value);
    },
    "address space of a memory (default: 4294967296)",
);

const MEMORY_GUARD_SIZE: Setting = both(
    Key::MemoryGuardSize,
    Bytes,
    |config, value| {
        config.memory_guard_size(value);
    },
    "guard behind a memory (default: 33554432)",
);

const MEMORY_RESERVATION_FOR_GROWTH: Setting = both(
    Key::MemoryReservationForGrowth,
    Bytes,
    |config, value| {
        config.memory_reservation_for_growth(value);
    },
    "address space behind a memory that moved (default: 2147483648)",
);
