//! Instances that use one another, and the host.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../../../tests/common/mod.rs"]
mod common;

mod worlds;

use alloc::{sync::Arc, vec::Vec};

use engine::{Engine, Error, InstanceId, Store, Trap, ValType, Value};
use spin::Mutex;
use worlds::{World, alone, call, call_i32, strategies, with_engines};

harness::tests! {
    fn imports_are_the_exporters_own() {
        on_every_machine!(shared);
    }

    fn the_host_is_called_and_reads_memories() {
        on_every_machine!(host);
    }

    fn a_segment_that_does_not_fit_ends_instantiation() {
        on_every_machine!(bad_segments);
    }

    fn the_start_function_sees_the_segments() {
        on_every_machine!(start);
    }

    fn imports_that_do_not_fit_are_refused() {
        on_every_machine!(misfits);
    }
}

type Noted = Arc<Mutex<Vec<u8>>>;

/// A provider, a consumer, and what the consumer notes.
fn pair<'e, 'a, A: World>(engine: &'e Engine<'a, A>) -> (Store<'e, 'a, A>, [InstanceId; 2], Noted) {
    let (mut store, noted) = (Store::new(engine), Noted::default());
    let provider = engine.compile(guest!("provider")).unwrap();
    let consumer = engine.compile(guest!("consumer")).unwrap();
    store.host_function("host", "add", &[ValType::I32, ValType::I64], &[ValType::I64], |_, arguments| {
        let &[Value::I32(first), Value::I64(second)] = arguments else { return Err(Trap::Host("types")) };
        if first < 0 {
            Err(Trap::Host("negative"))
        } else {
            Ok([Value::I64(i64::from(first) + second)].into())
        }
    });
    let notes = Arc::clone(&noted);
    store.host_function("host", "note", &[ValType::I32, ValType::I32], &[], move |mut caller, arguments| {
        let &[Value::I32(at), Value::I32(len)] = arguments else { return Err(Trap::Host("types")) };
        let mut bytes = alloc::vec![0; usize::try_from(len).unwrap()];
        caller.read(0, u64::from(at.cast_unsigned()), &mut bytes)?;
        notes.lock().extend(&bytes);
        caller.write(0, 0, b"noted")?;
        caller.write(0, 0x1_0000, b"x").expect_err("one past the end was writable");
        Ok(Vec::new())
    });
    let provider = store.instantiate("provider", &provider).unwrap();
    let consumer = store.instantiate("consumer", &consumer).unwrap();
    (store, [provider, consumer], noted)
}

fn shared<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let (mut store, [provider, consumer], _) = pair(engine);
        // Memory: what one writes the other reads, and growth is both's.
        assert_eq!(call_i32(&mut store, provider, "load", &[64]), Ok(i32::from(b'f')));
        assert_eq!(call_i32(&mut store, consumer, "store", &[500, 3]), Ok(0));
        assert_eq!(call_i32(&mut store, provider, "load", &[500]), Ok(3));
        assert_eq!(call_i32(&mut store, provider, "load", &[0x1_0000]), Err(Trap::MemoryOutOfBounds));
        assert_eq!(call_i32(&mut store, consumer, "grow", &[2]), Ok(1));
        assert_eq!(call_i32(&mut store, provider, "size", &[]), Ok(3));
        assert_eq!(call_i32(&mut store, consumer, "store", &[0x2_ffff, 4]), Ok(0));
        assert_eq!(call_i32(&mut store, consumer, "load", &[0x2_ffff]), Ok(4));
        assert_eq!(call_i32(&mut store, consumer, "load", &[0x3_0000]), Err(Trap::MemoryOutOfBounds));
        assert_eq!(call_i32(&mut store, consumer, "grow", &[1]), Ok(-1));
        // Globals.
        assert_eq!(call_i32(&mut store, consumer, "count", &[]), Ok(0));
        assert_eq!(call_i32(&mut store, provider, "counter_now", &[]), Ok(11));
        assert_eq!(store.global(provider, "counter"), Ok(Value::I32(11)));
        assert_eq!(call_i32(&mut store, consumer, "copied", &[]), Ok(65));
        // Tables: the provider calls the consumer's function.
        assert_eq!(call_i32(&mut store, provider, "call", &[2]), Ok(7));
        assert_eq!(call_i32(&mut store, provider, "call", &[1]), Err(Trap::UninitializedElement));
        assert_eq!(call_i32(&mut store, consumer, "grow_table", &[4]), Ok(4));
        assert_eq!(call_i32(&mut store, provider, "table_size", &[]), Ok(8));
        assert_eq!(call_i32(&mut store, consumer, "grow_table", &[1]), Ok(-1));
    });
}

fn host<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let (mut store, [provider, consumer], noted) = pair(engine);
        for name in ["add", "host_add"] {
            let added = call(&mut store, consumer, name, &[Value::I32(2), Value::I64(40)]);
            assert_eq!(added, Ok(Some(Value::I64(42))), "{name}");
            let refused = call(&mut store, consumer, name, &[Value::I32(-1), Value::I64(0)]);
            assert_eq!(refused, Err(Trap::Host("negative")), "{name}");
        }
        assert_eq!(call(&mut store, consumer, "note", &[]), Ok(None));
        assert_eq!(*noted.lock(), b"from the");
        assert_eq!(call_i32(&mut store, provider, "load", &[0]), Ok(i32::from(b'n')));
    });
}

fn bad_segments<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let (mut store, [provider, _], _) = pair(engine);
        let bad = engine.compile(guest!("bad_data")).unwrap();
        let made = store.instantiate("bad", &bad);
        assert_eq!(made, Err(Error::Trap(Trap::MemoryOutOfBounds, None)));
        // What came before stays, also the function of an instance that nobody can name.
        assert_eq!(call_i32(&mut store, provider, "load", &[200]), Ok(i32::from(b'k')));
        assert_eq!(call_i32(&mut store, provider, "load", &[0xffff]), Ok(0));
        assert_eq!(call_i32(&mut store, provider, "call", &[3]), Ok(9));
        assert_eq!(store.names().collect::<Vec<_>>(), ["consumer", "provider"]);

        let bad = engine.compile(guest!("bad_elements")).unwrap();
        let made = store.instantiate("bad", &bad);
        assert_eq!(made, Err(Error::Trap(Trap::TableOutOfBounds, None)));
        assert_eq!(call_i32(&mut store, provider, "load", &[300]), Ok(0));
    });
}

fn start<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let (mut store, id) = alone(engine, guest!("start"));
        assert_eq!(store.global(id, "seen"), Ok(Value::I32(5)));
        let bad = engine.compile(guest!("bad_start")).unwrap();
        assert_eq!(store.instantiate("bad", &bad), Err(Error::Trap(Trap::DivisionByZero, None)));
    });
}

fn misfits<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let consumer = engine.compile(guest!("consumer")).unwrap();
        let (module, name) = ("provider".into(), "memory".into());
        let mut store = Store::new(engine);
        assert_eq!(store.instantiate("consumer", &consumer), Err(Error::UnknownImport { module, name }));
        // A memory is there, and has no maximum, or is a function.
        let start = engine.compile(guest!("start")).unwrap();
        store.instantiate("provider", &start).unwrap();
        let (module, name) = ("provider".into(), "memory".into());
        let made = store.instantiate("consumer", &consumer);
        assert_eq!(made, Err(Error::IncompatibleImport { module, name }));
        store.host_function("provider", "memory", &[], &[], |_, _| Ok(Vec::new()));
        let (module, name) = ("provider".into(), "memory".into());
        let made = store.instantiate("consumer", &consumer);
        assert_eq!(made, Err(Error::IncompatibleImport { module, name }));
        // All is there but for a host function's type.
        let (mut store, ..) = pair(engine);
        store.host_function("host", "note", &[ValType::I32], &[], |_, _| Ok(Vec::new()));
        let (module, name) = ("host".into(), "note".into());
        let made = store.instantiate("again", &consumer);
        assert_eq!(made, Err(Error::IncompatibleImport { module, name }));
    });
}
