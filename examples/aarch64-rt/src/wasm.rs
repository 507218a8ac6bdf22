//! All that wasm adds to the kernel: Allotment's share, and a program that runs under Wasmtime.

use core::ops::Range;

use allotment::{
    Allocator, FaultAccess, PoolingAllocationConfig,
    arch::{Native, PhysOffset, VirtAddr},
    boot::largest_arena,
    wasmtime::{Delivery, Exception, Platform, allocator_config, configure, deliver, install},
};
use wasmtime::{Caller, Config, Engine, Extern, Linker, Module, Result, Store, error::Context};

use crate::println;

/// Addresses that the kernel leaves alone.
const WINDOW: Range<VirtAddr> = VirtAddr(64 << 30)..VirtAddr(512 << 30);

/// An engine whose memories Allotment provides, from the largest range of unused memory.
fn engine(usable: impl Iterator<Item = Range<u64>>) -> Result<Engine> {
    let arena = largest_arena(usable)?;
    let pool = PoolingAllocationConfig::new().total_memories(16).max_memory_size(16 << 20).total_tables(0);
    let settings = allocator_config().allocation_strategy(pool.total_stacks(0).total_gc_heaps(0));
    // SAFETY: at EL1, on the only CPU, with memory where it is, and a page table that stays.
    let machine = unsafe { Native::current(PhysOffset(0)) };
    // SAFETY: nobody uses the range of memory, or those addresses.
    let allocator = unsafe { Allocator::new(machine, WINDOW, arena, &settings) }?;
    println!("{}", allocator.plan());
    install(Platform::new(allocator), |pc| {
        panic!("wasm's code faulted at {pc:#x}, of which Wasmtime knows nothing")
    })?;
    let mut config = Config::new();
    configure(&mut config);
    Engine::new(&config)
}

/// Answers a synchronous exception at `pc`, if Allotment or Wasmtime can: whether it did. Then the kernel
/// returns to what `pc` says now.
pub(crate) fn answer(pc: &mut usize, esr: u64, far: u64) -> bool {
    /// The class of undefined instructions.
    const UNDEFINED: u64 = 0;
    let fault = match FaultAccess::from_esr(esr) {
        Some(access) => Some((far as usize, access)),
        None if esr >> 26 & 0x3f == UNDEFINED => None,
        None => return false,
    };
    match deliver(&Exception { pc: *pc, fault }) {
        Delivery::Resume => true,
        Delivery::Divert(stub) => {
            *pc = stub;
            true
        }
        Delivery::NotWasm(report) => {
            if let Some(report) = report {
                println!("{report:#}");
            }
            false
        }
    }
}

/// Runs the module's exports, two of which trap, each in an instance of its own.
pub(crate) fn run(module: &[u8], usable: impl Iterator<Item = Range<u64>>) -> Result<()> {
    let engine = engine(usable)?;
    // SAFETY: whoever starts the kernel passes a module that was compiled for it.
    let module = unsafe { Module::deserialize(&engine, module) }.context("the initial RAM disk")?;
    let mut linker = Linker::new(&engine);
    linker.func_wrap("host", "print", print)?;
    for name in ["run", "overrun", "recurse", "run"] {
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &module)?;
        match instance.get_typed_func::<(), ()>(&mut store, name)?.call(&mut store, ()) {
            Ok(()) => println!("{name}: returned"),
            Err(trap) => println!("{name}: {trap:?}"),
        }
    }
    Ok(())
}

/// The module's import: prints `len` bytes of its memory.
fn print(mut caller: Caller<'_, ()>, at: u32, len: u32) -> Result<()> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory).context("a memory is exported")?;
    let text = memory.data(&caller).get(at as usize..).and_then(|rest| rest.get(..len as usize));
    let text = text.context("the text lies in the memory")?;
    println!("wasm: {}", core::str::from_utf8(text)?);
    Ok(())
}
