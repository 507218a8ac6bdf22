//! `wasmtime::MemoryCreator` over the allocator's memories, for those who prefer it.
//!
//! The C symbols need nothing of this. It knows a memory's size and limits before a slot
//! is taken; in return Wasmtime cannot place images in it, and copies a module's data at
//! each instantiation.

use alloc::{boxed::Box, format, string::String, sync::Arc};

use allotment_arch::Arch;
use wasmtime::{Config, LinearMemory, MemoryCreator, MemoryType};

use super::{Platform, PlatformError};
use crate::{Error, Memory, MemoryRequest, pooling::SlotPool};

/// Has `config` make memories by [`HostMemories`], without images, as it must be: with
/// both Wasmtime panics at the first instance of a module that has data.
///
/// So modules are precompiled without images as well: call `memory_init_cow(false)` after
/// [`configure_compiler!`](crate::configure_compiler). Wasmtime refuses others, and says so.
///
/// # Errors
///
/// [`PlatformError::Reservation`] when the allocator's memories have a smaller reservation or
/// guard than [`configure`](super::configure) promises to compiled code; `config` is as it was then.
pub fn configure_memories(config: &mut Config, platform: &'static Platform) -> Result<(), PlatformError> {
    platform.check_reservation(super::RESERVATION, super::GUARD_SIZE)?;
    config.memory_init_cow(false).with_host_memory(Arc::new(HostMemories(platform)));
    Ok(())
}

/// The memories of a platform's allocator, pooled or on demand, as Wasmtime asks a
/// creator for them: what [`configure_memories`] sets.
#[derive(Clone, Copy, Debug)]
pub struct HostMemories(pub &'static Platform);

// SAFETY: memories hold zeros, are nobody else's until they are dropped, stay where they are
// within their reservation, and have guards around them that fault.
unsafe impl MemoryCreator for HostMemories {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let mut request = MemoryRequest::new(minimum)
            .memory64(ty.is_64())
            .page_size_log2(ty.page_size_log2())
            .reserved(reserved_size_in_bytes.unwrap_or(0), guard_size_in_bytes);
        if let Some(maximum) = maximum {
            request = request.maximum(maximum);
        }
        let platform = self.0;
        let made = platform.note(platform.unswitched(|| {
            platform.allocator().allocate_memory(request).map_err(|error| match error {
                Error::Reservation { requested, limit } => PlatformError::Reservation { requested, limit },
                error => error.into(),
            })
        }));
        match made {
            Ok(memory) => Ok(Box::new(HostMemory { platform, memory: Some(memory) })),
            Err(error) => Err(format!("{error}")),
        }
    }
}

impl<A: Arch> Platform<A> {
    /// Refuses a reservation or a guard that none of the allocator's memories has.
    fn check_reservation(&self, reservation: usize, guard: usize) -> Result<(), PlatformError> {
        let requested = (reservation, guard);
        let holds = |limit: &(usize, usize)| reservation <= limit.0 && guard <= limit.1;
        let settings = self.allocator().config();
        let sizes = (settings.memory_reservation, settings.memory_guard_size);
        let limit = if self.allocator().on_demand.is_strategy {
            sizes
        } else {
            let sizes = |pool: &SlotPool| (pool.layout().reservation, pool.layout().guard_size);
            let pools = || self.allocator().pools.memory_pools().map(sizes);
            pools().find(holds).or(pools().max()).unwrap_or((0, 0))
        };
        if holds(&limit) { Ok(()) } else { Err(PlatformError::Reservation { requested, limit }) }
    }
}

/// A memory that goes back when it is dropped.
struct HostMemory {
    platform: &'static Platform,
    memory: Option<Memory<'static>>,
}

// SAFETY: as for `HostMemories`.
unsafe impl LinearMemory for HostMemory {
    fn byte_size(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::size)
    }

    fn byte_capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::capacity)
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        let platform = self.platform;
        // It is there until the drop.
        let Some(memory) = &mut self.memory else { return Ok(()) };
        platform.note(platform.unswitched(|| memory.grow_to(new_size)).map_err(PlatformError::from))?;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ref().map_or(core::ptr::null_mut(), |memory| memory.base().as_ptr())
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.platform.unswitched(|| self.platform.allocator().deallocate_memory(memory));
        }
    }
}
