//! The frames of a carve's upper tables, between their source and their place.

use core::ptr::NonNull;

use allotment_arch::{Arch, FrameSource, PAGE_SIZE, PhysAddr};

/// Frames that were taken from a [`FrameSource`], linked through their first
/// words: no list beside them is needed.
#[derive(Debug, Default)]
pub(crate) struct FrameStack {
    top: Option<PhysAddr>,
    len: usize,
}

impl FrameStack {
    /// Takes `count` frames, which `arch` reaches. `Err` if the source has fewer:
    /// how many there were; it has them back then.
    pub(crate) fn take<A: Arch>(arch: &A, source: &mut dyn FrameSource, count: usize) -> Result<Self, usize> {
        let mut taken = Self::default();
        while taken.len < count {
            let Some(frame) = source.allocate_frame() else {
                let given = taken.len;
                while let Some(frame) = taken.pop(arch) {
                    // SAFETY: it came from there, and nothing but this stack used it.
                    unsafe { source.deallocate_frame(frame) };
                }
                return Err(given);
            };
            let below: NonNull<Option<PhysAddr>> = arch.physical(frame).cast();
            // SAFETY: the frame is ours, a page, and reached there.
            unsafe { below.write(taken.top) };
            taken = Self { top: Some(frame), len: taken.len + 1 };
        }
        Ok(taken)
    }

    /// Takes one off, filled with zeros.
    pub(crate) fn pop<A: Arch>(&mut self, arch: &A) -> Option<PhysAddr> {
        let frame = self.top?;
        let below: NonNull<Option<PhysAddr>> = arch.physical(frame).cast();
        // SAFETY: `take` wrote it, and nobody else uses the frame.
        self.top = unsafe { below.read() };
        self.len -= 1;
        // SAFETY: as above.
        unsafe { arch.zero_frame(frame) };
        Some(frame)
    }
}

const _: () = assert!(size_of::<Option<PhysAddr>>() <= PAGE_SIZE);
