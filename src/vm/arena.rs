//! The frames of the arena. Every free frame holds zeros, or was never used.
//!
//! ```text
//!   first                fresh                      first + count
//!   | in use or on stack | never used, not cleared  |
//!   +--------------------+--------------------------+
//!
//!   top -> 7 -> 3 -> 12        below[7] = 3, below[3] = 12: a stack of numbers
//! ```
//!
//! Frames that come back are pushed on a stack of frame numbers, whose links lie
//! in the arena's records: a free frame is never written to, so it stays zero.
//! While a frame is in use, its word there is its user's: how many others share
//! the frame, or of a leaf table which parts may be written. A
//! frame is cleared when it first leaves `fresh`, so that boot does not have
//! to clear an arena of gigabytes.
//!
//! Memory is promised before it is taken: [`Promise`] lowers the number of
//! available frames, and taking from a promise cannot fail. Nothing here takes
//! a lock, so that a fault may take what was promised to its slot before.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use allotment_arch::{Arch, PAGE_SIZE, PhysAddr};

use super::{Records, Settled};
use crate::Error;

#[derive(Debug)]
pub(crate) struct Arena {
    first: PhysAddr,
    count: u32,
    /// Frames that are neither in use nor promised.
    available: AtomicUsize,
    /// The frame on top of the stack, as its number and one, 0 for none; and
    /// above 32 bits how often the stack changed, so that who read `below` of a
    /// frame that left and came back meanwhile does not succeed.
    top: AtomicU64,
    /// For each frame on the stack the one below it, spelled as in `top`; for one in
    /// use a word of its user's, 0 at first.
    below: Records<AtomicU32>,
    /// Frames that have more than one owner, each as often as it has more.
    shared: AtomicUsize,
    /// Frames that nobody has but zeros and images: contents, tables and records.
    lent: AtomicUsize,
    /// Number of the first frame that was never used.
    fresh: AtomicU32,
}

/// How much `top` grows with each change.
const CHANGE: u64 = 1 << 32;

impl Arena {
    /// An arena of the `count` frames from `first`, all never used. `below`
    /// has a place for each.
    pub(crate) fn new(first: PhysAddr, count: usize, below: Records<AtomicU32>) -> Self {
        Self {
            first,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            available: AtomicUsize::new(count),
            top: AtomicU64::new(0),
            below,
            shared: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            fresh: AtomicU32::new(0),
        }
    }

    /// The word of a frame in use. `None` for one that is not of this arena.
    #[inline]
    pub(crate) fn word(&self, frame: PhysAddr) -> Option<&AtomicU32> {
        let number = frame.0.checked_sub(self.first.0)? / PAGE_SIZE as u64;
        self.below.as_slice().get(usize::try_from(number).ok()?)
    }

    /// Adds an owner to a frame whose word counts those beyond the first. Does
    /// nothing for a frame that is not of this arena.
    pub(crate) fn share(&self, frame: PhysAddr) {
        if let Some(word) = self.word(frame) {
            self.shared.fetch_add(1, Ordering::Relaxed);
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes an owner away from such a frame. Whether it was the last one, who gives
    /// it back; never for a frame that is not of this arena.
    pub(crate) fn unshare(&self, frame: PhysAddr) -> bool {
        let Some(word) = self.word(frame) else { return false };
        let less = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |more| more.checked_sub(1));
        if less.is_ok() {
            self.shared.fetch_sub(1, Ordering::Relaxed);
        }
        less.is_err()
    }

    /// Whether any frame has more than one owner.
    pub(crate) fn has_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed) > 0
    }

    /// Notes that zeros and images have so many frames more, which they took or which
    /// others left to them.
    pub(crate) fn lend(&self, count: usize) {
        self.lent.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes that they give one back.
    pub(crate) fn end_loan(&self) {
        self.lent.fetch_sub(1, Ordering::Relaxed);
    }

    /// Frames that nobody has but zeros and images.
    pub(crate) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// Frames that could be promised now.
    pub(crate) fn available(&self) -> usize {
        self.available.load(Ordering::Relaxed)
    }

    pub(crate) fn promise<'a, A: Arch>(&'a self, arch: &'a A, count: usize) -> Result<Promise<'a, A>, Error> {
        self.set_aside(count)?;
        Ok(Promise { arena: self, arch, left: count, cleared: Cleared::NONE })
    }

    /// Promises `count` frames to somebody who keeps the number himself, and
    /// takes them by [`take`](Self::take) or returns them by
    /// [`release`](Self::release).
    pub(crate) fn set_aside(&self, count: usize) -> Result<(), Error> {
        if count > 0 {
            self.available
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, |available| available.checked_sub(count))
                .map_err(|available| Error::OutOfFrames { needed: count, available })?;
        }
        Ok(())
    }

    /// Takes a promise of `count` frames back.
    pub(crate) fn release(&self, count: usize) {
        if count > 0 {
            self.available.fetch_add(count, Ordering::Release);
        }
    }

    /// A frame of zeros that was promised before.
    pub(crate) fn take<A: Arch>(&self, arch: &A) -> PhysAddr {
        let (number, fresh) = self.pop(1);
        let frame = self.frame(number);
        self.below.as_slice()[number as usize].store(0, Ordering::Relaxed);
        if fresh > 0 {
            // SAFETY: the frame just left the arena, so it is the caller's alone.
            unsafe { arch.zero_frame(frame) };
        }
        frame
    }

    /// Takes back a frame.
    ///
    /// # Safety
    ///
    /// `frame` was taken from this arena, holds zeros and is in no table, and
    /// has been in none since before `settled`.
    pub(crate) unsafe fn give_back(&self, frame: PhysAddr, _settled: Settled) {
        // SAFETY: by this function's contract.
        unsafe { self.put_back(frame) };
        self.release(1);
    }

    /// Takes back a frame that nobody has seen, and leaves it promised.
    ///
    /// # Safety
    ///
    /// `frame` was taken from this arena, holds zeros, and has been in no table
    /// since, or in none since all CPUs have forgotten it.
    pub(crate) unsafe fn put_back(&self, frame: PhysAddr) {
        let number = (frame.0 - self.first.0) / PAGE_SIZE as u64;
        let Some(below) = usize::try_from(number).ok().and_then(|number| self.below.as_slice().get(number))
        else {
            return;
        };
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            below.store(frame_on(top), Ordering::Relaxed);
            let new = (top & !(CHANGE - 1)).wrapping_add(CHANGE) | (number + 1);
            match self.top.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => top = changed,
            }
        }
    }

    /// The number of a promised frame. One of the stack; else the first of up to
    /// `fresh` that were never used, and how many those are.
    #[inline]
    fn pop(&self, fresh: u32) -> (u32, u32) {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let Some(number) = frame_on(top).checked_sub(1) else {
                if let Some(taken) = self.take_fresh(fresh) {
                    return taken;
                }
                // What was promised came back to the stack before it could be
                // promised: it is there, or somebody else took it for one of
                // his and left another.
                top = self.top.load(Ordering::Acquire);
                continue;
            };
            let below = self.below.as_slice()[number as usize].load(Ordering::Relaxed);
            let new = (top & !(CHANGE - 1)).wrapping_add(CHANGE) | u64::from(below);
            match self.top.compare_exchange_weak(top, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return (number, 0),
                Err(changed) => top = changed,
            }
        }
    }

    fn take_fresh(&self, most: u32) -> Option<(u32, u32)> {
        let mut fresh = self.fresh.load(Ordering::Relaxed);
        loop {
            let taken = most.min(self.count - fresh);
            if taken == 0 {
                return None;
            }
            let after = fresh + taken;
            match self.fresh.compare_exchange_weak(fresh, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(first) => return Some((first, taken)),
                Err(changed) => fresh = changed,
            }
        }
    }

    fn frame(&self, number: u32) -> PhysAddr {
        self.first.offset(number as usize * PAGE_SIZE)
    }
}

/// The frame that a value of [`Arena::top`] names.
#[expect(clippy::cast_possible_truncation, reason = "the upper half counts changes")]
fn frame_on(top: u64) -> u32 {
    top as u32
}

/// Frames that are set aside for the holder. What is not taken goes back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Promise<'a, A: Arch> {
    arena: &'a Arena,
    arch: &'a A,
    left: usize,
    /// Some of those, taken from the arena and cleared together.
    cleared: Cleared,
}

/// Consecutive frames of zeros.
#[derive(Clone, Copy, Debug)]
struct Cleared {
    first: PhysAddr,
    count: u32,
}

impl Cleared {
    const NONE: Self = Self { first: PhysAddr(0), count: 0 };
}

/// Frames that were never used and are cleared at a time, at most: as many as a
/// wasm page needs.
const CLEARED_AT_A_TIME: usize = 16;

impl<A: Arch> Promise<'_, A> {
    /// A frame of zeros. `None` when all that was promised is taken.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<PhysAddr> {
        let left = self.left.checked_sub(1)?;
        if self.cleared.count == 0 {
            let most = u32::try_from(self.left.min(CLEARED_AT_A_TIME)).unwrap_or(1);
            let (number, fresh) = self.arena.pop(most);
            let first = self.arena.frame(number);
            for nth in 0..fresh {
                // SAFETY: the frames just left the arena, so they are ours alone.
                unsafe { self.arch.zero_frame(first.offset(nth as usize * PAGE_SIZE)) };
            }
            self.cleared = Cleared { first, count: fresh.max(1) };
        }
        self.left = left;
        let frame = self.cleared.first;
        if let Some(word) = self.arena.word(frame) {
            word.store(0, Ordering::Relaxed);
        }
        self.cleared = Cleared { first: frame.offset(PAGE_SIZE), count: self.cleared.count - 1 };
        Some(frame)
    }
}

impl<A: Arch> Promise<'_, A> {
    /// Leaves `count` frames to somebody who keeps the number himself, as
    /// [`Arena::set_aside`] does.
    pub(crate) fn set_aside(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }

    /// Has one more left, after [`Arena::put_back`] of a frame that was taken.
    pub(crate) fn put_back(&mut self) {
        self.left += 1;
    }

    /// Hands what is left over to somebody who keeps the number himself, as with
    /// [`Arena::set_aside`].
    pub(crate) fn hand_over(mut self) -> usize {
        core::mem::take(&mut self.left)
    }
}

impl<A: Arch> Drop for Promise<'_, A> {
    fn drop(&mut self) {
        while self.cleared.count > 0 {
            // SAFETY: taken from the arena, cleared, and shown to nobody.
            unsafe { self.arena.put_back(self.cleared.first) };
            self.cleared.first = self.cleared.first.offset(PAGE_SIZE);
            self.cleared.count -= 1;
        }
        self.arena.release(self.left);
    }
}
