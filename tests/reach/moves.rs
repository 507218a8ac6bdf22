//! When a memory moves.

use allotment::Config;

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE},
    module::{Engine, bytes, memory, module},
};

/// With room for so many pages more after each move, pointers stay valid for that
/// long.
pub(crate) fn once<A: TestArch>() {
    const ROOM: usize = 5;
    let config = Config::new().memory_reservation(0).memory_guard_size(WASM_PAGE);
    let m = Machine::<A>::new(&config.memory_reservation_for_growth(ROOM * WASM_PAGE), 8 * MIB);
    let engine = Engine::new(&m);
    let mut instance = engine.instantiate(&module().memory(10, None).data(0, 0, b"kept").build()).unwrap();
    let mut base = engine.address(&instance, memory(0), 0);
    let (mut pages, mut since) = (10, 0);
    for _ in 0..20 {
        assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(pages)));
        pages += 1;
        let now = engine.address(&instance, memory(0), 0);
        if now == base {
            since += 1;
        } else {
            assert_eq!(since, ROOM, "it moved at {pages} pages");
            // The move made room for the page that was asked for, and for the next.
            (base, since) = (now, 0);
        }
        let end = pages * WASM_PAGE as u64;
        engine.store(&instance, end - 1, 1).unwrap();
        engine.store(&instance, end, 1).unwrap_err();
        assert_eq!(bytes(&instance, memory(0), 0, 4), b"kept");
    }
    engine.end(instance);
}
