//! [`ConfigError`]: a configuration that nothing can be built from.

use core::fmt;

/// A configuration that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `max_wasm_stack` is 0: wasm could not be called.
    NoWasmStack,
    /// Wasm may use more stack than a fiber has.
    WasmStackLargerThanAsyncStack {
        /// `max_wasm_stack` in bytes.
        max_wasm_stack: usize,
        /// `async_stack_size` in bytes.
        async_stack_size: usize,
    },
    /// `max_memory_size` is larger than `memory_reservation`.
    MemoryLargerThanReservation {
        /// `max_memory_size` in bytes.
        max_memory_size: usize,
        /// `memory_reservation` in bytes.
        memory_reservation: usize,
    },
    /// A size overflows when it is rounded or added to another.
    TooLarge {
        /// The knob.
        knob: &'static str,
        /// Its value.
        value: usize,
    },
    /// All slots of a pool together overflow.
    PoolTooLarge {
        /// The knob that counts them.
        knob: &'static str,
        /// Slots.
        count: usize,
        /// Bytes of address space of each.
        each: usize,
    },
    /// There are more memory pools than there may be.
    TooManyMemoryPools {
        /// How many were added beside the main one.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The window cannot hold what is asked for exactly.
    WindowTooSmall {
        /// Bytes of address space that are needed.
        needed: u64,
        /// Bytes that the window has.
        available: u64,
    },
    /// The arena cannot hold what is asked for exactly.
    ArenaTooSmall {
        /// Bytes that are needed, at least.
        needed: u64,
        /// Bytes that the arena has.
        available: u64,
    },
    /// GC heaps lie in memory slots, but are to have another reservation.
    GcHeapReservationDiffers {
        /// `gc_heap_reservation` in bytes.
        gc_heap_reservation: usize,
        /// `memory_reservation` in bytes.
        memory_reservation: usize,
    },
    /// GC heaps lie in memory slots, but are to have another guard.
    GcHeapGuardSizeDiffers {
        /// `gc_heap_guard_size` in bytes.
        gc_heap_guard_size: usize,
        /// `memory_guard_size` in bytes.
        memory_guard_size: usize,
    },
    /// GC heaps lie in memory slots, but are to grow otherwise.
    GcHeapReservationForGrowthDiffers {
        /// `gc_heap_reservation_for_growth` in bytes.
        gc_heap_reservation_for_growth: usize,
        /// `memory_reservation_for_growth` in bytes.
        memory_reservation_for_growth: usize,
    },
    /// GC heaps lie in memory slots, but are to move otherwise.
    GcHeapMayMoveDiffers {
        /// `gc_heap_may_move`.
        gc_heap_may_move: bool,
        /// `memory_may_move`.
        memory_may_move: bool,
    },
    /// `Commit::PerInstance` ends in a trap, but faults are not to become
    /// traps.
    CommitNeedsTraps {
        /// Pages of 4 KiB that an instance may touch.
        pages: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoWasmStack => f.write_str(
                "max_wasm_stack is 0, so that wasm could not be called; raise it (default 512 KiB)",
            ),
            Self::WasmStackLargerThanAsyncStack { max_wasm_stack, async_stack_size } => write!(
                f,
                "max_wasm_stack ({max_wasm_stack:#x}) is larger than async_stack_size ({async_stack_size:#x}); \
                 lower the first or raise the second"
            ),
            Self::MemoryLargerThanReservation { max_memory_size, memory_reservation } => write!(
                f,
                "max_memory_size ({max_memory_size:#x}) is larger than memory_reservation ({memory_reservation:#x}); \
                 lower the first or raise the second"
            ),
            Self::TooLarge { knob, value } => {
                write!(f, "{knob} of {value:#x} is too large for the address space; lower it")
            }
            Self::PoolTooLarge { knob, count, each } => write!(
                f,
                "{knob} of {count} with {each:#x} bytes each exceed the address space; lower the count or the size"
            ),
            Self::TooManyMemoryPools { count, limit } => write!(
                f,
                "{count} memory pools are to be beside the main one, of which there may be {limit}; add fewer"
            ),
            Self::WindowTooSmall { needed, available } => write!(
                f,
                "the window has {available:#x} bytes of address space, the configuration needs {needed:#x}; \
                 lower totals, memory_reservation or region_space, or hand over a larger window"
            ),
            Self::ArenaTooSmall { needed, available } => write!(
                f,
                "the arena has {available:#x} bytes, the configuration needs at least {needed:#x}; \
                 lower totals, sizes or premapped_tables, or hand over a larger arena"
            ),
            Self::GcHeapReservationDiffers { gc_heap_reservation, memory_reservation } => {
                differs(f, "reservation", Hex(gc_heap_reservation), Hex(memory_reservation))
            }
            Self::GcHeapGuardSizeDiffers { gc_heap_guard_size, memory_guard_size } => {
                differs(f, "guard_size", Hex(gc_heap_guard_size), Hex(memory_guard_size))
            }
            Self::GcHeapReservationForGrowthDiffers {
                gc_heap_reservation_for_growth,
                memory_reservation_for_growth,
            } => differs(
                f,
                "reservation_for_growth",
                Hex(gc_heap_reservation_for_growth),
                Hex(memory_reservation_for_growth),
            ),
            Self::GcHeapMayMoveDiffers { gc_heap_may_move, memory_may_move } => {
                differs(f, "may_move", gc_heap_may_move, memory_may_move)
            }
            Self::CommitNeedsTraps { pages } => write!(
                f,
                "a bound of {pages} pages per instance ends in a trap, but signals_based_traps is false; \
                 enable it, or choose Commit::Strict"
            ),
        }
    }
}

/// A pool's GC heaps lie in memory slots, which are all alike.
fn differs(
    f: &mut fmt::Formatter<'_>,
    knob: &str,
    gc_heap: impl fmt::Display,
    memory: impl fmt::Display,
) -> fmt::Result {
    write!(
        f,
        "gc_heap_{knob} ({gc_heap}) differs from memory_{knob} ({memory}), but a pool's GC heaps lie in memory slots; \
         set both alike, or total_gc_heaps to 0"
    )
}

struct Hex(usize);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl core::error::Error for ConfigError {}
