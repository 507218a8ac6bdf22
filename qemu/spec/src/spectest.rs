//! The module `spectest`, which every file may import from: functions that print (here: nothing), globals of 666,
//! tables and a memory.

use wasmtime::{
    Engine, FuncType, Global, GlobalType, Linker, Memory, MemoryType, Mutability, Ref, RefType, Result,
    Store, Table, TableType, Val, ValType,
};

const NAME: &str = "spectest";

/// Makes a file's own, in its store.
pub(crate) fn define(linker: &mut Linker<()>, store: &mut Store<()>) -> Result<()> {
    let engine = store.engine().clone();
    for (name, parameters) in [
        ("print", [].as_slice()),
        ("print_i32", &[ValType::I32]),
        ("print_i64", &[ValType::I64]),
        ("print_f32", &[ValType::F32]),
        ("print_f64", &[ValType::F64]),
        ("print_i32_f32", &[ValType::I32, ValType::F32]),
        ("print_f64_f64", &[ValType::F64, ValType::F64]),
    ] {
        linker.func_new(NAME, name, function(&engine, parameters), |_, _, _| Ok(()))?;
    }
    for (name, kind, value) in [
        ("global_i32", ValType::I32, Val::I32(666)),
        ("global_i64", ValType::I64, Val::I64(666)),
        ("global_f32", ValType::F32, Val::F32(666.6_f32.to_bits())),
        ("global_f64", ValType::F64, Val::F64(666.6_f64.to_bits())),
    ] {
        let global = Global::new(&mut *store, GlobalType::new(kind, Mutability::Const), value)?;
        linker.define(&mut *store, NAME, name, global)?;
    }
    let table = Table::new(&mut *store, TableType::new(RefType::FUNCREF, 10, Some(20)), Ref::Func(None))?;
    linker.define(&mut *store, NAME, "table", table)?;
    let table = Table::new(&mut *store, TableType::new64(RefType::FUNCREF, 10, Some(20)), Ref::Func(None))?;
    linker.define(&mut *store, NAME, "table64", table)?;
    let memory = Memory::new(&mut *store, MemoryType::new(1, Some(2)))?;
    linker.define(&mut *store, NAME, "memory", memory)?;
    Ok(())
}

fn function(engine: &Engine, parameters: &[ValType]) -> FuncType {
    FuncType::new(engine, parameters.iter().cloned(), [])
}
