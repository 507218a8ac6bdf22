//! What `wait` and `notify` look at before anybody sleeps.

use core::time::Duration;

use allotment::instance::{InstanceError, Trap, WaitResult};

use crate::{
    common::{TestArch, WASM_PAGE},
    machine,
    module::{Engine, memory, module},
    shared,
    waiter::{Asked, Waiter},
};

const NOW: Option<Duration> = Some(Duration::ZERO);

pub(crate) fn mismatch<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let code = module().memory_type(shared(1, 1)).data(0, 8, b"\x01\0\0\0\x02\0\0\0").build();
    let mut instance = engine.instantiate(&code).unwrap();
    let waiter = Waiter::default();
    for (offset, expected, result) in [
        (8, 1, WaitResult::TimedOut),
        (8, 2, WaitResult::Mismatch),
        (12, 2, WaitResult::TimedOut),
        (12, 1, WaitResult::Mismatch),
        (0, 0, WaitResult::TimedOut),
    ] {
        let found = instance.memory_atomic_wait32(&waiter, memory(0), offset, expected, NOW);
        assert_eq!(found, Ok(result), "{expected} at {offset}");
    }
    // A mismatch does not wait, however long it may.
    let found = instance.memory_atomic_wait32(&waiter, memory(0), 8, 7, None);
    assert_eq!(found, Ok(WaitResult::Mismatch));
    for (expected, result) in [(0x2_0000_0001, WaitResult::TimedOut), (1, WaitResult::Mismatch)] {
        let found = instance.memory_atomic_wait64(&waiter, memory(0), 8, expected, NOW);
        assert_eq!(found, Ok(result), "{expected:#x}");
    }
    assert_eq!(waiter.sleeping(), 0);
    assert_eq!([WaitResult::Ok, WaitResult::Mismatch, WaitResult::TimedOut].map(|it| it as u32), [0, 1, 2]);
    engine.end(instance);
}

pub(crate) fn traps<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let code = module().memory_type(shared(1, 2)).build();
    let mut instance = engine.instantiate(&code).unwrap();
    let waiter = Waiter::default();
    let end = WASM_PAGE as u64;
    let (odd, out) = (Trap::HeapMisaligned.into(), Trap::MemoryOutOfBounds.into());
    let errors: [(u64, [Option<InstanceError>; 3]); 8] = [
        (1, [Some(odd); 3]),
        (2, [Some(odd); 3]),
        (4, [None, Some(odd), None]),
        (end - 4, [None, Some(odd), None]),
        (end - 8, [None; 3]),
        (end, [Some(out); 3]),
        (1 << 32, [Some(out); 3]),
        (u64::MAX - 7, [Some(out); 3]),
    ];
    for (offset, expected) in errors {
        let found = [
            instance.memory_atomic_wait32(&waiter, memory(0), offset, 0, NOW).err(),
            instance.memory_atomic_wait64(&waiter, memory(0), offset, 0, NOW).err(),
            instance.memory_atomic_notify(&waiter, memory(0), offset, 1).err(),
        ];
        assert_eq!(found, expected, "at {offset:#x}");
    }
    // What grows has more places.
    assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(1)));
    let found = instance.memory_atomic_wait32(&waiter, memory(0), end, 0, NOW);
    assert_eq!(found, Ok(WaitResult::TimedOut));
    engine.end(instance);
}

pub(crate) fn timeouts<A: TestArch>() {
    let m = machine::<A>();
    let engine = Engine::new(&m);
    let code = module().memory_type(shared(1, 1)).build();
    let mut instance = engine.instantiate(&code).unwrap();
    let waiter = Waiter::default();
    let base = engine.address(&instance, memory(0), 0);
    // With another value than is there, so that none of them takes its time.
    let all =
        [NOW, Some(Duration::from_nanos(1)), Some(Duration::from_nanos(u64::MAX)), Some(Duration::MAX), None];
    for timeout in all {
        let found = instance.memory_atomic_wait32(&waiter, memory(0), 4, 1, timeout);
        assert_eq!(found, Ok(WaitResult::Mismatch));
        assert_eq!(waiter.asked(), [Asked::Wait(base.offset(4), timeout)]);
        let found = instance.memory_atomic_wait64(&waiter, memory(0), 8, 1, timeout);
        assert_eq!(found, Ok(WaitResult::Mismatch));
        assert_eq!(waiter.asked(), [Asked::Wait(base.offset(8), timeout)]);
    }
    assert_eq!(instance.memory_atomic_notify(&waiter, memory(0), 4, u32::MAX), Ok(0));
    assert_eq!(waiter.asked(), [Asked::Notify(base.offset(4), u32::MAX)]);
    // Nobody to be woken is nothing to ask.
    assert_eq!(instance.memory_atomic_notify(&waiter, memory(0), 4, 0), Ok(0));
    assert_eq!(waiter.asked(), []);
    engine.end(instance);
}
