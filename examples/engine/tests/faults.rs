//! Accesses to memories: within, and beyond by a guard or by a check.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../../../tests/common/mod.rs"]
mod common;

mod worlds;

use allotment::{FaultRegion, instance::MemoryIndex};
use engine::{Error, Trap, Value};
use worlds::{World, all_kinds, alone, call, call_i32, strategies, with_engines};

harness::tests! {
    fn loads_and_stores_are_of_their_widths() {
        on_every_machine!(widths);
    }

    fn an_access_ends_within_its_memory_or_traps() {
        on_every_machine!(bounds);
    }

    fn a_guard_or_a_check_says_so() {
        on_every_machine!(who_says_so);
    }

    fn growth_ends_at_the_maximum() {
        on_every_machine!(growth);
    }

    fn bulk_instructions_check_before_they_write() {
        on_every_machine!(bulk);
    }

    fn two_memories_are_two() {
        on_every_machine!(two_memories);
    }
}

const PAGE: i32 = 65536;

fn widths<A: World>() {
    with_engines::<A>(&strategies(), |engine| {
        let (mut store, id) = alone(engine, guest!("memory"));
        // Bytes from 16 on: 80 ff 01 02 03 04 05 86.
        let narrow = [
            ("i32.load", 0x0201_ff80),
            ("i32.load8_s", -128),
            ("i32.load8_u", 128),
            ("i32.load16_s", -128),
            ("i32.load16_u", 0xff80),
        ];
        for (name, value) in narrow {
            assert_eq!(call_i32(&mut store, id, name, &[16]), Ok(value), "{name}");
        }
        let wide: [(&str, i32, u64); 9] = [
            ("i64.load", 16, 0x8605_0403_0201_ff80),
            ("i64.load8_s", 16, u64::MAX - 127),
            ("i64.load8_u", 16, 128),
            ("i64.load16_s", 16, u64::MAX - 127),
            ("i64.load16_u", 16, 0xff80),
            ("i64.load32_s", 16, 0x0201_ff80),
            ("i64.load32_s", 20, 0xffff_ffff_8605_0403),
            ("i64.load32_u", 20, 0x8605_0403),
            ("i64.load8_s", 23, u64::MAX - 0x79),
        ];
        for (name, at, value) in wide {
            let value = Value::I64(value.cast_signed());
            assert_eq!(call(&mut store, id, name, &[Value::I32(at)]), Ok(Some(value)), "{name} at {at}");
        }
        let floats = [
            ("f32.store", "f32.load", Value::F32(1.25)),
            ("f64.store", "f64.load", Value::F64(-0.1)),
            ("i64.store", "i64.load", Value::I64(i64::MIN + 1)),
        ];
        for (store_name, load_name, value) in floats {
            // Across two pages, too.
            for at in [96, 4090] {
                assert_eq!(call(&mut store, id, store_name, &[Value::I32(at), value]), Ok(None));
                assert_eq!(
                    call(&mut store, id, load_name, &[Value::I32(at)]),
                    Ok(Some(value)),
                    "{load_name}"
                );
            }
        }
        // Each store changes its bytes and no other.
        let ones = Value::I64(-1);
        for (name, value, after) in [
            ("i32.store8", Value::I32(0x0102_0304), 0xffff_ffff_ffff_ff04_u64),
            ("i32.store16", Value::I32(0x0102_0304), 0xffff_ffff_ffff_0304),
            ("i32.store", Value::I32(0x0102_0304), 0xffff_ffff_0102_0304),
            ("i64.store8", Value::I64(0x0102_0304_0506_0708), 0xffff_ffff_ffff_ff08),
            ("i64.store16", Value::I64(0x0102_0304_0506_0708), 0xffff_ffff_ffff_0708),
            ("i64.store32", Value::I64(0x0102_0304_0506_0708), 0xffff_ffff_0506_0708),
        ] {
            call(&mut store, id, "i64.store", &[Value::I32(32), ones]).unwrap();
            call(&mut store, id, name, &[Value::I32(32), value]).unwrap();
            let after = Value::I64(after.cast_signed());
            assert_eq!(call(&mut store, id, "i64.load", &[Value::I32(32)]), Ok(Some(after)), "{name}");
        }
    });
}

fn bounds<A: World>() {
    with_engines::<A>(&all_kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("memory"));
        for pages in 1..=4 {
            let end = pages * PAGE;
            for (name, bytes) in [("i32.load8_u", 1), ("i32.load16_u", 2), ("i32.load", 4)] {
                assert_eq!(call_i32(&mut store, id, name, &[end - bytes]), Ok(0), "{name}");
                for beyond in [end - bytes + 1, end, end + PAGE, -PAGE, -1] {
                    let loaded = call_i32(&mut store, id, name, &[beyond]);
                    assert_eq!(loaded, Err(Trap::MemoryOutOfBounds), "{name} at {beyond:#x} of {end:#x}");
                }
            }
            for (name, bytes) in [("i32.store8", 1), ("i32.store16", 2), ("i32.store", 4)] {
                assert_eq!(call_i32(&mut store, id, name, &[end - bytes, 0]), Ok(0), "{name}");
                for beyond in [end - bytes + 1, end, -1] {
                    let stored = call_i32(&mut store, id, name, &[beyond, -1]);
                    assert_eq!(stored, Err(Trap::MemoryOutOfBounds), "{name} at {beyond:#x} of {end:#x}");
                }
            }
            // With offsets, also such as no guard covers.
            assert_eq!(call_i32(&mut store, id, "load_near", &[end - PAGE]), Ok(0));
            let beyond = call_i32(&mut store, id, "load_near", &[end - PAGE + 1]);
            assert_eq!(beyond, Err(Trap::MemoryOutOfBounds));
            for at in [0, 15, 16, -1] {
                assert_eq!(call_i32(&mut store, id, "load_far", &[at]), Err(Trap::MemoryOutOfBounds));
            }
            let wide = call(&mut store, id, "i64.load", &[Value::I32(end - 8)]);
            assert_eq!(wide, Ok(Some(Value::I64(0))));
            let wide = call(&mut store, id, "i64.load", &[Value::I32(end - 7)]);
            assert_eq!(wide, Err(Trap::MemoryOutOfBounds));
            let grown = call_i32(&mut store, id, "grow", &[1]);
            assert_eq!(grown, Ok(if pages < 4 { pages } else { -1 }));
        }
    });
}

fn who_says_so<A: World>() {
    for (config, faults) in all_kinds().into_iter().zip([true, true, false, false, true, true]) {
        with_engines::<A>(&[config], |engine| {
            let (mut store, id) = alone(engine, guest!("memory"));
            let Err(Error::Trap(Trap::MemoryOutOfBounds, fault)) =
                store.call(id, "i32.load8_u", &[Value::I32(PAGE)])
            else {
                panic!("one past the end was readable")
            };
            assert_eq!(fault.is_some(), faults, "{config:?}");
            let Some(fault) = fault else { return };
            assert_eq!(fault.region, FaultRegion::Memory(Some(0)));
            assert_eq!(fault.offset, Some(PAGE.into()));
            let definition = store.handle(id).unwrap().memory_definition(MemoryIndex::from_u32(0)).unwrap();
            assert_eq!(fault.address.0, definition.base.0 + 0x1_0000);
            // The access before it goes through, and what is known of the fault is gone.
            assert_eq!(call_i32(&mut store, id, "i32.load8_u", &[PAGE - 1]), Ok(0));
            assert_eq!(
                store.call(id, "load_far", &[Value::I32(0)]),
                Err(Error::Trap(Trap::MemoryOutOfBounds, None))
            );
        });
    }
}

fn growth<A: World>() {
    with_engines::<A>(&all_kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("memory"));
        assert_eq!(call_i32(&mut store, id, "i32.store8", &[PAGE - 1, 7]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "size", &[]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "grow", &[0]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "grow", &[4]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "grow", &[-1]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "load_at_grow", &[4]), Err(Trap::MemoryOutOfBounds));
        assert_eq!(call_i32(&mut store, id, "load_at_grow", &[0]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "grow", &[2]), Ok(1));
        assert_eq!(call_i32(&mut store, id, "size", &[]), Ok(3));
        assert_eq!(call_i32(&mut store, id, "i32.load8_u", &[3 * PAGE - 1]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "i32.load8_u", &[PAGE - 1]), Ok(7));
        assert_eq!(call_i32(&mut store, id, "grow", &[2]), Ok(-1));
        assert_eq!(call_i32(&mut store, id, "grow", &[1]), Ok(3));
        assert_eq!(call_i32(&mut store, id, "grow", &[1]), Ok(-1));
    });
}

fn bulk<A: World>() {
    with_engines::<A>(&all_kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("memory"));
        let out = Err(Trap::MemoryOutOfBounds);
        assert_eq!(call_i32(&mut store, id, "fill", &[PAGE - 4, 0x1ab, 4]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "i32.load", &[PAGE - 4]), Ok(0xabab_abab_u32.cast_signed()));
        assert_eq!(call_i32(&mut store, id, "fill", &[PAGE - 4, 1, 5]), out);
        assert_eq!(call_i32(&mut store, id, "i32.load", &[PAGE - 4]), Ok(0xabab_abab_u32.cast_signed()));
        assert_eq!(call_i32(&mut store, id, "fill", &[PAGE, 1, 0]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "fill", &[PAGE + 1, 1, 0]), out);

        assert_eq!(call_i32(&mut store, id, "init", &[100, 1, 6]), Ok(0));
        let mut bytes = [0; 7];
        store.read_memory(id, "memory", 100, &mut bytes).unwrap();
        assert_eq!(&bytes, b"assive\0");
        assert_eq!(call_i32(&mut store, id, "init", &[100, 1, 7]), out);
        // Onto itself, either way.
        assert_eq!(call_i32(&mut store, id, "copy", &[101, 100, 5]), Ok(0));
        store.read_memory(id, "memory", 100, &mut bytes).unwrap();
        assert_eq!(&bytes, b"aassiv\0");
        assert_eq!(call_i32(&mut store, id, "copy", &[100, 102, 4]), Ok(0));
        store.read_memory(id, "memory", 100, &mut bytes).unwrap();
        assert_eq!(&bytes, b"ssiviv\0");
        assert_eq!(call_i32(&mut store, id, "copy", &[PAGE - 2, 100, 3]), out);
        assert_eq!(call_i32(&mut store, id, "drop", &[]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "init", &[100, 0, 1]), out);
        assert_eq!(call_i32(&mut store, id, "init", &[100, 0, 0]), Ok(0));
    });
}

fn two_memories<A: World>() {
    with_engines::<A>(&all_kinds(), |engine| {
        let (mut store, id) = alone(engine, guest!("memories"));
        let byte = |byte: u8| Ok(Some(Value::I32(byte.into())));
        assert_eq!(call(&mut store, id, "load_narrow", &[Value::I32(8)]), byte(b'n'));
        assert_eq!(call(&mut store, id, "load_wide", &[Value::I64(8)]), byte(b'w'));
        // 64-bit addresses: all are checked, also sums that overflow.
        for beyond in [0x1_0000, 0x1_0000_0008, i64::MAX, -1] {
            let loaded = call(&mut store, id, "load_wide", &[Value::I64(beyond)]);
            assert_eq!(loaded, Err(Trap::MemoryOutOfBounds), "at {beyond:#x}");
            let loaded = call(&mut store, id, "load_wide_far", &[Value::I64(beyond)]);
            assert_eq!(loaded, Err(Trap::MemoryOutOfBounds), "far at {beyond:#x}");
        }
        assert_eq!(call(&mut store, id, "grow_wide", &[Value::I64(1)]), Ok(Some(Value::I64(1))));
        assert_eq!(call(&mut store, id, "grow_wide", &[Value::I64(2)]), Ok(Some(Value::I64(-1))));
        assert_eq!(call(&mut store, id, "size_wide", &[]), Ok(Some(Value::I64(2))));
        assert_eq!(call(&mut store, id, "store_wide", &[Value::I64(0x1_ffff), Value::I32(9)]), Ok(None));
        assert_eq!(call(&mut store, id, "load_wide", &[Value::I64(0x1_ffff)]), byte(9));
        assert_eq!(call_i32(&mut store, id, "load_narrow", &[PAGE]), Err(Trap::MemoryOutOfBounds));
        let copied = [Value::I32(0), Value::I64(8), Value::I32(4)];
        assert_eq!(call(&mut store, id, "copy_to_narrow", &copied), Ok(None));
        assert_eq!(call(&mut store, id, "load_narrow", &[Value::I32(3)]), byte(b'e'));
        let filled = [Value::I64(0x1_fffe), Value::I32(3), Value::I64(3)];
        assert_eq!(call(&mut store, id, "fill_wide", &filled), Err(Trap::MemoryOutOfBounds));
    });
}
