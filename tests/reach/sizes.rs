//! Sizes that there are not, or hardly.

use allotment::{
    Config, Error,
    instance::{InstanceError, MemoryType},
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE},
    in_both_ways,
    module::{Ears, Engine, Heard, TestStore, bytes, memory, module},
};

/// A memory with addresses of 64 bits.
fn wide_type(minimum: u64, maximum: Option<u64>) -> MemoryType {
    MemoryType { memory64: true, ..MemoryType::new(minimum, maximum) }
}

/// A limiter is asked about the largest number there is, and may end it all.
pub(crate) fn limited<A: TestArch>() {
    in_both_ways(
        |config| config,
        |engine: &Engine<'_, A>| {
            for minimum in [1 << 47, 1 << 48, u64::MAX] {
                let code = module().memory_type(wide_type(minimum, None)).build();
                let most = usize::try_from(minimum).unwrap().saturating_mul(WASM_PAGE);
                let asked = Heard::Memory { current: 0, desired: most, maximum: None };
                let mut store = TestStore::default();
                let error = engine.instantiate_in(&mut store, &code).map(|_| ()).unwrap_err();
                assert_eq!(store.ears.take(), [asked], "{minimum:#x} pages");
                let unrepresentable = InstanceError::MemoryUnrepresentable { minimum };
                assert!(error == unrepresentable || matches!(error, InstanceError::Resource(_)), "{error}");
                let mut store =
                    TestStore { ears: Ears { memory: MIB, ..Ears::default() }, ..TestStore::default() };
                let error = engine.instantiate_in(&mut store, &code).map(|_| ()).unwrap_err();
                assert_eq!(error, InstanceError::MemoryDenied { minimum });
                assert_eq!(store.ears.take(), [asked]);
            }

            let code = module().memory_type(wide_type(1, None)).build();
            let mut instance = engine.instantiate(&code).unwrap();
            for delta in [(1 << 48) - 1, 1 << 48, u64::MAX] {
                let mut ears = Ears { memory: MIB, ..Ears::default() };
                assert_eq!(instance.memory_grow(memory(0), delta, Some(&mut ears)), Ok(None));
                let added = usize::try_from(delta).unwrap().checked_mul(WASM_PAGE);
                let desired = added.and_then(|bytes| bytes.checked_add(WASM_PAGE)).unwrap_or(usize::MAX);
                let asked = Heard::Memory { current: WASM_PAGE, desired, maximum: None };
                assert_eq!(ears.take(), [asked], "refused by {delta:#x}, and so not told of a failure");
            }
            assert_eq!(instance.memory_size(memory(0)), Ok(1));
            engine.end(instance);
        },
    );
}

pub(crate) fn wide<A: TestArch>() {
    in_both_ways(
        |config| config,
        |engine: &Engine<'_, A>| {
            // A maximum is a promise not to ask for more.
            for maximum in [1 << 47, 1 << 48, u64::MAX] {
                let code = module().memory_type(wide_type(1, Some(maximum))).build();
                let mut instance = engine.instantiate(&code).unwrap();
                assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(1)));
                assert_eq!(instance.memory_grow(memory(0), maximum - 2, None), Ok(None));
                assert_eq!(instance.memory_grow(memory(0), u64::MAX, None), Ok(None));
                assert_eq!(instance.memory_size(memory(0)), Ok(2));
                assert_eq!(instance.memories().values().next().unwrap().maximum(), Some(maximum));
                engine.end(instance);
            }
            for minimum in [1 << 32, 1 << 47, 1 << 48, u64::MAX] {
                let code = module().memory_type(wide_type(minimum, Some(u64::MAX))).build();
                engine.instantiate(&code).unwrap_err();
            }
            // 4 GiB are as many as 32 bits can name.
            for minimum in [65537, 1 << 47, u64::MAX] {
                let error =
                    engine.instantiate(&module().memory(minimum, None).build()).map(|_| ()).unwrap_err();
                assert!(matches!(
                    error,
                    InstanceError::Resource(_) | InstanceError::MemoryUnrepresentable { .. }
                ));
            }
            let [memories, _, _, _, _, _, _, live] = engine.counts();
            assert_eq!([memories, live], [0; 2]);
        },
    );
}

/// A memory that may not move has what was reserved, and no more.
pub(crate) fn forced_maximum<A: TestArch>() {
    let config = Config::new().memory_reservation(5 * WASM_PAGE).memory_may_move(false);
    let m = Machine::<A>::new(&config, 4 * MIB);
    let engine = Engine::new(&m);
    for maximum in [None, Some(5), Some(100)] {
        let mut instance = engine.instantiate(&module().memory(1, maximum).build()).unwrap();
        let base = engine.address(&instance, memory(0), 0);
        for pages in 1..5 {
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(pages)));
            assert_eq!(engine.address(&instance, memory(0), 0), base);
        }
        let mut ears = Ears::default();
        assert_eq!(instance.memory_grow(memory(0), 1, Some(&mut ears)), Ok(None));
        let told = ears.take().pop();
        let (requested, limit) = (6 * WASM_PAGE, 5 * WASM_PAGE);
        let error = match maximum {
            Some(5) => Error::BeyondMaximum { requested, maximum: limit },
            _ => Error::BeyondCapacity { requested, capacity: limit },
        };
        assert_eq!(told, Some(Heard::MemoryFailed(error.into())));
        assert_eq!(instance.memory_size(memory(0)), Ok(5));
        engine.store(&instance, 5 * WASM_PAGE as u64 - 1, 1).unwrap();
        engine.store(&instance, 5 * WASM_PAGE as u64, 1).unwrap_err();
        engine.end(instance);
    }
    // One that begins beyond it has what it begins with.
    let mut instance = engine.instantiate(&module().memory(7, None).build()).unwrap();
    engine.store(&instance, 7 * WASM_PAGE as u64 - 1, 1).unwrap();
    assert_eq!(instance.memory_size(memory(0)), Ok(7));
    instance.memory_grow(memory(0), 1 << 15, None).unwrap();
    engine.end(instance);
}

pub(crate) fn odd<A: TestArch>() {
    let change = |config: Config| {
        let config = config.memory_reservation(MIB + 1).memory_guard_size(WASM_PAGE - 1);
        config.memory_reservation_for_growth(100_000)
    };
    in_both_ways(change, |engine: &Engine<'_, A>| {
        let mut instance =
            engine.instantiate(&module().memory(2, None).data(0, 131_070, b"ok").build()).unwrap();
        for pages in 2..16 {
            let size = pages * WASM_PAGE as u64;
            engine.store(&instance, size - 1, 9).unwrap();
            engine.store(&instance, size, 9).unwrap_err();
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(pages)));
            assert_eq!(bytes(&instance, memory(0), size - 2, 3)[1..], [9, 0]);
        }
        assert_eq!(bytes(&instance, memory(0), 131_070, 1), b"o");
        engine.end(instance);
    });
}

/// No reservation, no guard, no room for growth: memories are made and grow all
/// the same.
pub(crate) fn zero<A: TestArch>() {
    let config = Config::new().memory_reservation(0).memory_guard_size(0).memory_reservation_for_growth(0);
    for before in [false, true] {
        let m = Machine::<A>::new(&config.guard_before_linear_memory(before), 4 * MIB);
        let engine = Engine::new(&m);
        for minimum in [0, 1, 3] {
            let code = module().memory(minimum, Some(5)).build();
            let mut instance = engine.instantiate(&code).unwrap();
            assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(true));
            for pages in minimum..5 {
                let size = pages * WASM_PAGE as u64;
                assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(Some(pages)));
                assert_eq!(bytes(&instance, memory(0), size, WASM_PAGE), [0; WASM_PAGE]);
                instance.memory_fill(memory(0), size, 3, WASM_PAGE as u64).unwrap();
                instance.memory_fill(memory(0), size, 3, WASM_PAGE as u64 + 1).unwrap_err();
            }
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(None));
            engine.end(instance);
        }
    }
}
