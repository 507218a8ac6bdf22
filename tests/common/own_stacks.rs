//! Stacks of an embedder's own making: parts of regions, which count themselves.

use alloc::boxed::Box;
use core::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

use allotment::{
    Error,
    arch::{Access, VirtAddr},
    instance::{StackCreator, StackMemory},
};

use crate::common::{Machine, PAGE, TestArch};

pub(crate) struct OwnStacks<'a, A: TestArch> {
    m: &'a Machine<A>,
    held: AtomicUsize,
}

struct OwnStack<'s, A: TestArch> {
    stacks: &'s OwnStacks<'s, A>,
    guard: VirtAddr,
    size: usize,
}

impl<'a, A: TestArch> OwnStacks<'a, A> {
    pub(crate) fn new(m: &'a Machine<A>) -> Self {
        Self { m, held: AtomicUsize::new(0) }
    }

    /// How many there are now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl<A: TestArch> StackCreator for OwnStacks<'_, A> {
    fn new_stack(&self, size: usize, zeroed: bool) -> Result<Box<dyn StackMemory + '_>, Error> {
        assert!(!zeroed, "nobody asked for that");
        let guard = self.m.allocator.reserve_region(PAGE + size)?;
        // SAFETY: nobody uses the range yet.
        unsafe { self.m.allocator.protect_region(guard.offset(PAGE), size, Some(Access::ReadWrite)) }?;
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(OwnStack { stacks: self, guard, size }))
    }
}

impl<A: TestArch> Drop for OwnStack<'_, A> {
    fn drop(&mut self) {
        self.stacks.held.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: nobody runs on it.
        unsafe { self.stacks.m.allocator.release_region(self.guard, PAGE + self.size) }.unwrap();
    }
}

// SAFETY: the range is accessible, and the page below it is not.
unsafe impl<A: TestArch> StackMemory for OwnStack<'_, A> {
    fn range(&self) -> Range<VirtAddr> {
        self.guard.offset(PAGE)..self.guard.offset(PAGE + self.size)
    }

    fn guard_range(&self) -> Range<VirtAddr> {
        self.guard..self.guard.offset(PAGE)
    }
}
