//! A kernel that breaks when its module asks for it, to see that each way of breaking is reported.
//!
//! It runs the payload's module as `run` does, without WASI but with these functions in module `host`:
//!
//! | function | does |
//! |---|---|
//! | `overflow` | calls itself until the stack is full |
//! | `panic` | panics |
//! | `read_null` | reads page 0, which is not mapped |
//! | `write_code` | writes to its own code, which is read-only |
//! | `run_data` | jumps into data, which is not executable |
//!
//! `cargo xtask run --kernel ELF MODULE` boots it; `qemu/xtask/tests` does.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use core::hint::black_box;

    use kernel::{BootInfo, Exit};
    use protocol::payload::Payload;
    use wasmtime::{Linker, Module, Store};

    kernel::entry!(main);

    fn main(boot: &'static BootInfo) -> ! {
        let payload = Payload::parse(boot.payload.expect("a payload")).expect("a payload that is whole");
        let compiled = payload.get("module").expect("a module in the payload");
        let (engine, _) = runtime::start(boot).expect("an engine");
        // SAFETY: whoever made the boot image vouches for its module.
        let module = unsafe { Module::deserialize(&engine, compiled) }.expect("a module for this machine");
        let mut linker: Linker<()> = Linker::new(&engine);
        let functions: [(&str, fn()); 5] = [
            ("overflow", || _ = overflow(0)),
            ("panic", || panic!("a host function gives up")),
            ("read_null", read_null),
            ("write_code", write_code),
            ("run_data", run_data),
        ];
        for (name, function) in functions {
            linker.func_wrap("host", name, function).expect("a name that is free");
        }
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &module).expect("an instance");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("`_start`");
        start.call(&mut store, ()).expect("a return");
        kernel::exit(Exit::Success)
    }

    #[expect(unconditional_recursion, reason = "ends when the stack is full")]
    #[inline(never)]
    fn overflow(depth: u64) -> u64 {
        // Something to do after the call, which is therefore no jump.
        black_box(overflow(black_box(depth) + 1)) + depth
    }

    fn read_null() {
        let null = core::ptr::without_provenance::<u64>(black_box(16));
        // SAFETY: nothing is there to be read: the exception ends the machine.
        black_box(unsafe { null.read_volatile() });
    }

    fn write_code() {
        let code = (write_code as *const ()).cast::<u8>().cast_mut();
        // SAFETY: nothing is written: the exception ends the machine.
        unsafe { code.write_volatile(0) };
    }

    fn run_data() {
        static DATA: [u8; 16] = [0; 16];
        let data = black_box(&raw const DATA);
        // SAFETY: a function pointer may point anywhere as long as nobody gets through with calling it.
        let function = unsafe { core::mem::transmute::<*const [u8; 16], extern "C" fn()>(data) };
        function();
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program is a kernel; `cargo test -p xtask` boots it");
}
