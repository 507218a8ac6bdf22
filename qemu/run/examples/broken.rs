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
//! | `overflow_fiber` | calls itself until a fiber's stack is full |
//! | `panic_fiber` | panics on a fiber's stack |
//! | `leave_memory` | reads the byte after a memory |
//! | `fault_in_hook` | has the exception hook write there |
//! | `panic_in_hook` | has the hook panic about a write there |
//! | `use_heap` | allocates while that is forbidden |
//!
//! `cargo xtask run --kernel ELF MODULE` boots it; `qemu/xtask/tests` does.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    extern crate alloc;

    use alloc::boxed::Box;
    use core::{arch::global_asm, hint::black_box};

    use allotment::{CompiledModuleId, MemoryRequest, wasmtime::installed};
    use kernel::{
        BootInfo, Exit, Frame,
        exception::{Exception, Handled, set_hook},
    };
    use protocol::{options::Strategy, payload::Payload};
    use wasmtime::{Linker, Module, Store};

    kernel::entry!(main);

    fn main(boot: &'static BootInfo) -> ! {
        let payload = Payload::parse(boot.payload.expect("a payload")).expect("a payload that is whole");
        let compiled = payload.get("module").expect("a module in the payload");
        let (engine, _) =
            runtime::start_with(boot, Strategy::Pooling, |pools| pools.total_stacks(2)).expect("an engine");
        // SAFETY: whoever made the boot image vouches for its module.
        let module = unsafe { Module::deserialize(&engine, compiled) }.expect("a module for this machine");
        let mut linker: Linker<()> = Linker::new(&engine);
        let functions: [(&str, fn()); 11] = [
            ("overflow", || _ = overflow(0)),
            ("panic", || panic!("a host function gives up")),
            ("read_null", read_null),
            ("write_code", write_code),
            ("run_data", run_data),
            ("overflow_fiber", || on_fiber(overflow_here)),
            ("panic_fiber", || on_fiber(panic_here)),
            ("leave_memory", || _ = read(after_memory())),
            ("fault_in_hook", || in_hook(|address| _ = read(address))),
            ("panic_in_hook", || in_hook(|_| panic!("a hook gives up"))),
            ("use_heap", use_heap),
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

    /// Calls `function` on a fiber's stack, the second one.
    fn on_fiber(function: extern "C" fn()) {
        let allocator = installed().expect("a platform").allocator();
        let [_, stack] = [(); 2].map(|()| allocator.allocate_fiber_stack().expect("a stack"));
        // SAFETY: the stack is whole and nobody else's.
        unsafe { broken_call_on(stack.top().0, function) };
    }

    extern "C" fn overflow_here() {
        overflow(0);
    }

    extern "C" fn panic_here() {
        panic!("a fiber gives up");
    }

    unsafe extern "C" {
        /// Calls `function` on the stack that ends at `top`.
        fn broken_call_on(top: u64, function: extern "C" fn());
    }

    #[cfg(target_arch = "x86_64")]
    global_asm!(
        ".global broken_call_on",
        "broken_call_on:",
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
    );
    #[cfg(target_arch = "aarch64")]
    global_asm!(
        ".global broken_call_on",
        "broken_call_on:",
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "mov sp, x0",
        "blr x1",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        "ret",
    );

    /// The first byte that is not accessible of a memory of 64 KiB, the second of module 7.
    fn after_memory() -> usize {
        let allocator = installed().expect("a platform").allocator();
        let request = MemoryRequest::new(0x1_0000).module(CompiledModuleId(7), 1);
        let memory = allocator.allocate_memory(request).expect("a slot");
        memory.base().as_ptr().expose_provenance() + 0x1_0000
    }

    fn read(address: usize) -> u8 {
        let byte = core::ptr::with_exposed_provenance::<u8>(black_box(address));
        // SAFETY: nothing is there to be read: the exception ends the machine.
        unsafe { byte.read_volatile() }
    }

    /// Writes after a memory, with `answer` as what the hook does about it.
    fn in_hook(answer: fn(usize)) {
        static ANSWER: spin::Once<fn(usize)> = spin::Once::new();
        fn hook(_: &mut Frame, exception: &Exception) -> Handled {
            if let (Exception::PageFault { addr, .. }, Some(answer)) = (exception, ANSWER.get()) {
                answer(usize::try_from(*addr).expect("64 bits"));
            }
            Handled::No
        }
        ANSWER.call_once(|| answer);
        set_hook(hook);
        let byte = core::ptr::with_exposed_provenance_mut::<u8>(black_box(after_memory()));
        // SAFETY: nothing is written: the exception ends the machine.
        unsafe { byte.write_volatile(1) };
    }

    fn use_heap() {
        // Freed before: it could be had again.
        drop(black_box(Box::new(1)));
        kernel::heap::forbid();
        drop(black_box(Box::new(2)));
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
