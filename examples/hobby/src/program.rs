//! What this kernel does with wasm: Wasmtime as anywhere else.

use alloc::string::String;

use wasmtime::{Caller, Engine, Extern, Instance, Linker, Module, Result, Store, bail};

use crate::println;

/// Two instances of a compiled program, one after the other. The first traps.
pub fn run(engine: &Engine, compiled: &[u8]) -> Result<()> {
    // SAFETY: it comes with the kernel, from the same build.
    let module = unsafe { Module::deserialize(engine, compiled)? };
    let mut linker = Linker::new(engine);
    linker.func_wrap("kernel", "print", print)?;

    let (mut store, instance) = start(engine, &linker, &module)?;
    let greet = instance.get_typed_func::<(), ()>(&mut store, "greet")?;
    let read = instance.get_typed_func::<i32, i32>(&mut store, "read")?;
    let grow = instance.get_typed_func::<(), i32>(&mut store, "grow")?;
    greet.call(&mut store, ())?;
    let before = grow.call(&mut store, ())?;
    println!("wasm: grown from {before} page to {}", before + 1);
    let inside = read.call(&mut store, (2 << 16) - 4)?;
    println!("wasm: its last word is {inside}");
    match read.call(&mut store, 2 << 16) {
        Ok(word) => bail!("a word behind the last was read: {word}"),
        Err(trap) => println!("wasm: {trap:?}"),
    }
    // The instance lives on, and so does the kernel.
    greet.call(&mut store, ())?;
    drop(store);

    // Another one, in the slot that the first had: of that nothing is left.
    let (mut store, instance) = start(engine, &linker, &module)?;
    let greet = instance.get_typed_func::<(), ()>(&mut store, "greet")?;
    greet.call(&mut store, ())
}

fn start(engine: &Engine, linker: &Linker<()>, module: &Module) -> Result<(Store<()>, Instance)> {
    let mut store = Store::new(engine, ());
    let instance = linker.instantiate(&mut store, module)?;
    Ok((store, instance))
}

/// The program's `kernel.print`: bytes of its memory.
fn print(mut caller: Caller<'_, ()>, start: u32, length: u32) -> Result<()> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { bail!("no memory is exported") };
    let bytes = memory.data(&caller).get(start as usize..).and_then(|bytes| bytes.get(..length as usize));
    let Some(bytes) = bytes else { bail!("{length} bytes at {start} are not all in its memory") };
    println!("wasm says: {}", String::from_utf8_lossy(bytes));
    Ok(())
}
