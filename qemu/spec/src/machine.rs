//! A machine with room for all instances of a file, which live until its end.

use allotment::{
    InstanceAllocationStrategy, PoolingAllocationConfig,
    wasmtime::{allocator_config, configure},
};
use kernel::BootInfo;
use protocol::{enable_proposals, options::Strategy, spec::Collector};
use runtime::{StartError, carve};
use wasmtime::{Config, Engine};

/// Memory slots: the suite's largest file has a hundred instances with a memory each.
const SLOTS: usize = 400;
/// Bytes of address space for as many memories on demand, and for code.
const ON_DEMAND_SPACE: usize = 2 << 40;
/// The most that a slot can have.
const MAX_MEMORY: usize = 4 << 30;

/// Carves the machine and makes an engine that takes what the host has compiled. Once per machine.
pub(crate) fn start(
    boot: &'static BootInfo,
    strategy: Strategy,
    collector: Collector,
) -> Result<Engine, StartError> {
    carve(boot, |bytes| match strategy {
        Strategy::Pooling => {
            // Wasmtime has tables on the kernel's heap. A GC heap looks to it like a memory.
            let pool = PoolingAllocationConfig::new()
                .total_memories(SLOTS)
                .max_memory_size(bytes.min(MAX_MEMORY))
                .total_tables(0)
                .total_stacks(0)
                .total_gc_heaps(0);
            allocator_config().allocation_strategy(pool)
        }
        Strategy::OnDemand => allocator_config()
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .region_space(ON_DEMAND_SPACE),
    })?;
    let mut config = Config::new();
    configure(&mut config);
    enable_proposals!(config);
    config.collector(match collector {
        Collector::Drc => wasmtime::Collector::DeferredReferenceCounting,
        Collector::Null => wasmtime::Collector::Null,
        Collector::Copying => wasmtime::Collector::Copying,
    });
    Engine::new(&config).map_err(StartError::Engine)
}
