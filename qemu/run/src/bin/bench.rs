//! Instructions per operation, on the serial console, one `row NAME COUNT` a
//! line. Boot it with `cargo xtask bench`, under QEMU's `-icount shift=0`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("this program is a kernel; boot it with `cargo xtask bench`");
    std::process::ExitCode::from(2)
}

#[cfg(target_os = "none")]
kernel::entry!(bare::main);

#[cfg(target_os = "none")]
mod bare {
    use core::{
        arch::global_asm,
        ptr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use allotment::{
        FaultAccess,
        arch::VirtAddr,
        wasmtime::{Delivery, GUARD_SIZE, Platform, RESERVATION, configure, deliver},
    };
    use kernel::{
        BootInfo, Exit, Frame,
        clock::{instructions, since_entry},
        exception::{Exception, Handled, set_hook},
        println,
    };
    use protocol::payload::Payload;
    use wasmtime::{Config, Engine, Instance, InstancePre, Linker, Module, Store};

    const ROUNDS: u64 = 200;
    const MAPPING: usize = GUARD_SIZE + RESERVATION + GUARD_SIZE;
    const WASM_PAGE: usize = 0x1_0000;
    const NONE: u32 = 0;
    const READ_WRITE: u32 = 3;

    pub(crate) fn main(boot: &'static BootInfo) -> ! {
        let entry = instructions();
        let payload = Payload::parse(boot.payload.unwrap_or_default()).expect("a payload with the guests");
        let (engine, platform) = runtime::start(boot).expect("an engine");
        let guest = |engine: &Engine, name: &str| {
            // SAFETY: the host compiled it for this kernel.
            unsafe { Module::deserialize(engine, payload.get(name).expect("a guest")) }.expect("a module")
        };
        let bench = guest(&engine, "guest/bench");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &bench, &[]).expect("an instance");
        call(&mut store, &instance, "nothing").expect("a result");
        row("entry-to-first-result", since_entry());
        row("main-to-first-result", instructions() - entry);
        drop(store);

        let linker: Linker<()> = Linker::new(&engine);
        let without = linker.instantiate_pre(&guest(&engine, "guest/empty")).expect("no imports");
        row("a0-cycle-without-memory", cycle(&engine, &without));
        let with = linker.instantiate_pre(&bench).expect("no imports");
        row("a-cycle-one-page", cycle(&engine, &with));
        row("a-share-platform-calls", average(platform_calls));

        growth(&engine, &with);
        row("e-share-fault", fault_share(&bench, platform));
        traps(&engine, &bench, payload.get("guest/bench").unwrap_or_default());
        kernel::exit(Exit::Success)
    }

    /// Instructions of one operation, after some to warm up.
    fn average(mut operation: impl FnMut()) -> u64 {
        for _ in 0..10 {
            operation();
        }
        let before = instructions();
        for _ in 0..ROUNDS {
            operation();
        }
        (instructions() - before) / ROUNDS
    }

    fn cycle(engine: &Engine, pre: &InstancePre<()>) -> u64 {
        average(|| {
            let mut store = Store::new(engine, ());
            pre.instantiate(&mut store).expect("an instance");
        })
    }

    unsafe extern "C" {
        fn wasmtime_mmap_new(size: usize, prot_flags: u32, ret: *mut *mut u8) -> i32;
        fn wasmtime_mprotect(start: *mut u8, size: usize, prot_flags: u32) -> i32;
        fn wasmtime_munmap(start: *mut u8, size: usize) -> i32;
    }

    /// What Wasmtime asks of the platform in one cycle with one page.
    fn platform_calls() {
        let mut start = ptr::null_mut();
        // SAFETY: these are Allotment's, with the contract of Wasmtime's.
        let mapped = unsafe { wasmtime_mmap_new(MAPPING, NONE, &raw mut start) };
        // SAFETY: the memory begins after the guard.
        let given = unsafe { wasmtime_mprotect(start.wrapping_add(GUARD_SIZE), WASM_PAGE, READ_WRITE) };
        // SAFETY: nobody uses it.
        let released = unsafe { wasmtime_munmap(start, MAPPING) };
        assert_eq!((mapped, given, released), (0, 0, 0));
    }

    fn growth(engine: &Engine, pre: &InstancePre<()>) {
        const TIMES: u32 = 100;
        let grow = |times: u32| {
            let mut store = Store::new(engine, ());
            let instance = pre.instantiate(&mut store).expect("an instance");
            let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow").expect("the export");
            let before = instructions();
            grow.call(&mut store, i32::try_from(times).expect("a small number")).expect("a size");
            instructions() - before
        };
        let cold = (grow(TIMES + 1) - grow(1)) / u64::from(TIMES);
        let warm = (grow(TIMES + 1) - grow(1)) / u64::from(TIMES);
        row("d-grow-one-page-cold", cold);
        row("d-grow-one-page-warm", warm);
        let mut start = ptr::null_mut();
        // SAFETY: as above.
        let mapped = unsafe { wasmtime_mmap_new(MAPPING, NONE, &raw mut start) };
        assert_eq!(mapped, 0);
        let memory = start.wrapping_add(GUARD_SIZE);
        let before = instructions();
        for page in 0..TIMES as usize {
            // SAFETY: as above.
            let given =
                unsafe { wasmtime_mprotect(memory.wrapping_add(page * WASM_PAGE), WASM_PAGE, READ_WRITE) };
            assert_eq!(given, 0);
        }
        row("d-share-mprotect", (instructions() - before) / u64::from(TIMES));
        // SAFETY: as above.
        let released = unsafe { wasmtime_munmap(start, MAPPING) };
        assert_eq!(released, 0);
    }

    fn traps(engine: &Engine, bench: &Module, compiled: &[u8]) {
        let trap = |engine: &Engine, module: &Module| {
            let mut store = Store::new(engine, ());
            let instance = Instance::new(&mut store, module, &[]).expect("an instance");
            let function =
                instance.get_typed_func::<(), ()>(&mut store, "out_of_bounds").expect("the export");
            average(|| {
                function.call(&mut store, ()).expect_err("a trap");
            })
        };
        row("e-trap-with-backtrace", trap(engine, bench));
        let mut config = Config::new();
        configure(&mut config);
        config.wasm_backtrace_max_frames(None);
        let plain = Engine::new(&config).expect("an engine");
        // SAFETY: as above.
        let module = unsafe { Module::deserialize(&plain, compiled) }.expect("a module");
        row("e-trap-without-backtrace", trap(&plain, &module));
    }

    /// An instruction of the module's: what faults is taken for its doing.
    static WASM_PC: AtomicUsize = AtomicUsize::new(0);

    /// From an undefined instruction to the one after: the exception's entry,
    /// Allotment's verdict that it is a wasm trap, and the exception's exit.
    fn fault_share(module: &Module, platform: &Platform) -> u64 {
        let image = module.image_range();
        let pages = (image.start.addr()..image.end.addr()).step_by(4096);
        let is_code = |page: &usize| platform.allocator().is_code(VirtAddr(*page as u64));
        WASM_PC.store(pages.filter(is_code).max().expect("the module has code"), Ordering::Relaxed);
        set_hook(divert_and_skip);
        // SAFETY: both only return; the hook skips the undefined instruction.
        let with = average(|| unsafe { bench_undefined() });
        // SAFETY: as above.
        let without = average(|| unsafe { bench_nothing() });
        runtime::exceptions::init();
        with - without
    }

    fn divert_and_skip(frame: &mut Frame, _: &Exception) -> Handled {
        let exception = allotment::wasmtime::Exception {
            pc: WASM_PC.load(Ordering::Relaxed),
            sp: address(frame.sp()),
            fp: address(frame.fp()),
            fault: Some((0x10, FaultAccess::Read)),
        };
        let Delivery::Divert(to) = deliver(&exception) else { return Handled::No };
        for (number, argument) in to.arguments.into_iter().enumerate() {
            frame.set_argument(number, argument as u64);
        }
        frame.set_pc(bench_nothing as *const () as u64);
        Handled::Resume
    }

    fn address(register: u64) -> usize {
        usize::try_from(register).unwrap_or(usize::MAX)
    }

    unsafe extern "C" {
        fn bench_undefined();
        fn bench_nothing();
    }

    #[cfg(target_arch = "x86_64")]
    global_asm!(".global bench_undefined, bench_nothing", "bench_undefined: ud2", "bench_nothing: ret");
    #[cfg(target_arch = "aarch64")]
    global_asm!(".global bench_undefined, bench_nothing", "bench_undefined: udf #0", "bench_nothing: ret");

    fn call(store: &mut Store<()>, instance: &Instance, name: &str) -> wasmtime::Result<()> {
        instance.get_typed_func::<(), ()>(&mut *store, name)?.call(store, ())
    }

    fn row(name: &str, count: u64) {
        println!("row {name} {count}");
    }
}
