//! The frames of the arena.
//!
//! ```text
//!   first                fresh                      first + count
//!   | in use or on stack | never used, not cleared  |
//!   +--------------------+--------------------------+
//!
//!   clean -> 7 -> 3 -> 12      below[7] = 3, below[3] = 12: a stack of numbers
//!   stained -> 5 -> 9          what somebody had, and was not cleared yet
//! ```
//!
//! Frames that come back are pushed on a stack of frame numbers, whose links lie
//! in the arena's records: a free frame is never written to, so that a clean one
//! stays zero. While a frame is in use, its word there is its user's: how many
//! others share the frame, or of a leaf table which parts may be written.
//!
//! A frame holds zeros whenever it leaves the arena. One that was never used is
//! cleared then, so that boot does not have to clear an arena of gigabytes; and a
//! stained one, of which there are only where [idle work](Arena::clear_one)
//! is to clear them ahead of demand.
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
    /// Whether frames that come back stay as they are until idle work clears them.
    clean_when_idle: bool,
    /// Free frames of zeros.
    clean: Stack,
    /// Free frames that hold what their last user left.
    stained: Stack,
    /// How many of those there are.
    stains: AtomicUsize,
    /// For each frame on a stack the one below it, spelled as in [`Stack`]; for one in
    /// use a word of its user's, 0 at first.
    below: Records<AtomicU32>,
    /// Frames that have more than one owner, each as often as it has more.
    shared: AtomicUsize,
    /// Frames that nobody has but zeros and images: contents, tables and records.
    lent: AtomicUsize,
    /// Number of the first frame that was never used.
    fresh: AtomicU32,
}

/// The frame on top of a stack, as its number and one, 0 for none; and
/// above 32 bits how often the stack changed, so that who read `below` of a
/// frame that left and came back meanwhile does not succeed.
#[derive(Debug, Default)]
struct Stack(AtomicU64);

/// How much [`Stack`] grows with each change.
const CHANGE: u64 = 1 << 32;

/// Consecutive frames that left the arena.
#[derive(Clone, Copy, Debug)]
struct Popped {
    /// Number of the first.
    first: u32,
    count: u32,
    /// Whether they hold zeros.
    clean: bool,
}

impl Arena {
    /// An arena of the `count` frames from `first`, all never used. `below`
    /// has a place for each.
    pub(crate) fn new(first: PhysAddr, count: usize, below: Records<AtomicU32>) -> Self {
        Self {
            first,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            available: AtomicUsize::new(count),
            clean_when_idle: false,
            clean: Stack::default(),
            stained: Stack::default(),
            stains: AtomicUsize::new(0),
            below,
            shared: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            fresh: AtomicU32::new(0),
        }
    }

    /// The same, whose frames are cleared when they come back, or, if so asked, by
    /// [`clear_one`](Self::clear_one) or whoever takes them.
    pub(crate) fn clean_when_idle(mut self, enable: bool) -> Self {
        self.clean_when_idle = enable;
        self
    }

    /// The word of a frame in use. `None` for one that is not of this arena.
    #[inline]
    pub(crate) fn word(&self, frame: PhysAddr) -> Option<&AtomicU32> {
        self.below.as_slice().get(self.number(frame)? as usize)
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

    /// Free frames that will be cleared before somebody has them.
    pub(crate) fn uncleared(&self) -> usize {
        let fresh = self.count - self.fresh.load(Ordering::Relaxed);
        self.stains.load(Ordering::Relaxed) + fresh as usize
    }

    /// A frame of zeros that was promised before.
    pub(crate) fn take<A: Arch>(&self, arch: &A) -> PhysAddr {
        let popped = self.pop(1);
        let frame = self.frame(popped.first);
        self.below.as_slice()[popped.first as usize].store(0, Ordering::Relaxed);
        if !popped.clean {
            // SAFETY: the frame just left the arena, so it is the caller's alone.
            unsafe { arch.zero_frame(frame) };
        }
        frame
    }

    /// Clears a free frame ahead of demand. `false` if there is none that is not
    /// promised and not clean.
    ///
    /// Meanwhile one frame fewer is available: who fails for want of it waits for
    /// this, and tries again.
    pub(crate) fn clear_one<A: Arch>(&self, arch: &A) -> bool {
        // As for any other taker: what others were promised stays free.
        if self.uncleared() == 0 || self.set_aside(1).is_err() {
            return false;
        }
        let found = self.pop_unclean(1);
        if let Some(popped) = found {
            let frame = self.frame(popped.first);
            // SAFETY: as in `take`.
            unsafe { arch.zero_frame(frame) };
            self.push(&self.clean, popped.first);
        }
        self.release(1);
        found.is_some()
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

    /// Takes back a frame that holds whatever: it is cleared before somebody has it
    /// again.
    ///
    /// # Safety
    ///
    /// `frame` was taken from this arena and is in no table, and has been in none
    /// since before `settled`.
    pub(crate) unsafe fn give_back_stained<A: Arch>(&self, arch: &A, frame: PhysAddr, settled: Settled) {
        if let (true, Some(number)) = (self.clean_when_idle, self.number(frame)) {
            self.stains.fetch_add(1, Ordering::Relaxed);
            self.push(&self.stained, number);
            return self.release(1);
        }
        // SAFETY: by this function's contract nobody is at the frame.
        unsafe { arch.zero_frame(frame) };
        // SAFETY: as above, and it holds zeros.
        unsafe { self.give_back(frame, settled) };
    }

    /// Takes back a frame that nobody has seen, and leaves it promised.
    ///
    /// # Safety
    ///
    /// `frame` was taken from this arena, holds zeros, and has been in no table
    /// since, or in none since all CPUs have forgotten it.
    pub(crate) unsafe fn put_back(&self, frame: PhysAddr) {
        if let Some(number) = self.number(frame) {
            self.push(&self.clean, number);
        }
    }

    fn push(&self, stack: &Stack, number: u32) {
        let below = &self.below.as_slice()[number as usize];
        let mut top = stack.0.load(Ordering::Relaxed);
        loop {
            below.store(frame_on(top), Ordering::Relaxed);
            let new = (top & !(CHANGE - 1)).wrapping_add(CHANGE) | (u64::from(number) + 1);
            match stack.0.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => top = changed,
            }
        }
    }

    /// A promised frame: a clean one if there is, else one that is not, or up to
    /// `fresh` that were never used.
    #[inline]
    fn pop(&self, fresh: u32) -> Popped {
        loop {
            if let Some(first) = self.pop_from(&self.clean) {
                return Popped { first, count: 1, clean: true };
            }
            if let Some(popped) = self.pop_unclean(fresh) {
                return popped;
            }
            // What was promised came back to a stack before it could be
            // promised: it is there, or somebody else took it for one of
            // his and left another.
        }
    }

    fn pop_unclean(&self, fresh: u32) -> Option<Popped> {
        if let Some(first) = self.pop_from(&self.stained) {
            self.stains.fetch_sub(1, Ordering::Relaxed);
            return Some(Popped { first, count: 1, clean: false });
        }
        self.take_fresh(fresh)
    }

    #[inline]
    fn pop_from(&self, stack: &Stack) -> Option<u32> {
        let mut top = stack.0.load(Ordering::Acquire);
        loop {
            let number = frame_on(top).checked_sub(1)?;
            let below = self.below.as_slice()[number as usize].load(Ordering::Relaxed);
            let new = (top & !(CHANGE - 1)).wrapping_add(CHANGE) | u64::from(below);
            match stack.0.compare_exchange_weak(top, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(number),
                Err(changed) => top = changed,
            }
        }
    }

    fn take_fresh(&self, most: u32) -> Option<Popped> {
        let mut fresh = self.fresh.load(Ordering::Relaxed);
        loop {
            let taken = most.min(self.count - fresh);
            if taken == 0 {
                return None;
            }
            let after = fresh + taken;
            match self.fresh.compare_exchange_weak(fresh, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(first) => return Some(Popped { first, count: taken, clean: false }),
                Err(changed) => fresh = changed,
            }
        }
    }

    /// The number of a frame of this arena.
    fn number(&self, frame: PhysAddr) -> Option<u32> {
        let number = frame.0.checked_sub(self.first.0)? / PAGE_SIZE as u64;
        u32::try_from(number).ok().filter(|&number| number < self.count)
    }

    fn frame(&self, number: u32) -> PhysAddr {
        self.first.offset(number as usize * PAGE_SIZE)
    }
}

/// The frame that a value of [`Stack`] names.
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
            let Popped { first, count, clean } = self.arena.pop(most);
            let first = self.arena.frame(first);
            for nth in 0..if clean { 0 } else { count } {
                // SAFETY: the frames just left the arena, so they are ours alone.
                unsafe { self.arch.zero_frame(first.offset(nth as usize * PAGE_SIZE)) };
            }
            self.cleared = Cleared { first, count };
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
