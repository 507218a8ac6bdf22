//! The guests in text form do on this computer what `qemu/guests/README.md` says they do everywhere.

#![cfg(not(target_os = "none"))]

use std::{fs, path::PathBuf};

use wasmtime::{Engine, Error, Instance, Linker, Module, Store, Trap};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guests/wat")
}

fn module(engine: &Engine, name: &str) -> Module {
    let path = directory().join(name).with_extension("wat");
    Module::from_file(engine, &path).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()))
}

/// The trap that the first part of a name in `contained.wat` stands for.
fn trap(name: &str) -> Option<Trap> {
    Some(match name {
        "ok" => return None,
        "memory-out-of-bounds" => Trap::MemoryOutOfBounds,
        "table-out-of-bounds" => Trap::TableOutOfBounds,
        "indirect-call-to-null" => Trap::IndirectCallToNull,
        "indirect-call-type-mismatch" => Trap::BadSignature,
        "integer-divide-by-zero" => Trap::IntegerDivisionByZero,
        "integer-overflow" => Trap::IntegerOverflow,
        "invalid-conversion-to-integer" => Trap::BadConversionToInteger,
        "unreachable" => Trap::UnreachableCodeReached,
        "stack-overflow" => Trap::StackOverflow,
        other => panic!("no trap is called {other}"),
    })
}

#[test]
fn all_of_them_compile() {
    let engine = Engine::default();
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        // It is none, and runs in the kernels' tests.
        if path.file_stem().is_some_and(|name| name == "component") {
            continue;
        }
        module(&engine, path.file_stem().unwrap().to_str().unwrap());
    }
}

#[test]
fn each_misdeed_ends_as_its_name_says() {
    let engine = Engine::default();
    let module = module(&engine, "contained");
    let mut store = Store::new(&engine, ());
    // One instance for all: each trap leaves it as it was.
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let mut misdeeds = 0;
    for round in 0..3 {
        for export in module.exports() {
            let Some((expected, name)) = export.name().split_once('/') else { continue };
            let function = instance.get_typed_func::<(), i64>(&mut store, export.name()).unwrap();
            let result = function.call(&mut store, ());
            let got = result.as_ref().err().map(|error| *error.downcast_ref::<Trap>().expect("a trap"));
            assert_eq!(got, trap(expected), "{expected}/{name} in round {round}: {result:?}");
            misdeeds += usize::from(got.is_some());
        }
    }
    assert!(misdeeds >= 3 * 60, "{misdeeds} traps in all");
}

#[test]
fn memories_grow_and_keep_what_is_written() {
    let engine = Engine::default();
    let grow = module(&engine, "grow");
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &grow, &[]).unwrap();
    let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow").unwrap();
    let touch = instance.get_typed_func::<(), i32>(&mut store, "touch_all").unwrap();
    assert_eq!(grow.call(&mut store, 100).unwrap(), 1);
    assert_eq!(touch.call(&mut store, ()).unwrap(), 0);
    assert_eq!(grow.call(&mut store, 65_536).unwrap(), -1);

    let image = module(&engine, "image");
    let instance = Instance::new(&mut store, &image, &[]).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    let bytes = memory.data(&store);
    assert_eq!(&bytes[..11], b"first bytes");
    assert_eq!(&bytes[0xfffc..0x1_0004], b"boundary");
    assert_eq!(&bytes[bytes.len() - 5..], b"last!");
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 24);
}

#[test]
fn a_host_may_fail_and_be_called_within_itself() {
    let engine = Engine::default();
    let host = module(&engine, "host");
    let mut linker: Linker<()> = Linker::new(&engine);
    linker.func_wrap("host", "fail", || -> wasmtime::Result<()> { Err(Error::msg("refused")) }).unwrap();
    linker.func_wrap("host", "overflow", || {}).unwrap();
    let nest = |mut caller: wasmtime::Caller<'_, ()>| {
        let inner = caller.get_export("inner").and_then(wasmtime::Extern::into_func).unwrap();
        inner.typed::<(), ()>(&caller)?.call(&mut caller, ())
    };
    linker.func_wrap("host", "nest", nest).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &host).unwrap();
    let mut call = |name| instance.get_typed_func::<(), ()>(&mut store, name)?.call(&mut store, ());
    assert!(format!("{:?}", call("fail").unwrap_err()).contains("refused"));
    assert_eq!(call("nest").unwrap_err().downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds));
}
