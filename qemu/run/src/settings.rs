//! What the payload's settings mean here: for engine, pools and stores.
//!
//! ```text
//!   protocol::Settings --- engine ------> wasmtime::Config      what compiled code relies on, and more
//!                      |-- allocator ---> allotment::Config     sizes of memories and stacks
//!                      |-- pools -------> PoolingAllocationConfig
//!                      '-- limits, Time-> each store
//! ```

use core::num::NonZeroUsize;

use allotment::{Config as AllocatorConfig, PoolingAllocationConfig};
use protocol::settings::{Key, Settings};
use wasmtime::{Collector, Config, Inlining, StoreLimits, StoreLimitsBuilder};

/// What async stacks have beyond what wasm may use, if only the latter is said: Wasmtime's command line adds as much.
const HOST_STACK: u64 = 512 << 10;

/// How often the timer ticks if nobody says so, in nanoseconds.
const USUAL_PERIOD: u64 = 10_000_000;

/// Sets an engine up. Proposals are the compiler's to refuse: this engine takes all that it can run.
pub(crate) fn engine(settings: &Settings, time: &Time, config: &mut Config) {
    config.wasm_custom_page_sizes(true).wasm_wide_arithmetic(true);
    for (key, value) in settings.iter() {
        let yes = value != 0;
        match key {
            Key::Fuel => config.consume_fuel(true),
            Key::MaxWasmStack => config.max_wasm_stack(size(value)),
            Key::AsyncStackSize => config.async_stack_size(size(value)),
            Key::AsyncStackZeroing => config.async_stack_zeroing(yes),
            Key::MaxBacktrace => config.wasm_backtrace_max_frames(NonZeroUsize::new(size(value))),
            Key::RelaxedSimdDeterministic => config.relaxed_simd_deterministic(yes),
            Key::Collector => config.collector(collector(value)),
            Key::Inlining => config.compiler_inlining(inlining(value)),
            Key::DebugInfo => config.debug_info(yes),
            Key::Symbols => config.debug_symbols(yes),
            Key::MemoryReservation => config.memory_reservation(value),
            Key::MemoryGuardSize => config.memory_guard_size(value),
            Key::MemoryReservationForGrowth => config.memory_reservation_for_growth(value),
            Key::MemoryMayMove => config.memory_may_move(yes),
            Key::GuardBeforeLinearMemory => config.guard_before_linear_memory(yes),
            Key::MemoryInitCow => config.memory_init_cow(yes),
            Key::MemoryGuaranteedDenseImageSize => config.memory_guaranteed_dense_image_size(value),
            Key::TableLazyInit => config.table_lazy_init(yes),
            Key::SignalsBasedTraps => config.signals_based_traps(yes),
            Key::GcHeapReservation => config.gc_heap_reservation(value),
            Key::GcHeapGuardSize => config.gc_heap_guard_size(value),
            Key::GcHeapReservationForGrowth => config.gc_heap_reservation_for_growth(value),
            Key::GcHeapMayMove => config.gc_heap_may_move(yes),
            Key::GcHeapInitialSize => config.gc_heap_initial_size(value),
            // Below, for all three that need it at once; for stores; for the pools.
            Key::EpochInterruption | Key::Timeout => config,
            _ => config,
        };
    }
    if let Some(bytes) = async_stack_size(settings) {
        config.async_stack_size(size(bytes));
    }
    config.epoch_interruption(time.has_epochs());
}

/// Sets sizes up that are Allotment's as well.
pub(crate) fn allocator(settings: &Settings, config: AllocatorConfig) -> AllocatorConfig {
    let config = match async_stack_size(settings) {
        Some(bytes) => config.async_stack_size(size(bytes)),
        None => config,
    };
    settings.iter().fold(config, |config, (key, value)| {
        let yes = value != 0;
        let value = size(value);
        match key {
            Key::MaxWasmStack => config.max_wasm_stack(value),
            Key::AsyncStackZeroing => config.async_stack_zeroing(yes),
            Key::MemoryReservation => config.memory_reservation(value),
            Key::MemoryGuardSize => config.memory_guard_size(value),
            Key::MemoryReservationForGrowth => config.memory_reservation_for_growth(value),
            Key::MemoryMayMove => config.memory_may_move(yes),
            Key::GuardBeforeLinearMemory => config.guard_before_linear_memory(yes),
            Key::MemoryInitCow => config.memory_init_cow(yes),
            Key::MemoryGuaranteedDenseImageSize => config.memory_guaranteed_dense_image_size(value),
            Key::TableLazyInit => config.table_lazy_init(yes),
            Key::SignalsBasedTraps => config.signals_based_traps(yes),
            Key::GcHeapReservation => config.gc_heap_reservation(value),
            Key::GcHeapGuardSize => config.gc_heap_guard_size(value),
            Key::GcHeapReservationForGrowth => config.gc_heap_reservation_for_growth(value),
            Key::GcHeapMayMove => config.gc_heap_may_move(yes),
            Key::GcHeapInitialSize => config.gc_heap_initial_size(value),
            _ => config,
        }
    })
}

/// Sets the pools up.
pub(crate) fn pools(settings: &Settings, pools: PoolingAllocationConfig) -> PoolingAllocationConfig {
    settings.iter().fold(pools, |pools, (key, value)| {
        let count = u32::try_from(value).unwrap_or(u32::MAX);
        let value = size(value);
        match key {
            Key::PoolingTotalCoreInstances => pools.total_core_instances(value),
            Key::PoolingTotalComponentInstances => pools.total_component_instances(value),
            Key::PoolingTotalMemories => pools.total_memories(value),
            Key::PoolingTotalTables => pools.total_tables(value),
            Key::PoolingTotalStacks => pools.total_stacks(value),
            Key::PoolingTotalGcHeaps => pools.total_gc_heaps(value),
            Key::PoolingMaxMemorySize => pools.max_memory_size(value),
            Key::PoolingTableElements => pools.table_elements(value),
            Key::PoolingMaxCoreInstanceSize => pools.max_core_instance_size(value),
            Key::PoolingMaxComponentInstanceSize => pools.max_component_instance_size(value),
            Key::PoolingMaxCoreInstancesPerComponent => pools.max_core_instances_per_component(count),
            Key::PoolingMaxMemoriesPerComponent => pools.max_memories_per_component(count),
            Key::PoolingMaxTablesPerComponent => pools.max_tables_per_component(count),
            Key::PoolingMaxTablesPerModule => pools.max_tables_per_module(count),
            Key::PoolingMaxMemoriesPerModule => pools.max_memories_per_module(count),
            Key::PoolingMaxUnusedWarmSlots => pools.max_unused_warm_slots(count),
            Key::PoolingDecommitBatchSize => pools.decommit_batch_size(value),
            Key::PoolingMemoryKeepResident => pools.linear_memory_keep_resident(value),
            Key::PoolingTableKeepResident => pools.table_keep_resident(value),
            Key::PoolingAsyncStackKeepResident => pools.async_stack_keep_resident(value),
            _ => pools,
        }
    })
}

/// What a store may have.
pub(crate) fn limits(settings: &Settings) -> StoreLimits {
    let built = settings.iter().fold(StoreLimitsBuilder::new(), |limits, (key, value)| {
        let number = size(value);
        match key {
            Key::MaxMemorySize => limits.memory_size(number),
            Key::MaxTableElements => limits.table_elements(number),
            Key::MaxInstances => limits.instances(number),
            Key::MaxTables => limits.tables(number),
            Key::MaxMemories => limits.memories(number),
            Key::TrapOnGrowFailure => limits.trap_on_grow_failure(value != 0),
            _ => limits,
        }
    });
    built.build()
}

/// Whether a program's stack is to have a size of its own: it then runs on one that is made for it.
pub(crate) fn has_own_stack(settings: &Settings) -> bool {
    [Key::MaxWasmStack, Key::AsyncStackSize].into_iter().any(|key| settings.get(key).is_some())
}

fn async_stack_size(settings: &Settings) -> Option<u64> {
    let with_host = |bytes: u64| bytes.saturating_add(HOST_STACK);
    settings.get(Key::AsyncStackSize).or(settings.get(Key::MaxWasmStack).map(with_host))
}

/// When programs are interrupted, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Time {
    /// After how long another one has its turn, if they take turns.
    pub(crate) slice: Option<u64>,
    /// After how long one traps.
    pub(crate) timeout: Option<u64>,
    /// Whether code is compiled with checks.
    epochs: bool,
}

impl Time {
    pub(crate) fn of(settings: &Settings, slice: Option<u64>) -> Self {
        Self { slice, timeout: settings.get(Key::Timeout), epochs: settings.is_on(Key::EpochInterruption) }
    }

    /// Whether compiled code looks at the epoch.
    fn has_epochs(&self) -> bool {
        self.epochs || self.slice.is_some() || self.timeout.is_some()
    }

    /// From one tick to the next, if there are any.
    pub(crate) fn period(&self) -> Option<u64> {
        let shorter = |timeout: u64| timeout.min(USUAL_PERIOD);
        self.has_epochs().then(|| self.slice.unwrap_or(self.timeout.map_or(USUAL_PERIOD, shorter)))
    }
}

/// In the order of the host's table.
fn collector(value: u64) -> Collector {
    match value {
        0 => Collector::DeferredReferenceCounting,
        1 => Collector::Null,
        _ => Collector::Copying,
    }
}

/// In the order of the host's table.
fn inlining(value: u64) -> Inlining {
    match value {
        0 => Inlining::Yes,
        1 => Inlining::No,
        2 => Inlining::InterModuleAndIntraGc,
        3 => Inlining::InterModule,
        _ => Inlining::Intrinsics,
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
