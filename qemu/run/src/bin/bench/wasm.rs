//! Wasmtime over Allotment: what an embedder does all day.

use allotment::wasmtime::configure;
use kernel::{BootInfo, clock::since_entry};
use protocol::payload::Payload;
use wasmtime::{Config, Engine, Instance, InstancePre, Linker, Module, Store};

use crate::{
    count::{average, counted, part_of, row},
    group::{Group, group},
};

pub(crate) const GROUPS: &[Group] = &[
    group("start", false, &["entry-to-first-result", "main-to-first-result"], start),
    group("cycle", false, &["a0-cycle-without-memory", "a-cycle-one-page"], cycles),
    group(
        "image-cycle",
        false,
        &[
            "b-image-64k-0",
            "b-image-64k-1",
            "b-image-64k-4",
            "b-image-64k-16",
            "i-dirty-page",
            "c-image-1m-16",
            "c-image-64m-16",
            "c-image-64m-16-spread",
        ],
        image_cycles,
    ),
    group("cold", false, &["j-cold-slot"], cold),
    group("growth", false, &["d-grow-one-page-cold", "d-grow-one-page-warm"], growth),
    group("traps", false, &["e-trap-with-backtrace", "e-trap-without-backtrace"], traps),
];

fn engine(boot: &'static BootInfo) -> Engine {
    runtime::start(boot).expect("an engine").0
}

/// A guest as the host has compiled it.
fn compiled(boot: &'static BootInfo, name: &str) -> &'static [u8] {
    let payload = Payload::parse(boot.payload.unwrap_or_default()).expect("a payload with the guests");
    payload.get(name).expect("a guest")
}

pub(crate) fn guest(boot: &'static BootInfo, engine: &Engine, name: &str) -> Module {
    // SAFETY: the host compiled it for this kernel.
    unsafe { Module::deserialize(engine, compiled(boot, name)) }.expect("a module")
}

fn bench(boot: &'static BootInfo, engine: &Engine) -> Module {
    guest(boot, engine, "guest/bench")
}

fn start(boot: &'static BootInfo) {
    let mut kept = None;
    let first = || {
        let engine = engine(boot);
        let module = bench(boot, &engine);
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("an instance");
        let nothing = instance.get_typed_func::<(), ()>(&mut store, "nothing").expect("the export");
        nothing.call(&mut store, ()).expect("a result");
        kept = Some((engine, module, store));
    };
    let main = part_of("main-to-first-result", || counted(1, first));
    row("entry-to-first-result", since_entry);
    row("main-to-first-result", || main);
}

fn cycles(boot: &'static BootInfo) {
    let engine = engine(boot);
    let linker: Linker<()> = Linker::new(&engine);
    let prepare = |module: &Module| linker.instantiate_pre(module).expect("no imports");
    let (without, with) = (prepare(&guest(boot, &engine, "guest/empty")), prepare(&bench(boot, &engine)));
    row("a0-cycle-without-memory", || cycle(&engine, &without));
    row("a-cycle-one-page", || cycle(&engine, &with));
}

fn cycle(engine: &Engine, pre: &InstancePre<()>) -> u64 {
    average(|| {
        let mut store = Store::new(engine, ());
        pre.instantiate(&mut store).expect("an instance");
    })
}

/// Whole cycles of modules with images, with a call that writes.
fn image_cycles(boot: &'static BootInfo) {
    const PAGE: i32 = 4096;
    const TABLE: i32 = 2 << 20;
    let engine = engine(boot);
    let linker: Linker<()> = Linker::new(&engine);
    let cycle = |pre: &InstancePre<()>, pages: i32, apart: i32| {
        average(|| {
            let mut store = Store::new(&engine, ());
            let instance = pre.instantiate(&mut store).expect("an instance");
            let touch = instance.get_typed_func::<(i32, i32), ()>(&mut store, "touch").expect("the export");
            touch.call(&mut store, (pages, apart)).expect("a result");
        })
    };
    // One at a time, so that each has the slot to itself.
    let with = |name: &str, count: &dyn Fn(&InstancePre<()>)| {
        count(&linker.instantiate_pre(&guest(boot, &engine, name)).expect("no imports"));
    };
    with("guest/image-64k", &|pre| {
        let clean = row("b-image-64k-0", || cycle(pre, 0, PAGE));
        row("b-image-64k-1", || cycle(pre, 1, PAGE));
        row("b-image-64k-4", || cycle(pre, 4, PAGE));
        let all = row("b-image-64k-16", || cycle(pre, 16, PAGE));
        row("i-dirty-page", || (all - clean) / 16);
    });
    with("guest/image-1m", &|pre| _ = row("c-image-1m-16", || cycle(pre, 16, PAGE)));
    with("guest/image-64m", &|pre| {
        row("c-image-64m-16", || cycle(pre, 16, PAGE));
        row("c-image-64m-16-spread", || cycle(pre, 16, 2 * TABLE));
    });
}

/// Cycles in slots that nobody used before, each of which is kept until all are.
fn cold(boot: &'static BootInfo) {
    /// Less than the machine has.
    const SLOTS: usize = 10;
    let engine = engine(boot);
    let linker: Linker<()> = Linker::new(&engine);
    let pre = linker.instantiate_pre(&bench(boot, &engine)).expect("no imports");
    let begin = || {
        let mut store = Store::new(&engine, ());
        let instance = pre.instantiate(&mut store).expect("an instance");
        let nothing = instance.get_typed_func::<(), ()>(&mut store, "nothing").expect("the export");
        nothing.call(&mut store, ()).expect("a result");
        store
    };
    // What Wasmtime itself does once.
    let first = begin();
    let mut stores: [Option<Store<()>>; SLOTS] = [const { None }; SLOTS];
    let cycles = || {
        stores.iter_mut().for_each(|place| *place = Some(begin()));
        drop(stores);
    };
    row("j-cold-slot", || counted(SLOTS as u64, cycles) / SLOTS as u64);
    drop(first);
}

fn growth(boot: &'static BootInfo) {
    const TIMES: u32 = 100;
    let engine = engine(boot);
    let module = bench(boot, &engine);
    let grow = |times: u32, operations: u64| {
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("an instance");
        let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow").expect("the export");
        let times = i32::try_from(times).expect("a small number");
        counted(operations, || _ = grow.call(&mut store, times).expect("a size"))
    };
    // From its second use on a slot has its pages: one here, a hundred more after `cold`.
    grow(1, 0);
    let once = grow(1, 0);
    let all = || (grow(TIMES + 1, TIMES.into()) - once) / u64::from(TIMES);
    row("d-grow-one-page-cold", all);
    row("d-grow-one-page-warm", all);
}

fn traps(boot: &'static BootInfo) {
    let engine = engine(boot);
    let trap = |engine: &Engine, module: &Module| {
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, module, &[]).expect("an instance");
        let function = instance.get_typed_func::<(), ()>(&mut store, "out_of_bounds").expect("the export");
        average(|| {
            function.call(&mut store, ()).expect_err("a trap");
        })
    };
    row("e-trap-with-backtrace", || trap(&engine, &bench(boot, &engine)));
    let mut config = Config::new();
    configure(&mut config);
    config.wasm_backtrace_max_frames(None);
    let plain = Engine::new(&config).expect("an engine");
    row("e-trap-without-backtrace", || trap(&plain, &bench(boot, &plain)));
}
