//! The feature `log`: what is told, and that nothing is told of what happens often. One test, as there
//! is one logger.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::{format, string::String, vec::Vec};

use allotment::{
    Allocator, CompiledModuleId, Config, FaultAccess, InstanceAllocationStrategy, MemoryRequest, Verdict,
    arch::{PhysAddr, VirtAddr},
};
use common::{MIB, Machine, PAGE, TestArch, WASM_PAGE, at, small};
use log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

harness::tests! {
    fn what_happens_seldom_is_told() {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(LevelFilter::Trace);
        on_every_machine!(pooling);
        on_every_machine!(on_demand);
    }
}

struct Lines;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "allotment"
    }

    fn log(&self, record: &Record<'_>) {
        LINES.lock().push(format!("{} {}: {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// What was told since.
fn told() -> Vec<String> {
    core::mem::take(&mut *LINES.lock())
}

/// What was told since is one line each, which begins so.
fn assert_told(beginnings: &[&str]) {
    let told = told();
    let matches = told.iter().zip(beginnings).all(|(line, beginning)| line.starts_with(beginning));
    assert!(matches && told.len() == beginnings.len(), "{told:#?}, not {beginnings:#?}");
}

fn pooling<A: TestArch>() {
    refused_carve::<A>();
    let m = Machine::<A>::new(&small(), 16 * MIB);
    let plan = format!("DEBUG allotment: plan:\n{}", m.allocator.plan());
    assert_told(&["INFO allotment: carved: memories 4 slots (as asked) from 0x", &plan]);

    // All that happens often.
    let module = CompiledModuleId(7);
    let mut memories = Vec::new();
    for _ in 0..4 {
        let mut memory = m.allocator.allocate_memory(MemoryRequest::new(PAGE).module(module, 0)).unwrap();
        memory.grow_to(WASM_PAGE).unwrap();
        m.store(&memory, 1, 1).unwrap();
        m.load(&memory, WASM_PAGE as i64).unwrap_err();
        let beyond = m.allocator.fault(at(&memory, -1), FaultAccess::Write);
        assert!(matches!(beyond, Verdict::Trap(_)), "{beyond:?}");
        memories.push(memory);
    }
    assert_told(&[]);

    m.allocator.allocate_memory(PAGE).map(drop).unwrap_err();
    assert_told(&["WARN allotment: no memory: maximum concurrent limit of 4 for memories reached"]);
    // The arena has no frames for all of them.
    memories.iter_mut().find_map(|memory| memory.grow_to(4 * MIB).err()).unwrap();
    assert_told(&["DEBUG allotment: a memory does not grow: "]);
    memories.into_iter().for_each(|memory| m.allocator.deallocate_memory(memory));
    m.allocator.idle_work(usize::MAX);
    assert_told(&[]);
    m.allocator.purge_module(module);
    m.allocator.seal();
    assert_told(&["DEBUG allotment: purged module 7", "INFO allotment: sealed: "]);
    m.allocator.allocate_fiber_stack().map(drop).unwrap_err();
    m.allocator.allocate_table(1).map(drop).unwrap_err();
    assert_told(&["WARN allotment: no stack: ", "WARN allotment: no table: "]);
}

fn refused_carve<A: TestArch>() {
    let (arch, window, arena) = A::machine(16 * MIB);
    let window = window.start..VirtAddr(window.start.0 + 2 * MIB as u64);
    // SAFETY: it is refused, and the machine is the test's.
    unsafe { Allocator::new(arch, window, arena, &small()) }.map(drop).unwrap_err();
    let (arch, window, arena) = A::machine(16 * MIB);
    let odd = PhysAddr(arena.start.0 + 1)..arena.end;
    // SAFETY: as above.
    unsafe { allotment::space::Space::new(arch, window, odd) }.map(drop).unwrap_err();
    assert_told(&[
        "WARN allotment: nothing was carved: the window has 0x200000 bytes of address space",
        "WARN allotment: nothing was carved: the arena begins or ends at 0x",
    ]);
}

fn on_demand<A: TestArch>() {
    let config = Config::new().allocation_strategy(InstanceAllocationStrategy::OnDemand);
    let m = Machine::<A>::new(&config, 4 * MIB);
    told();
    let mut memory = m.allocator.allocate_memory(PAGE).unwrap();
    m.store(&memory, 0, 1).unwrap();
    assert_told(&[]);
    memory.grow_to(64 * MIB).unwrap_err();
    assert_told(&["DEBUG allotment: a memory does not grow: "]);
    m.allocator.allocate_memory(64 * MIB).map(drop).unwrap_err();
    assert_told(&["WARN allotment: no memory: "]);
    m.allocator.deallocate_memory(memory);
    assert_told(&[]);
}
