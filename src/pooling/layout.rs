//! Where slots stand, as pure arithmetic.
//!
//! ```text
//!  slab                                                    slab + total
//!  |<- guard ->|<------------ stride ------------>|<-- stride ...    |
//!  |  before   | slot 0: reservation      | guard | slot 1: ...      |
//!              |accessible| reserved      |
//!              ^ base(0), multiple of 2 MiB
//! ```
//!
//! A slot's guard is also what stands before its neighbour, so that only the
//! first needs one of its own in front (Wasmtime shares guards the same way).
//! Base and stride are multiples of 2 MiB: a leaf table never spans two slots.

use allotment_arch::TABLE_SPAN;

use crate::ConfigError;

/// What a slab of memory slots must satisfy. Bytes, unless said otherwise.
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
}

/// Where the slots of a slab stand, relative to its first byte. Bytes, unless
/// said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabLayout {
    /// Unmapped bytes before the first slot.
    pub guard_before: usize,
    /// From one slot's base to the next one's.
    pub stride: usize,
    /// Most that a slot may make accessible, a multiple of the host page.
    pub max_memory_size: usize,
    /// Leaf tables, of 2 MiB each, that cover `max_memory_size`.
    pub tables_per_slot: usize,
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
        max_memory_size: 0,
        tables_per_slot: 0,
        total_memories: 0,
        total: 0,
    };
}

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
        let too_large = |knob, value| ConfigError::TooLarge { knob, value };
        let round = |knob, value: usize| table_ceil(value).ok_or(too_large(knob, value));
        let max_memory_size = allotment_arch::page_ceil(self.max_memory_size)
            .ok_or(too_large("max_memory_size", self.max_memory_size))?;
        let guard_before = if self.guard_before_linear_memory {
            round("memory_guard_size", self.memory_guard_size)?
        } else {
            0
        };
        let needed = self
            .memory_reservation
            .checked_add(self.memory_guard_size)
            .ok_or(too_large("memory_reservation", self.memory_reservation))?;
        // Never 0, so that each slot has an address of its own.
        let stride = round("memory_reservation", needed.max(1))?;
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
            max_memory_size,
            tables_per_slot,
            total_memories: self.total_memories,
            total,
        })
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

fn table_ceil(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(TABLE_SPAN)
}
