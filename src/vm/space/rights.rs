//! Edits on the leaves of a range: giving and taking frames and access.

use core::{cell::Cell, sync::atomic::Ordering};

use allotment_arch::{Access, Arch, Entry, Format, PAGE_SIZE, Pages, PhysAddr, VirtAddr};

use super::{
    Edit, Space, SpaceError,
    edit::Tally,
    walk::{Below, How, Runs, nth_of_block},
};
use crate::vm::{distance, pages};

/// The largest state of an empty entry that is the caller's to note.
const MOST_STATE: u8 = pages::BUSY - 1;

impl<A: Arch> Space<A> {
    /// Gives empty pages frames: page `n` of the range gets `frames(n)`, which
    /// is asked twice. Their states are lost.
    ///
    /// # Errors
    ///
    /// [`SpaceError::InUse`], [`SpaceError::BadFrame`],
    /// [`SpaceError::OutOfFrames`] for tables, and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn map(
        &self,
        pages: Pages,
        frames: impl Fn(usize) -> PhysAddr,
        access: Access,
    ) -> Result<Edit, SpaceError> {
        self.fill(pages, access == Access::ReadWrite, frames, |frame| {
            A::Format::present(frame, access, false)
        })
    }

    /// The same with pages that cannot be reached before they are revealed, and
    /// can then be read and written.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map).
    ///
    /// # Safety
    ///
    /// As for [`map`](Self::map).
    pub unsafe fn map_hidden(
        &self,
        pages: Pages,
        frames: impl Fn(usize) -> PhysAddr,
    ) -> Result<Edit, SpaceError> {
        self.fill(pages, false, frames, |frame| A::Format::hidden(frame, false))
    }

    /// Shows one frame in all of the empty pages: the zero frame, copied on
    /// write. With [`Read`](Access::Read) the caller remembers that the frame
    /// is shared: entries do not say so.
    ///
    /// The frame stays the caller's. A page that got another one instead, by an
    /// edit that was settled on one CPU only, may still be cached with it by
    /// others: settle everywhere before the frame becomes something else.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NotShareable`] for any other access, and those of
    /// [`map`](Self::map).
    ///
    /// # Safety
    ///
    /// As for [`map`](Self::map).
    pub unsafe fn map_one(&self, pages: Pages, frame: PhysAddr, access: Access) -> Result<Edit, SpaceError> {
        check_shareable(access)?;
        // SAFETY: by this function's contract.
        unsafe { self.map(pages, |_| frame, access) }
    }

    /// Gives pages that have a frame `access`, whether they were hidden or not.
    ///
    /// A page that becomes [`CopyOnWrite`](Access::CopyOnWrite) is shared from
    /// then on, and not marked as written.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NoFrame`], [`SpaceError::SharedFrame`] where the page is
    /// shared and access is not [`CopyOnWrite`](Access::CopyOnWrite),
    /// [`SpaceError::OutOfFrames`] for tables, and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn protect(&self, pages: Pages, access: Access) -> Result<Edit, SpaceError> {
        let walk = self.walk(pages)?;
        let mut promise = self.verify(walk, false, |page, entry| match entry {
            Entry::Empty { .. } => Err(SpaceError::NoFrame { page }),
            _ if is_shared(entry) && access != Access::CopyOnWrite => {
                Err(SpaceError::SharedFrame { page, access })
            }
            Entry::Hidden { .. } | Entry::Present { .. } => Ok(()),
        })?;
        let how = How { makes_writable: access == Access::ReadWrite, runs: Runs::Broken, ..How::default() };
        let edit = |_, old| match A::Format::decode(old) {
            // With its hint, if it has one: nothing changes.
            Entry::Present { access: same, .. } if same == access => old,
            _ => pages::with_access::<A>(old, access),
        };
        let tally = self.rewrite(walk, &mut promise, how, edit);
        self.vm.arch.publish();
        if access == Access::ReadExecute {
            // To the end of the last page: all of it can be executed.
            self.vm.arch.synchronise_code(pages.start, pages.count * PAGE_SIZE);
        }
        Ok(tally.done())
    }

    /// Takes access away from all pages that are present; frames stay, and
    /// whether they were written. Pages that could be executed come back
    /// readable.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutOfFrames`] for tables, and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn hide(&self, pages: Pages) -> Result<Edit, SpaceError> {
        let walk = self.walk(pages)?;
        let mut promise = self.verify_tables(walk)?;
        let mut tally = self.rewrite(walk, &mut promise, How::default(), |_, old| pages::hidden::<A>(old));
        self.parts(walk).for_each(|part| self.settle_summary(part));
        if tally.ended_runs {
            // What is revealed is no run, and may be revealed before this edit is
            // settled: the one translation of all sixteen must be gone by then.
            let _ = self.vm.settle(tally.invalidation());
            tally.settled();
        }
        Ok(tally.done())
    }

    /// Gives hidden pages the access that they had. Nothing that could be
    /// cached is taken away.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NoFrame`], [`SpaceError::OutOfFrames`] for tables, and
    /// those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn reveal(&self, pages: Pages) -> Result<Edit, SpaceError> {
        let walk = self.walk(pages)?;
        let mut promise = self.verify_frames(walk)?;
        let how = How { makes_writable: true, ..How::default() };
        let tally = self.rewrite(walk, &mut promise, how, |_, old| pages::revealed::<A>(old));
        self.vm.arch.publish();
        Ok(tally.done())
    }

    /// Notes `state`, 0 to 14, in empty pages. 0 asks for no table.
    ///
    /// # Errors
    ///
    /// [`SpaceError::StateTooLarge`], [`SpaceError::InUse`],
    /// [`SpaceError::OutOfFrames`] for tables, and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn set_state(&self, pages: Pages, state: u8) -> Result<Edit, SpaceError> {
        if state > MOST_STATE {
            return Err(SpaceError::StateTooLarge { state, limit: MOST_STATE });
        }
        let walk = self.walk(pages)?;
        let mut promise = self.verify(walk, state != 0, check_empty)?;
        let how = How { makes_tables: state != 0, ..How::default() };
        Ok(self.rewrite(walk, &mut promise, how, |_, _| A::Format::empty(state)).done())
    }

    /// What was noted in an empty page.
    ///
    /// # Errors
    ///
    /// [`SpaceError::InUse`], and those of every range.
    pub fn state(&self, page: VirtAddr) -> Result<u8, SpaceError> {
        match self.entry(page)? {
            Entry::Empty { state } => Ok(state),
            Entry::Hidden { .. } | Entry::Present { .. } => Err(SpaceError::InUse { page }),
        }
    }

    /// Empties pages. Their frames come out by `frame(page, frame, own)`, after
    /// every CPU has forgotten them; `own` is false for those that the entry
    /// shared. States stay.
    ///
    /// Tables stay as well, for whoever maps there next.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutOfFrames`] for tables, and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn unmap(
        &self,
        pages: Pages,
        mut frame: impl FnMut(VirtAddr, PhysAddr, bool),
    ) -> Result<Edit, SpaceError> {
        let any = Cell::new(false);
        let walk = self.walk(pages)?;
        let mut promise = self.verify(walk, false, |_, entry| {
            any.set(any.get() || !matches!(entry, Entry::Empty { .. }));
            Ok(())
        })?;
        let hide = |_, old| pages::hidden::<A>(old);
        let hidden = self.rewrite(walk, &mut promise, How::default(), hide);
        let mut done = Tally::of_tables(hidden.tables);
        // Those that were hidden before may be cached as well: nobody says that
        // the edit which hid them was settled. They are among all of the range.
        let mut stale = hidden;
        if any.get() {
            stale.stale(pages.start, pages.count);
        }
        let settled = self.vm.settle(stale.invalidation());
        for part in self.parts(walk) {
            match self.below(part.directory) {
                Below::Nothing | Below::Shared(_) | Below::Busy => {}
                Below::Block(first) => {
                    if pages::take_out::<A>(part.directory, settled).is_none() {
                        continue;
                    }
                    done.entries += 1;
                    for (nth, page) in part.pages.iter().enumerate() {
                        let entry = A::Format::decode(nth_of_block(first, nth));
                        if let Entry::Hidden { frame: was, shared, .. } = entry {
                            frame(page, was, !shared);
                        }
                    }
                }
                Below::Table(table) => {
                    for (page, entry) in part.leaves(table) {
                        if let Some((was, own)) = pages::take_out::<A>(entry, settled) {
                            done.entries += 1;
                            frame(page, was, own);
                        }
                    }
                    self.settle_summary(part);
                }
            }
        }
        Ok(done.done())
    }

    /// Shows another frame in a page, whatever it was. The frame that was its
    /// own comes out when the edit is settled.
    ///
    /// Copying on write is this, with a frame that holds a copy: nothing of its
    /// own comes out then, and [`Edit::took_nothing`] may be settled on this
    /// CPU alone.
    ///
    /// # Errors
    ///
    /// [`SpaceError::BadFrame`], [`SpaceError::OutOfFrames`] for tables, and
    /// those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn replace(
        &self,
        page: VirtAddr,
        frame: PhysAddr,
        access: Access,
    ) -> Result<Edit<Option<PhysAddr>>, SpaceError> {
        let one = Pages { start: page, count: 1 };
        check_frame::<A>(frame)?;
        let mut promise = self.verify(self.walk(one)?, true, |_, _| Ok(()))?;
        let mut tally = Tally::default();
        let part = self.part(one)?;
        let makes_writable = access == Access::ReadWrite;
        let how = How { makes_tables: true, makes_writable, runs: Runs::Broken };
        self.ready(part, &mut promise, how, &mut tally);
        let Below::Table(table) = self.below(part.directory) else { return Ok(tally.done_with(None)) };
        tally.tables += 1;
        let mut taken = None;
        let new = A::Format::present(frame, access, false);
        for (page, entry) in part.leaves(table) {
            let old = entry.load(Ordering::Relaxed);
            // What is hidden may be cached as it was: nobody says that the edit
            // which hid it was settled.
            if A::Format::needs_break(pages::revealed::<A>(old), new) {
                let (entry, mut old) = (core::slice::from_ref(entry), [0]);
                pages::suspend::<A>(entry, &mut old);
                let mut broken = Tally::default();
                broken.stale(page, 1);
                let settled = self.vm.settle(broken.invalidation());
                pages::resume(entry, &[new], settled);
                tally.entries += 1;
                taken = A::Format::decode(old[0]).own_frame();
            } else if let Some((old, new)) = pages::exchange::<A>(entry, |_| new) {
                tally.leaf::<A>(page, (old, new));
                taken = A::Format::decode(old).own_frame();
                if taken.is_some() {
                    // Also if it was hidden: by an edit that may not be settled.
                    tally.stale(page, 1);
                }
            }
        }
        self.vm.arch.publish();
        Ok(tally.done_with(taken.filter(|&old| old != frame)))
    }

    /// Fills empty pages.
    fn fill(
        &self,
        pages: Pages,
        writable: bool,
        frames: impl Fn(usize) -> PhysAddr,
        entry: impl Fn(PhysAddr) -> u64,
    ) -> Result<Edit, SpaceError> {
        let walk = self.walk(pages)?;
        let mut promise = self.verify(walk, true, check_empty)?;
        (0..pages.count).try_for_each(|n| check_frame::<A>(frames(n)))?;
        let how = How { makes_tables: true, makes_writable: writable, ..How::default() };
        let nth = |page| distance(pages.start, page).unwrap_or(0) / PAGE_SIZE;
        let tally = self.rewrite(walk, &mut promise, how, |page, _| entry(frames(nth(page))));
        self.vm.arch.publish();
        Ok(tally.done())
    }
}

/// Refuses access that would let several pages write one frame.
pub(super) fn check_shareable(access: Access) -> Result<(), SpaceError> {
    match access {
        Access::CopyOnWrite | Access::Read => Ok(()),
        Access::ReadWrite | Access::ReadExecute => Err(SpaceError::NotShareable { access }),
    }
}

/// Refuses a frame that an entry would cut off.
pub(super) fn check_frame<A: Arch>(frame: PhysAddr) -> Result<(), SpaceError> {
    let entry = A::Format::decode(A::Format::hidden(frame, false));
    if entry == (Entry::Hidden { frame, written: false, shared: false }) {
        Ok(())
    } else {
        Err(SpaceError::BadFrame { frame })
    }
}

fn check_empty(page: VirtAddr, entry: Entry) -> Result<(), SpaceError> {
    match entry {
        Entry::Empty { .. } => Ok(()),
        Entry::Hidden { .. } | Entry::Present { .. } => Err(SpaceError::InUse { page }),
    }
}

pub(super) const fn is_shared(entry: Entry) -> bool {
    matches!(entry, Entry::Hidden { shared: true, .. } | Entry::Present { access: Access::CopyOnWrite, .. })
}
