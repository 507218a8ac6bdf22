//! Accesses as compiled code makes them: by guards where it may rely on them, by
//! comparison where it must.

use allotment::{
    Config, FaultAccess, FaultRegion, Verdict,
    arch::VirtAddr,
    instance::{Instance, MemoryType},
};

use crate::{
    common::{MIB, Machine, TestArch, WASM_PAGE, pool, pooled},
    in_both_ways,
    module::{Engine, memory, module},
};

const GIB: usize = 1 << 30;

pub(crate) fn every_access<A: TestArch>() {
    let mut nth = 0;
    for reservation in [0, WASM_PAGE, 4 * GIB] {
        for guard in [0, WASM_PAGE, 32 * MIB] {
            for before in [false, true] {
                nth += 1;
                // A kernel has room for so many machines only.
                if cfg!(target_os = "none") && nth % 3 != 0 {
                    continue;
                }
                let change = |config: Config| {
                    let least = if config.pooling().is_some() { MIB } else { 0 };
                    let config = config.memory_reservation(reservation.max(least));
                    config.memory_guard_size(guard).guard_before_linear_memory(before)
                };
                in_both_ways(change, |engine: &Engine<'_, A>| accesses(engine, guard as u64));
            }
        }
    }
}

/// Loads of every width around each edge, of memories of either address size, before
/// and after growth.
fn accesses<A: TestArch>(engine: &Engine<'_, A>, guard: u64) {
    for memory64 in [false, true] {
        let code = module().memory_type(MemoryType { memory64, ..MemoryType::new(1, Some(3)) }).build();
        let mut instance = engine.instantiate(&code).unwrap();
        assert!(!memory64 || instance.memory_needs_bounds_checks(memory(0)).unwrap());
        for grown in 0..3 {
            let size = (grown + 1) * WASM_PAGE as u64;
            for width in [1, 2, 4, 8, 16] {
                for index in [0, 1, size - width, size - 1, size, 0x7fff_ffff, 0xffff_ffff] {
                    for offset in [0, 1, 0xffff, size, guard.saturating_sub(width), guard, 0xffff_ffff] {
                        let traps = traps(engine, &mut instance, guard, (index, offset, width));
                        let inside = index + offset + width <= size;
                        assert_eq!(!traps, inside, "{width} bytes at {index:#x} + {offset:#x} of {size:#x}");
                    }
                }
            }
            let before = (grown < 2).then_some(grown + 1);
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(before));
        }
        engine.end(instance);
    }
}

/// Whether a load traps. Code adds a constant offset to a 32-bit index without any
/// check where the memory says so and the access ends within the guard.
fn traps<A: TestArch>(
    engine: &Engine<'_, A>,
    instance: &mut Instance<'_, A>,
    guard: u64,
    (index, offset, width): (u64, u64, u64),
) -> bool {
    let checked = instance.memory_needs_bounds_checks(memory(0)).unwrap();
    let definition = instance.memory_definition(memory(0)).unwrap();
    let start = index + offset;
    if checked || offset + width > guard {
        if start + width > definition.current_length {
            return true;
        }
        let ends = [start, start + width - 1].map(|at| engine.m.load_at(VirtAddr(definition.base.0 + at)));
        assert!(ends.iter().all(Result::is_ok), "code compares, and {start:#x} faults all the same");
        return false;
    }
    (start..start + width).any(|at| {
        let address = VirtAddr(definition.base.0 + at);
        let faults = engine.m.load_at(address).is_err();
        if faults {
            let verdict = engine.m.allocator.fault(address, FaultAccess::Read);
            assert!(matches!(verdict, Verdict::Trap(_)), "{at:#x}: {verdict:?}");
        }
        faults
    })
}

pub(crate) fn around<A: TestArch>() {
    in_both_ways(
        |config| config,
        |engine: &Engine<'_, A>| {
            let code = module().memory(1, Some(4)).build();
            for _ in 0..3 {
                let mut instance = engine.instantiate(&code).unwrap();
                for pages in 1..=4 {
                    let size = pages * WASM_PAGE as u64;
                    for inside in [0, size - 1] {
                        engine.store(&instance, inside, 1).unwrap();
                        assert_eq!(engine.load(&instance, inside), Ok(1));
                    }
                    let before = [1, 4096, 1 << 20].map(|back: u64| back.wrapping_neg());
                    for outside in before.into_iter().chain([size, size + 4096, 1 << 32, (4 << 30) + 0xffff])
                    {
                        engine.load(&instance, outside).unwrap_err();
                        engine.store(&instance, outside, 1).unwrap_err();
                    }
                    instance.memory_grow(memory(0), 1, None).unwrap();
                }
                engine.end(instance);
            }
        },
    );
}

/// Nothing is left between a memory's end and its reservation's.
pub(crate) fn no_room_to_spare<A: TestArch>() {
    for guard in [0, WASM_PAGE] {
        let pool = pool(2, WASM_PAGE).total_tables(1).total_core_instances(2);
        for config in [pooled(pool), Config::new()] {
            let config = config.memory_reservation(WASM_PAGE).memory_guard_size(guard);
            let m = Machine::<A>::new(&config.guard_before_linear_memory(guard > 0), 4 * MIB);
            let engine = Engine::new(&m);
            let code = module().memory(1, Some(1)).build();
            let mut instance = engine.instantiate(&code).unwrap();
            let end = WASM_PAGE as u64;
            engine.store(&instance, end - 1, 7).unwrap();
            instance.memory_fill(memory(0), 0, 7, end).unwrap();
            assert_eq!(engine.load(&instance, end - 1), Ok(7));
            instance.memory_fill(memory(0), end - 1, 7, 2).unwrap_err();
            assert_eq!(instance.memory_needs_bounds_checks(memory(0)), Ok(true));
            if guard > 0 {
                engine.load(&instance, end).unwrap_err();
                engine.load(&instance, end + guard as u64 - 1).unwrap_err();
            }
            assert_eq!(instance.memory_grow(memory(0), 1, None), Ok(None));
            assert_eq!(instance.memory_size(memory(0)), Ok(1));
            engine.end(instance);
        }
    }
}

pub(crate) fn named<A: TestArch>() {
    in_both_ways(
        |config| config,
        |engine: &Engine<'_, A>| {
            let builder = module().memory(1, None);
            let id = builder.id;
            let instance = engine.instantiate(&builder.build()).unwrap();
            for (offset, region) in [
                (WASM_PAGE as i64, FaultRegion::Memory(Some(0))),
                (4 << 30, FaultRegion::GuardAfter(Some(0))),
                (-1, FaultRegion::GuardBefore(Some(0))),
            ] {
                let address = VirtAddr(engine.address(&instance, memory(0), 0).0.wrapping_add_signed(offset));
                engine.m.load_at(address).unwrap_err();
                let verdict = engine.m.allocator.fault(address, FaultAccess::Read);
                let Verdict::Trap(report) = verdict else { panic!("{offset:#x}: {verdict:?}") };
                assert_eq!((report.address, report.region), (address, region));
                assert_eq!((report.module, report.offset), (id, Some(offset)));
            }
            engine.end(instance);
        },
    );
}
