//! What an instance gives to others, and its context as compiled code sees it.
//!
//! In a test file: `#[path = "common/links.rs"] mod links;`, beside `mod common;` and `mod module;`.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use core::array;

use allotment::{
    arch::VirtAddr,
    instance::{
        EntityIndex, Export, FuncIndex, FuncRefIndex, FunctionType, GlobalIndex, Instance, MemoryIndex,
        TableIndex, VMFunctionImport, VMGlobalImport, VMMemoryImport, VMSharedTypeIndex, VMTableImport,
        cranelift_entity::EntityRef,
    },
};

use crate::{
    common::{Machine, TestArch},
    module::Builder,
};

/// What an importer of this export is told.
pub fn function<A: TestArch>(instance: &Instance<'_, A>, name: &str) -> VMFunctionImport {
    match lookup(instance, name) {
        Export::Function { import, .. } => import,
        other => panic!("{name} is {other:?}"),
    }
}

/// What an importer of this export is told.
pub fn memory<A: TestArch>(instance: &Instance<'_, A>, name: &str) -> VMMemoryImport {
    match lookup(instance, name) {
        Export::Memory { import, .. } => import,
        other => panic!("{name} is {other:?}"),
    }
}

/// What an importer of this export is told.
pub fn table<A: TestArch>(instance: &Instance<'_, A>, name: &str) -> VMTableImport {
    match lookup(instance, name) {
        Export::Table { import, .. } => import,
        other => panic!("{name} is {other:?}"),
    }
}

/// What an importer of this export is told.
pub fn global<A: TestArch>(instance: &Instance<'_, A>, name: &str) -> VMGlobalImport {
    match lookup(instance, name) {
        Export::Global { import, .. } => import,
        other => panic!("{name} is {other:?}"),
    }
}

fn lookup<A: TestArch>(instance: &Instance<'_, A>, name: &str) -> Export {
    let export = instance.lookup(name).expect("the instance lives");
    export.unwrap_or_else(|| panic!("nothing is exported as {name}"))
}

/// Something to export: a function, table, memory or global, by its number.
pub fn function_at(number: usize) -> EntityIndex {
    EntityIndex::Function(FuncIndex::new(number))
}

/// The same of a table.
pub fn table_at(number: usize) -> EntityIndex {
    EntityIndex::Table(TableIndex::new(number))
}

/// The same of a memory.
pub fn memory_at(number: usize) -> EntityIndex {
    EntityIndex::Memory(MemoryIndex::new(number))
}

/// The same of a global.
pub fn global_at(number: usize) -> EntityIndex {
    EntityIndex::Global(GlobalIndex::new(number))
}

/// A further function, of that type, which may be referred to.
pub fn typed_function(mut builder: Builder, signature: u32) -> Builder {
    let func_ref = Some(FuncRefIndex::new(builder.info.num_func_refs));
    builder.info.num_func_refs += 1;
    builder.info.functions.push(FunctionType { signature: VMSharedTypeIndex(signature), func_ref });
    builder
}

/// Bytes at an address, each loaded as running code would.
pub fn raw<A: TestArch, const N: usize>(m: &Machine<A>, at: VirtAddr) -> [u8; N] {
    array::from_fn(|nth| m.load_at(at.offset(nth)).expect("a context is accessible"))
}

/// A word at an address, loaded as running code would.
pub fn word<A: TestArch>(m: &Machine<A>, at: VirtAddr) -> u64 {
    u64::from_le_bytes(raw(m, at))
}

/// Words at an address.
pub fn words<A: TestArch, const N: usize>(m: &Machine<A>, at: VirtAddr) -> [u64; N] {
    array::from_fn(|nth| word(m, at.offset(8 * nth)))
}
