//! Initial contents of memories, kept as page tables that memories share.
//!
//! ```text
//!   record (one frame)        master tables            frames
//!   | counts, extent     |    granule 0: | . . I I |   I: the image's, or the embedder's
//!   | master tables ----------> granule 1: | I Z I I |   Z: the zero frame, everybody's
//!   | tails ----------------> granule 1, as far as page 700: | I Z I - |
//!   | working set        |
//! ```
//!
//! All entries are copied on write. A memory's granule (2 MiB) that nobody wrote
//! yet points to a master table, or, where the memory ends in its midst, to a
//! *tail*: the master table up to there. Both are built once and never change
//! while anything points to them.
//!
//! An image has owners: handles, and slots that show it or did so last. The
//! last one takes it apart, once no CPU can walk its tables any more. A frame can
//! be in several images, and in a region as well, and a master table in several
//! images: the arena counts their owners. Frames are a table's, not an image's.

mod shown;
mod working_set;
mod zeros;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use allotment_arch::{
    Access, Arch, ENTRIES_PER_TABLE, Format, Invalidation, PAGE_SIZE, PhysAddr, Table, Upper,
};
use heapless::Vec;
use spin::mutex::SpinMutex;

use super::{Promise, Settled, Vm, pages};
use crate::Error;

pub(crate) use shown::ShownImage;
pub(crate) use working_set::WorkingSet;
pub(crate) use zeros::Zeros;

/// Granules that one image may span: 512 MiB from its first page's to its last's.
pub(crate) const MOST_GRANULES: usize = 256;

/// Accessible sizes for which an image keeps tails. Memories of further sizes get a table
/// of their own; pools refuse them where a slot has none since the carve.
const MOST_TAILS: usize = 8;

/// Memories on demand, of one image, until what they write is learned anew.
const MEMORIES_ON_DEMAND: u32 = 64;

/// An image, by the frame that its record is in. Whoever keeps one is among its
/// owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image(PhysAddr);

/// What is known of an image.
#[derive(Debug)]
pub(crate) struct ImageRecord {
    /// Handles and slots.
    owners: AtomicUsize,
    /// Handles alone: without any no new slot shows it.
    handles: AtomicUsize,
    /// First page of the memory that it covers, and the page after its last.
    first: usize,
    end: usize,
    /// Number of the granule that `first` is in.
    first_granule: usize,
    /// How many there are.
    granules: usize,
    tails: SpinMutex<Vec<Tail, MOST_TAILS>>,
    /// Frame of the record of the same image elsewhere in a memory; 0 if there is none.
    #[cfg_attr(not(feature = "wasmtime-platform"), expect(dead_code, reason = "the platform asks"))]
    placed: AtomicU64,
    /// The record's own frame.
    #[cfg_attr(not(feature = "wasmtime-platform"), expect(dead_code, reason = "the platform asks"))]
    frame: PhysAddr,
    /// Whether slots note what was written.
    pub(crate) learns: AtomicBool,
    /// Changes whenever the working set does.
    pub(crate) version: AtomicU32,
    pub(crate) working_set: SpinMutex<WorkingSet>,
    /// How often that was forgotten: memories on demand note nothing that began before.
    forgotten: AtomicU32,
    /// How many of them began since.
    begun: AtomicU32,
    /// Directory entries for the master tables.
    masters: [AtomicU64; MOST_GRANULES],
}

const _: () = assert!(size_of::<ImageRecord>() <= PAGE_SIZE);

/// A master table up to page `last` of the memory.
#[derive(Clone, Copy, Debug)]
struct Tail {
    last: usize,
    table: PhysAddr,
}

/// Where the bytes of an image's page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageSource {
    /// Nowhere: zeros.
    Zeros,
    /// In a frame whose bytes do not change any more. If it is the arena's, the image
    /// becomes one of its owners.
    Frame(PhysAddr),
    /// They are written to a new frame.
    Copy,
}

impl<A: Arch> Vm<A> {
    /// Builds the image of pages `first..end` of a memory. `table` gives the directory
    /// entries of granules for which there is a master table already, another image's or
    /// that of zeros. `source` says of each page of the others where its bytes are, at
    /// most `copies` times to be copied: then `fill` writes them, over zeros, and says
    /// whether any is not zero.
    ///
    /// # Safety
    ///
    /// Frames that `source` names can be read, and are written by nobody for as
    /// long as the image lives. Tables that `table` names have an owner during the call.
    pub(crate) unsafe fn build_image(
        &self,
        first: usize,
        end: usize,
        copies: usize,
        table: impl Fn(usize) -> Option<u64>,
        mut source: impl FnMut(usize) -> PageSource,
        mut fill: impl FnMut(usize, PhysAddr) -> bool,
    ) -> Result<Image, Error> {
        let first_granule = first / ENTRIES_PER_TABLE;
        let granules = end.div_ceil(ENTRIES_PER_TABLE).saturating_sub(first_granule);
        if granules > MOST_GRANULES {
            let limit = MOST_GRANULES * ENTRIES_PER_TABLE * PAGE_SIZE;
            return Err(Error::ImageTooLarge { bytes: (end - first) * PAGE_SIZE, limit });
        }
        self.zeros.make(self)?;
        let found = (0..granules).filter(|&nth| table(first_granule + nth).is_some()).count();
        let mut promise = self.promise(1 + granules - found + copies)?;
        let missing = Error::OutOfFrames { needed: 1, available: 0 };
        let record = promise.take().ok_or(missing)?;
        self.arena.lend(1 + granules - found);
        let place = self.arch.physical(record).cast::<ImageRecord>();
        // SAFETY: the frame is ours alone, large enough, and aligned as a page.
        unsafe { place.write(ImageRecord::new(record, first, end, first_granule, granules)) };
        let image = Image(record);
        for nth in 0..granules {
            if let Some(entry) = table(first_granule + nth) {
                if let Upper::Table { frame, .. } = A::Format::upper(1, entry) {
                    self.arena.share(frame);
                }
                image.record(self).masters[nth].store(entry, Ordering::Relaxed);
                continue;
            }
            let Some(table) = promise.take() else { break };
            let start = (first_granule + nth) * ENTRIES_PER_TABLE;
            for (at, entry) in self.table(table).iter().enumerate() {
                let page = start + at;
                let covered = (first..end).contains(&page);
                let frame = match if covered { source(page) } else { PageSource::Zeros } {
                    PageSource::Zeros => self.zeros.frame(),
                    PageSource::Frame(frame) => {
                        self.arena.share(frame);
                        frame
                    }
                    PageSource::Copy => self.copied(page, &mut promise, &mut fill),
                };
                entry.store(A::Format::present(frame, Access::CopyOnWrite, false), Ordering::Relaxed);
            }
            image.record(self).masters[nth].store(A::Format::shared_table(table), Ordering::Relaxed);
        }
        self.arch.publish();
        Ok(image)
    }

    /// An image, which covers a memory from its first page on, as it covers one from page
    /// `first` on. The image stays its owner.
    #[cfg(feature = "wasmtime-platform")]
    pub(crate) fn placed_image(&self, image: Image, first: usize) -> Result<Image, Error> {
        let record = image.record(self);
        if first == 0 {
            return Ok(image);
        }
        let found = record.placed.load(Ordering::Acquire);
        if found != 0 {
            let placed = Image(PhysAddr(found));
            let same = placed.record(self).first == first;
            // In two places at once nobody has it: it is copied there.
            return if same { Ok(placed) } else { Err(Error::Written { slot: u32::MAX }) };
        }
        let source =
            |page: usize| record.frame_of(self, page - first).map_or(PageSource::Zeros, PageSource::Frame);
        // SAFETY: the frames of an image do not change.
        let placed =
            unsafe { self.build_image(first, first + record.end, 0, |_| None, source, |_, _| false) }?;
        match record.placed.compare_exchange(0, placed.0.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(placed),
            Err(_) => {
                placed.drop_handle(self);
                placed.release(self);
                self.placed_image(image, first)
            }
        }
    }

    /// A new frame with what `fill` writes, or the zero frame.
    fn copied(
        &self,
        page: usize,
        promise: &mut Promise<'_, A>,
        fill: &mut impl FnMut(usize, PhysAddr) -> bool,
    ) -> PhysAddr {
        let Some(frame) = promise.take() else { return self.zeros.frame() };
        if fill(page, frame) {
            self.arena.lend(1);
            return frame;
        }
        // SAFETY: the frame was taken for this page, holds zeros, and was shown to
        // nobody.
        unsafe { self.arena.put_back(frame) };
        promise.put_back();
        self.zeros.frame()
    }

    /// The directory entry for granule `nth` of a memory that shows `image` over
    /// zeros and whose accessible pages end at `last`: one that every such memory
    /// shares.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfFrames`] when it would have to be built.
    #[inline]
    pub(crate) fn view(&self, image: Option<&ImageRecord>, nth: usize, last: usize) -> Result<u64, Error> {
        let master = image.and_then(|image| image.master(nth));
        let pages = last - nth * ENTRIES_PER_TABLE;
        match master {
            Some(master) if pages >= ENTRIES_PER_TABLE => Ok(master),
            Some(master) => image.map_or(Ok(0), |image| self.tail(image, master, last)),
            None => self.zeros.view(self, pages.min(ENTRIES_PER_TABLE)),
        }
    }

    fn tail(&self, image: &ImageRecord, master: u64, last: usize) -> Result<u64, Error> {
        let mut tails = image.tails.lock();
        if let Some(tail) = tails.iter().find(|tail| tail.last == last) {
            return Ok(A::Format::shared_table(tail.table));
        }
        if tails.is_full() {
            return Err(Error::ImageSizes { limit: MOST_TAILS });
        }
        let master = self.table_of(master).ok_or(Error::ImageSizes { limit: MOST_TAILS })?;
        let table = self.promise(1)?.take().ok_or(Error::OutOfFrames { needed: 1, available: 0 })?;
        self.arena.lend(1);
        for (entry, place) in master.iter().zip(self.table(table)).take(last % ENTRIES_PER_TABLE) {
            place.store(entry.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.arch.publish();
        let _ = tails.push(Tail { last, table });
        Ok(A::Format::shared_table(table))
    }

    /// The entries of a leaf table of ours.
    pub(crate) fn table(&self, frame: PhysAddr) -> &[AtomicU64] {
        // SAFETY: whoever asks owns the table, or what keeps it; only atomics are
        // used on it.
        unsafe { Table::new(&self.arch, frame, 1) }.entries()
    }

    /// The leaf table that a directory entry points to.
    pub(crate) fn table_of(&self, entry: u64) -> Option<&[AtomicU64]> {
        match A::Format::upper(1, entry) {
            Upper::Table { frame, .. } => Some(self.table(frame)),
            Upper::NotPresent | Upper::Leaf { .. } => None,
        }
    }
}

impl Image {
    /// The image whose record is in `frame`.
    pub(crate) fn from_frame(frame: PhysAddr) -> Self {
        Self(frame)
    }

    /// The image of a record.
    ///
    /// # Safety
    ///
    /// There is one, and whoever asks is among its image's owners.
    #[cfg(feature = "wasmtime-platform")]
    pub(crate) unsafe fn of_record(record: core::ptr::NonNull<ImageRecord>) -> Self {
        // SAFETY: by this function's contract.
        Self(unsafe { record.as_ref() }.frame)
    }

    /// The frame that its record is in.
    pub(crate) fn frame(self) -> PhysAddr {
        self.0
    }

    pub(crate) fn record<A: Arch>(self, vm: &Vm<A>) -> &ImageRecord {
        // SAFETY: `build_image` wrote a record there, which stays until its last
        // owner is gone; whoever has an `Image` is one, or holds one still.
        unsafe { vm.arch.physical(self.0).cast::<ImageRecord>().as_ref() }
    }

    /// One handle more.
    pub(crate) fn add_handle<A: Arch>(self, vm: &Vm<A>) {
        let record = self.record(vm);
        record.handles.fetch_add(1, Ordering::Relaxed);
        record.owners.fetch_add(1, Ordering::Relaxed);
    }

    /// One handle less: whether it was the last. Its owner's share stays, to be given
    /// up by [`release`](Self::release).
    pub(crate) fn drop_handle<A: Arch>(self, vm: &Vm<A>) -> bool {
        self.record(vm).handles.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Whether there is a handle.
    pub(crate) fn has_handle<A: Arch>(self, vm: &Vm<A>) -> bool {
        self.record(vm).handles.load(Ordering::SeqCst) > 0
    }

    /// One slot more.
    pub(crate) fn add_slot<A: Arch>(self, vm: &Vm<A>) {
        self.record(vm).owners.fetch_add(1, Ordering::Relaxed);
    }

    /// One owner less. The last takes the image apart.
    pub(crate) fn release<A: Arch>(self, vm: &Vm<A>) {
        if self.record(vm).owners.fetch_sub(1, Ordering::AcqRel) == 1 {
            let settled = vm.settle(Invalidation::EVERYTHING);
            // SAFETY: nobody owns it any more, and no CPU can walk its tables.
            unsafe { self.take_apart(vm, settled) };
        }
    }

    /// # Safety
    ///
    /// Nobody has it or its tables, nor has since before `settled`.
    unsafe fn take_apart<A: Arch>(self, vm: &Vm<A>, settled: Settled) {
        let record = self.record(vm);
        let give_back = |frame| {
            vm.arena.end_loan();
            // SAFETY: it came from the arena, and by this function's contract nobody is
            // at it.
            unsafe { vm.arena.give_back_stained(&vm.arch, frame, settled) };
        };
        for tail in record.tails.lock().iter() {
            give_back(tail.table);
        }
        for master in &record.masters[..record.granules] {
            let Upper::Table { frame: table, .. } = A::Format::upper(1, master.load(Ordering::Relaxed))
            else {
                continue;
            };
            if !vm.arena.unshare(table) {
                continue;
            }
            for entry in vm.table(table) {
                if let Some(frame) = pages::shown_frame::<A>(entry.load(Ordering::Relaxed))
                    && frame != vm.zeros.frame()
                    && vm.arena.unshare(frame)
                {
                    give_back(frame);
                }
            }
            give_back(table);
        }
        give_back(self.0);
    }
}

impl ImageRecord {
    fn new(frame: PhysAddr, first: usize, end: usize, first_granule: usize, granules: usize) -> Self {
        Self {
            frame,
            placed: AtomicU64::new(0),
            owners: AtomicUsize::new(1),
            handles: AtomicUsize::new(1),
            first,
            end,
            first_granule,
            granules,
            tails: SpinMutex::new(Vec::new()),
            learns: AtomicBool::new(true),
            version: AtomicU32::new(0),
            working_set: SpinMutex::new(WorkingSet::default()),
            forgotten: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            masters: [const { AtomicU64::new(0) }; MOST_GRANULES],
        }
    }

    /// First page of the memory that it covers.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// The page after the last that it covers: fewer no memory may have that shows it.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Takes the image out that shows the same elsewhere in a memory.
    #[cfg(feature = "wasmtime-platform")]
    pub(crate) fn take_placed(&self) -> Option<Image> {
        let frame = self.placed.swap(0, Ordering::AcqRel);
        (frame != 0).then_some(Image(PhysAddr(frame)))
    }

    /// Notes that instances write a page.
    pub(crate) fn learn(&self, page: usize) {
        if self.working_set.lock().add(page) {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Notes that instances write what is not known any more.
    pub(crate) fn forget_writes(&self) {
        self.working_set.lock().clear();
        self.begun.store(0, Ordering::Relaxed);
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a memory on demand begins. Returns what it is to have in hand when it
    /// ends, to note what it wrote: of many one begins with nothing, so that what nobody
    /// writes any more is forgotten.
    pub(crate) fn begin(&self) -> u32 {
        let learns = self.learns.load(Ordering::Relaxed);
        if learns && self.begun.fetch_add(1, Ordering::Relaxed) >= MEMORIES_ON_DEMAND {
            self.forget_writes();
        }
        self.forgotten.load(Ordering::Acquire)
    }

    /// Whether what it wrote is to be noted that has this in hand.
    pub(crate) fn is_noted(&self, begun: u32) -> bool {
        self.learns.load(Ordering::Relaxed) && self.forgotten.load(Ordering::Acquire) == begun
    }

    /// The directory entry for the master table of a memory's granule `nth`.
    #[inline]
    pub(crate) fn master(&self, nth: usize) -> Option<u64> {
        let within = nth.checked_sub(self.first_granule).filter(|&within| within < self.granules)?;
        Some(self.masters[within].load(Ordering::Relaxed))
    }

    /// The number of the first granule, and the directory entries for all master tables.
    pub(crate) fn masters(&self) -> (usize, &[AtomicU64]) {
        (self.first_granule, &self.masters[..self.granules])
    }

    /// The frame that a memory shows on `page` before anybody wrote there. `None`
    /// for zeros.
    pub(crate) fn frame_of<A: Arch>(&self, vm: &Vm<A>, page: usize) -> Option<PhysAddr> {
        let table = vm.table_of(self.master(page / ENTRIES_PER_TABLE)?)?;
        let entry = table[page % ENTRIES_PER_TABLE].load(Ordering::Relaxed);
        pages::shown_frame::<A>(entry).filter(|&frame| frame != vm.zeros.frame())
    }

    /// Frames of pages that the image does not leave to the zero frame.
    pub(crate) fn frames<A: Arch>(&self, vm: &Vm<A>) -> usize {
        (self.first..self.end).filter(|&page| self.frame_of(vm, page).is_some()).count()
    }
}
