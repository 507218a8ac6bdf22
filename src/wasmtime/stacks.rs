//! Fiber stacks for Wasmtime's asynchronous calls, from the allocator's.
//!
//! ```text
//!   call_async -> new_stack(size, zeroed) -> allocate_fiber_stack     guard | stack
//!   store ends -> drop                    -> deallocate_fiber_stack
//! ```
//!
//! Wasmtime's own, without an operating system, are heap memory with nothing below. Here
//! host code that overflows its stack meets the guard: `deliver` says `NotWasm`, with a report
//! that names the stack. Compiled code checks its stack by itself, and traps.

use alloc::{boxed::Box, sync::Arc};
use core::ops::Range;

use allotment_arch::Arch;
use wasmtime::{Config, StackCreator, StackMemory};

use super::{Platform, PlatformError};
use crate::FiberStack;

/// Sets `config` up for asynchronous calls on the allocator's stacks: their size, whether they
/// hold zeros, and where they come from.
///
/// Set [`async_stack_size`](crate::Config::async_stack_size) and
/// [`async_stack_zeroing`](crate::Config::async_stack_zeroing) where the allocator is carved,
/// and in a pool [how many](crate::PoolingAllocationConfig::total_stacks). A module's `max_wasm_stack`
/// must leave room for host code.
pub fn configure_stacks(config: &mut Config, platform: &'static Platform) {
    let settings = platform.allocator().config();
    config.async_stack_size(settings.async_stack_size);
    config.async_stack_zeroing(settings.async_stack_zeroing);
    config.with_host_stack(Arc::new(FiberStacks(platform)));
}

/// The stacks of a platform's allocator, as Wasmtime asks for them: what
/// [`configure_stacks`] sets.
#[derive(Clone, Copy, Debug)]
pub struct FiberStacks(pub &'static Platform);

// SAFETY: a stack is readable and writable to its last byte, page-aligned, nobody else's
// until it is dropped, and below it is a guard.
unsafe impl StackCreator for FiberStacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let stack = self.0.new_stack(size, zeroed)?;
        Ok(Box::new(Stack { platform: self.0, stack: Some(stack) }))
    }
}

impl<A: Arch> Platform<A> {
    /// A stack of at least `size` bytes, of zeros if `zeroed`.
    fn new_stack(&self, size: usize, zeroed: bool) -> Result<FiberStack<'_, A>, PlatformError> {
        let settings = self.allocator().config();
        self.note(self.unswitched(|| {
            let limit = settings.async_stack_size;
            if size > limit {
                return Err(PlatformError::StackTooLarge { requested: size, limit });
            }
            let stack = self.allocator().allocate_fiber_stack()?;
            if zeroed && !settings.async_stack_zeroing {
                // SAFETY: all of it is accessible, and nobody knows it yet.
                unsafe { stack.stack().cast::<u8>().write_bytes(0, stack.stack().len()) };
            }
            Ok(stack)
        }))
    }
}

/// A stack that goes back when it is dropped.
struct Stack {
    platform: &'static Platform,
    stack: Option<FiberStack<'static>>,
}

// SAFETY: as for `FiberStacks`.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.range_of(|stack| stack.top().0..stack.top().0).start
    }

    fn range(&self) -> Range<usize> {
        let Range { start, end } = self.range_of(|stack| stack.guard().end.0..stack.top().0);
        start.addr()..end.addr()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        self.range_of(|stack| stack.guard().start.0..stack.guard().end.0)
    }
}

impl Stack {
    #[expect(clippy::cast_possible_truncation, reason = "usize is 64 bits on every supported target")]
    fn range_of(&self, range: impl FnOnce(&FiberStack<'static>) -> Range<u64>) -> Range<*mut u8> {
        // It is there until the drop.
        let Range { start, end } = self.stack.as_ref().map_or(0..0, range);
        let pointer = |address: u64| core::ptr::with_exposed_provenance_mut(address as usize);
        pointer(start)..pointer(end)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.take() {
            self.platform.unswitched(|| self.platform.allocator().deallocate_fiber_stack(stack));
        }
    }
}
