//! Density: how many instances of the demo's modules fit 1 GiB of arena.
//!
//! ```text
//!   fit-MODULE-strict-idle|run        1 GiB by what each further instance under Wasmtime takes: its slot's
//!                                     records and table, and the frames in use with it and not before
//!   fit-MODULE-fixed-idle|run         slots as large as the module was after its run, all of them carved
//!   fit-MODULE-per-instance-idle|run  memories made in 1 GiB, each bounded by the pages the module has touched
//! ```
//!
//! Compiled code, and what instances share of an image, is there once and not counted. A `Fixed` slot has its
//! frames, and a bound its promise, from the first moment: idle or after a run is the same there.

extern crate alloc;

use alloc::{format, vec, vec::Vec};
use core::cell::Cell;

use allotment::{
    Backing, Commit, Config, MemoryRequest,
    arch::PAGE_SIZE,
    wasmtime::{Platform, allocator_config, configure, install},
};
use kernel::{BootInfo, clock};
use protocol::payload::Payload;
use runtime::exceptions;
use wasi::{Entry, Host, Kind, Tree, Wasi};
use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store};

use crate::{
    count::row,
    group::{Group, group},
    pools::{MIB, Part, carve, parts, pool, try_carve},
};

/// A module of the demo, and what it is told there.
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
}

const SUMMARISE: Program = Program { name: "summarise", arguments: &["/orders.json"] };
const SIEVE: Program = Program { name: "sieve", arguments: &[] };
const MISBEHAVE: Program = Program { name: "misbehave", arguments: &[] };

pub(crate) const GROUPS: &[Group] = &[
    group(
        "fit-summarise",
        false,
        &[
            "fit-summarise-strict-idle",
            "fit-summarise-strict-run",
            "fit-summarise-fixed-idle",
            "fit-summarise-fixed-run",
        ],
        |boot| strict_and_fixed(boot, &SUMMARISE),
    ),
    group(
        "fit-summarise-per-instance",
        false,
        &["fit-summarise-per-instance-idle", "fit-summarise-per-instance-run"],
        |boot| per_instance(boot, &SUMMARISE),
    ),
    group(
        "fit-sieve",
        false,
        &["fit-sieve-strict-idle", "fit-sieve-strict-run", "fit-sieve-fixed-idle", "fit-sieve-fixed-run"],
        |boot| strict_and_fixed(boot, &SIEVE),
    ),
    group(
        "fit-sieve-per-instance",
        false,
        &["fit-sieve-per-instance-idle", "fit-sieve-per-instance-run"],
        |boot| per_instance(boot, &SIEVE),
    ),
    group(
        "fit-misbehave",
        false,
        &[
            "fit-misbehave-strict-idle",
            "fit-misbehave-strict-run",
            "fit-misbehave-fixed-idle",
            "fit-misbehave-fixed-run",
        ],
        |boot| strict_and_fixed(boot, &MISBEHAVE),
    ),
    group(
        "fit-misbehave-per-instance",
        false,
        &["fit-misbehave-per-instance-idle", "fit-misbehave-per-instance-run"],
        |boot| per_instance(boot, &MISBEHAVE),
    ),
];

/// Instances that live at the same time. The first is not counted.
const LIVE: usize = 3;
/// More than any of the modules has.
const LARGEST: usize = 64 * MIB;
const GIB: usize = 1024 * MIB;
const TABLE: usize = 2 * MIB;

fn strict_and_fixed(boot: &'static BootInfo, program: &'static Program) {
    let (machine, rest) = Machine::start(boot, program, Backing::Elastic(Commit::Strict));
    let allocator = machine.platform.allocator();
    let slot = allocator.plan().footprint.idle_slot;
    let used = || (allocator.plan().frames - allocator.metrics().available_frames) * PAGE_SIZE;
    let idle = each(used, || machine.instance());
    let size = Cell::new(0);
    let run = each(used, || machine.run(&size));
    let name = program.name;
    row(format!("fit-{name}-strict-idle"), || (GIB / (slot + idle)) as u64);
    row(format!("fit-{name}-strict-run"), || (GIB / (slot + run)) as u64);
    let fixed = made(&rest, Backing::Fixed, size.get(), size.get(), slot);
    row(format!("fit-{name}-fixed-idle"), || fixed);
    row(format!("fit-{name}-fixed-run"), || fixed);
}

fn per_instance(boot: &'static BootInfo, program: &'static Program) {
    let commit = Commit::PerInstance(LARGEST / PAGE_SIZE);
    let (machine, rest) = Machine::start(boot, program, Backing::Elastic(commit));
    let resident = || {
        let bytes = Cell::new(0);
        let add = |more: usize| bytes.set(bytes.get() + more);
        machine.platform.allocator().for_each_slot(|slot| add(if slot.in_use { slot.resident } else { 0 }));
        bytes.get()
    };
    let size = Cell::new(0);
    let touched = each(resident, || machine.run(&size));
    let commit = Commit::PerInstance(touched.div_ceil(PAGE_SIZE));
    let slot = machine.platform.allocator().plan().footprint.idle_slot;
    let made = made(&rest, Backing::Elastic(commit), size.get(), touched, slot);
    row(format!("fit-{}-per-instance-idle", program.name), || made);
    row(format!("fit-{}-per-instance-run", program.name), || made);
}

/// What each of several adds to `used`, the first apart.
fn each<T>(used: impl Fn() -> usize, mut make: impl FnMut() -> T) -> usize {
    let mut live = vec![make()];
    let first = used();
    live.extend((1..LIVE).map(|_| make()));
    (used() - first) / (LIVE - 1)
}

/// How many memories of `size` bytes can be had in a part, if each takes `frames` bytes of it for contents and
/// `slot` bytes for itself.
fn made(part: &Part, backing: Backing, size: usize, frames: usize, slot: usize) -> u64 {
    let config = |slots: usize| {
        let slots = pool(slots).max_memory_size(size).premapped_tables(1).backing(backing);
        let config = Config::new().region_space(1 << 30).memory_guard_size(TABLE);
        config.memory_reservation(size.next_multiple_of(TABLE)).allocation_strategy(slots)
    };
    // What all share takes the place of some.
    let mut slots = GIB / (slot + frames);
    let allocator = loop {
        match try_carve(part, &config(slots)) {
            Ok(allocator) => break allocator,
            Err(_) if slots > 1 => slots -= slots.div_ceil(1000),
            Err(error) => panic!("not even one slot of {size} bytes: {error}"),
        }
    };
    let request = || allocator.allocate_memory(MemoryRequest::new(size)).ok();
    let memories: Vec<_> = (0..slots).map_while(|_| request()).collect();
    memories.len() as u64
}

/// Wasmtime over a part of the machine, and a module.
struct Machine {
    engine: Engine,
    platform: &'static Platform,
    module: InstancePre<Wasi<Silent>>,
    payload: Payload<'static>,
    program: &'static Program,
}

impl Machine {
    /// That, and 1 GiB of the machine that it does not use.
    fn start(boot: &'static BootInfo, program: &'static Program, backing: Backing) -> (Self, Part) {
        let mut parts = parts(boot, &[GIB / 2, GIB]);
        let mut part = || parts.next().expect("a part");
        let slots = pool(LIVE).max_memory_size(LARGEST).premapped_tables(1).backing(backing);
        let config = allocator_config().region_space(16 << 30).allocation_strategy(slots);
        let platform = Platform::new(carve(part(), &config));
        let platform = install(platform, exceptions::unknown_trap).expect("the first platform");
        exceptions::init();
        let mut config = wasmtime::Config::new();
        configure(&mut config);
        let engine = Engine::new(&config).expect("an engine");
        let payload = Payload::parse(boot.payload.unwrap_or_default()).expect("a payload with the guests");
        let compiled = payload.get(&format!("guest/{}", program.name)).expect("the guest");
        // SAFETY: the host compiled it for this kernel.
        let module = unsafe { Module::deserialize(&engine, compiled) }.expect("a module");
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker, |state| state).expect("the functions of WASI");
        let module = linker.instantiate_pre(&module).expect("all imports");
        (Self { engine, platform, module, payload, program }, part())
    }

    /// A fresh instance, and its store.
    fn instance(&self) -> (Instance, Store<Wasi<Silent>>) {
        let name = [self.program.name].into_iter();
        let args = name.chain(self.program.arguments.iter().copied()).map(|word| word.as_bytes().to_vec());
        let orders = Kind::File(self.payload.get("orders.json").unwrap_or_default());
        let root = Entry { path: "/", kind: Kind::Directory };
        let tree = Tree::new([root, Entry { path: "/orders.json", kind: orders }]).expect("a file");
        let program =
            wasi::Program { args: args.collect(), tree, preopens: vec!["/".into()], ..Default::default() };
        let mut store = Store::new(&self.engine, Wasi::new(Silent, program).expect("a program"));
        let instance = self.module.instantiate(&mut store).expect("an instance");
        (instance, store)
    }

    /// An instance that has run, and how many bytes of memory it has then.
    fn run(&self, size: &Cell<usize>) -> (Instance, Store<Wasi<Silent>>) {
        let (instance, mut store) = self.instance();
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("the export");
        if let Err(error) = start.call(&mut store, ()) {
            assert!(error.is::<wasi::Exit>(), "{} ends with {error:?}", self.program.name);
        }
        size.set(instance.get_memory(&mut store, "memory").expect("the export").data_size(&store));
        (instance, store)
    }
}

/// A machine whose streams nobody hears.
struct Silent;

impl Host for Silent {
    fn monotonic_ns(&mut self) -> u64 {
        clock::monotonic_ns()
    }

    fn realtime_ns(&mut self) -> u64 {
        clock::realtime_ns()
    }

    fn sleep_until(&mut self, _: u64) {}

    fn fill_random(&mut self, bytes: &mut [u8]) {
        // The same each time, so that the rows are.
        bytes.fill(7);
    }

    fn stdin_read(&mut self, _: &mut [u8]) -> usize {
        0
    }

    fn stdout_write(&mut self, _: &[u8]) {}

    fn stderr_write(&mut self, _: &[u8]) {}
}
