//! The real Wasmtime in an arena without frames: every call fails as an error
//! that says why, nothing stays behind, and traps are traps. Bare metal only.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
mod bare {
    use allotment::{
        Error, Memory,
        wasmtime::{Platform, PlatformError},
    };
    use protocol::options::Strategy;
    use wasmtime::{Engine, Instance, Module, Store, Trap};

    harness::tests! {
        fn a_full_arena_is_survived_by_pools() {
            survived(Strategy::Pooling);
        }

        fn a_full_arena_is_survived_on_demand() {
            survived(Strategy::OnDemand);
        }
    }

    const PAGE: usize = 4096;
    const MIB: usize = 1 << 20;

    struct World {
        engine: Engine,
        platform: &'static Platform,
    }

    impl World {
        fn module(&self, name: &str) -> wasmtime::Result<Module> {
            // SAFETY: the runner compiled it for this kernel.
            unsafe { Module::deserialize(&self.engine, harness::guest(name)) }
        }

        fn store(&self) -> Store<()> {
            Store::new(&self.engine, ())
        }

        /// A memory of all frames that there are.
        fn take_all(&self) -> Memory<'static> {
            let mut memory = self.platform.allocator().allocate_memory(0).unwrap();
            for step in [64 * MIB, MIB, PAGE] {
                while memory.grow_to(memory.size() + step).is_ok() {}
            }
            memory
        }

        /// Everything that must not leak.
        fn counts(&self) -> (usize, usize, usize) {
            let metrics = self.platform.allocator().metrics();
            // What memories share stays, for the next of that size.
            let frames = metrics.available_frames + metrics.shared_frames;
            (metrics.memories, frames, kernel::heap::used())
        }

        /// Asserts that `call` fails for want of frames, and leaves nothing.
        #[track_caller]
        fn refused<T>(&self, call: impl Fn() -> wasmtime::Result<T>) {
            let before = self.counts();
            let Err(error) = call() else { panic!("it needs no frame") };
            drop(error);
            let why = self.platform.take_last_error();
            let Some(PlatformError::Allocator(Error::OutOfFrames { needed, available })) = why else {
                panic!("another error: {why:?}")
            };
            assert!(needed > available, "{needed} frames of {available}");
            assert_eq!(self.counts(), before);
        }
    }

    fn survived(strategy: Strategy) {
        let (engine, platform) = runtime::start_with(harness::boot(), strategy, |pools| pools).unwrap();
        let world = World { engine, platform };
        let module = world.module("memory").unwrap();
        // The first of everything leaves what all others share.
        drop(world.module("grow").unwrap());
        let mut store = world.store();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow").unwrap();
        let peek = instance.get_typed_func::<i32, i32>(&mut store, "peek").unwrap();
        let poke = instance.get_typed_func::<(i32, i32), ()>(&mut store, "poke").unwrap();
        peek.call(&mut store, 0x1_0000).unwrap_err();
        Instance::new(&mut world.store(), &module, &[]).unwrap();

        for _ in 0..3 {
            let before = world.counts();
            let all = world.take_all();
            // A new module, a new memory, a larger one.
            world.refused(|| world.module("grow"));
            world.refused(|| Instance::new(&mut world.store(), &module, &[]));
            assert_eq!(grow.call(&mut store, 1).unwrap(), -1);
            assert_eq!(grow.call(&mut store, 0).unwrap(), 1);
            // A first write to a page, and traps.
            poke.call(&mut store, (0x8000, 5)).unwrap();
            assert_eq!(peek.call(&mut store, 0x8000).unwrap(), 5);
            for beyond in [0x1_0000, -1] {
                let error = peek.call(&mut store, beyond).unwrap_err();
                assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds));
            }
            world.platform.allocator().deallocate_memory(all);
            assert_eq!(world.counts(), before);
            drop(world.module("grow").unwrap());
            let mut store = world.store();
            let other = Instance::new(&mut store, &module, &[]).unwrap();
            let sum = other.get_typed_func::<(), i64>(&mut store, "sum").unwrap();
            assert_eq!(sum.call(&mut store, ()).unwrap(), 0, "the pages that all others had");
        }
        assert_eq!(grow.call(&mut store, 1).unwrap(), 1);
        assert_eq!(peek.call(&mut store, 0x1_0000).unwrap(), 0);
    }
}
