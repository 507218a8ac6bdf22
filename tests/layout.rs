//! Where slots stand: every combination of a grid, and whatever comes to a
//! generator's mind, keeps what the rest relies on.

#![cfg_attr(target_os = "none", no_std, no_main)]

use allotment::{
    ConfigError,
    arch::{PAGE_SIZE, TABLE_SPAN},
    pooling::{SlabConstraints, SlabLayout},
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const TIB: usize = 1 << 40;
const MOST: usize = usize::MAX;

/// Sizes at which something could change, and those beyond every machine.
const SIZES: [usize; 22] = [
    0,
    1,
    PAGE_SIZE - 1,
    PAGE_SIZE,
    PAGE_SIZE + 1,
    64 * KIB,
    2 * MIB - 4097,
    2 * MIB - 4096,
    2 * MIB - 1,
    2 * MIB,
    2 * MIB + 1,
    32 * MIB,
    100 * MIB + 7,
    GIB,
    4 * GIB,
    64 * TIB,
    1 << 55,
    1 << 57,
    1 << 63,
    MOST - 2 * MIB + 1,
    MOST - 4096,
    MOST,
];

/// Lengths of a half of the address space, with 4 and 5 levels of tables.
const WINDOWS: [usize; 2] = [1 << 47, 1 << 56];

harness::tests! {
    fn every_combination_of_a_grid_keeps_the_invariants() {
        let (mut placed, mut refused) = (0, 0);
        // An interpreter takes every third.
        let sizes = || SIZES.into_iter().step_by(if cfg!(miri) { 3 } else { 1 });
        for memory_reservation in sizes() {
            for max_memory_size in sizes() {
                for memory_guard_size in sizes() {
                    for guard_before_linear_memory in [false, true] {
                        for total_memories in [0, 1, 2, 3, 1000, 100_000, 1 << 32, MOST] {
                            let constraints = SlabConstraints {
                                memory_reservation,
                                max_memory_size,
                                memory_guard_size,
                                guard_before_linear_memory,
                                total_memories,
                                premapped_tables: 1,
                            };
                            *if assert_right(constraints) { &mut placed } else { &mut refused } += 1;
                        }
                    }
                }
            }
        }
        // Neither all refused nor all placed.
        assert!(placed > refused / 10 && refused > placed / 10, "{placed} placed, {refused} refused");
    }

    fn whatever_is_asked_for_keeps_the_invariants() {
        let rounds = if cfg!(any(miri, target_os = "none")) { 2_000 } else { 200_000 };
        let mut random = Random(4);
        let (mut placed, mut inside) = (0, 0);
        for _ in 0..rounds {
            let memory_reservation = random.size();
            let below = memory_reservation.saturating_add(random.next() & 1).max(1);
            let constraints = SlabConstraints {
                memory_reservation,
                max_memory_size: random.size() % below,
                memory_guard_size: random.size(),
                guard_before_linear_memory: random.next() & 1 == 0,
                total_memories: random.size() % 200_000,
                premapped_tables: random.size(),
            };
            if assert_right(constraints) {
                placed += 1;
                inside += usize::from(constraints.layout().unwrap().total <= WINDOWS[0]);
            }
        }
        assert!(placed > rounds / 10 && inside > rounds / 100, "{placed} placed, {inside} of them small");
    }

    fn a_guard_remains_whatever_the_sizes_round_to() {
        // Reservation and guard are 2 MiB together, and all of it is accessible.
        let odd = SlabConstraints {
            memory_reservation: 2 * MIB - 1,
            max_memory_size: 2 * MIB - 1,
            memory_guard_size: 1,
            guard_before_linear_memory: false,
            total_memories: 2,
            premapped_tables: 0,
        };
        let layout = odd.layout().unwrap();
        assert_eq!((layout.max_memory_size, layout.stride), (2 * MIB, 4 * MIB));
        assert_eq!(layout.guard_size, 2 * MIB);
        // Without a guard it is as dense as can be.
        let dense = SlabConstraints { memory_guard_size: 0, ..odd }.layout().unwrap();
        assert_eq!((dense.stride, dense.guard_size, dense.total), (2 * MIB, 0, 4 * MIB));
    }

    fn usual_layouts_are_as_computed_by_hand() {
        // Wasmtime's defaults, of which all are multiples of 2 MiB.
        let layout = USUAL.layout().unwrap();
        assert_eq!(layout.total, 0x3ef_d200_0000);
        assert_eq!((layout.stride, layout.guard_size), (4 * GIB + 32 * MIB, 32 * MIB));
        assert_eq!((layout.tables_per_slot, layout.premapped_tables), (2048, 7));
        assert_eq!(layout.base(999), 32 * MIB + 999 * layout.stride);
        // A slot that can have nothing has an address all the same, and no table.
        let nothing = SlabConstraints { memory_reservation: 0, max_memory_size: 0, memory_guard_size: 0, ..USUAL };
        let layout = nothing.layout().unwrap();
        assert_eq!((layout.stride, layout.total), (2 * MIB, 2000 * MIB));
        assert_eq!((layout.tables_per_slot, layout.premapped_tables), (0, 0));
    }

    fn contradictions_and_overflows_name_the_knob() {
        let larger = SlabConstraints { max_memory_size: 4 * GIB + 1, ..USUAL };
        assert_eq!(
            larger.layout(),
            Err(ConfigError::MemoryLargerThanReservation {
                max_memory_size: 4 * GIB + 1,
                memory_reservation: 4 * GIB
            })
        );
        let many = SlabConstraints { total_memories: MOST, ..USUAL };
        assert_eq!(
            many.layout(),
            Err(ConfigError::PoolTooLarge { knob: "total_memories", count: MOST, each: 4 * GIB + 32 * MIB })
        );
        // By a byte: what rounds up to the last page still fits by itself.
        for value in [MOST, MOST - 4094, MOST - 4095, MOST - 2 * MIB] {
            let guard = SlabConstraints { memory_guard_size: value, ..USUAL };
            assert_eq!(guard.layout(), Err(ConfigError::TooLarge { knob: "memory_guard_size", value }));
            let reservation = SlabConstraints { memory_reservation: value, ..USUAL };
            assert_eq!(reservation.layout(), Err(ConfigError::TooLarge { knob: "memory_reservation", value }));
        }
        let last = SlabConstraints {
            memory_reservation: MOST - 2 * MIB + 1,
            memory_guard_size: 0,
            total_memories: 1,
            ..USUAL
        };
        assert_eq!(last.layout().map(|layout| layout.total), Ok(MOST - 2 * MIB + 1));
    }
}

/// Wasmtime's defaults.
const USUAL: SlabConstraints = SlabConstraints {
    memory_reservation: 4 * GIB,
    max_memory_size: 4 * GIB,
    memory_guard_size: 32 * MIB,
    guard_before_linear_memory: true,
    total_memories: 1000,
    premapped_tables: 7,
};

/// What must hold of an answer, whether slots were placed or not; says which.
fn assert_right(constraints: SlabConstraints) -> bool {
    match constraints.layout() {
        Ok(layout) => assert_slab_layout_invariants(&constraints, &layout),
        Err(error) => assert_refused_rightly(&constraints, error),
    }
    constraints.layout().is_ok()
}

/// What must hold of any layout that is handed out, in numbers that cannot
/// overflow.
fn assert_slab_layout_invariants(asked: &SlabConstraints, layout: &SlabLayout) {
    let wide = |bytes: usize| bytes as u128;
    let (stride, reservation) = (wide(layout.stride), wide(layout.reservation));
    // The sum of its parts.
    assert_eq!(layout.total_memories, asked.total_memories, "{asked:?}");
    assert_eq!(
        wide(layout.total),
        wide(layout.guard_before) + wide(layout.total_memories) * stride,
        "{asked:?}"
    );
    // Whole tables, whole pages, and none to spare.
    assert!(layout.stride > 0 && layout.stride.is_multiple_of(TABLE_SPAN), "{asked:?}");
    assert!(layout.guard_before.is_multiple_of(TABLE_SPAN), "{asked:?}");
    for (rounded, size) in
        [(layout.reservation, asked.memory_reservation), (layout.max_memory_size, asked.max_memory_size)]
    {
        assert!(
            rounded.is_multiple_of(PAGE_SIZE) && rounded >= size && rounded - size < PAGE_SIZE,
            "{asked:?}"
        );
    }
    let faulting = reservation + wide(asked.memory_guard_size).next_multiple_of(wide(PAGE_SIZE));
    assert!(stride >= faulting && stride < faulting.max(1) + wide(TABLE_SPAN), "{asked:?}");
    // What can be accessible ends before the guard, and the guard is whole.
    assert!(layout.max_memory_size <= layout.reservation, "{asked:?}");
    assert!(layout.guard_size >= asked.memory_guard_size, "{asked:?}");
    assert_eq!(reservation + wide(layout.guard_size), stride, "{asked:?}");
    if asked.guard_before_linear_memory && asked.total_memories > 0 {
        assert!(layout.guard_before >= asked.memory_guard_size, "{asked:?}");
        assert!(wide(layout.guard_before) < wide(asked.memory_guard_size) + wide(TABLE_SPAN), "{asked:?}");
    } else {
        assert_eq!(layout.guard_before, 0, "{asked:?}");
    }
    // Tables reach as far as access can, and not into the neighbour's.
    assert_eq!(layout.tables_per_slot, layout.max_memory_size.div_ceil(TABLE_SPAN), "{asked:?}");
    assert!(wide(layout.tables_per_slot) * wide(TABLE_SPAN) <= stride, "{asked:?}");
    assert_eq!(layout.premapped_tables, asked.premapped_tables.min(layout.tables_per_slot), "{asked:?}");
    assert_every_offset_is_located(layout);
    for window in WINDOWS {
        assert_lies_in(layout, window);
    }
}

fn assert_every_offset_is_located(layout: &SlabLayout) {
    let last = layout.total_memories.saturating_sub(1);
    for index in [0, 1, layout.total_memories / 2, last] {
        if index >= layout.total_memories {
            continue;
        }
        let base = layout.base(index);
        assert!(base.is_multiple_of(TABLE_SPAN), "{layout:?}");
        // First byte, last accessible one, the guard's first and last.
        let of_the_slot =
            [0, layout.max_memory_size.saturating_sub(1), layout.reservation, layout.stride - 1];
        for within in of_the_slot {
            // Without a guard, what follows the reservation is the neighbour's.
            if within < layout.stride {
                assert_eq!(layout.locate(base + within), Some((index, within)), "{layout:?}");
            }
        }
        // Before the base is the neighbour's guard, or the first slot's own.
        let before = if index == 0 { None } else { Some((index - 1, layout.stride - 1)) };
        if base > 0 {
            assert_eq!(layout.locate(base - 1), before, "{layout:?}");
        }
    }
    assert_eq!(layout.locate(layout.total), None, "{layout:?}");
    assert_eq!(layout.locate(MOST), None, "{layout:?}");
    if layout.guard_before > 0 {
        assert_eq!(layout.locate(0), None, "{layout:?}");
    }
}

/// A slab that fits a window lies in it from the first slot's base to the last
/// slot's guard, and one slot more than fit is seen not to.
fn assert_lies_in(layout: &SlabLayout, window: usize) {
    let end = |slots: usize| layout.guard_before as u128 + slots as u128 * layout.stride as u128;
    assert_eq!(layout.total <= window, end(layout.total_memories) <= window as u128, "{layout:?}");
    if layout.total <= window && layout.total_memories > 0 {
        let last = layout.base(layout.total_memories - 1);
        assert!(layout.base(0) <= last && last + layout.stride <= window, "{layout:?}");
    }
}

/// A refusal is due, and names what is to blame.
fn assert_refused_rightly(asked: &SlabConstraints, error: ConfigError) {
    let wide = |bytes: usize, to: usize| (bytes as u128).next_multiple_of(to as u128);
    let most = MOST as u128;
    let faulting = wide(asked.memory_reservation, PAGE_SIZE) + wide(asked.memory_guard_size, PAGE_SIZE);
    let stride = faulting.max(1).next_multiple_of(TABLE_SPAN as u128);
    match error {
        ConfigError::MemoryLargerThanReservation { max_memory_size, memory_reservation } => {
            assert!(max_memory_size > memory_reservation, "{asked:?}");
            assert_eq!(
                (max_memory_size, memory_reservation),
                (asked.max_memory_size, asked.memory_reservation)
            );
        }
        ConfigError::TooLarge { knob, value } => {
            assert!(stride > most, "{asked:?}");
            let named = match knob {
                "memory_reservation" => asked.memory_reservation,
                "memory_guard_size" => asked.memory_guard_size,
                _ => panic!("{knob} is not to blame: {asked:?}"),
            };
            assert_eq!(value, named, "{asked:?}");
        }
        ConfigError::PoolTooLarge { knob, count, each } => {
            assert_eq!(
                (knob, count, each as u128),
                ("total_memories", asked.total_memories, stride),
                "{asked:?}"
            );
            let before = asked.guard_before_linear_memory as u128 * wide(asked.memory_guard_size, TABLE_SPAN);
            assert!(before + stride * count as u128 > most, "{asked:?}");
        }
        error => panic!("{error}: {asked:?}"),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(word ^ word >> 31).unwrap()
    }

    /// As often small as large, and often next to a round number.
    fn size(&mut self) -> usize {
        let bits = self.next() % 49;
        let size = self.next() & ((1 << bits) - 1);
        match self.next() % 4 {
            0 => size,
            1 => size & !(PAGE_SIZE - 1),
            2 => size.next_multiple_of(TABLE_SPAN),
            _ => size.next_multiple_of(PAGE_SIZE).wrapping_sub(1),
        }
    }
}
