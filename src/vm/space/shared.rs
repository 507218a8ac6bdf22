//! Tables that several granules point to, and granules' own copies of them.
//!
//! ```text
//!   granule 4 ──┐                           granule 4 ──┐
//!   granule 9 ──┼──> shared table     ->    granule 9 ──┼──> shared table
//!   granule 12 ─┘                           granule 12 ─────> its copy
//! ```
//!
//! A shared table never changes after it was built, and nothing below it can be
//! written. The first write under it, or the first edit, needs a copy of the
//! granule's own: one frame from a [`Reserve`], which was set aside before, so
//! that a fault can be answered without lock or allocation.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{
    Access, Arch, Entry, Format, Invalidation, Native, PAGE_SIZE, Pages, PhysAddr, Upper, VirtAddr,
};

use super::{
    Edit, Space, SpaceError,
    edit::Tally,
    rights::{check_frame, check_shareable},
    walk::{Below, Part, nth_of_block},
};
use crate::vm::{Settled, pages};

/// A leaf table of pages that can be read, or copied on write.
///
/// It belongs to the space that it was built with. Who shares it counts how
/// often, and ends with [`Space::free_table`].
#[derive(Debug)]
pub struct SharedTable {
    frame: PhysAddr,
}

impl SharedTable {
    /// Builds one, with a frame of the space's arena. `page(n)` is page `n` of
    /// the 512, or `None` for an empty one.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NotShareable`], [`SpaceError::BadFrame`] and
    /// [`SpaceError::OutOfFrames`].
    pub fn build<A: Arch>(
        space: &Space<A>,
        mut page: impl FnMut(usize) -> Option<(PhysAddr, Access)>,
    ) -> Result<Self, SpaceError> {
        let mut promise = space.vm.promise(1).map_err(SpaceError::out_of_frames(1))?;
        let frame = promise.take().ok_or(SpaceError::OutOfFrames { needed: 1, available: 0 })?;
        let built = Self { frame };
        for (nth, place) in space.table(frame).iter().enumerate() {
            let Some((shown, access)) = page(nth) else { continue };
            if let Err(error) = check_shareable(access).and_then(|()| check_frame::<A>(shown)) {
                space.give_back(built.frame, space.vm.settle(Invalidation::NOTHING));
                return Err(error);
            }
            pages::exchange::<A>(place, |_| A::Format::present(shown, access, false));
        }
        space.vm.arch.publish();
        Ok(built)
    }
}

impl<A: Arch> Space<A> {
    /// Points a granule of 2 MiB to a shared table. It has nothing, an own table
    /// of empty pages, which goes back to the arena, or another shared table.
    ///
    /// # Errors
    ///
    /// [`SpaceError::InUse`], [`SpaceError::ForeignTable`], and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn share(&self, granule: VirtAddr, table: &SharedTable) -> Result<Edit, SpaceError> {
        let part = self.whole(granule)?;
        match self.below(part.directory) {
            Below::Nothing | Below::Shared(_) | Below::Busy => {}
            Below::Block(_) => return Err(SpaceError::InUse { page: granule }),
            Below::Table(entries) => {
                let used = |(_, entry): &(VirtAddr, &AtomicU64)| entry.load(Ordering::Relaxed) != 0;
                if let Some((page, _)) = part.leaves(entries).find(used) {
                    return Err(SpaceError::InUse { page });
                }
            }
        }
        // SAFETY: by this function's contract.
        unsafe { self.replace_table(granule, Some(table), |_, _, _| {}) }
    }

    /// Takes a shared table away from a granule, which is empty then.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NotShared`] and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn unshare(&self, granule: VirtAddr) -> Result<Edit, SpaceError> {
        let part = self.whole(granule)?;
        let Below::Shared(_) = self.below(part.directory) else {
            return Err(SpaceError::NotShared { page: granule });
        };
        // SAFETY: by this function's contract.
        unsafe { self.replace_table(granule, None, |_, _, _| {}) }
    }

    /// Points a granule to a shared table, or to nothing, whatever it has. From
    /// an own table or block all frames come out by `frame(page, frame, own)`,
    /// after every CPU has forgotten them, and the table goes back to the arena;
    /// states of empty pages are lost.
    ///
    /// # Errors
    ///
    /// [`SpaceError::ForeignTable`], and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn replace_table(
        &self,
        granule: VirtAddr,
        table: Option<&SharedTable>,
        mut frame: impl FnMut(VirtAddr, PhysAddr, bool),
    ) -> Result<Edit, SpaceError> {
        if let Some(&SharedTable { frame: table }) = table.filter(|table| !self.owns(table)) {
            return Err(SpaceError::ForeignTable { table });
        }
        let part = self.whole(granule)?;
        let below = self.below(part.directory);
        let own = table_frame::<A>(part);
        let old = part.directory.load(Ordering::Relaxed);
        let mut tally = Tally::default();
        self.point(part, table.map_or(0, |table| A::Format::shared_table(table.frame)), &mut tally);
        let mut came_out = |page, entry| {
            if let Entry::Hidden { frame: was, .. } | Entry::Present { frame: was, .. } = entry {
                frame(page, was, entry.own_frame().is_some());
            }
        };
        match below {
            Below::Nothing | Below::Busy => {}
            Below::Shared(shared) => {
                // The next edit may bring another table before this one is settled.
                let another = A::Format::table(PhysAddr(shared.0 ^ PAGE_SIZE as u64));
                if table.is_none() && A::Format::needs_break(old, another) {
                    let _ = self.forget(part);
                }
            }
            Below::Block(first) => {
                tally.tables += 1;
                // Also if it was hidden: by an edit that may not be settled.
                let _ = self.forget(part);
                tally.settled();
                for (nth, page) in part.pages.iter().enumerate() {
                    came_out(page, A::Format::decode(nth_of_block(first, nth)));
                }
            }
            Below::Table(entries) => {
                tally.tables += 1;
                let settled = self.forget(part);
                tally.settled();
                for (page, entry) in part.leaves(entries) {
                    came_out(page, A::Format::decode(entry.load(Ordering::Acquire)));
                }
                if let Some(own) = own {
                    self.give_back(own, settled);
                }
            }
        }
        self.vm.arch.publish();
        Ok(tally.done())
    }

    /// Ends a shared table, after every CPU has forgotten it. The frames that it
    /// showed are the caller's again. Does nothing with one of another space.
    ///
    /// # Safety
    ///
    /// No granule points to it any more.
    pub unsafe fn free_table(&self, table: SharedTable) {
        if !self.owns(&table) {
            return;
        }
        // Whoever made a copy private may have settled here and there only.
        let settled = self.vm.settle(Invalidation::EVERYTHING);
        self.give_back(table.frame, settled);
    }

    /// Whether the table's frame came from this arena: arenas are disjoint.
    fn owns(&self, table: &SharedTable) -> bool {
        self.vm.arena.word(table.frame).is_some()
    }

    /// Sets frames aside for copies of shared tables.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutOfFrames`].
    pub fn reserve<const N: usize>(&self) -> Result<Reserve<'_, N, A>, SpaceError> {
        let reserve = Reserve { space: self, frames: [const { AtomicU64::new(TAKEN) }; N] };
        reserve.refill()?;
        Ok(reserve)
    }

    /// Points a granule elsewhere, by break-before-make where that is needed.
    pub(super) fn point(&self, part: Part<'_>, new: u64, tally: &mut Tally) {
        let old = part.directory.load(Ordering::Relaxed);
        if A::Format::needs_break(old, new) {
            part.directory.store(A::Format::empty(pages::BUSY), Ordering::Release);
            let _ = self.forget(part);
            part.directory.store(new, Ordering::Release);
            tally.entries += 1;
        } else {
            part.directory.store(new, Ordering::Release);
            if old & A::Format::PRESENT != 0 { tally.table(part.granule()) } else { tally.entries += 1 }
        }
    }

    /// Makes every CPU forget what was under a part's granule.
    pub(super) fn forget(&self, part: Part<'_>) -> Settled {
        let mut broken = Tally::default();
        broken.table(part.granule());
        self.vm.settle(broken.invalidation())
    }

    /// Gives a table's frame back to the arena. It is in no table any more, and
    /// has not been since before `settled`.
    pub(super) fn give_back(&self, table: PhysAddr, settled: Settled) {
        // SAFETY: it was a table of ours, and nobody reaches it any more.
        unsafe { self.vm.arch.zero_frame(table) };
        // SAFETY: it came from this arena, and holds zeros.
        unsafe { self.vm.arena.give_back(table, settled) };
    }
}

/// The frame of the table that a part's directory entry points to.
pub(super) fn table_frame<A: Arch>(part: Part<'_>) -> Option<PhysAddr> {
    match A::Format::upper(1, part.directory.load(Ordering::Relaxed)) {
        Upper::Table { frame, .. } => Some(frame),
        Upper::NotPresent | Upper::Leaf { .. } => None,
    }
}

/// Up to `N` frames of a space's arena that were set aside for copies of shared
/// tables. They go back when it is dropped.
#[derive(Debug)]
pub struct Reserve<'s, const N: usize, A: Arch = Native> {
    space: &'s Space<A>,
    /// Addresses; [`TAKEN`] or [`LENT`] where there is none.
    frames: [AtomicU64; N],
}

/// A frame's place from which it was taken for good.
const TAKEN: u64 = 0;

/// A frame's place from which it was taken by one who may yet put it back: who
/// refills leaves it alone. No frame has this address.
const LENT: u64 = 1;

/// A frame that was taken from a [`Reserve`], and its place there.
struct Lent<'r> {
    frame: PhysAddr,
    place: &'r AtomicU64,
}

impl Lent<'_> {
    /// The frame is in use from now on.
    fn keep(self) {
        self.place.store(TAKEN, Ordering::Release);
    }

    /// The frame was not needed.
    fn put_back(self) {
        self.place.store(self.frame.0, Ordering::Release);
    }
}

impl<const N: usize, A: Arch> Reserve<'_, N, A> {
    /// Sets aside as many frames as were taken.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutOfFrames`]; nothing was set aside then.
    pub fn refill(&self) -> Result<(), SpaceError> {
        let missing = self.frames.iter().filter(|place| place.load(Ordering::Relaxed) == TAKEN).count();
        let mut promise = self.space.vm.promise(missing).map_err(SpaceError::out_of_frames(missing))?;
        while let Some(frame) = promise.take() {
            if !self.put(frame) {
                // Another one refilled meanwhile.
                self.space.give_back(frame, self.space.vm.settle(Invalidation::NOTHING));
            }
        }
        Ok(())
    }

    /// Frames that are there.
    pub fn len(&self) -> usize {
        self.frames.iter().filter(|frame| frame.load(Ordering::Relaxed) > LENT).count()
    }

    /// Whether none is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the granule of `page` a table of its own if it has a shared one, so
    /// that its pages can be edited. What they show does not change.
    ///
    /// Takes no lock, allocates nothing and sends no interrupt (aarch64
    /// broadcasts): for handlers, on any CPU, and on several at once. Settling
    /// it on this CPU is enough for this CPU; another one that still uses the
    /// shared table faults when it writes, and finds the copy when it tries
    /// again.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutOfReserve`] and those of every range.
    ///
    /// # Safety
    ///
    /// Nobody edits pages of the granule during the call, but for others who
    /// make it private.
    pub unsafe fn make_private(&self, page: VirtAddr) -> Result<Edit, SpaceError> {
        let space = self.space;
        let part = space.part(Pages { start: page, count: 1 })?;
        let old = part.directory.load(Ordering::Acquire);
        let Below::Shared(shared) = space.below(part.directory) else { return Ok(Edit::NOTHING) };
        let Some(copy) = self.take() else {
            // What another CPU holds this moment comes back, or was for this
            // granule: whoever wrote there tries again.
            let lent = self.frames.iter().any(|place| place.load(Ordering::Acquire) == LENT);
            let changed = part.directory.load(Ordering::Acquire) != old;
            return if lent || changed {
                Ok(Edit::NOTHING)
            } else {
                Err(SpaceError::OutOfReserve { limit: N })
            };
        };
        // SAFETY: a shared table does not change, and the copy is ours alone.
        unsafe { space.vm.arch.copy_frame(shared, copy.frame) };
        let new = A::Format::table(copy.frame);
        let needs_break = A::Format::needs_break(old, new);
        let first = if needs_break { A::Format::empty(pages::BUSY) } else { new };
        if part.directory.compare_exchange(old, first, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // Another CPU makes it private, or has.
            copy.put_back();
            return Ok(Edit::NOTHING);
        }
        copy.keep();
        let mut invalidation = Invalidation::NOTHING;
        if needs_break {
            let _ = space.forget(part);
            part.directory.store(new, Ordering::Release);
        } else {
            // The pointer to the table. Translations that went through it are
            // what they would be through the copy, for all pages.
            invalidation = Invalidation::tables(part.pages);
        }
        space.vm.arch.publish();
        Ok(Edit { entries: 1, tables: 1, invalidation, taken: () })
    }

    fn take(&self) -> Option<Lent<'_>> {
        self.frames.iter().find_map(|place| {
            let lend = |frame| (frame > LENT).then_some(LENT);
            let frame = place.fetch_update(Ordering::AcqRel, Ordering::Relaxed, lend).ok()?;
            Some(Lent { frame: PhysAddr(frame), place })
        })
    }

    /// Puts a frame where there is room, and says whether there was.
    fn put(&self, frame: PhysAddr) -> bool {
        let put = |place: &AtomicU64| {
            place.compare_exchange(TAKEN, frame.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        self.frames.iter().any(put)
    }
}

impl<const N: usize, A: Arch> Drop for Reserve<'_, N, A> {
    fn drop(&mut self) {
        for place in &mut self.frames {
            let frame = core::mem::replace(place.get_mut(), TAKEN);
            if frame > LENT {
                // Never linked: nobody has cached it.
                self.space.give_back(PhysAddr(frame), self.space.vm.settle(Invalidation::NOTHING));
            }
        }
    }
}
