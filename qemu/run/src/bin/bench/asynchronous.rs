//! Asynchronous calls over Wasmtime, on stacks of the pool. In a kernel of their own: what a kernel with
//! `async` carries along would be counted in every other row.

use allotment::wasmtime::{configure, configure_stacks};
use kernel::BootInfo;
use protocol::options::Strategy;
use runtime::executor::block_on;
use wasmtime::{Config, Engine, InstancePre, Linker, Store, TypedFunc};

use crate::{
    count::{average, row},
    group::{Group, group},
    wasm::guest,
};

pub(crate) const GROUPS: &[Group] = &[group(
    "async",
    false,
    &["h-sync-call", "h-async-call", "h-async-over-sync", "h-async-second-call"],
    calls,
)];

fn calls(boot: &'static BootInfo) {
    let started = runtime::start_with(boot, Strategy::Pooling, |pools| pools.total_stacks(1));
    let platform = started.expect("an engine").1;
    let mut config = Config::new();
    configure(&mut config);
    configure_stacks(&mut config, platform);
    let engine = Engine::new(&config).expect("an engine");
    let linker: Linker<()> = Linker::new(&engine);
    let pre = linker.instantiate_pre(&guest(boot, &engine, "guest/bench")).expect("no imports");
    // The store is new each time, and has no stack yet.
    let sync = row("h-sync-call", || {
        average(|| {
            let (mut store, nothing) = begin(&pre);
            nothing.call(&mut store, ()).expect("a result");
        })
    });
    let first = row("h-async-call", || {
        average(|| {
            let (mut store, nothing) = begin(&pre);
            block_on(nothing.call_async(&mut store, ())).expect("a result");
        })
    });
    row("h-async-over-sync", || first - sync);
    // Its stack stays with a store.
    row("h-async-second-call", || {
        let (mut store, nothing) = begin(&pre);
        average(|| block_on(nothing.call_async(&mut store, ())).expect("a result"))
    });
}

fn begin(pre: &InstancePre<()>) -> (Store<()>, TypedFunc<(), ()>) {
    let mut store = Store::new(pre.module().engine(), ());
    let instance = pre.instantiate(&mut store).expect("an instance");
    let nothing = instance.get_typed_func(&mut store, "nothing").expect("the export");
    (store, nothing)
}
