//! engine
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
