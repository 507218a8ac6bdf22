//! Who limits instances: a limiter, the configuration, the pools.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../../../tests/common/mod.rs"]
mod common;

mod worlds;

use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::{AtomicUsize, Ordering};

use allotment::{
    Backing, Commit, Error as Unavailable, PoolKind,
    instance::{InstanceError, LimiterError, ResourceLimiter},
};
use common::pooled;
use engine::{Error, Store, Trap, Value};
use worlds::{World, alone, call_i32, pools, strategies, with_engines};

harness::tests! {
    fn a_limiter_refuses_growth_and_creation() {
        on_every_machine!(limiter);
    }

    fn a_limiter_can_end_the_program() {
        on_every_machine!(ending);
    }

    fn the_next_instance_finds_zeros() {
        on_every_machine!(reuse);
    }

    fn pools_run_out_and_recover() {
        on_every_machine!(exhaustion);
    }

    fn a_page_too_many_is_a_trap() {
        on_every_machine!(commitment);
    }

    fn what_no_slot_holds_is_refused_by_name() {
        on_every_machine!(too_large);
    }
}

/// Allows memories of two pages and tables of twelve elements; counts what was
/// allowed in vain.
struct Two(Arc<AtomicUsize>);

impl ResourceLimiter for Two {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(desired <= 0x2_0000)
    }

    fn memory_grow_failed(&mut self, _: &InstanceError) -> Result<(), LimiterError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(desired <= 12)
    }
}

fn limiter<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let failed = Arc::new(AtomicUsize::new(0));
        let mut store = Store::new(engine);
        store.set_limiter(Box::new(Two(Arc::clone(&failed))));
        let memory = engine.compile(guest!("memory")).unwrap();
        let id = store.instantiate("memory", &memory).unwrap();
        assert_eq!(call_i32(&mut store, id, "grow", &[2]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "grow", &[1]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "grow", &[1]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "size", &[]), Ok(2));
        assert_eq!(failed.load(Ordering::Relaxed), 0, "nothing was allowed that failed");
        let tables = engine.compile(guest!("tables")).unwrap();
        let id = store.instantiate("tables", &tables).unwrap();
        assert_eq!(call_i32(&mut store, id, "grow", &[3]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "grow", &[2]), Ok(10));

        // What the limiter allows and the type does not: it is told.
        let mut store = Store::new(engine);
        store.set_limiter(Box::new(Two(Arc::clone(&failed))));
        let memories = engine.compile(guest!("memories")).unwrap();
        let id = store.instantiate("memories", &memories).unwrap();
        let grown = store.call(id, "grow_wide", &[Value::I64(1)]);
        assert_eq!(grown, Ok([Value::I64(1)].into()));

        // A memory that is refused from the start.
        let mut store = Store::new(engine);
        store.set_limiter(Box::new(Nothing));
        let made = store.instantiate("memory", &memory);
        assert_eq!(made, Err(Error::Instance(InstanceError::MemoryDenied { minimum: 1 })));
        let made = store.instantiate("tables", &tables);
        assert_eq!(made, Err(Error::Instance(InstanceError::TableDenied { minimum: 10 })));
    });
}

/// Allows nothing.
struct Nothing;

impl ResourceLimiter for Nothing {
    fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(false)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(false)
    }
}

/// Ends whoever grows.
struct Ending;

impl ResourceLimiter for Ending {
    fn memory_growing(&mut self, old: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        if old == 0 { Ok(true) } else { Err(LimiterError("no more")) }
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool, LimiterError> {
        Ok(true)
    }
}

fn ending<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let mut store = Store::new(engine);
        store.set_limiter(Box::new(Ending));
        let memory = engine.compile(guest!("memory")).unwrap();
        let id = store.instantiate("memory", &memory).unwrap();
        let ended = Trap::Refused(InstanceError::Limiter(LimiterError("no more")));
        assert_eq!(call_i32(&mut store, id, "grow", &[1]), Err(ended));
        assert_eq!(call_i32(&mut store, id, "grow", &[0]), Ok(1));
    });
}

fn reuse<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let memory = engine.compile(guest!("memory")).unwrap();
        let tables = engine.compile(guest!("tables")).unwrap();
        let control = engine.compile(guest!("control")).unwrap();
        // More often than there are slots.
        for _ in 0..9 {
            let mut store = Store::new(engine);
            let id = store.instantiate("memory", &memory).unwrap();
            assert_eq!(call_i32(&mut store, id, "i32.load", &[4096]), Ok(0));
            assert_eq!(call_i32(&mut store, id, "i32.load8_u", &[16]), Ok(0x80));
            assert_eq!(call_i32(&mut store, id, "grow", &[3]), Ok(1));
            assert_eq!(call_i32(&mut store, id, "i32.load", &[0x3_fffc]), Ok(0));
            for at in [16, 4096, 0x3_fffc] {
                assert_eq!(call_i32(&mut store, id, "i32.store", &[at, -1]), Ok(0));
            }
            assert_eq!(call_i32(&mut store, id, "drop", &[]), Ok(0));

            let id = store.instantiate("tables", &tables).unwrap();
            assert_eq!(call_i32(&mut store, id, "is_null", &[0]), Ok(1));
            assert_eq!(call_i32(&mut store, id, "call", &[1]), Ok(1));
            assert_eq!(call_i32(&mut store, id, "grow", &[10]), Ok(10));
            assert_eq!(call_i32(&mut store, id, "fill", &[0, 20]), Ok(0));

            let id = store.instantiate("control", &control).unwrap();
            assert_eq!(call_i32(&mut store, id, "count", &[]), Ok(1));
        }
        engine.purge(&memory);
        let (mut store, id) = alone(engine, guest!("memory"));
        assert_eq!(call_i32(&mut store, id, "i32.load", &[4096]), Ok(0));
    });
}

fn exhaustion<A: World>() {
    with_engines::<A>(&strategies()[..1], |engine| {
        let control = engine.compile(guest!("control")).unwrap();
        for _ in 0..3 {
            let mut store = Store::new(engine);
            for number in 0..4 {
                store.instantiate(["a", "b", "c", "d"][number], &control).unwrap();
            }
            let full = Unavailable::PoolConcurrencyLimit { kind: PoolKind::CoreInstances, limit: 4 };
            assert_eq!(store.instantiate("e", &control), Err(Error::Instance(full.into())));
        }
    });
}

fn commitment<A: World>() {
    let config = pooled(pools().backing(Backing::Elastic(Commit::PerInstance(2)))).region_space(1 << 30);
    with_engines::<A>(&[config], |engine| {
        let (mut store, id) = alone(engine, guest!("memory"));
        // One page has a data segment; one more may be written.
        assert_eq!(call_i32(&mut store, id, "i32.store", &[0, 1]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "i32.store", &[4096, 1]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "i32.store", &[8192, 1]), Err(Trap::MemoryUncommitted));
        assert!(matches!(call_i32(&mut store, id, "fill", &[8192, 1, 1]), Err(Trap::Refused(_))));
        assert_eq!(call_i32(&mut store, id, "i32.load", &[4096]), Ok(1));
    });
}

fn too_large<A: World>() {
    let config = pooled(pools().max_core_instance_size(1024).max_tables_per_module(1)).region_space(1 << 30);
    with_engines::<A>(&[config], |engine| {
        let mut store = Store::new(engine);
        let refused = |made| match made {
            Err(Error::DoesNotFit(why)) => why,
            other => panic!("{other:?}"),
        };
        let numeric = engine.compile(guest!("numeric")).unwrap();
        let why = refused(store.instantiate("numeric", &numeric));
        assert!(why.contains("function references"), "{why}");
        let tables = engine.compile(guest!("tables")).unwrap();
        let why = refused(store.instantiate("tables", &tables));
        assert!(why.contains('3'), "{why}");
        let start = engine.compile(guest!("start")).unwrap();
        store.instantiate("start", &start).unwrap();
    });
}
