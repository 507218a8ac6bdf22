//! Real wasm under the real Wasmtime, misbehaving in every way there is, and
//! contained. Bare metal only: on a host Wasmtime has its own platform.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bare {
    use alloc::{string::ToString, vec::Vec};

    use allotment::{Metrics, wasmtime::Platform};
    use wasmtime::{Caller, Engine, Extern, Instance, Linker, Module, Store, Trap, Val};

    harness::tests! {
        fn every_misdeed_ends_in_its_trap_and_its_twin_succeeds() {
            every_misdeed();
        }

        fn ten_thousand_traps_leave_every_count_as_it_was() {
            ten_thousand_traps();
        }

        fn growth_past_the_maximum_gives_minus_one() {
            past_the_maximum();
        }

        fn growth_past_the_arena_gives_minus_one_and_the_instance_goes_on() {
            past_the_arena();
        }

        fn traps_across_nested_calls_and_host_errors_come_back() {
            nested();
        }

        fn a_thousand_instances_leave_every_count_as_it_was() {
            a_thousand_instances();
        }

        fn instances_are_apart_and_fresh() {
            apart_and_fresh();
        }

        fn more_instances_than_slots_is_an_error_that_says_so() {
            too_many_instances();
        }

        fn a_memory_beyond_the_limit_is_refused_with_both_sizes() {
            huge_memory();
        }

        fn a_missing_import_is_named() {
            missing_import();
        }

        fn data_segments_arrive() {
            data_segments();
        }
    }

    struct World {
        engine: Engine,
        platform: &'static Platform,
    }

    impl World {
        fn new() -> Self {
            let (engine, platform) = runtime::start(harness::boot()).unwrap();
            Self { engine, platform }
        }

        fn module(&self, name: &str) -> Module {
            // SAFETY: the runner compiled it for this kernel.
            unsafe { Module::deserialize(&self.engine, harness::guest(name)) }.unwrap()
        }

        fn store(&self) -> Store<()> {
            Store::new(&self.engine, ())
        }

        /// Everything that must not leak.
        fn counts(&self) -> (usize, usize, usize) {
            let Metrics { free_memories, available_frames, .. } = self.platform.allocator().metrics();
            (free_memories, available_frames, kernel::heap::used())
        }
    }

    fn call(store: &mut Store<()>, instance: &Instance, name: &str) -> wasmtime::Result<i64> {
        instance.get_typed_func::<(), i64>(&mut *store, name)?.call(store, ())
    }

    /// The trap's name in kebab case, as the guest's exports have it.
    fn code(trap: Trap) -> &'static str {
        match trap {
            Trap::MemoryOutOfBounds => "memory-out-of-bounds",
            Trap::TableOutOfBounds => "table-out-of-bounds",
            Trap::IndirectCallToNull => "indirect-call-to-null",
            Trap::BadSignature => "indirect-call-type-mismatch",
            Trap::IntegerOverflow => "integer-overflow",
            Trap::IntegerDivisionByZero => "integer-divide-by-zero",
            Trap::BadConversionToInteger => "invalid-conversion-to-integer",
            Trap::UnreachableCodeReached => "unreachable",
            Trap::StackOverflow => "stack-overflow",
            _ => "another trap",
        }
    }

    fn every_misdeed() {
        let world = World::new();
        let module = world.module("contained");
        let mut store = world.store();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let (mut traps, mut twins) = (0, 0);
        // Twice: the second round runs on what the first one left.
        for _ in 0..2 {
            for export in module.exports() {
                let Some((expected, _)) = export.name().split_once('/') else { continue };
                let result = call(&mut store, &instance, export.name());
                if expected == "ok" {
                    result.unwrap_or_else(|error| panic!("{}: {error:?}", export.name()));
                    twins += 1;
                } else {
                    let error = result.expect_err(export.name());
                    let trap = error
                        .downcast_ref::<Trap>()
                        .unwrap_or_else(|| panic!("{}: {error:?}", export.name()));
                    assert_eq!(code(*trap), expected, "{}", export.name());
                    traps += 1;
                }
            }
        }
        assert!(traps >= 2 * 70 && twins >= 2 * 40, "{traps} traps and {twins} twins: the guest has shrunk");
    }

    fn ten_thousand_traps() {
        let world = World::new();
        let module = world.module("contained");
        let misdeeds: Vec<_> = module
            .exports()
            .map(|export| export.name().to_string())
            .filter(|name| {
                name.contains('/') && !name.starts_with("ok/") && !name.starts_with("stack-overflow/")
            })
            .collect();
        let round = |count: usize| {
            let mut store = world.store();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            for nth in 0..count {
                call(&mut store, &instance, &misdeeds[nth % misdeeds.len()]).unwrap_err();
            }
        };
        round(misdeeds.len());
        let before = world.counts();
        round(10_000);
        assert_eq!(world.counts(), before);
    }

    fn past_the_maximum() {
        let world = World::new();
        let module = world.module("memory");
        let mut store = world.store();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow").unwrap();
        assert_eq!(grow.call(&mut store, 15).unwrap(), 1);
        assert_eq!(grow.call(&mut store, 1).unwrap(), -1);
        assert_eq!(grow.call(&mut store, -1).unwrap(), -1);
        assert_eq!(grow.call(&mut store, 0).unwrap(), 16);
        let peek = instance.get_typed_func::<i32, i32>(&mut store, "peek").unwrap();
        assert_eq!(peek.call(&mut store, 0xf_ffff).unwrap(), 0);
        peek.call(&mut store, 0x10_0000).unwrap_err();
    }

    fn past_the_arena() {
        let world = World::new();
        let module = world.module("grow");
        let mut before = None;
        for _ in 0..3 {
            let mut store = world.store();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let whole = |store: &mut Store<()>, name: &str| {
                instance.get_typed_func::<(), i32>(&mut *store, name).unwrap().call(store, ()).unwrap()
            };
            let pages = whole(&mut store, "grow_to_the_end");
            assert!(pages > 100, "only {pages} wasm pages before the arena was full");
            assert_eq!(whole(&mut store, "touch_all"), 0, "pages share memory");
            assert_eq!(whole(&mut store, "size"), pages);
            drop(store);
            // The first instance of a module leaves what all others share.
            assert_eq!(*before.get_or_insert(world.counts()), world.counts());
        }
    }

    fn nested() {
        let world = World::new();
        let module = world.module("host");
        let mut linker: Linker<()> = Linker::new(&world.engine);
        linker
            .func_wrap("host", "fail", || -> wasmtime::Result<()> {
                Err(wasmtime::Error::msg("host says no"))
            })
            .unwrap();
        linker.func_wrap("host", "overflow", || {}).unwrap();
        linker
            .func_wrap("host", "nest", |mut caller: Caller<'_, ()>| -> wasmtime::Result<()> {
                let inner = caller.get_export("inner").and_then(Extern::into_func).unwrap();
                inner.call(&mut caller, &[], &mut [] as &mut [Val])
            })
            .unwrap();
        let mut store = world.store();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let mut run = |name: &str| {
            let function = instance.get_typed_func::<(), ()>(&mut store, name).unwrap();
            function.call(&mut store, ()).unwrap_err()
        };
        for _ in 0..3 {
            assert_eq!(run("nest").downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds));
            assert!(
                run("fail").to_string().contains("while executing")
                    || run("fail").root_cause().to_string() == "host says no"
            );
        }
    }

    fn a_thousand_instances() {
        let world = World::new();
        let module = world.module("memory");
        let cycle = || {
            let mut store = world.store();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let sum = instance.get_typed_func::<(), i64>(&mut store, "sum").unwrap();
            assert_eq!(sum.call(&mut store, ()).unwrap(), 0, "the previous tenant's bytes are visible");
            let fill = instance.get_typed_func::<(i32, i32, i32), ()>(&mut store, "fill").unwrap();
            fill.call(&mut store, (0, 0xfe, 0x1_0000)).unwrap();
        };
        cycle();
        let before = world.counts();
        for _ in 0..1000 {
            cycle();
        }
        assert_eq!(world.counts(), before);
    }

    fn apart_and_fresh() {
        let world = World::new();
        let module = world.module("memory");
        let mut store = world.store();
        let instances: Vec<_> = (0..8).map(|_| Instance::new(&mut store, &module, &[]).unwrap()).collect();
        for (number, instance) in (1..).zip(&instances) {
            let poke = instance.get_typed_func::<(i32, i32), ()>(&mut store, "poke").unwrap();
            poke.call(&mut store, (100, number)).unwrap();
        }
        for (number, instance) in (1..).zip(&instances) {
            let sum = instance.get_typed_func::<(), i64>(&mut store, "sum").unwrap();
            assert_eq!(sum.call(&mut store, ()).unwrap(), number);
        }
    }

    fn too_many_instances() {
        let world = World::new();
        let module = world.module("memory");
        Instance::new(&mut world.store(), &module, &[]).unwrap();
        let before = world.counts();
        let limit = world.platform.allocator().plan().memories.slab.total_memories;
        let mut store = world.store();
        for _ in 0..limit {
            Instance::new(&mut store, &module, &[]).unwrap();
        }
        Instance::new(&mut store, &module, &[]).unwrap_err();
        let why = world.platform.take_last_error().unwrap().to_string();
        assert!(why.contains("memories") && why.contains(&limit.to_string()), "{why}");
        drop((store, why));
        assert_eq!(world.counts(), before);
        Instance::new(&mut world.store(), &module, &[]).unwrap();
    }

    fn huge_memory() {
        let world = World::new();
        let module = world.module("huge_memory");
        Instance::new(&mut world.store(), &module, &[]).unwrap_err();
        let before = world.counts();
        Instance::new(&mut world.store(), &module, &[]).unwrap_err();
        assert_eq!(world.counts(), before);
        let why = world.platform.take_last_error().unwrap();
        let refused = matches!(
            why,
            allotment::wasmtime::PlatformError::Allocator(
                allotment::Error::MemoryTooLarge { requested, limit } | allotment::Error::OutOfFrames { needed: requested, available: limit }
            ) if requested > limit
        );
        assert!(refused, "{why}");
    }

    fn missing_import() {
        let world = World::new();
        let module = world.module("missing_import");
        let linker: Linker<()> = Linker::new(&world.engine);
        let error = linker.instantiate(&mut world.store(), &module).unwrap_err().to_string();
        assert!(error.contains("unknown import"), "{error}");
    }

    fn data_segments() {
        let world = World::new();
        let module = world.module("image");
        for _ in 0..2 {
            let mut store = world.store();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            let data = memory.data(&store);
            let mut expected = alloc::vec![0; 4 * 0x1_0000];
            expected[..11].copy_from_slice(b"first bytes");
            expected[0xfffc..0x1_0004].copy_from_slice(b"boundary");
            expected[0x3_fffb..].copy_from_slice(b"last!");
            assert!(data == expected, "data segments arrived elsewhere");
            let poke = instance.get_typed_func::<(i32, i32), ()>(&mut store, "poke").unwrap();
            poke.call(&mut store, (3, 0xfe)).unwrap();
        }
    }
}
