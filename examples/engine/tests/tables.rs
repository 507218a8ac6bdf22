//! Tables, and calls through them.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../../../tests/common/mod.rs"]
mod common;

mod worlds;

use allotment::Config;
use engine::{Error, Store, Trap, Value};
use worlds::{World, alone, call, call_i32, strategies, with_engines};

harness::tests! {
    fn calls_through_a_table_are_checked() {
        on_every_machine!(calls);
    }

    fn elements_come_and_go() {
        on_every_machine!(elements);
    }

    fn tables_grow_up_to_their_maximum() {
        on_every_machine!(growth);
    }

    fn references_of_the_host_pass_through() {
        on_every_machine!(things);
    }

    fn functions_of_another_store_are_refused() {
        on_every_machine!(strangers);
    }
}

/// Both strategies, with tables that are filled in when asked for, and at once.
fn kinds() -> [Config; 4] {
    let [pooling, on_demand] = strategies();
    [pooling, on_demand, pooling.table_lazy_init(false), on_demand.table_lazy_init(false)]
}

fn calls<A: World>() {
    with_engines::<A>(&kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("tables"));
        assert_eq!(call_i32(&mut store, id, "call", &[1]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "call", &[2]), Ok(2));
        assert_eq!(call_i32(&mut store, id, "call_twice", &[5, 21]), Ok(42));
        for null in [0, 3, 9] {
            assert_eq!(call_i32(&mut store, id, "call", &[null]), Err(Trap::UninitializedElement));
        }
        for beyond in [10, 20, -1] {
            assert_eq!(call_i32(&mut store, id, "call", &[beyond]), Err(Trap::UndefinedElement));
        }
        assert_eq!(call_i32(&mut store, id, "call", &[5]), Err(Trap::TypeMismatch));
        assert_eq!(call_i32(&mut store, id, "call_twice", &[1, 1]), Err(Trap::TypeMismatch));
    });
}

fn elements<A: World>() {
    with_engines::<A>(&kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("tables"));
        let out = Err(Trap::TableOutOfBounds);
        assert_eq!(call_i32(&mut store, id, "is_null", &[0]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "is_null", &[1]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "is_null", &[10]), out);
        assert_eq!(call_i32(&mut store, id, "set_three", &[0]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "call", &[0]), Ok(3));
        // An initial element that was set to null stays null.
        assert_eq!(call_i32(&mut store, id, "set_null", &[1]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "call", &[1]), Err(Trap::UninitializedElement));
        assert_eq!(call_i32(&mut store, id, "set_three", &[10]), out);
        assert_eq!(call_i32(&mut store, id, "set_chosen", &[4]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "call", &[4]), Ok(2));
        assert_eq!(call_i32(&mut store, id, "choose", &[0]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "set_chosen", &[4]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "call", &[4]), Ok(3));

        // Through the host, and back.
        let two = call(&mut store, id, "get", &[Value::I32(2)]).unwrap().unwrap();
        assert!(matches!(two, Value::FuncRef(Some(_))));
        assert_eq!(call(&mut store, id, "set", &[Value::I32(9), two]), Ok(None));
        assert_eq!(call_i32(&mut store, id, "call", &[9]), Ok(2));
        assert_eq!(call(&mut store, id, "set", &[Value::I32(9), Value::FuncRef(None)]), Ok(None));
        assert_eq!(call(&mut store, id, "get", &[Value::I32(9)]), Ok(Some(Value::FuncRef(None))));

        // Segments: three, two, one.
        assert_eq!(call_i32(&mut store, id, "init", &[6, 0, 3]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "call", &[6]), Ok(3));
        assert_eq!(call_i32(&mut store, id, "call", &[8]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "init", &[8, 0, 3]), out);
        assert_eq!(call_i32(&mut store, id, "call", &[8]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "init", &[0, 1, 3]), out);
        assert_eq!(call_i32(&mut store, id, "init_listed", &[7, 0, 2]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "call", &[7]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "is_null", &[8]), Ok(1));
        // A declared segment is as if it were dropped.
        assert_eq!(call_i32(&mut store, id, "init_declared", &[1]), out);
        assert_eq!(call_i32(&mut store, id, "init_declared", &[0]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "drop", &[]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "init", &[0, 0, 1]), out);
        assert_eq!(call_i32(&mut store, id, "init", &[0, 0, 0]), Ok(0));

        // Copies, onto itself and to another table.
        assert_eq!(call_i32(&mut store, id, "fill", &[0, 2]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "copy", &[1, 0, 3]), Ok(0));
        let now = [0, 1, 2, 3].map(|at| call_i32(&mut store, id, "call", &[at]));
        assert_eq!(now, [Ok(1), Ok(1), Ok(1), Ok(2)]);
        assert_eq!(call_i32(&mut store, id, "copy", &[8, 0, 3]), out);
        assert_eq!(call_i32(&mut store, id, "copy_other", &[0, 2, 4]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "call_other", &[1]), Ok(2));
        assert_eq!(call_i32(&mut store, id, "copy_other", &[1, 0, 4]), out);
        assert_eq!(call_i32(&mut store, id, "fill", &[9, 2]), out);
        assert_eq!(call_i32(&mut store, id, "is_null", &[9]), Ok(1));
    });
}

fn growth<A: World>() {
    with_engines::<A>(&kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("tables"));
        assert_eq!(call_i32(&mut store, id, "size", &[]), Ok(10));
        assert_eq!(call_i32(&mut store, id, "grow", &[11]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "grow", &[10]), Ok(10));
        assert_eq!(call_i32(&mut store, id, "call", &[19]), Ok(3));
        assert_eq!(call_i32(&mut store, id, "call", &[20]), Err(Trap::UndefinedElement));
        assert_eq!(call_i32(&mut store, id, "grow", &[1]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "grow", &[0]), Ok(20));
    });
}

fn things<A: World>() {
    with_engines::<A>(&kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("tables"));
        let thing = Value::ExternRef(0xffff_fffe);
        let get = |store: &mut Store<'_, '_, A>, at| call(store, id, "get_thing", &[Value::I32(at)]);
        assert_eq!(get(&mut store, 0), Ok(Some(Value::ExternRef(0))));
        assert_eq!(call(&mut store, id, "set_thing", &[Value::I32(3), thing]), Ok(None));
        assert_eq!(get(&mut store, 3), Ok(Some(thing)));
        assert_eq!(get(&mut store, 2), Ok(Some(Value::ExternRef(0))));
        let grown = call(&mut store, id, "grow_things", &[thing, Value::I32(2)]);
        assert_eq!(grown, Ok(Some(Value::I32(4))));
        assert_eq!([get(&mut store, 4), get(&mut store, 5)], [Ok(Some(thing)); 2]);
        assert_eq!(get(&mut store, 6), Err(Trap::TableOutOfBounds));
        let filled = [Value::I32(0), Value::ExternRef(5), Value::I32(3)];
        assert_eq!(call(&mut store, id, "fill_things", &filled), Ok(None));
        assert_eq!(
            [get(&mut store, 2), get(&mut store, 3)],
            [Ok(Some(Value::ExternRef(5))), Ok(Some(thing))]
        );
    });
}

fn strangers<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let (mut store, id) = alone(engine, guest!("tables"));
        let (mut other, _) = alone(engine, guest!("control"));
        let two = call(&mut store, id, "get", &[Value::I32(2)]).unwrap().unwrap();
        let code = engine.compile(guest!("tables")).unwrap();
        let there = other.instantiate("tables", &code).unwrap();
        assert_eq!(other.call(there, "set", &[Value::I32(0), two]), Err(Error::WrongValues));
        assert_eq!(store.call(id, "set", &[Value::I32(0), two]), Ok([].into()));
    });
}
