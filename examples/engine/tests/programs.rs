//! Whole programs.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../../../tests/common/mod.rs"]
mod common;

mod worlds;

use alloc::vec::Vec;

use worlds::{World, all_kinds, alone, call_i32, with_engines};

harness::tests! {
    fn programs_give_what_they_should() {
        on_every_machine!(programs);
    }
}

fn programs<A: World>() {
    with_engines::<A>(&all_kinds()[..4], |engine| {
        let (mut store, id) = alone(engine, guest!("programs"));
        // The check value of CRC-32.
        assert_eq!(call_i32(&mut store, id, "crc32", &[0x8000, 9]), Ok(0xcbf4_3926_u32.cast_signed()));
        assert_eq!(call_i32(&mut store, id, "crc32", &[0x8000, 0]), Ok(0));
        assert_eq!(call_i32(&mut store, id, "primes", &[1000]), Ok(168));
        let least = call_i32(&mut store, id, "sort", &[100]).unwrap();
        let mut bytes = [0; 400];
        store.read_memory(id, "memory", 0x1_0000, &mut bytes).unwrap();
        let numbers: Vec<u32> =
            bytes.as_chunks().0.iter().map(|&number| u32::from_le_bytes(number)).collect();
        assert!(numbers.is_sorted());
        assert_eq!(numbers[0], least.cast_unsigned());
    });
}
