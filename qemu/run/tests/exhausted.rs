//! The real Wasmtime without frames, address space, commitment or heap: every
//! call fails as an error that says why, nothing stays behind, and traps are
//! traps. Bare metal only.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bare {
    use alloc::vec::Vec;

    use allotment::{
        Backing, Commit, Error, Memory, PoolingAllocationConfig,
        wasmtime::{Platform, PlatformError},
    };
    use protocol::options::Strategy;
    use wasmtime::{Engine, Instance, Module, Store, Trap, error::OutOfMemory};

    harness::tests! {
        fn a_full_arena_is_survived_by_pools() {
            survived(Strategy::Pooling);
        }

        fn a_full_arena_is_survived_on_demand() {
            survived(Strategy::OnDemand);
        }

        fn an_instance_beyond_the_address_space_is_refused() {
            address_space();
        }

        fn a_page_beyond_the_commitment_traps() {
            commitment();
        }

        fn a_growth_beyond_a_fixed_slot_gives_minus_one() {
            fixed();
        }

        fn a_table_beyond_the_heap_is_refused() {
            heap();
        }
    }

    const PAGE: usize = 4096;
    const MIB: usize = 1 << 20;

    struct World {
        engine: Engine,
        platform: &'static Platform,
    }

    impl World {
        fn new(
            strategy: Strategy,
            pools: impl Fn(PoolingAllocationConfig) -> PoolingAllocationConfig,
        ) -> Self {
            let (engine, platform) = runtime::start_with(harness::boot(), strategy, pools).unwrap();
            Self { engine, platform }
        }

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
        fn counts(&self) -> [usize; 5] {
            let metrics = self.platform.allocator().metrics();
            // What memories share stays, for the next of that size.
            let frames = metrics.available_frames + metrics.shared_frames;
            let space = metrics.largest_free_region;
            [metrics.memories, metrics.regions, space, frames, kernel::heap::used()]
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
        let world = World::new(strategy, |pools| pools);
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

    fn address_space() {
        let world = World::new(Strategy::OnDemand, |pools| pools);
        let module = world.module("memory").unwrap();
        Instance::new(&mut world.store(), &module, &[]).unwrap();
        let mut counts = Vec::with_capacity(2);
        let before = world.counts();
        for _ in 0..2 {
            let mut live = Vec::with_capacity(100);
            let refused = loop {
                let mut store = world.store();
                match Instance::new(&mut store, &module, &[]) {
                    Ok(_) => live.push(store),
                    Err(error) => break error,
                }
            };
            drop(refused);
            let why = world.platform.take_last_error();
            assert!(
                matches!(why, Some(PlatformError::Allocator(Error::OutOfAddressSpace { requested })) if requested > 4 << 30),
                "another error: {why:?}"
            );
            counts.push(live.len());
            // One goes, and there is room for one.
            drop(live.pop());
            let mut store = world.store();
            Instance::new(&mut store, &module, &[]).unwrap();
            Instance::new(&mut world.store(), &module, &[]).unwrap_err();
            drop((live, store));
            assert_eq!(world.counts(), before);
        }
        assert!(counts[0] > 10 && counts[0] == counts[1], "{counts:?} instances fit");
    }

    /// Pages of 4 KiB that an instance may write.
    const BOUND: usize = 20;

    fn commitment() {
        let world = World::new(Strategy::Pooling, |pools| {
            pools.backing(Backing::Elastic(Commit::PerInstance(BOUND)))
        });
        let module = world.module("hoard").unwrap();
        // What is touched, and whether it trapped.
        let touch = |store: &mut Store<()>, instance: &Instance, pages: usize| {
            let touch = instance.get_typed_func::<(i32, i32), ()>(&mut *store, "touch").unwrap();
            touch.call(store, (0, i32::try_from(pages).unwrap()))
        };
        let instantiate = |store: &mut Store<()>| {
            let instance = Instance::new(&mut *store, &module, &[]).unwrap();
            let memory = instance.get_memory(&mut *store, "memory").unwrap();
            // More than may be written: growth itself costs nothing.
            memory.grow(&mut *store, 9).unwrap();
            instance
        };
        let mut quiet = world.store();
        let neighbour = instantiate(&mut quiet);
        let mut before = None;
        for _ in 0..3 {
            let mut store = world.store();
            let instance = instantiate(&mut store);
            touch(&mut store, &instance, BOUND / 2).unwrap();
            let error = touch(&mut store, &instance, 2 * BOUND).unwrap_err();
            assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds), "{error:?}");
            // What it has it keeps, and goes on with.
            touch(&mut store, &instance, BOUND / 2).unwrap();
            // The neighbour has a bound of its own.
            touch(&mut quiet, &neighbour, BOUND / 2).unwrap();
            drop((store, error));
            let now = world.counts();
            assert_eq!(before.get_or_insert(now), &now);
        }
    }

    fn fixed() {
        let world = World::new(Strategy::Pooling, |pools| {
            pools.total_memories(2).max_memory_size(MIB).backing(Backing::Fixed)
        });
        let module = world.module("hoard").unwrap();
        Instance::new(&mut world.store(), &module, &[]).unwrap();
        let before = world.counts();
        for _ in 0..3 {
            let mut stores = [world.store(), world.store()];
            for store in &mut stores {
                let instance = Instance::new(&mut *store, &module, &[]).unwrap();
                let memory = instance.get_memory(&mut *store, "memory").unwrap();
                memory.grow(&mut *store, 16).unwrap_err();
                // To the slot's last byte, whatever others have.
                assert_eq!(memory.grow(&mut *store, 15).unwrap(), 1);
                memory.data_mut(&mut *store).fill(7);
                memory.grow(&mut *store, 1).unwrap_err();
            }
            drop(stores);
            assert_eq!(world.counts(), before);
        }
    }

    fn heap() {
        let world = World::new(Strategy::Pooling, |pools| pools);
        let (hoard, huge) = (world.module("hoard").unwrap(), world.module("huge_table").unwrap());
        let mut before = None;
        for _ in 0..3 {
            let error = Instance::new(&mut world.store(), &huge, &[]).unwrap_err();
            assert!(error.is::<OutOfMemory>(), "{error:?}");
            drop(error);
            let mut store = world.store();
            let instance = Instance::new(&mut store, &hoard, &[]).unwrap();
            let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow_table").unwrap();
            let size = instance.get_typed_func::<(), i32>(&mut store, "table_size").unwrap();
            let error = grow.call(&mut store, 1_000_000_000).unwrap_err();
            assert!(error.is::<OutOfMemory>(), "{error:?}");
            drop(error);
            assert_eq!(grow.call(&mut store, -1).unwrap(), -1);
            assert_eq!(grow.call(&mut store, 9_999).unwrap(), 1);
            assert_eq!(size.call(&mut store, ()).unwrap(), 10_000);
            drop(store);
            let now = world.counts();
            assert_eq!(before.get_or_insert(now), &now);
        }
    }
}
