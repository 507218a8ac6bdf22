//! The boot kernel's handler of page faults, for the allocator that is tested now.

use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};

use allotment::{Allocator, arch::Native};
use engine::guarded::answer_fault;
use kernel::{
    Frame,
    exception::{Exception, Handled, set_hook},
};

use super::World;

static ALLOCATOR: AtomicPtr<Allocator<Native>> = AtomicPtr::new(ptr::null_mut());

impl World for Native {
    fn answer_faults(allocator: Option<&Allocator<Self>>) {
        let allocator = allocator.map_or(ptr::null_mut(), |allocator| ptr::from_ref(allocator).cast_mut());
        ALLOCATOR.store(allocator, Ordering::Release);
        set_hook(answer);
    }
}

fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
    let Some(allocator) = NonNull::new(ALLOCATOR.load(Ordering::Acquire)) else { return Handled::No };
    // SAFETY: `with_engines` takes it back before the allocator is gone.
    answer_fault(unsafe { allocator.as_ref() }, frame, exception)
}
