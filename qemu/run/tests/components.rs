//! Components: several core instances in one store, whose memories are slots of the pool, and whose values
//! the host copies in and out. Bare metal only.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bare {
    use alloc::{string::String, vec::Vec};

    use allotment::wasmtime::{Platform, configure};
    use protocol::options::Strategy;
    use wasmtime::{
        Config, Engine, Result, Store, StoreContextMut, Trap,
        component::{Component, ComponentNamedList, Instance, Lift, Linker, Lower, TypedFunc},
    };

    harness::tests! {
        fn components_run_and_trap_and_leave_nothing() {
            come_and_go(Strategy::Pooling);
        }

        fn so_do_they_on_demand() {
            come_and_go(Strategy::OnDemand);
        }

        fn a_component_that_finds_no_slot_is_an_error_and_leaves_nothing() {
            too_few_slots();
        }
    }

    const WASM_PAGE: u32 = 65536;

    struct World {
        platform: &'static Platform,
        linker: Linker<Vec<String>>,
        component: Component,
    }

    impl World {
        fn new(strategy: Strategy, memories: usize) -> Self {
            let pools = |pools: allotment::PoolingAllocationConfig| pools.total_memories(memories);
            let platform = runtime::start_with(harness::boot(), strategy, pools).unwrap().1;
            let mut config = Config::new();
            configure(&mut config);
            config.wasm_component_model(true);
            let engine = Engine::new(&config).unwrap();
            let mut linker = Linker::new(&engine);
            let note = |mut store: StoreContextMut<'_, Vec<String>>, (text,): (String,)| {
                store.data_mut().push(text);
                Ok(())
            };
            linker.root().func_wrap("note", note).unwrap();
            // SAFETY: the runner compiled it for this kernel.
            let component = unsafe { Component::deserialize(&engine, harness::guest("component")) }.unwrap();
            Self { platform, linker, component }
        }

        fn instantiate(&self) -> Result<Live> {
            let mut store = Store::new(self.component.engine(), Vec::new());
            let instance = self.linker.instantiate(&mut store, &self.component)?;
            Ok(Live { store, instance })
        }

        fn memories(&self) -> usize {
            self.platform.allocator().metrics().memories
        }
    }

    struct Live {
        store: Store<Vec<String>>,
        instance: Instance,
    }

    impl Live {
        fn call<P, R>(&mut self, name: &str, values: P) -> Result<R>
        where
            P: ComponentNamedList + Lower,
            R: ComponentNamedList + Lift + 'static,
        {
            let function: TypedFunc<P, R> = self.instance.get_typed_func(&mut self.store, name)?;
            function.call(&mut self.store, values)
        }
    }

    fn come_and_go(strategy: Strategy) {
        let world = World::new(strategy, 6);
        let mut counts = None;
        for round in 0..20 {
            let mut live: Vec<Live> = (0..3).map(|_| world.instantiate().unwrap()).collect();
            // On demand they are ranges among others.
            let slots = if strategy == Strategy::Pooling { 6 } else { 0 };
            assert_eq!(world.memories(), slots, "each has two memories");
            for (number, live) in live.iter_mut().enumerate() {
                let text = ["", "a", "ab and more"][number];
                let sum: u32 = text.bytes().map(u32::from).sum();
                assert_eq!(live.call::<_, (u32,)>("sum", (text,)).unwrap(), (sum,));
                assert_eq!(live.store.data()[..], [text]);
                // The image, as no earlier instance left it.
                assert_eq!(live.call::<_, (u32,)>("peek", (WASM_PAGE - 1,)).unwrap(), (u32::from(b'f'),));
                assert_eq!(live.call::<_, (u32,)>("peek", (5u32,)).unwrap(), (0,));
                live.call::<_, ()>("poke", (WASM_PAGE - 1,)).unwrap();
                live.call::<_, ()>("poke", (5u32,)).unwrap();
                assert_eq!(live.call::<_, (i32,)>("grow", (2u32,)).unwrap(), (1,));
                assert_eq!(live.call::<_, (i32,)>("grow", (2u32,)).unwrap(), (-1,));
                if number == 0 {
                    let (image,): (String,) = live.call("image", ()).unwrap();
                    assert_eq!(image, "from the image");
                }
                // After a trap no component is entered again.
                let trap = live.call::<_, ()>("poke", (WASM_PAGE,)).unwrap_err();
                assert_eq!(trap.downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds), "{trap:?}");
                live.call::<_, (u32,)>("peek", (5u32,)).unwrap_err();
            }
            drop(live);
            assert_eq!(world.memories(), 0);
            // The first rounds leave what is shared.
            let now = (world.platform.allocator().metrics().regions, kernel::heap::used());
            if round > 0 {
                assert_eq!(counts.get_or_insert(now), &now);
            }
        }
    }

    fn too_few_slots() {
        let world = World::new(Strategy::Pooling, 3);
        let first = world.instantiate().unwrap();
        let before = world.memories();
        for _ in 0..3 {
            let Err(error) = world.instantiate() else { panic!("there is one slot for two memories") };
            assert!(alloc::format!("{error:#}").contains("os error"), "{error:#}");
            assert_eq!(world.memories(), before);
        }
        drop(first);
        world.instantiate().unwrap().call::<_, (u32,)>("peek", (5u32,)).unwrap();
    }
}
