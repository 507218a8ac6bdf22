//! What no allocator can be built from, however large window and arena are.

use super::{Backing, Commit, Config, MemoryPoolConfig, PoolingAllocationConfig, Total, slabs::Slots};
use crate::ConfigError;

impl Config {
    /// Refuses what contradicts itself. [`Allocator::new`](crate::Allocator::new)
    /// does it as well.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the knobs, their values and what to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_stacks()?;
        let Some(pooling) = self.pooling() else { return Ok(()) };
        self.validate_slabs(pooling)?;
        self.validate_gc_heaps(pooling)?;
        self.validate_commit(pooling)
    }

    fn validate_stacks(&self) -> Result<(), ConfigError> {
        let &Self { max_wasm_stack, async_stack_size, .. } = self;
        if max_wasm_stack == 0 {
            return Err(ConfigError::NoWasmStack);
        }
        // With 0 there are no such stacks.
        if async_stack_size != 0 && max_wasm_stack > async_stack_size {
            return Err(ConfigError::WasmStackLargerThanAsyncStack { max_wasm_stack, async_stack_size });
        }
        Ok(())
    }

    /// Counts that are left open can be 0.
    fn validate_slabs(&self, pooling: &PoolingAllocationConfig) -> Result<(), ConfigError> {
        let (count, limit) = (pooling.memory_pools.added(), MemoryPoolConfig::MOST);
        if count > limit {
            return Err(ConfigError::TooManyMemoryPools { count, limit });
        }
        for slots in Slots::ALL {
            let count = match slots.total(self, pooling) {
                Total::Exactly(count) => count,
                Total::Auto | Total::AtMost(_) => 0,
            };
            slots.layout(self, pooling, count, 0)?;
        }
        Ok(())
    }

    /// A GC heap lies in a memory slot, so that it is made as memories are.
    fn validate_gc_heaps(&self, pooling: &PoolingAllocationConfig) -> Result<(), ConfigError> {
        if pooling.total_gc_heaps.most() == 0 {
            return Ok(());
        }
        let (memory, gc_heap) = (self.memory(), self.gc_heap());
        if gc_heap.reservation != memory.reservation {
            return Err(ConfigError::GcHeapReservationDiffers {
                gc_heap_reservation: gc_heap.reservation,
                memory_reservation: memory.reservation,
            });
        }
        if gc_heap.guard_size != memory.guard_size {
            return Err(ConfigError::GcHeapGuardSizeDiffers {
                gc_heap_guard_size: gc_heap.guard_size,
                memory_guard_size: memory.guard_size,
            });
        }
        if gc_heap.reservation_for_growth != memory.reservation_for_growth {
            return Err(ConfigError::GcHeapReservationForGrowthDiffers {
                gc_heap_reservation_for_growth: gc_heap.reservation_for_growth,
                memory_reservation_for_growth: memory.reservation_for_growth,
            });
        }
        if gc_heap.may_move != memory.may_move {
            return Err(ConfigError::GcHeapMayMoveDiffers {
                gc_heap_may_move: gc_heap.may_move,
                memory_may_move: memory.may_move,
            });
        }
        Ok(())
    }

    /// Beyond its bound of pages an instance is stopped by a fault.
    fn validate_commit(&self, pooling: &PoolingAllocationConfig) -> Result<(), ConfigError> {
        match pooling.backing {
            Backing::Elastic(Commit::PerInstance(pages)) if !self.signals_based_traps => {
                Err(ConfigError::CommitNeedsTraps { pages })
            }
            _ => Ok(()),
        }
    }
}
