//! The one who has an instance.

use alloc::boxed::Box;
use core::{
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use allotment_arch::{Arch, Native};

use super::{Instance, InstanceAllocationRequest, InstanceError};

/// An instance that lives, at an address that does not change.
///
/// Give it back with
/// [`InstanceAllocator::deallocate`](super::InstanceAllocator::deallocate). There
/// is no `Drop`.
#[must_use = "an instance that is dropped keeps its slots for ever; give it to deallocate"]
pub struct InstanceHandle<'a, A: Arch = Native> {
    instance: NonNull<Instance<'a, A>>,
}

// SAFETY: it owns the instance, all of whose parts may go to another CPU: who
// takes it there calls `arrive`.
unsafe impl<A: Arch> Send for InstanceHandle<'_, A> {}
impl<'a, A: Arch> InstanceHandle<'a, A> {
    pub(super) fn new(instance: Box<Instance<'a, A>>) -> Self {
        Self { instance: NonNull::from(Box::leak(instance)) }
    }

    /// Gives the instance its context, which also says where it is.
    pub(super) fn write_context(
        &mut self,
        request: InstanceAllocationRequest<'_>,
    ) -> Result<(), InstanceError> {
        let address = self.instance.cast::<()>().as_ptr().expose_provenance();
        self.deref_mut().write_context(request, address)
    }

    /// The same handle, for whoever forgets this one.
    pub(super) fn take_over(&self) -> Self {
        Self { instance: self.instance }
    }

    pub(super) fn into_instance(self) -> Box<Instance<'a, A>> {
        // SAFETY: `new` took it from a box, and this is the only handle.
        unsafe { Box::from_raw(self.instance.as_ptr()) }
    }
}

impl<'a, A: Arch> Deref for InstanceHandle<'a, A> {
    type Target = Instance<'a, A>;

    fn deref(&self) -> &Self::Target {
        // SAFETY: the instance is this handle's, and changed through it only, or by
        // one that imports from it: not while there is a reference to this one, by
        // `Imports::new`.
        unsafe { self.instance.as_ref() }
    }
}

impl<A: Arch> DerefMut for InstanceHandle<'_, A> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as above.
        unsafe { self.instance.as_mut() }
    }
}

impl<A: Arch> fmt::Debug for InstanceHandle<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
