//! A thousand instances live in one engine, and one after the other goes for a new one of another
//! module, which traps: nothing is ever left behind. Bare metal only.
//!
//! ```text
//!   places   memory  image  contained  grow  memory ..     as many as there are slots
//!   round 1  image   contained  grow  memory  image ..     each goes, the next comes, marks its memory, traps, grows
//!   round 2  contained ..                                  the same mix after each round: the same counts
//! ```

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bare {
    use alloc::{
        string::{String, ToString},
        vec::Vec,
    };

    use allotment::{Metrics, PoolingAllocationConfig, wasmtime::Platform};
    use protocol::options::Strategy;
    use spin::Mutex;
    use wasmtime::{Engine, Instance, Memory, Module, Store, Trap};

    harness::tests! {
        fn a_thousand_instances_come_and_go_without_a_trace() {
            // An emulator stops all CPUs for each invalidation: a thousand on four would take minutes.
            come_and_go(Strategy::Pooling, if kernel::cpus::count() == 1 { 1000 } else { 64 });
        }

        fn so_they_do_on_demand() {
            come_and_go(Strategy::OnDemand, 24);
        }
    }

    /// Instances are of these, in turn.
    const NAMES: [&str; 4] = ["memory", "image", "contained", "grow"];

    /// Every other instance grows by a page, of each module.
    const MIX: usize = 2 * NAMES.len();

    /// Bytes that a slot may have: instances have 5 wasm pages at most.
    const SLOT: usize = 2 << 20;

    /// Where no module has data.
    const PLACE_OF_MARK: usize = 0x4000;

    struct World {
        engine: Engine,
        platform: &'static Platform,
        modules: [Module; NAMES.len()],
        /// Exports of `contained` that trap.
        misdeeds: Vec<String>,
    }

    impl World {
        fn new(strategy: Strategy, live: usize) -> Self {
            let pools = |pools: PoolingAllocationConfig| pools.total_memories(live).max_memory_size(SLOT);
            let (engine, platform) = runtime::start_with(harness::boot(), strategy, pools).unwrap();
            let modules = NAMES.map(|name| {
                // SAFETY: the runner compiled it for this kernel.
                unsafe { Module::deserialize(&engine, harness::guest(name)) }.unwrap()
            });
            let traps = |name: &str| {
                name.contains('/') && !name.starts_with("ok/") && !name.starts_with("stack-overflow/")
            };
            let names = modules.iter().flat_map(Module::exports).map(|export| export.name().to_string());
            let misdeeds = names.filter(|name| traps(name)).collect();
            Self { engine, platform, modules, misdeeds }
        }

        /// Everything that must not leak or grow.
        fn counts(&self) -> (Metrics, usize, usize) {
            let mut metrics = self.platform.allocator().metrics();
            // What free slots keep for their next tenants can be had by anybody.
            metrics.idle_frames = 0;
            // With several CPUs the peak is a matter of who traps at the same time.
            let peak = if kernel::cpus::count() == 1 { kernel::heap::peak() } else { 0 };
            (metrics, kernel::heap::used(), peak)
        }
    }

    /// An instance that has trapped, and its mark.
    struct Live {
        store: Store<()>,
        memory: Memory,
        mark: usize,
    }

    impl Live {
        /// Instantiates and marks the `nth` of all, of a module by `kind`, and has it trap.
        fn new(world: &World, kind: usize, grows: bool, nth: usize) -> Self {
            let mut store = Store::new(&world.engine, ());
            let instance = Instance::new(&mut store, &world.modules[kind], &[]).unwrap();
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            let mut live = Self { store, memory, mark: nth + 1 };
            assert_eq!(live.found(), 0, "the previous tenant's bytes are visible");
            live.memory.write(&mut live.store, PLACE_OF_MARK, &live.mark.to_le_bytes()).unwrap();
            let trap = if NAMES[kind] == "contained" {
                let misdeed = &world.misdeeds[nth % world.misdeeds.len()];
                instance
                    .get_typed_func::<(), i64>(&mut live.store, misdeed)
                    .unwrap()
                    .call(&mut live.store, ())
            } else {
                let peek = instance.get_typed_func::<i32, i32>(&mut live.store, "peek").unwrap();
                let read = peek.call(&mut live.store, 0x4000).unwrap();
                assert_eq!(usize::try_from(read), Ok(live.mark & 0xff));
                peek.call(&mut live.store, -1).map(i64::from)
            };
            assert!(trap.expect_err(NAMES[kind]).is::<Trap>());
            // Last: in a larger memory some misdeeds are none.
            if grows {
                let end = live.memory.data_size(&live.store);
                live.memory.grow(&mut live.store, 1).unwrap();
                let new = &mut live.memory.data_mut(&mut live.store)[end..];
                assert!(new.iter().all(|&byte| byte == 0), "a new page is not of zeros");
                new[0] = 1;
            }
            live
        }

        fn found(&self) -> usize {
            let mut bytes = [0; size_of::<usize>()];
            self.memory.read(&self.store, PLACE_OF_MARK, &mut bytes).unwrap();
            usize::from_le_bytes(bytes)
        }

        /// Ends it, after all that the others did.
        fn end(self) {
            assert_eq!(self.found(), self.mark, "somebody else wrote here");
        }
    }

    fn come_and_go(strategy: Strategy, live: usize) {
        let world = World::new(strategy, live);
        let cycles: usize = if harness::full() { 100_000 } else { 1_000 };
        let cycles = if kernel::cpus::count() == 1 { cycles } else { cycles / 20 };
        // The first of each module leaves what all others share.
        (0..MIX).for_each(|nth| drop(Live::new(&world, nth % NAMES.len(), true, nth)));
        let empty = world.counts();

        // Each CPU has places of its own, all the same mix.
        let cpus = kernel::cpus::count().min(live / MIX);
        let share = live / cpus / MIX * MIX;
        let places: Vec<_> = (0..cpus).map(|_| Mutex::new(Vec::with_capacity(share))).collect();
        let make = |place: usize, round: usize| {
            let (kind, grows) = ((place + round) % NAMES.len(), (place / NAMES.len()).is_multiple_of(2));
            Live::new(&world, kind, grows, round * share + place)
        };
        kernel::cpus::together(cpus, &|cpu| {
            places[cpu].lock().extend((0..share).map(|place| make(place, 0)));
        });
        let full = world.counts();
        let held = |(Metrics { memories, regions, .. }, ..): &(Metrics, usize, usize)| memories + regions;
        assert_eq!(held(&full) - held(&empty), cpus * share, "as many memories, by slot or range");

        for round in 1..=cycles.div_ceil(cpus * share) {
            kernel::cpus::together(cpus, &|cpu| {
                let mut places = places[cpu].lock();
                for place in 0..share {
                    // The oldest goes first, and its slot is the only free one.
                    Live::end(places.remove(0));
                    places.push(make(place, round));
                }
            });
            assert_eq!(world.counts(), full, "round {round} left something behind");
        }
        places.into_iter().for_each(|places| places.into_inner().into_iter().for_each(Live::end));
        let (metrics, used, _) = world.counts();
        assert_eq!((metrics, used), (empty.0, empty.1), "all are gone, and left something behind");
    }
}
