//! README's embedding, to the letter: compiled, and run on every machine.
//!
//! ```text
//!   README.md, the first block of "In your kernel"  ==  readme/kernel.rs
//!                                                             |
//!   bare metal   `Native`: the CPU's own tables               |  boots, grows, faults
//!   host         `Native::current` is the test's machine <----'
//! ```

#![cfg_attr(target_os = "none", no_std, no_main)]

// What the text calls `allotment` is this file on the host: the crate, but for the machine.
#[cfg(not(target_os = "none"))]
extern crate allotment as real;
#[cfg(not(target_os = "none"))]
extern crate self as allotment;

mod common;
#[rustfmt::skip]
#[path = "readme/kernel.rs"]
#[expect(unreachable_pub, reason = "a kernel calls them from elsewhere")]
mod embedding;
#[cfg_attr(target_os = "none", path = "readme/bare.rs")]
#[cfg_attr(not(target_os = "none"), path = "readme/host.rs")]
mod machine;

#[cfg(not(target_os = "none"))]
use machine::{Allocator, arch};
#[cfg(not(target_os = "none"))]
#[expect(clippy::wildcard_imports, reason = "whatever else there is in the crate")]
use real::*;

use allotment::{FaultAccess, FaultRegion};
use common::{MIB, Machine, TestArch, WASM_PAGE, at};
use embedding::{boot, instance, on_page_fault};
use machine::{Here, run_on};

harness::tests! {
    #[cfg(not(target_os = "none"))]
    fn readme_has_what_is_tested() {
        machine::compare();
    }

    fn the_embedding_boots_and_has_instances() {
        instances();
    }

    fn its_handler_tells_a_retry_from_a_trap() {
        handler();
    }
}

/// For 64 memories of 256 MiB, which are 32 MiB of leaf tables.
const ARENA: usize = 64 * MIB;

/// A kernel of README's, on a machine of its own.
fn booted() -> Machine<Here> {
    let (machine, window, arena) = Here::machine(ARENA);
    run_on(machine);
    Machine::of(boot(0, window, arena).expect("window and arena are free, and large enough"))
}

fn instances() {
    let m = booted();
    assert_eq!(m.allocator.plan().memories.slab.total_memories, 64);
    for _ in 0..3 {
        instance(&m.allocator).expect("the arena has frames for two wasm pages");
    }
    assert_eq!(m.allocator.metrics().memories, 0);
}

fn handler() {
    let m = booted();
    let memory = m.allocator.allocate_memory(WASM_PAGE).unwrap();
    let answer = |offset| on_page_fault(&m.allocator, at(&memory, offset).0, FaultAccess::Read);
    let size = i64::try_from(WASM_PAGE).unwrap();
    // In bounds an access succeeds, and a fault there was one of the past.
    m.store(&memory, size - 1, 7).unwrap();
    assert_eq!(m.load(&memory, size - 1), Ok(7));
    assert_eq!(answer(size - 1), Ok(()));
    // The next byte is the trap of whoever runs.
    m.load(&memory, size).unwrap_err();
    let report = answer(size).unwrap_err();
    assert_eq!((report.region, report.offset), (FaultRegion::Memory(None), Some(size)));
    m.allocator.deallocate_memory(memory);
}
