//! The frames of the arena. Every free frame holds zeros, or was never used.
//!
//! ```text
//!   first                fresh                      first + count
//!   | in use or on stack | never used, not cleared  |
//!   +--------------------+--------------------------+
//! ```
//!
//! Frames that come back are pushed on a stack of frame numbers, which lies in
//! the arena's records: a free frame is never written to, so it stays zero. A
//! frame is cleared when it first leaves `fresh`, so that boot does not have
//! to clear an arena of gigabytes.
//!
//! Memory is promised before it is taken: [`Promise`] lowers the number of
//! available frames, and taking from a promise cannot fail. All of this is for
//! boot, instantiation and growth; the fault path never comes here.

use core::sync::atomic::{AtomicUsize, Ordering};

use allotment_arch::{Arch, PAGE_SIZE, PhysAddr};
use spin::Mutex;

use super::{Records, Settled};
use crate::Error;

#[derive(Debug)]
pub(crate) struct Arena {
    first: PhysAddr,
    /// Frames that are neither in use nor promised.
    available: AtomicUsize,
    free: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    /// Numbers of the frames that came back.
    stack: Records<u32>,
    depth: usize,
    /// Number of the first frame that was never used.
    fresh: u32,
}

impl Arena {
    /// An arena of the `count` frames from `first`, all never used. `stack`
    /// has a place for each.
    pub(crate) fn new(first: PhysAddr, count: usize, stack: Records<u32>) -> Self {
        Self {
            first,
            available: AtomicUsize::new(count),
            free: Mutex::new(Free { stack, depth: 0, fresh: 0 }),
        }
    }

    /// Frames that could be promised now.
    pub(crate) fn available(&self) -> usize {
        self.available.load(Ordering::Relaxed)
    }

    pub(crate) fn promise<'a, A: Arch>(&'a self, arch: &'a A, count: usize) -> Result<Promise<'a, A>, Error> {
        if count == 0 {
            return Ok(Promise { arena: self, arch, left: 0 });
        }
        self.available
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |available| available.checked_sub(count))
            .map_err(|available| Error::OutOfFrames { needed: count, available })?;
        Ok(Promise { arena: self, arch, left: count })
    }

    /// Takes back a frame.
    ///
    /// # Safety
    ///
    /// `frame` was taken from this arena, holds zeros and is in no table, and
    /// has been in none since before `settled`.
    pub(crate) unsafe fn give_back(&self, frame: PhysAddr, _settled: Settled) {
        let number = (frame.0 - self.first.0) / PAGE_SIZE as u64;
        let mut free = self.free.lock();
        let depth = free.depth;
        // The stack has a place for every frame of the arena, so that this
        // finds one as long as no frame is given back twice.
        if let (Some(place), Ok(number)) = (free.stack.as_mut_slice().get_mut(depth), u32::try_from(number)) {
            *place = number;
            free.depth = depth + 1;
            drop(free);
            self.available.fetch_add(1, Ordering::Release);
        }
    }

    /// One promised frame, and whether it is known to hold zeros.
    fn take(&self) -> (PhysAddr, bool) {
        let mut free = self.free.lock();
        let (number, zero) = if let Some(depth) = free.depth.checked_sub(1) {
            free.depth = depth;
            (free.stack.as_slice()[depth], true)
        } else {
            let number = free.fresh;
            free.fresh += 1;
            (number, false)
        };
        (self.first.offset(number as usize * PAGE_SIZE), zero)
    }
}

/// Frames that are set aside for the holder. What is not taken goes back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Promise<'a, A: Arch> {
    arena: &'a Arena,
    arch: &'a A,
    left: usize,
}

impl<A: Arch> Promise<'_, A> {
    /// A frame of zeros. `None` when all that was promised is taken.
    pub(crate) fn take(&mut self) -> Option<PhysAddr> {
        self.left = self.left.checked_sub(1)?;
        let (frame, zero) = self.arena.take();
        if !zero {
            // SAFETY: the frame just left the arena, so it is ours alone.
            unsafe { self.arch.zero_frame(frame) };
        }
        Some(frame)
    }
}

impl<A: Arch> Drop for Promise<'_, A> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.arena.available.fetch_add(self.left, Ordering::Release);
        }
    }
}
