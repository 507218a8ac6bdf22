//! Where slots stand, as pure arithmetic.
//!
//! ```text
//!  slab                                                    slab + total
//!  |<- guard ->|<------------ stride ------------>|<-- stride ...    |
//!  |  before   | slot 0: reservation      | guard | slot 1: ...      |
//!              |accessible| reserved      |
//!              | premapped tables |
//!              ^ base(0), multiple of 2 MiB
//! ```
//!
//! A slot's guard is also what stands before its neighbour, so that only the
//! first needs one of its own in front (Wasmtime shares guards the same way).
//! Base and stride are multiples of 2 MiB: a leaf table never spans two slots.
//!
//! Every size is rounded up to the host page before anything is added: what is
//! accessible ends at a page, and the bytes that the last one lends to a size
//! must not be a guard's.

use allotment_arch::{PAGE_SIZE, TABLE_SPAN, page_ceil};

use crate::ConfigError;

/// What a slab of slots must satisfy. Bytes, unless said otherwise. Tables and
/// stacks lie in slabs too, under the names that memories have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabConstraints {
    /// Address space that each slot reserves before its guard.
    pub memory_reservation: usize,
    /// Most that a slot may make accessible.
    pub max_memory_size: usize,
    /// Guard after each reservation.
    pub memory_guard_size: usize,
    /// Whether the first slot has a guard before it.
    pub guard_before_linear_memory: bool,
    /// Slots.
    pub total_memories: usize,
    /// Leaf tables, of 2 MiB each, that a slot has from the carve on.
    pub premapped_tables: usize,
}

/// Where the slots of a slab stand, relative to its first byte. Bytes, unless
/// said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabLayout {
    /// Unmapped bytes before the first slot, a multiple of 2 MiB.
    pub guard_before: usize,
    /// From one slot's base to the next one's, a multiple of 2 MiB.
    pub stride: usize,
    /// Address space of a slot before its guard, a multiple of the host page.
    pub reservation: usize,
    /// Most that a slot may make accessible, a multiple of the host page.
    pub max_memory_size: usize,
    /// Bytes that are never mapped, from the end of a slot's reservation to its
    /// neighbour: at least the guard that was asked for.
    pub guard_size: usize,
    /// Leaf tables, of 2 MiB each, that cover `max_memory_size`.
    pub tables_per_slot: usize,
    /// How many of them, the first ones, are there from the carve on.
    pub premapped_tables: usize,
    /// Slots.
    pub total_memories: usize,
    /// From the slab's first byte to the end of the last slot's guard.
    pub total: usize,
}

impl SlabLayout {
    /// No slots.
    pub(crate) const NONE: Self = Self {
        guard_before: 0,
        stride: TABLE_SPAN,
        reservation: 0,
        max_memory_size: 0,
        guard_size: TABLE_SPAN,
        tables_per_slot: 0,
        premapped_tables: 0,
        total_memories: 0,
        total: 0,
    };

    /// Bytes at a multiple of which the frames begin that all slots own, so that blocks
    /// of 2 MiB and contiguous runs may be formed of them: where slots are as even, and
    /// what is lost before the first is little beside all of them.
    pub(crate) const fn frame_alignment(&self) -> usize {
        let all = self.max_memory_size.saturating_mul(self.total_memories);
        if self.max_memory_size.is_multiple_of(TABLE_SPAN) && all >= 16 * TABLE_SPAN {
            TABLE_SPAN
        } else if self.max_memory_size.is_multiple_of(WASM_PAGE) && all >= 16 * WASM_PAGE {
            WASM_PAGE
        } else {
            PAGE_SIZE
        }
    }
}

/// A wasm page, and a contiguous run.
const WASM_PAGE: usize = 64 << 10;

impl SlabConstraints {
    /// Places the slots.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a memory could outgrow its reservation or a sum
    /// overflows.
    pub fn layout(&self) -> Result<SlabLayout, ConfigError> {
        if self.max_memory_size > self.memory_reservation {
            return Err(ConfigError::MemoryLargerThanReservation {
                max_memory_size: self.max_memory_size,
                memory_reservation: self.memory_reservation,
            });
        }
        let reservation = round("memory_reservation", self.memory_reservation)?;
        let guard = round("memory_guard_size", self.memory_guard_size)?;
        // What is not larger than the reservation is not when both are rounded.
        let max_memory_size = round("max_memory_size", self.max_memory_size)?;

        // Never 0, so that each slot has an address of its own.
        let stride = reservation
            .checked_add(guard)
            .and_then(|faulting| table_ceil(faulting.max(1)))
            .ok_or(self.larger_is_too_large())?;
        // No slots, nothing to guard: a slab that is not there takes nothing.
        let guarded = self.guard_before_linear_memory && self.total_memories > 0;
        let guard_before = if guarded { table_ceil(guard) } else { Some(0) };
        let guard_before = guard_before.ok_or(self.larger_is_too_large())?;
        let total = stride
            .checked_mul(self.total_memories)
            .and_then(|slots| slots.checked_add(guard_before))
            .ok_or(ConfigError::PoolTooLarge {
                knob: "total_memories",
                count: self.total_memories,
                each: stride,
            })?;
        let tables_per_slot = max_memory_size.div_ceil(TABLE_SPAN);
        Ok(SlabLayout {
            guard_before,
            stride,
            reservation,
            max_memory_size,
            guard_size: stride - reservation,
            tables_per_slot,
            premapped_tables: self.premapped_tables.min(tables_per_slot),
            total_memories: self.total_memories,
            total,
        })
    }

    /// When the sum of reservation and guard overflows.
    fn larger_is_too_large(&self) -> ConfigError {
        if self.memory_guard_size > self.memory_reservation {
            ConfigError::TooLarge { knob: "memory_guard_size", value: self.memory_guard_size }
        } else {
            ConfigError::TooLarge { knob: "memory_reservation", value: self.memory_reservation }
        }
    }
}

impl SlabLayout {
    /// Where slot `index` begins, from the slab's first byte.
    #[must_use]
    pub const fn base(&self, index: usize) -> usize {
        self.guard_before + index * self.stride
    }

    /// The slot that `offset` falls into and the offset from its base, if it
    /// is not before the first slot or after the last. One division.
    #[must_use]
    pub const fn locate(&self, offset: usize) -> Option<(usize, usize)> {
        if offset < self.guard_before || offset >= self.total {
            return None;
        }
        let within = offset - self.guard_before;
        Some((within / self.stride, within % self.stride))
    }
}

fn round(knob: &'static str, value: usize) -> Result<usize, ConfigError> {
    page_ceil(value).ok_or(ConfigError::TooLarge { knob, value })
}

fn table_ceil(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(TABLE_SPAN)
}
