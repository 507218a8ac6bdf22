//! Wasm that tries every load and store around every boundary, between neighbours whose every byte is
//! watched: it traps or stays inside. Bare metal only.
//!
//! ```text
//!   neighbour      hostile: 0x5a in every byte            neighbour
//!   |11111|..guard..|ZZZZZ| was the last one's ..| guard |22222|
//!                         ^ size    ^ 8 and 16 pages     ^ 4 GiB, and past the guard
//! ```

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
#[path = "hostile/attempts.rs"]
mod attempts;
#[cfg(target_os = "none")]
#[path = "hostile/tenant.rs"]
mod tenant;

#[cfg(target_os = "none")]
mod bare {
    use allotment::wasmtime::Platform;
    use protocol::options::Strategy;
    use wasmtime::{Engine, Module};

    use crate::{
        attempts::{Attacks, HOSTILE},
        tenant::Tenant,
    };

    harness::tests! {
        fn nothing_gets_out_of_a_slot() {
            contained(Strategy::Pooling, "hostile");
        }

        fn nothing_gets_out_of_a_range_on_demand() {
            contained(Strategy::OnDemand, "hostile");
        }

        fn addresses_of_64_bits_do_not_get_out_of_a_slot() {
            contained(Strategy::Pooling, "hostile64");
        }

        fn addresses_of_64_bits_do_not_get_out_of_a_range_on_demand() {
            contained(Strategy::OnDemand, "hostile64");
        }

        fn hostile_instances_on_all_cpus_leave_each_other_alone() {
            on_all_cpus();
        }
    }

    /// A hostile instance and a neighbour on either side: all slots that there are.
    const SLOTS: usize = 3;

    struct World {
        engine: Engine,
        platform: &'static Platform,
    }

    impl World {
        fn new(strategy: Strategy, slots: usize) -> Self {
            let started = runtime::start_with(harness::boot(), strategy, |pools| pools.total_memories(slots));
            let (engine, platform) = started.unwrap();
            Self { engine, platform }
        }

        fn module(&self, name: &str) -> Module {
            // SAFETY: the runner compiled it for this kernel.
            unsafe { Module::deserialize(&self.engine, harness::guest(name)) }.unwrap()
        }

        fn memories(&self) -> usize {
            self.platform.allocator().metrics().memories
        }
    }

    fn contained(strategy: Strategy, name: &str) {
        let world = World::new(strategy, SLOTS);
        let (hostile, quiet) = (world.module(name), world.module("memory"));
        let regions = world.platform.allocator().metrics().regions;

        // Cold: nobody had these slots.
        let mut tenant = Tenant::new(&hostile, HOSTILE);
        let mut neighbours = [0x11, 0x22].map(|mark| Tenant::new(&quiet, mark));
        let attacks = Attacks::of(&mut tenant);
        attacks.run(&mut tenant, &neighbours);
        tenant.grow(7);
        attacks.run(&mut tenant, &neighbours);

        // Warm, and smaller than the last one was: what that had must not be there, then be zeros.
        let place = tenant.place();
        drop(tenant);
        let mut tenant = Tenant::new(&hostile, HOSTILE);
        if matches!(strategy, Strategy::Pooling) {
            assert_eq!(tenant.place(), place, "not the only free slot");
        }
        attacks.run(&mut tenant, &neighbours);
        tenant.grow(1);
        attacks.run(&mut tenant, &neighbours);

        // One neighbour less, and another one in its place.
        let [left, right] = neighbours;
        drop(left);
        let alone = [right];
        attacks.run(&mut tenant, &alone);
        let [right] = alone;
        neighbours = [Tenant::new(&quiet, 0x44), right];
        neighbours[0].grow(15);
        attacks.run(&mut tenant, &neighbours);
        drop((tenant, neighbours));

        // Where another module was, with others below and above.
        let mut all = [0x11, 0x22, 0x44].map(|mark| Tenant::new(&quiet, mark));
        all.sort_by_key(Tenant::place);
        let [left, mut middle, right] = all;
        let place = middle.place();
        middle.grow(15);
        drop(middle);
        let mut tenant = Tenant::new(&hostile, HOSTILE);
        if matches!(strategy, Strategy::Pooling) {
            assert_eq!(tenant.place(), place, "not between the others");
        }
        let neighbours = [left, right];
        attacks.run(&mut tenant, &neighbours);

        drop((tenant, neighbours));
        let left = (world.memories(), world.platform.allocator().metrics().regions);
        assert_eq!(left, (0, regions), "memories and ranges outlive their instances");
    }

    fn on_all_cpus() {
        let cpus = kernel::cpus::count();
        let world = World::new(Strategy::Pooling, 2 * cpus);
        let (hostile, quiet) = (world.module("hostile"), world.module("memory"));
        // Each tries a part: where CPUs of an emulator take turns on fewer of the host's, locks between them
        // take long.
        let parts = if harness::full() { 8 } else { 64 };
        kernel::cpus::together(cpus, &|cpu| {
            // Each CPU's have all others' around them, which grow and go meanwhile.
            for pages in [7, 2] {
                let mut tenant = Tenant::new(&hostile, HOSTILE);
                let neighbours = [Tenant::new(&quiet, 0x11)];
                let attacks = Attacks::of(&mut tenant).part(cpu, parts);
                attacks.run(&mut tenant, &neighbours);
                tenant.grow(pages);
                attacks.run(&mut tenant, &neighbours);
            }
        });
        assert_eq!(world.memories(), 0, "memories outlive their instances");
    }
}
