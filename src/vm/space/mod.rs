//! Every edit on ranges of pages, for embedders that build something of their
//! own in a window; pools use the same edits.
//!
//! ```text
//!   window   ...|1 GiB            |1 GiB            |...
//!   root ------> directories, made at the carve, for good
//!                  |       |      |        |
//!                nothing  table  shared   block of 2 MiB
//!                          |      table
//!                        empty, hidden, present        x 512
//! ```
//!
//! | edit | pages from | to |
//! |---|---|---|
//! | [`map`](Space::map), [`map_hidden`](Space::map_hidden), [`map_one`](Space::map_one) | empty | present, hidden |
//! | [`protect`](Space::protect) | present, hidden | present |
//! | [`hide`](Space::hide) | present; others stay | hidden |
//! | [`reveal`](Space::reveal) | hidden, present | present |
//! | [`set_state`](Space::set_state) | empty | empty, with four bits of software |
//! | [`unmap`](Space::unmap) | any | empty; frames come out |
//! | [`replace`](Space::replace) | any | present; a frame comes out |
//! | [`harvest`](Space::harvest), [`peek`](Space::peek) | any | no longer marked as written; the same |
//! | [`share`](Space::share), [`unshare`](Space::unshare), [`replace_table`](Space::replace_table), [`Reserve::make_private`] | a granule | another table |
//! | [`form_block`](Space::form_block), [`split_block`](Space::split_block) | 512 present pages | one entry; and back |
//! | [`form_run`](Space::form_run), [`break_run`](Space::break_run) | 16 present pages | one TLB entry; and back |
//! | [`Premapped`] | hidden, all with frames | revealed from the first on, and hidden again |
//!
//! Ranges begin and end at any page of the window, and may span many tables.
//! An error leaves everything as it was. Each edit says how many entries it
//! wrote and how many tables it looked at.
//!
//! *Nothing is complete before it is settled.* An edit returns an [`Edit`] that
//! says what CPUs may still have cached: [`Space::settle`] makes all of them
//! forget, [`Space::settle_here`] this one. Frames that an edit takes out come
//! back only when every CPU has forgotten them.
//!
//! *Blocks and runs.* An edit of a part of a block splits it first; whole blocks
//! are edited as one. A contiguous run is broken by an edit of a part of it, and
//! by [`protect`](Space::protect) and [`replace`](Space::replace) of any of it;
//! hiding takes the hint away, so that what is revealed is no run.
//!
//! *Shared tables.* Edits below one are refused, but for
//! [`harvest`](Space::harvest) and [`peek`](Space::peek), which find nothing
//! written there, and for those that replace the table as a whole: make it
//! private first.
//!
//! # What every unsafe edit asks of its caller
//!
//! * Nobody else edits pages of the same granules (2 MiB) during the call. The
//!   CPU may set its marks, and faults may call
//!   [`write_fault`](Space::write_fault).
//! * Nobody relies on access that the edit takes away, from the call on, and
//!   nobody uses access that it gives but who owns the frame.
//! * Who uses pages of a block or run that is formed, split or broken, or a page
//!   whose frame is replaced, on aarch64 tolerates a fault and tries again:
//!   they do not translate for a moment (break-before-make).
//! * Frames that are mapped are nobody else's, as far as the access goes.
//! * An [`unshare`](Space::unshare) of a granule, or a [`hide`](Space::hide) of a
//!   contiguous run, is settled before anything becomes present there: on
//!   aarch64 CPUs must not cache the old beside the new.

mod edit;
mod error;
mod harvest;
mod premapped;
mod rights;
mod shared;
mod sizes;
mod walk;

use core::{ops::Range, sync::atomic::Ordering};

use allotment_arch::{
    Arch, Entry, Format, FrameSource, Invalidation, Native, PAGE_SIZE, Pages, PhysAddr, VirtAddr, index,
};

pub use edit::Edit;
pub use error::SpaceError;
pub use premapped::Premapped;
pub use shared::{Reserve, SharedTable};

use walk::{Below, nth_of_block};

use super::{Arena, Carving, CpuRecord, Epochs, POOLS, Places, PoolSpec, Records, Vm, pages};
use crate::{CarveError, Invalidations, events::told};

/// A window whose pages can be edited, and an arena for its tables.
///
/// It takes frames for tables only; those that pages show are the caller's.
/// It is never torn down: dropping it leaves all as it is.
#[derive(Debug)]
pub struct Space<A: Arch = Native> {
    vm: Vm<A>,
    window: Range<VirtAddr>,
}

impl<A: Arch> Space<A> {
    /// Fills the window's top-level entries in the live root, and makes the
    /// tables down to the directories, whose entries serve 2 MiB each.
    ///
    /// The window's edges are multiples of 2 MiB, the arena's of 4 KiB.
    ///
    /// # Errors
    ///
    /// [`CarveError`] when the arena is too small, the window is in use, or CPU
    /// and tables are not set up as isolation needs it. Nothing was changed
    /// then.
    ///
    /// # Safety
    ///
    /// As for [`Allocator::new`](crate::Allocator::new).
    pub unsafe fn new(arch: A, window: Range<VirtAddr>, arena: Range<PhysAddr>) -> Result<Self, CarveError> {
        // SAFETY: by this function's contract.
        unsafe { Self::carve(arch, window, arena, None) }
    }

    /// The same, with the frames of the tables above leaf tables from `tables`
    /// instead of the arena. Only this call takes frames from there.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and [`CarveError::OutOfTableFrames`]; what
    /// was taken is given back.
    ///
    /// # Safety
    ///
    /// As for [`Allocator::with_tables`](crate::Allocator::with_tables).
    pub unsafe fn with_tables(
        arch: A,
        window: Range<VirtAddr>,
        arena: Range<PhysAddr>,
        tables: &mut dyn FrameSource,
    ) -> Result<Self, CarveError> {
        // SAFETY: by this function's contract.
        unsafe { Self::carve(arch, window, arena, Some(tables)) }
    }

    /// # Safety
    ///
    /// As for [`with_tables`](Self::with_tables).
    unsafe fn carve(
        arch: A,
        window: Range<VirtAddr>,
        arena: Range<PhysAddr>,
        tables: Option<&mut dyn FrameSource>,
    ) -> Result<Self, CarveError> {
        // A carve without slots: all of the window is for tables that come and go.
        let carving = Carving {
            arch: &arch,
            window: window.clone(),
            arena: arena.clone(),
            region_space: super::distance(window.start, window.end).unwrap_or(usize::MAX),
            region_records: 0,
            pools: [PoolSpec::NONE; POOLS],
            pool_records: 0,
            cpu_records: arch.cpus() * size_of::<CpuRecord>(),
            upper_from_source: tables.is_some(),
        };
        // SAFETY: by this function's contract.
        let places = unsafe { carving.carve(tables) };
        let places = told!(Warn, "nothing was carved", places)?;

        let Places { frame_links, cpu_records, first_frame, frames, .. } = places;
        // SAFETY: `places` set both ranges aside for just this, in an arena that
        // is ours for good; pages are aligned for any record.
        let frame_links = unsafe { Records::as_found(&arch, frame_links, frames) };
        // SAFETY: see above.
        let cpus = unsafe { Records::new(&arch, cpu_records, arch.cpus(), |_| CpuRecord::default()) };
        let arena = Arena::new(first_frame, frames, frame_links);
        Ok(Self {
            vm: Vm { arch, arena, epochs: Epochs::new(cpus), zeros: crate::vm::Zeros::default() },
            window,
        })
    }

    /// The machine.
    pub fn arch(&self) -> &A {
        &self.vm.arch
    }

    /// The window.
    pub fn window(&self) -> &Range<VirtAddr> {
        &self.window
    }

    /// Frames that are left for tables.
    pub fn available_frames(&self) -> usize {
        self.vm.arena.available()
    }

    /// How often translations were invalidated.
    pub fn invalidations(&self) -> Invalidations {
        self.vm.epochs.counts()
    }

    /// Makes every CPU forget what an edit took away. What it took out is the
    /// caller's then.
    pub fn settle<T>(&self, edit: Edit<T>) -> T {
        let _ = self.vm.settle(edit.invalidation);
        edit.taken
    }

    /// Makes this CPU forget what an edit took away. Enough where no other one
    /// uses the pages before it has invalidated.
    pub fn settle_here(&self, edit: Edit) {
        let arch = &self.vm.arch;
        self.vm.epochs.invalidate_local(arch, arch.current_cpu(), edit.invalidation);
    }

    /// What a page is now. Empty with a state of 15 is one that is being replaced
    /// this moment: who faults there tries again.
    ///
    /// # Errors
    ///
    /// [`SpaceError::OutsideWindow`] and [`SpaceError::Misaligned`].
    pub fn entry(&self, page: VirtAddr) -> Result<Entry, SpaceError> {
        let part = self.part(Pages { start: page, count: 1 })?;
        let nth = index(page, 0);
        let entry = match self.below(part.directory) {
            Below::Nothing => 0,
            Below::Busy => A::Format::empty(pages::BUSY),
            Below::Block(first) => nth_of_block(first, nth),
            Below::Table(table) => table[nth].load(Ordering::Acquire),
            Below::Shared(table) => self.table(table)[nth].load(Ordering::Acquire),
        };
        Ok(A::Format::decode(entry))
    }

    /// Answers a write that faulted: marks the page as written, where the CPU
    /// does not, and says whether trying again helps. It does where the page may
    /// be written, or is being replaced this moment.
    ///
    /// Takes no lock, allocates nothing and sends no interrupt: for handlers,
    /// on any CPU.
    pub fn write_fault(&self, address: VirtAddr) -> bool {
        let page = VirtAddr(address.0 & !(PAGE_SIZE as u64 - 1));
        let one = Pages { start: page, count: 1 };
        let Ok(part) = self.part(one) else { return false };
        let entry = match self.below(part.directory) {
            Below::Nothing | Below::Shared(_) => return false,
            Below::Busy => return true,
            Below::Block(_) => part.directory,
            Below::Table(table) => &table[index(page, 0)],
        };
        if A::Format::decode(entry.load(Ordering::Acquire)) == (Entry::Empty { state: pages::BUSY }) {
            return true;
        }
        let marked = pages::mark_written::<A>(entry);
        if marked && A::Format::STALE_AFTER_UPGRADE {
            self.vm.arch.invalidate_local(Invalidation::leaves(one));
        }
        marked
    }
}
