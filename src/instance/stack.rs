//! Fiber stacks, of either origin.

use alloc::boxed::Box;
use core::{fmt, ops::Range};

use allotment_arch::{Arch, Native, VirtAddr};

use crate::{Error, FiberStack};

/// A stack of the embedder's own making. Dropping it gives it back.
///
/// # Safety
///
/// `range` is readable and writable and nobody else's until it is dropped, and
/// `guard_range` below it faults.
pub unsafe trait StackMemory: Send + Sync {
    /// The stack; its end is where the stack pointer starts, a multiple of 16.
    fn range(&self) -> Range<VirtAddr>;

    /// What faults below it.
    fn guard_range(&self) -> Range<VirtAddr>;
}

/// Makes fiber stacks in the embedder's own way, on demand: for
/// [`OnDemandInstanceAllocator::stack_creator`](super::OnDemandInstanceAllocator::stack_creator).
pub trait StackCreator: Send + Sync {
    /// A stack of `size` bytes or more, of zeros if `zeroed`: what `async_stack_size`
    /// and `async_stack_zeroing` are configured as.
    ///
    /// # Errors
    ///
    /// Any; nothing is made then.
    fn new_stack(&self, size: usize, zeroed: bool) -> Result<Box<dyn StackMemory + '_>, Error>;
}

/// A stack that a fiber runs on.
#[non_exhaustive]
pub enum Stack<'a, A: Arch = Native> {
    /// From a pool, or a range of its own.
    Fiber(FiberStack<'a, A>),
    /// From the embedder's [`StackCreator`].
    Custom(Box<dyn StackMemory + 'a>),
}

impl<A: Arch> Stack<'_, A> {
    /// The stack; its end is where the stack pointer starts.
    #[must_use]
    pub fn range(&self) -> Range<VirtAddr> {
        match self {
            Self::Fiber(stack) => stack.guard().end..stack.top(),
            Self::Custom(stack) => stack.range(),
        }
    }

    /// What faults below it.
    #[must_use]
    pub fn guard_range(&self) -> Range<VirtAddr> {
        match self {
            Self::Fiber(stack) => stack.guard(),
            Self::Custom(stack) => stack.guard_range(),
        }
    }
}

impl<A: Arch> fmt::Debug for Stack<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Stack");
        debug.field("range", &self.range()).field("guard_range", &self.guard_range()).finish()
    }
}
