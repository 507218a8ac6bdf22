//! Stacks for fibers.

use core::{fmt, ops::Range, ptr::NonNull};

use allotment_arch::{Arch, Native, VirtAddr};

use crate::{Allocator, on_demand::Home};

/// A stack that a fiber runs on: it grows down, to pages that fault.
///
/// ```text
///   guard.start          bottom                             top
///   | never mapped       | stack, all of it accessible      |
/// ```
///
/// A fault in the guard happens on a stack that has no room left: the
/// embedder's handler must run on another one (on x86_64 by an interrupt stack
/// table entry).
///
/// No write to the stack itself faults, also on CPUs that keep no dirty state.
///
/// Give it back with [`Allocator::deallocate_fiber_stack`]. There is no `Drop`.
#[must_use = "a stack that is dropped keeps its slot for ever; give it to deallocate_fiber_stack"]
pub struct FiberStack<'a, A: Arch = Native> {
    pub(crate) allocator: &'a Allocator<A>,
    pub(crate) home: Home,
    pub(crate) guard_size: usize,
    pub(crate) stack: NonNull<[u8]>,
}

// SAFETY: the pointer names a slot that this value alone holds; it is only
// dereferenced by unsafe code of the engine.
unsafe impl<A: Arch> Send for FiberStack<'_, A> {}
// SAFETY: as above; `&FiberStack` gives addresses and sizes only.
unsafe impl<A: Arch> Sync for FiberStack<'_, A> {}

impl<A: Arch> FiberStack<'_, A> {
    /// All of it, the last byte being the first that is used. A CPU may use it
    /// that allocated the stack, or has called [`Allocator::arrive_fiber_stack`].
    #[must_use]
    pub fn stack(&self) -> NonNull<[u8]> {
        self.stack
    }

    /// The address after the last byte, a multiple of 4 KiB: where the stack
    /// pointer starts.
    #[must_use]
    pub fn top(&self) -> VirtAddr {
        self.bottom().offset(self.stack.len())
    }

    /// The pages below that never are mapped: at least one.
    #[must_use]
    pub fn guard(&self) -> Range<VirtAddr> {
        VirtAddr(self.bottom().0 - self.guard_size as u64)..self.bottom()
    }

    fn bottom(&self) -> VirtAddr {
        VirtAddr(self.stack.cast::<u8>().as_ptr().expose_provenance() as u64)
    }
}

impl<A: Arch> fmt::Debug for FiberStack<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FiberStack").field("stack", &self.stack).finish_non_exhaustive()
    }
}
