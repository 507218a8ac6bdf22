//! Larger translations: blocks of 2 MiB, and aarch64's contiguous runs of 16
//! pages, one 64 KiB wasm page each. Where the CPU asks for it the old entries
//! go, and are forgotten everywhere, before the new ones come.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::{Access, Arch, Entry, Format, PAGE_SIZE, Pages, PhysAddr, TABLE_SPAN, VirtAddr, index};

use super::{
    Edit, Space, SpaceError,
    edit::Tally,
    shared::table_frame,
    walk::{Below, Part, Runs, nth_of_block},
};
use crate::vm::{Promise, pages};

/// The longest contiguous run of any architecture.
const LONGEST_RUN: usize = 16;

impl<A: Arch> Space<A> {
    /// Makes one block of a granule's 512 pages, which are present with the same
    /// access and whose frames are adjacent and begin at a multiple of 2 MiB.
    /// It counts as written if any of them does. The table goes back to the
    /// arena. A block stays one.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NoFrame`], [`SpaceError::Uneven`],
    /// [`SpaceError::SharedTable`], and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn form_block(&self, granule: VirtAddr) -> Result<Edit, SpaceError> {
        let part = self.whole(granule)?;
        let table = match self.below(part.directory) {
            Below::Block(_) => return Ok(Edit::NOTHING),
            Below::Nothing => return Err(SpaceError::NoFrame { page: granule }),
            Below::Shared(_) | Below::Busy => return Err(SpaceError::SharedTable { page: granule }),
            Below::Table(table) => table,
        };
        let (frame, access) = even::<A>(granule, table, TABLE_SPAN)?;
        let Some(old_table) = table_frame::<A>(part) else {
            return Err(SpaceError::NoFrame { page: granule });
        };
        let block = || {
            let written = table.iter().any(|entry| pages::is_written::<A>(entry.load(Ordering::Acquire)));
            A::Format::block(A::Format::present(frame, access, written))
        };
        let mut tally = Tally::of_tables(1);
        self.point(part, block(), &mut tally);
        let settled = self.forget(part);
        tally.settled();
        // CPUs may have set marks in the table until they forgot it, and set
        // them in the block since.
        let last = block();
        if pages::is_written::<A>(A::Format::page(last)) {
            pages::exchange::<A>(part.directory, |block| {
                if pages::is_written::<A>(A::Format::page(block)) { block } else { last }
            });
        }
        self.vm.arch.publish();
        self.give_back(old_table, settled);
        Ok(tally.done())
    }

    /// Makes 512 pages of a block, each marked as written if it was. Pages stay
    /// pages.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutOfFrames`] for the table, [`SpaceError::NoFrame`],
    /// [`SpaceError::SharedTable`], and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn split_block(&self, granule: VirtAddr) -> Result<Edit, SpaceError> {
        let part = self.whole(granule)?;
        match self.below(part.directory) {
            Below::Table(_) => Ok(Edit::NOTHING),
            Below::Nothing => Err(SpaceError::NoFrame { page: granule }),
            Below::Shared(_) | Below::Busy => Err(SpaceError::SharedTable { page: granule }),
            Below::Block(_) => {
                let mut promise = self.vm.promise(1).map_err(SpaceError::out_of_frames(1))?;
                let mut tally = Tally::of_tables(1);
                self.split(part, &mut promise, &mut tally);
                Ok(tally.done())
            }
        }
    }

    /// Makes a part's block 512 pages, with a table from what was promised.
    pub(super) fn split(&self, part: Part<'_>, promise: &mut Promise<'_, A>, tally: &mut Tally) {
        let Some(frame) = promise.take() else { return };
        let table = self.table(frame);
        let mut block = part.directory.load(Ordering::Acquire);
        let pointer = |block| {
            let first = A::Format::page(block);
            pages::write_all(table, |nth| nth_of_block(first, nth));
            let summary = pages::is_writable_or_written::<A>(first);
            A::Format::table(frame) | if summary { A::Format::SUMMARY } else { 0 }
        };
        // What hid a block may not be settled: it counts as present still.
        let shown = A::Format::block(pages::revealed::<A>(A::Format::page(block)));
        if A::Format::needs_break(shown, A::Format::table(frame)) {
            let busy = A::Format::empty(pages::BUSY);
            block = part.directory.swap(busy, Ordering::AcqRel);
            let _ = self.forget(part);
            part.directory.store(pointer(block), Ordering::Release);
            tally.entries += 1;
        } else {
            // The CPU may be setting its mark this moment.
            loop {
                let new = pointer(block);
                match part.directory.compare_exchange(block, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break,
                    Err(marked) => block = marked,
                }
            }
            if block & A::Format::PRESENT != 0 { tally.table(part.granule()) } else { tally.entries += 1 }
        }
        self.vm.arch.publish();
    }

    /// Lets 16 pages, which begin at a multiple of 64 KiB and are present with
    /// the same access and adjacent aligned frames, take one TLB entry. They
    /// count as written if any of them does; and, if they are writable and the
    /// CPU keeps no dirty state, from now on. A run or block stays one.
    ///
    /// Does nothing where there is no such thing, as on x86_64.
    ///
    /// # Errors
    ///
    /// [`SpaceError::NoFrame`], [`SpaceError::Uneven`],
    /// [`SpaceError::SharedTable`], and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn form_run(&self, page: VirtAddr) -> Result<Edit, SpaceError> {
        let part = self.run(page)?;
        if A::Format::RUN == 1 {
            return Ok(Edit::NOTHING);
        }
        let table = match self.below(part.directory) {
            Below::Block(_) => return Ok(Edit::NOTHING),
            Below::Nothing => return Err(SpaceError::NoFrame { page }),
            Below::Shared(_) | Below::Busy => return Err(SpaceError::SharedTable { page }),
            Below::Table(table) => table,
        };
        let first = index(page, 0);
        let run = &table[first..first + A::Format::RUN];
        let (frame, access) = even::<A>(page, run, A::Format::RUN * PAGE_SIZE)?;
        if run[0].load(Ordering::Relaxed) & A::Format::RUN_HINT != 0 {
            return Ok(Edit::NOTHING);
        }
        let marked = access == Access::ReadWrite && !self.vm.arch.hardware_dirty();
        let mut tally = Tally::of_tables(1);
        self.rebuild(page, run, &mut tally, |nth, written| {
            let frame = frame.offset(nth * PAGE_SIZE);
            A::Format::present(frame, access, written || marked) | A::Format::RUN_HINT
        });
        Ok(tally.done())
    }

    /// Makes single pages of a contiguous run, each marked as written if any of
    /// them was. Does nothing if it is none.
    ///
    /// # Errors
    ///
    /// [`SpaceError::SharedTable`], and those of every range.
    ///
    /// # Safety
    ///
    /// See [what every edit asks](crate::space#what-every-unsafe-edit-asks-of-its-caller).
    pub unsafe fn break_run(&self, page: VirtAddr) -> Result<Edit, SpaceError> {
        let part = self.run(page)?;
        let mut tally = Tally::default();
        match self.below(part.directory) {
            Below::Shared(_) | Below::Busy => return Err(SpaceError::SharedTable { page }),
            Below::Nothing | Below::Block(_) => {}
            Below::Table(table) => self.break_runs(part, table, Runs::Broken, &mut tally),
        }
        tally.tables = usize::from(tally.entries > 0);
        Ok(tally.done())
    }

    /// The part that would be one contiguous run.
    fn run(&self, page: VirtAddr) -> Result<Part<'_>, SpaceError> {
        let alignment = A::Format::RUN * PAGE_SIZE;
        if !page.is_aligned(alignment) {
            return Err(SpaceError::Misaligned { address: page, alignment });
        }
        self.part(Pages { start: page, count: A::Format::RUN })
    }

    /// Breaks the runs that a part cuts, or all that it touches.
    pub(super) fn break_runs(&self, part: Part<'_>, table: &[AtomicU64], runs: Runs, tally: &mut Tally) {
        let length = A::Format::RUN;
        if length == 1 {
            return;
        }
        let first = index(part.pages.start, 0);
        let end = first + part.pages.count;
        for at in (first / length * length..end).step_by(length) {
            let cut = at < first || at + length > end;
            let run = &table[at..at + length];
            if (cut || runs == Runs::Broken) && run[0].load(Ordering::Relaxed) & A::Format::RUN_HINT != 0 {
                let page = part.granule().offset(at * PAGE_SIZE);
                let old = run[0].load(Ordering::Relaxed);
                let Entry::Present { frame, access, .. } = A::Format::decode(old) else { continue };
                self.rebuild(page, run, tally, |nth, written| {
                    A::Format::present(frame.offset(nth * PAGE_SIZE), access, written)
                });
            }
        }
    }

    /// Break-before-make of a whole run: entry `n` becomes `new(n, written)`,
    /// where any mark counts for all.
    fn rebuild(
        &self,
        page: VirtAddr,
        run: &[AtomicU64],
        tally: &mut Tally,
        new: impl Fn(usize, bool) -> u64,
    ) {
        let mut entries = [0; LONGEST_RUN];
        let entries = &mut entries[..run.len()];
        pages::suspend::<A>(run, entries);
        let mut broken = Tally::default();
        broken.stale(page, run.len());
        let settled = self.vm.settle(broken.invalidation());
        let written = entries.iter().any(|&old| pages::is_written::<A>(old));
        for (nth, entry) in entries.iter_mut().enumerate() {
            *entry = new(nth, written);
        }
        pages::resume(run, entries, settled);
        self.vm.arch.publish();
        tally.entries += run.len();
    }
}

/// The first frame and the access of pages that are present, alike, and have
/// adjacent frames from a multiple of `alignment` on.
fn even<A: Arch>(
    start: VirtAddr,
    entries: &[AtomicU64],
    alignment: usize,
) -> Result<(PhysAddr, Access), SpaceError> {
    let mut first = None;
    for (nth, entry) in entries.iter().enumerate() {
        let page = start.offset(nth * PAGE_SIZE);
        let Entry::Present { frame, access, .. } = A::Format::decode(entry.load(Ordering::Relaxed)) else {
            return Err(SpaceError::NoFrame { page });
        };
        let (begins, alike) = *first.get_or_insert((frame, access));
        if frame != begins.offset(nth * PAGE_SIZE) || access != alike || !begins.is_aligned(alignment) {
            return Err(SpaceError::Uneven { page });
        }
    }
    first.ok_or(SpaceError::NoFrame { page: start })
}
