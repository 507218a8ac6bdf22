//! The frames of a carve's upper tables, between their source and their place.

use core::ptr::NonNull;

use allotment_arch::{Arch, FrameSource, PAGE_SIZE, PhysAddr};

use crate::CarveError;

/// Frames that were taken from a [`FrameSource`], linked through their first
/// words: no list beside them is needed.
#[derive(Debug, Default)]
pub(crate) struct FrameStack {
    top: Option<PhysAddr>,
    len: usize,
}

/// What a frame begins with while it is in the stack: numbers, since others may hold anything.
#[derive(Clone, Copy)]
struct Link {
    mark: u64,
    /// The address of the frame below, or 0.
    below: u64,
}

impl Link {
    fn below(self) -> Option<PhysAddr> {
        (self.below != 0).then_some(PhysAddr(self.below))
    }
}

impl FrameStack {
    /// Takes `count` frames, which `arch` reaches, if each `is_usable` and comes once. The source
    /// has all of them back if not.
    pub(crate) fn take<A: Arch>(
        arch: &A,
        source: &mut dyn FrameSource,
        count: usize,
        is_usable: impl Fn(PhysAddr) -> bool,
    ) -> Result<Self, CarveError> {
        let mut taken = Self::default();
        while taken.len < count {
            let error = match source.allocate_frame() {
                Some(frame) if is_usable(frame) && !taken.contains(arch, frame) => {
                    let link = Link { mark: mark(frame), below: taken.top.map_or(0, |below| below.0) };
                    // SAFETY: the frame is ours, a page, and reached there.
                    unsafe { link_of(arch, frame).write(link) };
                    taken = Self { top: Some(frame), len: taken.len + 1 };
                    continue;
                }
                Some(frame) => CarveError::BadTableFrame { frame },
                None => CarveError::OutOfTableFrames { needed: count, available: taken.len },
            };
            while let Some(frame) = taken.pop(arch) {
                // SAFETY: it came from there, and nothing but this stack used it.
                unsafe { source.deallocate_frame(frame) };
            }
            return Err(error);
        }
        Ok(taken)
    }

    /// Takes one off, filled with zeros.
    pub(crate) fn pop<A: Arch>(&mut self, arch: &A) -> Option<PhysAddr> {
        let frame = self.top?;
        // SAFETY: `take` wrote it, and nobody else uses the frame.
        self.top = unsafe { link_of(arch, frame).read() }.below();
        self.len -= 1;
        // SAFETY: as above.
        unsafe { arch.zero_frame(frame) };
        Some(frame)
    }

    /// Whether a frame is in it already. All are looked at only if it is marked so: by a source
    /// that gives it twice, or by chance.
    fn contains<A: Arch>(&self, arch: &A, frame: PhysAddr) -> bool {
        // SAFETY: a frame of a source is a page that can be read, whatever it holds.
        let found = unsafe { link_of(arch, frame).read() }.mark;
        let mut rest = self.top;
        found == mark(frame)
            && core::iter::from_fn(|| {
                let next = rest?;
                // SAFETY: as in `pop`.
                rest = unsafe { link_of(arch, next).read() }.below();
                Some(next)
            })
            .any(|taken| taken == frame)
    }
}

fn link_of<A: Arch>(arch: &A, frame: PhysAddr) -> NonNull<Link> {
    arch.physical(frame).cast()
}

/// Differs for each frame, and is nothing that a frame would hold as a rule.
fn mark(frame: PhysAddr) -> u64 {
    frame.0 ^ 0x616c_6c6f_746d_6e74
}

const _: () = assert!(size_of::<Link>() <= PAGE_SIZE);
