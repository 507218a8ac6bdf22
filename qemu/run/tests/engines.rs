//! What an engine may be given besides the C symbols: stacks for asynchronous calls, modules used
//! where they were loaded, memories by a creator; and several engines at once. Bare metal only.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bare {
    use alloc::{boxed::Box, format, string::ToString, vec::Vec};
    use core::{
        future::{Future, poll_fn},
        pin::Pin,
        ptr::NonNull,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll, Waker},
    };

    use allotment::{
        FaultAccess, FaultRegion, MemoryPoolConfig, Verdict,
        arch::VirtAddr,
        wasmtime::{
            CodeMemory, GUARD_SIZE, HostMemories, Platform, Protection, RESERVATION, configure,
            configure_code_memory, configure_memories, configure_reservation, configure_stacks,
        },
    };
    use protocol::options::Strategy;
    use spin::Mutex;
    use wasmtime::{
        Caller, Config, CustomCodeMemory, Engine, Extern, Instance, Linker, MemoryCreator, MemoryType,
        Module, Store, Trap, Val,
    };

    harness::tests! {
        fn asynchronous_calls_run_on_stacks_with_guards() {
            on_stacks(Strategy::Pooling);
        }

        fn so_do_they_on_demand() {
            on_stacks(Strategy::OnDemand);
        }

        fn a_call_that_waits_goes_on_on_another_cpu() {
            on_another_cpu();
        }

        fn more_calls_than_stacks_is_an_error_that_says_so() {
            too_many_stacks();
        }

        fn a_module_runs_where_it_was_loaded() {
            in_place();
        }

        fn memories_by_the_creator_are_guarded_and_go_back() {
            creator();
        }

        fn engines_of_different_settings_live_side_by_side() {
            side_by_side();
        }

        fn engines_of_different_reservations_have_slots_of_their_own() {
            several_reservations();
        }
    }

    /// Three calls at once, one of which calls wasm from the host: on a stack of its own.
    const STACKS: usize = 4;
    const READ: u32 = 1;
    const READ_WRITE: u32 = 3;

    fn platform(strategy: Strategy) -> &'static Platform {
        let started = runtime::start_with(harness::boot(), strategy, |pools| pools.total_stacks(STACKS));
        started.unwrap().1
    }

    fn engine(set_up: impl FnOnce(&mut Config)) -> Engine {
        let mut config = Config::new();
        configure(&mut config);
        set_up(&mut config);
        Engine::new(&config).unwrap()
    }

    fn module(engine: &Engine, name: &str) -> Module {
        // SAFETY: the runner compiled it for this kernel.
        unsafe { Module::deserialize(engine, harness::guest(name)) }.unwrap()
    }

    /// Where host functions found themselves.
    static LOCAL: AtomicUsize = AtomicUsize::new(0);

    /// Waits for its second turn.
    fn second_turn() -> impl Future<Output = ()> + Send {
        let mut first = true;
        poll_fn(move |_| if core::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) })
    }

    type Waits<'a, R> = Box<dyn Future<Output = R> + Send + 'a>;

    fn overflow(_: Caller<'_, ()>, (): ()) -> Waits<'_, ()> {
        let local = 0u8;
        LOCAL.store((&raw const local).addr(), Ordering::Relaxed);
        Box::new(second_turn())
    }

    fn fail(_: Caller<'_, ()>, (): ()) -> Waits<'_, wasmtime::Result<()>> {
        Box::new(async {
            second_turn().await;
            Err(wasmtime::Error::msg("host says no"))
        })
    }

    fn nest(mut caller: Caller<'_, ()>, (): ()) -> Waits<'_, wasmtime::Result<()>> {
        Box::new(async move {
            second_turn().await;
            let inner = caller.get_export("inner").and_then(Extern::into_func).unwrap();
            inner.call_async(&mut caller, &[], &mut [] as &mut [Val]).await
        })
    }

    /// The imports of the guest `host`, each of which waits.
    fn waiting(engine: &Engine) -> Linker<()> {
        let mut linker: Linker<()> = Linker::new(engine);
        linker.func_wrap_async("host", "overflow", overflow).unwrap();
        linker.func_wrap_async("host", "fail", fail).unwrap();
        linker.func_wrap_async("host", "nest", nest).unwrap();
        linker
    }

    type Run = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>;

    /// Instantiates the guest in a store of its own and calls one of its functions.
    fn call(linker: &Linker<()>, module: &Module, name: &'static str) -> Run {
        let before = linker.instantiate_pre(module).unwrap();
        let mut store = Store::new(module.engine(), ());
        Box::pin(async move {
            let instance = before.instantiate_async(&mut store).await?;
            let function = instance.get_typed_func::<(), ()>(&mut store, name)?;
            function.call_async(&mut store, ()).await
        })
    }

    fn poll(run: &mut Run) -> Poll<wasmtime::Result<()>> {
        run.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[track_caller]
    fn assert_out_of_bounds(result: wasmtime::Result<()>) {
        let error = result.unwrap_err();
        assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds), "{error:?}");
    }

    /// Gives all their turns until all have ended.
    fn run_all(mut runs: Vec<Run>) -> Vec<wasmtime::Result<()>> {
        let mut ended: Vec<_> = runs.iter().map(|_| None).collect();
        while ended.iter().any(Option::is_none) {
            for (run, ended) in runs.iter_mut().zip(&mut ended) {
                if ended.is_none()
                    && let Poll::Ready(result) = poll(run)
                {
                    *ended = Some(result);
                }
            }
        }
        ended.into_iter().flatten().collect()
    }

    fn on_stacks(strategy: Strategy) {
        let platform = platform(strategy);
        let engine = engine(|config| configure_stacks(config, platform));
        let (linker, module) = (waiting(&engine), module(&engine, "host"));
        let calls = ["overflow", "nest", "fail"];
        let mut used = None;
        for _ in 0..20 {
            let results = run_all(calls.iter().map(|name| call(&linker, &module, name)).collect());
            let [overflow, nest, fail] = results.try_into().unwrap();
            overflow.unwrap();
            assert_out_of_bounds(nest);
            assert_eq!(fail.unwrap_err().root_cause().to_string(), "host says no");
            // All that they took is back; the first time leaves what is shared.
            let now = (platform.allocator().metrics().stacks, kernel::heap::used());
            assert_eq!(now.0, 0, "a stack outlives its call");
            assert_eq!(used.get_or_insert(now), &now);
        }
        // While a call waits: host code ran on a stack with a guard below.
        let mut waits = call(&linker, &module, "overflow");
        assert!(poll(&mut waits).is_pending());
        let local = LOCAL.load(Ordering::Relaxed);
        let page = |down: usize| VirtAddr(((local & !4095) - down * 4096) as u64);
        let below = (0..).map(|down| platform.allocator().fault(page(down), FaultAccess::Write));
        let Some(Verdict::Trap(report)) = below.into_iter().find(|verdict| *verdict != Verdict::Resume)
        else {
            panic!("host code at {local:#x} is not on the allocator's stacks")
        };
        assert_eq!(report.region, FaultRegion::StackGuard, "{report}");
        assert!(poll(&mut waits).is_ready());
    }

    fn on_another_cpu() {
        let platform = platform(Strategy::Pooling);
        let engine = engine(|config| configure_stacks(config, platform));
        let (linker, module) = (waiting(&engine), module(&engine, "host"));
        let cpus = kernel::cpus::count();
        for round in 0..20 {
            let runs = ["overflow", "nest", "fail"].map(|name| call(&linker, &module, name));
            let runs = runs.map(|run| Mutex::new((run, None)));
            // Each turn elsewhere.
            for turn in 0..4 {
                kernel::cpus::together(cpus, &|cpu| {
                    for (number, run) in runs.iter().enumerate() {
                        if (number + turn + round) % cpus == cpu {
                            let (run, ended) = &mut *run.lock();
                            platform.arrive();
                            if ended.is_none()
                                && let Poll::Ready(result) = poll(run)
                            {
                                *ended = Some(result);
                            }
                        }
                    }
                });
            }
            let [overflow, nest, fail] = runs.map(|run| run.into_inner().1.expect("it had its turns"));
            overflow.unwrap();
            assert_out_of_bounds(nest);
            fail.unwrap_err();
        }
        assert_eq!(platform.allocator().metrics().stacks, 0);
    }

    fn too_many_stacks() {
        let platform = platform(Strategy::Pooling);
        let engine = engine(|config| configure_stacks(config, platform));
        let (linker, module) = (waiting(&engine), module(&engine, "host"));
        let mut runs: Vec<_> = (0..STACKS).map(|_| call(&linker, &module, "overflow")).collect();
        runs.iter_mut().for_each(|run| assert!(poll(run).is_pending()));
        let Poll::Ready(Err(error)) = poll(&mut call(&linker, &module, "overflow")) else {
            panic!("one more than there are stacks")
        };
        let message = format!("{error:#}");
        assert!(message.contains(&STACKS.to_string()), "{message}");
        run_all(runs).into_iter().for_each(Result::unwrap);
        run_all(Vec::from([call(&linker, &module, "overflow")])).into_iter().for_each(Result::unwrap);
    }

    fn in_place() {
        let platform = platform(Strategy::Pooling);
        let before = platform.allocator().metrics().regions;
        let engine = engine(|config| configure_code_memory(config, platform));
        for _ in 0..3 {
            let bytes = harness::guest("image");
            let start = platform.map(bytes.len(), Protection::from_flags(READ_WRITE).unwrap()).unwrap();
            // SAFETY: the mapping is new, writable and as large.
            unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
            // SAFETY: nobody writes it any more.
            unsafe { platform.protect(start, bytes.len(), Protection::from_flags(READ).unwrap()) }.unwrap();
            let place = NonNull::slice_from_raw_parts(start, bytes.len());
            let mappings = platform.allocator().metrics().regions;
            // SAFETY: the runner compiled it for this kernel; it is unmapped after the module's end.
            let module = unsafe { Module::deserialize_raw(&engine, place) }.unwrap();
            assert_eq!(platform.allocator().metrics().regions, mappings, "the module was copied");
            let mut store = Store::new(&engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let peek = instance.get_typed_func::<i32, i32>(&mut store, "peek").unwrap();
            assert_eq!(peek.call(&mut store, 0).unwrap(), i32::from(b'f'));
            assert_eq!(peek.call(&mut store, 0xfffc).unwrap(), i32::from(b'b'));
            let trap = peek.call(&mut store, 4 * 65536).unwrap_err();
            assert_eq!(trap.downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds));
            // An error's backtrace keeps its module.
            drop((store, module, trap));
            // SAFETY: the module is gone.
            unsafe { platform.unmap(start, bytes.len()) }.unwrap();
            assert_eq!(platform.allocator().metrics().regions, before);
        }
        // In the payload, which the kernel maps without a right to execute.
        let payload = NonNull::from(harness::guest("image"));
        // SAFETY: as above; it is never unmapped.
        let Err(refused) = (unsafe { Module::deserialize_raw(&engine, payload) }) else {
            panic!("code runs where it cannot be executed")
        };
        assert!(
            format!("{refused:#}").contains("does not map it as read-only and executable"),
            "{refused:#}"
        );
        CodeMemory(platform).publish_executable(payload.cast().as_ptr(), 1).unwrap_err();
    }

    fn creator() {
        let platform = platform(Strategy::Pooling);
        let memories = HostMemories(platform);
        let ty = || MemoryType::new(1, Some(3));
        let page = 65536;
        for _ in 0..3 {
            let made = memories.new_memory(ty(), page, Some(3 * page), Some(RESERVATION), GUARD_SIZE);
            let mut memory = made.unwrap();
            assert_eq!((memory.byte_size(), memory.byte_capacity()), (page, 3 * page));
            let base = memory.as_ptr();
            // SAFETY: so many bytes are accessible.
            let bytes = unsafe { core::slice::from_raw_parts_mut(base, page) };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes[page - 1] = 7;
            memory.grow_to(2 * page).unwrap();
            assert_eq!((memory.byte_size(), memory.as_ptr()), (2 * page, base));
            let end = VirtAddr((base.addr() + 2 * page) as u64);
            let beyond = platform.allocator().fault(end, FaultAccess::Read);
            assert!(matches!(beyond, Verdict::Trap(_)), "{beyond:?}");
            memory.grow_to(4 * page).expect_err("it grew beyond its maximum");
            assert_eq!(memory.byte_size(), 2 * page);
            drop(memory);
            assert_eq!(platform.allocator().metrics().memories, 0);
        }
        for (reservation, guard) in [(2 * RESERVATION, GUARD_SIZE), (RESERVATION, 2 * GUARD_SIZE)] {
            let Err(refused) = memories.new_memory(ty(), page, None, Some(reservation), guard) else {
                panic!("compiled code would rely on a guard that is not there")
            };
            assert!(refused.contains("memory_reservation and memory_guard_size"), "{refused}");
        }
        // A module whose images the creator cannot place is refused, and does not panic.
        let engine = engine(|config| configure_memories(config, platform).unwrap());
        // SAFETY: the runner compiled it for this kernel.
        let Err(refused) = (unsafe { Module::deserialize(&engine, harness::guest("image")) }) else {
            panic!("images go with a creator")
        };
        assert!(format!("{refused:#}").contains("CoW"), "{refused:#}");
        drop(engine);
    }

    fn side_by_side() {
        let platform = platform(Strategy::Pooling);
        let engines = [
            engine(|_| {}),
            engine(|config| configure_stacks(config, platform)),
            engine(|config| configure_code_memory(config, platform)),
        ];
        let modules = engines.each_ref().map(|engine| module(engine, "image"));
        for _ in 0..3 {
            let mut live: Vec<_> = modules
                .iter()
                .map(|module| {
                    let mut store = Store::new(module.engine(), ());
                    let instance = Instance::new(&mut store, module, &[]).unwrap();
                    (store, instance)
                })
                .collect();
            for (number, (store, instance)) in (1..).zip(&mut live) {
                let poke = instance.get_typed_func::<(i32, i32), ()>(&mut *store, "poke").unwrap();
                poke.call(&mut *store, (0, number)).unwrap();
                poke.call(&mut *store, (4 * 65536, number)).expect_err("out of bounds");
            }
            for (number, (store, instance)) in (1..).zip(&mut live) {
                let peek = instance.get_typed_func::<i32, i32>(&mut *store, "peek").unwrap();
                assert_eq!(peek.call(&mut *store, 0).unwrap(), number, "of another engine");
            }
        }
        assert_eq!(platform.allocator().metrics().memories, 0);
    }

    /// What the guest `image-64MiB` was compiled for.
    const SMALL: usize = 64 << 20;
    const SMALL_SLOTS: usize = 3;

    fn several_reservations() {
        let small = MemoryPoolConfig::new(SMALL).total_memories(SMALL_SLOTS).max_memory_size(4 << 20);
        let started =
            runtime::start_with(harness::boot(), Strategy::Pooling, |pools| pools.memory_pool(small));
        let platform = started.unwrap().1;
        let in_use =
            || [0, 1].map(|number| platform.allocator().memory_pool_metrics(number).unwrap().memories);
        let engines = [engine(|_| {}), engine(|config| configure_reservation(config, SMALL))];
        let names = ["image", "image-64MiB"];
        let modules = [0, 1].map(|nth| module(&engines[nth], names[nth]));
        for nth in [0, 1] {
            // SAFETY: the runner compiled it for this kernel.
            let other = unsafe { Module::deserialize(&engines[nth], harness::guest(names[1 - nth])) };
            assert!(other.is_err(), "code relies on a reservation that its engine does not make");
        }
        let instantiate = |module: &Module| {
            let mut store = Store::new(module.engine(), ());
            let instance = Instance::new(&mut store, module, &[]).unwrap();
            (store, instance)
        };
        let mut places = None;
        for _ in 0..5 {
            let mut live: Vec<_> = modules.iter().chain(&modules).map(instantiate).collect();
            assert_eq!(in_use(), [2, 2]);
            for (number, (store, instance)) in (1..).zip(&mut live) {
                let peek = instance.get_typed_func::<i32, i32>(&mut *store, "peek").unwrap();
                let poke = instance.get_typed_func::<(i32, i32), ()>(&mut *store, "poke").unwrap();
                let grow = instance.get_typed_func::<i32, i32>(&mut *store, "grow").unwrap();
                assert_eq!(peek.call(&mut *store, 0).unwrap(), i32::from(b'f'));
                assert_eq!(peek.call(&mut *store, 0xfffc).unwrap(), i32::from(b'b'));
                assert_out_of_bounds(poke.call(&mut *store, (4 * 65536, number)));
                assert_eq!(grow.call(&mut *store, 2).unwrap(), 4);
                assert_eq!(peek.call(&mut *store, 6 * 65536 - 1).unwrap(), 0);
                poke.call(&mut *store, (6 * 65536 - 1, number)).unwrap();
                poke.call(&mut *store, (0, number)).unwrap();
                for beyond in [6 * 65536, (64 << 20) - 1, 64 << 20, i32::MAX, -1] {
                    assert_out_of_bounds(poke.call(&mut *store, (beyond, number)));
                }
                assert_eq!(grow.call(&mut *store, 3).unwrap(), -1, "beyond its maximum");
            }
            for (number, (store, instance)) in (1..).zip(&mut live) {
                let peek = instance.get_typed_func::<i32, i32>(&mut *store, "peek").unwrap();
                assert_eq!(peek.call(&mut *store, 0).unwrap(), number, "of another engine");
                assert_eq!(peek.call(&mut *store, 6 * 65536 - 1).unwrap(), number);
            }
            // The slots of the round before.
            let mut bases: Vec<_> = live
                .iter_mut()
                .map(|(store, instance)| instance.get_memory(&mut *store, "memory").unwrap().data_ptr(store))
                .collect();
            bases.sort_unstable();
            assert_eq!(places.get_or_insert(bases.clone()), &bases);
        }
        assert_eq!(in_use(), [0, 0]);
        // One more than the small pool has is in a slot of the main one.
        let live: Vec<_> = (0..=SMALL_SLOTS).map(|_| instantiate(&modules[1])).collect();
        assert_eq!(in_use(), [1, SMALL_SLOTS]);
        drop(live);
        assert_eq!(in_use(), [0, 0]);
    }
}
