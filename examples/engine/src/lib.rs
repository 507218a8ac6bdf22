//! A small wasm engine over Allotment's instance allocators: the example to port from.
//!
//! It takes a wasm binary, of WebAssembly 2.0 without vectors, and with several and
//! 64-bit memories, and interprets it. How fast is no concern here; what an engine
//! has to do for Allotment, and what it gets, is. Read it in the order below with
//! your own engine in mind.
//!
//! ```text
//!   wasm ──> module.rs ──> ModuleInfo ──> instance::Module ─────────┐
//!               '──> function.rs, numeric.rs ──> code.rs            │
//!                                                   │               v
//!   host.rs ──> link.rs ──> Imports ──> store.rs ───┼──> InstanceAllocator::allocate
//!                                                   v               │
//!   access.rs ── guarded/ <── runtime.rs <── interpret.rs <── InstanceHandle
//! ```
//!
//! # From bytes to a module
//!
//! [`Engine::compile`] (`module.rs`) reads the sections with `wasmparser`, which also
//! validates them, and fills a [`ModuleInfo`](allotment::instance::ModuleInfo) in: types, limits, segments,
//! exports. Two things are the engine's own to decide:
//!
//! * *Numbers of function types.* Two functions have the same type if they have the same
//!   [`VMSharedTypeIndex`](allotment::instance::VMSharedTypeIndex); so types are interned once for all modules
//!   (`engine.rs`), and `call_indirect` compares two numbers.
//! * *Which functions can be referred to.* Each that is exported, in a segment or in
//!   `ref.func` gets a place for its [`VMFuncRef`](allotment::instance::VMFuncRef). This engine gives one to
//!   imported functions as well, and finds them by it.
//!
//! [`Module::new`](allotment::instance::Module::new) checks that description and lays contexts out. With the code
//! beside it that is [`Code`], the [`ModuleRuntimeInfo`](allotment::instance::ModuleRuntimeInfo). A compiler would return
//! addresses from `function`; an interpreter returns whatever it wants to find in a
//! reference again, here the function's number.
//!
//! # Instances
//!
//! [`Store::instantiate`] (`store.rs`) is what every engine does, step by step:
//!
//! | step | by |
//! |---|---|
//! | can slots hold it at all? | [`validate`](allotment::instance::InstanceAllocator::validate), whose error names the knob |
//! | resolve imports by name and type (`link.rs`) | [`Instance::export`](allotment::instance::Instance::export) gives them in the form in which they are imported |
//! | make it | [`allocate`](allotment::instance::InstanceAllocator::allocate): slots, context; the limiter is asked on the way |
//! | say which one it is | [`set_embedder`](allotment::instance::Instance::set_embedder): a word in the context, by which calls find the instance |
//! | ask whether accesses have to be checked | [`memory_needs_bounds_checks`](allotment::instance::Instance::memory_needs_bounds_checks) |
//! | globals, elements, data | [`initialize`](allotment::instance::Instance::initialize), which may trap |
//! | the start function | the engine |
//!
//! An instance whose segments or start function trap is still there, since a table of another
//! one may refer to its functions by then. The store keeps it, without a name, and gives
//! all of them back in the end, the last one first: an instance never outlives one from
//! which it imports.
//!
//! # Calls
//!
//! ```text
//!   call           defined here ──────────────────────────────> frame
//!                  imported ──> func_ref ─┐                       ^
//!   call_indirect  table_get, type_index ─┴─> VMFuncRef           |
//!                                              | vmctx ──> embedder's word: which instance
//!                                              | wasm_call: which function
//!                                              '─ vmctx is 0: a function of the host
//! ```
//!
//! `interpret.rs` has one loop and a stack of its own (`stack.rs`), bounded in slots and
//! frames. However deep wasm recurses, the host does not.
//!
//! # Loads and stores
//!
//! No base, length, global or element is kept outside of Allotment (`runtime.rs`). A load or store
//! asks for the [`VMMemoryDefinition`](allotment::instance::VMMemoryDefinition), because any instance with the same memory may
//! have grown it. Then `access.rs` does what the memory says. If it needs no bounds checks, and the
//! offset is within the guard, whatever a 32-bit address makes is either the memory's or faults.
//! Otherwise the engine compares with the length first.
//!
//! That a fault is survived is what your kernel brings: [`Guarded`], and a handler of page faults
//! that asks [`Allocator::fault`](allotment::Allocator::fault). If that says to resume, it returns;
//! so are the core's own first writes answered, on a CPU that keeps no dirty state. If not, an
//! access of wasm's returns to the engine, which makes a trap of it, with a report of what the
//! address is. `guarded/bare.rs` does that with eight instructions that may fault, and
//! `guarded/host.rs` for the emulated machine, which has no handler.
//!
//! # An example
//!
//! On a host the machine is an emulated one:
//!
//! ```ignore-none
//! use allotment::{
//!     Allocator, Config, PoolingAllocationConfig,
//!     arch::{VirtAddr, X86_64, emulated::Emulated},
//! };
//! use engine::{Engine, Store, Value};
//!
//! let window = VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000);
//! let machine = Emulated::<X86_64>::new(16 << 20);
//! machine.guard_window(window.clone());
//! let arena = machine.free_memory();
//! let pools = PoolingAllocationConfig::new()
//!     .total_core_instances(4)
//!     .total_memories(4)
//!     .max_memory_size(1 << 20)
//!     .total_tables(0)
//!     .total_stacks(0);
//! let config = Config::new().allocation_strategy(pools).region_space(1 << 30);
//! // The machine is new, and nobody else uses it.
//! let allocator = unsafe { Allocator::new(machine, window, arena, &config) }?;
//!
//! let engine = Engine::new(&allocator)?;
//! let code = engine.compile(include_bytes!(concat!(env!("OUT_DIR"), "/control.wasm")))?;
//! let mut store = Store::new(&engine);
//! let id = store.instantiate("control", &code)?;
//! assert_eq!(store.call(id, "fib", &[Value::I32(10)])?, [Value::I32(55)]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # To run it
//!
//! ```text
//!   cargo run -p allotment-example-engine -- FILE.wasm [FUNCTION [ARGUMENT]...]     --help
//!   cargo run -p allotment-example-engine --target x86_64-unknown-none              or aarch64:
//!                                                         boots in QEMU, with a program of its own
//! ```
#![no_std]

extern crate alloc;

mod access;
mod code;
mod engine;
mod error;
mod function;
pub mod guarded;
mod host;
mod interpret;
mod link;
mod module;
mod numeric;
mod runtime;
mod stack;
mod store;
mod value;

pub use access::Guarded;
pub use engine::Engine;
pub use error::{CompileError, Error, Trap};
pub use host::Caller;
pub use module::Code;
pub use stack::{MOST_FRAMES, MOST_SLOTS};
pub use store::{InstanceId, Store};
pub use value::{FuncRef, Value};
pub use wasmparser::{FuncType, ValType};
