//! Where slots stand: every combination of a grid keeps what the rest relies
//! on.

#![cfg_attr(target_os = "none", no_std, no_main)]

use allotment::{ConfigError, arch::TABLE_SPAN, pooling::SlabConstraints};

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

harness::tests! {
    fn every_combination_of_a_grid_keeps_the_invariants() {
        let sizes = [0, 1, 4095, 4096, 65536, 2 * MIB - 1, 2 * MIB, 100 * MIB + 7, 4 * GIB];
        for memory_reservation in sizes {
            for max_memory_size in sizes.into_iter().filter(|&size| size <= memory_reservation) {
                for memory_guard_size in [0, 1, 4096, 32 * MIB, 2 * GIB] {
                    for guard_before_linear_memory in [false, true] {
                        for total_memories in [0, 1, 2, 1000] {
                            assert_invariants(SlabConstraints {
                                memory_reservation,
                                max_memory_size,
                                memory_guard_size,
                                guard_before_linear_memory,
                                total_memories,
                            });
                        }
                    }
                }
            }
        }
    }

    fn contradictions_and_overflows_name_the_knob() {
        let good = SlabConstraints {
            memory_reservation: 4 * GIB,
            max_memory_size: 4 * GIB,
            memory_guard_size: 32 * MIB,
            guard_before_linear_memory: true,
            total_memories: 10,
        };
        let larger = SlabConstraints { max_memory_size: 4 * GIB + 1, ..good };
        assert!(matches!(larger.layout(), Err(ConfigError::MemoryLargerThanReservation { .. })));
        let many = SlabConstraints { total_memories: usize::MAX, ..good };
        assert_eq!(many.layout(), Err(ConfigError::PoolTooLarge { knob: "total_memories", count: usize::MAX, each: 4 * GIB + 32 * MIB }));
        let guard = SlabConstraints { memory_guard_size: usize::MAX, ..good };
        assert_eq!(
            guard.layout(),
            Err(ConfigError::TooLarge { knob: "memory_guard_size", value: usize::MAX })
        );
    }
}

/// What must hold for any layout that is handed out.
fn assert_invariants(constraints: SlabConstraints) {
    let layout = constraints.layout().unwrap();
    assert_eq!(layout.total, layout.guard_before + layout.total_memories * layout.stride);
    assert_eq!(layout.stride % TABLE_SPAN, 0);
    assert!(layout.stride >= constraints.memory_reservation + constraints.memory_guard_size);
    assert!(layout.max_memory_size >= constraints.max_memory_size);
    assert!(layout.tables_per_slot * TABLE_SPAN >= layout.max_memory_size);
    assert!(layout.tables_per_slot * TABLE_SPAN <= layout.stride);
    if constraints.guard_before_linear_memory {
        assert!(layout.guard_before >= constraints.memory_guard_size);
    }
    for index in [0, layout.total_memories / 2, layout.total_memories.saturating_sub(1)] {
        if index < layout.total_memories {
            assert_eq!(layout.base(index) % TABLE_SPAN, 0);
            assert_eq!(layout.locate(layout.base(index)), Some((index, 0)));
            let last = layout.base(index) + layout.stride - 1;
            assert_eq!(layout.locate(last), Some((index, layout.stride - 1)));
        }
    }
    assert_eq!(layout.locate(layout.total), None);
    if layout.guard_before > 0 {
        assert_eq!(layout.locate(layout.guard_before - 1), None);
    }
}
