//! Engines of both strategies, on every machine.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use alloc::vec::Vec;

use allotment::{Allocator, Config, PoolingAllocationConfig};
#[cfg(target_os = "none")]
mod bare;

use engine::{Engine, Error, Guarded, InstanceId, Store, Trap, Value};

use crate::common::{MIB, Machine, TestArch, pool, pooled};

/// A machine of tests that the engine runs on.
pub trait World: TestArch + Guarded {
    /// Has faults of the machine answered by that allocator, until `None` is said.
    fn answer_faults(allocator: Option<&Allocator<Self>>);
}

// It says by itself when an access faults.
#[cfg(not(target_os = "none"))]
impl<F: allotment::arch::emulated::Mmu> World for allotment::arch::emulated::Emulated<F> {
    fn answer_faults(_: Option<&Allocator<Self>>) {}
}

/// The binary of `guests/NAME.wat`.
#[macro_export]
macro_rules! guest {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm"))
    };
}

/// Pools of a few slots.
pub fn pools() -> PoolingAllocationConfig {
    pool(6, MIB)
        .total_core_instances(4)
        .total_tables(6)
        .table_elements(64)
        .max_memories_per_module(2)
        .max_tables_per_module(3)
}

/// Each strategy, with faults as bounds checks.
pub fn strategies() -> [Config; 2] {
    [pooled(pools()).region_space(1 << 30), Config::new().region_space(1 << 36)]
}

/// Each strategy with guards; with neither guard nor faults that are traps; and
/// with faults, and a guard that is short of most offsets.
pub fn all_kinds() -> [Config; 6] {
    let [pooling, on_demand] = strategies();
    let checked = |config: Config| config.signals_based_traps(false).memory_guard_size(0);
    [
        pooling,
        on_demand,
        checked(pooling),
        checked(on_demand),
        pooling.memory_guard_size(4096),
        on_demand.memory_guard_size(4096),
    ]
}

/// Runs `work` with an engine of each configuration, on machines of their own.
pub fn with_engines<A: World>(configs: &[Config], work: impl Fn(&Engine<'_, A>)) {
    for config in configs {
        let machine = Machine::<A>::new(config, 4 * MIB);
        A::answer_faults(Some(&machine.allocator));
        let engine = Engine::new(&machine.allocator).expect("the strategy is the allocator's");
        work(&engine);
        drop(engine);
        A::answer_faults(None);
    }
}

/// A store with one instance.
pub fn alone<'e, 'a, A: World>(engine: &'e Engine<'a, A>, bytes: &[u8]) -> (Store<'e, 'a, A>, InstanceId) {
    let code = engine.compile(bytes).expect("guests are valid");
    let mut store = Store::new(engine);
    let id = store.instantiate("guest", &code).expect("guests import nothing");
    (store, id)
}

/// Calls a function, and wants one value or none.
pub fn call<A: World>(
    store: &mut Store<'_, '_, A>,
    id: InstanceId,
    name: &str,
    arguments: &[Value],
) -> Result<Option<Value>, Trap> {
    match store.call(id, name, arguments) {
        Ok(values) => Ok(values.first().copied()),
        Err(Error::Trap(trap, _)) => Err(trap),
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The same of a function of `i32` only.
pub fn call_i32<A: World>(
    store: &mut Store<'_, '_, A>,
    id: InstanceId,
    name: &str,
    arguments: &[i32],
) -> Result<i32, Trap> {
    let arguments: Vec<Value> = arguments.iter().map(|&value| Value::I32(value)).collect();
    Ok(match call(store, id, name, &arguments)? {
        Some(Value::I32(value)) => value,
        None => 0,
        Some(other) => panic!("{name} gave {other:?}"),
    })
}
