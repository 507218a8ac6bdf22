//! [`MemoryImage`]: one image, and what can be asked of it.

use core::{fmt, ops::Range, ptr::NonNull, sync::atomic::Ordering};

use allotment_arch::{
    Access, Arch, Entry, Format, Native, PAGE_SIZE, PhysAddr, VirtAddr, page_ceil, translate,
};

use crate::{
    Allocator, Error, Memory, MemoryRequest,
    vm::{Image, PageSource, check_reach, region_entry},
};

/// The initial contents of a memory, over zeros.
///
/// Cloning it makes another handle. Memories that show it keep it alive, and so
/// do slots that showed it last, until its last handle is gone.
#[must_use = "an image without a handle is given up"]
pub struct MemoryImage<'a, A: Arch = Native> {
    pub(super) allocator: &'a Allocator<A>,
    pub(super) image: Image,
}

impl<A: Arch> Allocator<A> {
    /// Builds an image of the pages `[offset, offset + len)` of a memory, in bytes, both
    /// multiples of 4 KiB. `fill` writes each page, given the bytes from the memory's
    /// first to the page's; what it leaves is zeros. Pages of zeros take no frame.
    ///
    /// A `len` of 0 is an image of nothing: it is of use for its
    /// [working set](MemoryImage::for_each_written_page).
    ///
    /// # Errors
    ///
    /// [`Error::ImageMisaligned`], [`Error::ImageTooLarge`] beyond 512 MiB, and
    /// [`Error::OutOfFrames`].
    pub fn build_image(
        &self,
        offset: usize,
        len: usize,
        mut fill: impl FnMut(usize, &mut [u8; PAGE_SIZE]),
    ) -> Result<MemoryImage<'_, A>, Error> {
        let (first, end) = pages_of(offset, len)?;
        let mut fill = |page: usize, frame: PhysAddr| {
            let mut bytes: NonNull<[u8; PAGE_SIZE]> = self.vm.arch.physical(frame).cast();
            // SAFETY: `physical` gives memory of a page; the frame was taken for this
            // page, and nobody else has it.
            let bytes = unsafe { bytes.as_mut() };
            fill(page * PAGE_SIZE, bytes);
            bytes.iter().any(|&byte| byte != 0)
        };
        self.with_room(|| {
            // SAFETY: no frame is named.
            let image = unsafe {
                self.vm.build_image(first, end, end - first, |_| None, |_| PageSource::Copy, &mut fill)
            }?;
            Ok(MemoryImage { allocator: self, image })
        })
    }

    /// Builds an image of a memory's pages from `offset` on that shows `len` bytes of
    /// physical memory from `frames` on, all multiples of 4 KiB. Nothing is copied.
    ///
    /// # Errors
    ///
    /// As for [`build_image`](Self::build_image); [`Error::NotShowable`] if any of it is in
    /// the arena, or beyond what entries can name.
    ///
    /// # Safety
    ///
    /// For the rest of the machine's life the bytes do not change, and instances may read
    /// them.
    pub unsafe fn image_of_frames(
        &self,
        offset: usize,
        frames: PhysAddr,
        len: usize,
    ) -> Result<MemoryImage<'_, A>, Error> {
        if !frames.0.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Error::ImageMisaligned { value: frames.0 });
        }
        let (first, end) = pages_of(offset, len)?;
        if len > 0 && !self.may_show(&(frames..frames.offset(len))) {
            return Err(Error::NotShowable { frames, bytes: len });
        }
        let source = |page: usize| PageSource::Frame(frames.offset((page - first) * PAGE_SIZE));
        // SAFETY: by this function's contract.
        unsafe { self.image_without_copies(first, end, source) }
    }

    /// Builds an image of a memory's pages from `offset` on that shows the `len` bytes
    /// that are mapped at `start`, all multiples of 4 KiB. What is mapped in a region of
    /// this allocator is shared, and outlives the region: a compiled module's read-only
    /// data, as a rule. Of other memory the frames are shown as they are.
    ///
    /// # Errors
    ///
    /// As for [`build_image`](Self::build_image); [`Error::UnknownRange`] if a byte is not
    /// mapped, or is a memory's or another of the arena's that no region shows read-only.
    ///
    /// # Safety
    ///
    /// The bytes do not change as long as the image lives; those of a region until it is
    /// released or made writable, which this allocator then refuses; others for the
    /// rest of the machine's life.
    pub unsafe fn image_of_mapped(
        &self,
        offset: usize,
        start: VirtAddr,
        len: usize,
    ) -> Result<MemoryImage<'_, A>, Error> {
        if !start.0.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Error::ImageMisaligned { value: start.0 });
        }
        let (first, end) = pages_of(offset, len)?;
        let frame = |page: usize| self.mapped_frame(start.offset((page - first) * PAGE_SIZE));
        if (first..end).any(|page| frame(page).is_none()) {
            return Err(Error::UnknownRange { address: start, bytes: len });
        }
        let source = |page: usize| frame(page).map_or(PageSource::Zeros, PageSource::Frame);
        // SAFETY: by this function's contract.
        unsafe { self.image_without_copies(first, end, source) }
    }

    /// # Safety
    ///
    /// As for `Vm::build_image`.
    unsafe fn image_without_copies(
        &self,
        first: usize,
        end: usize,
        source: impl Fn(usize) -> PageSource,
    ) -> Result<MemoryImage<'_, A>, Error> {
        self.with_room(|| {
            // SAFETY: by this function's contract.
            let image = unsafe { self.vm.build_image(first, end, 0, |_| None, &source, |_, _| false) }?;
            Ok(MemoryImage { allocator: self, image })
        })
    }

    fn mapped_frame(&self, page: VirtAddr) -> Option<PhysAddr> {
        if self.regions.contains(page) {
            let entry = region_entry(&self.vm, page)?.load(Ordering::Acquire);
            return match A::Format::decode(entry) {
                Entry::Present { frame, access: Access::Read | Access::ReadExecute, .. } => Some(frame),
                _ => None,
            };
        }
        if self.plan.window.contains(&page) {
            return None;
        }
        // SAFETY: live tables of the kernel's own memory stay during a call.
        let found = unsafe { translate(&self.vm.arch, page) }?.physical;
        self.may_show(&(found..found.offset(PAGE_SIZE))).then_some(found)
    }

    /// Whether physical memory, at least a page, is not the arena's, and entries can name it.
    fn may_show(&self, frames: &Range<PhysAddr>) -> bool {
        let Range { start, end } = &self.plan.arena;
        let apart = frames.end <= *start || *end <= frames.start;
        apart && frames.start < frames.end && check_reach(&self.vm.arch, frames).is_ok()
    }

    /// Runs what may lack frames, again after making room.
    pub(super) fn with_room<T>(&self, mut run: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        match run() {
            Err(Error::OutOfFrames { needed, .. }) if self.pools.make_room(&self.vm, needed) => run(),
            result => result,
        }
    }

    /// Allocates a memory that shows `image` over zeros, on the CPU that goes on with it.
    ///
    /// Otherwise as [`allocate_memory`](Self::allocate_memory).
    ///
    /// # Errors
    ///
    /// Those of `allocate_memory`; [`Error::ForeignImage`], [`Error::ImageBeyondMemory`] and
    /// [`Error::ImageSizes`]. Nothing is allocated then.
    #[inline]
    pub fn allocate_memory_from(
        &self,
        image: &MemoryImage<'_, A>,
        request: impl Into<MemoryRequest>,
    ) -> Result<Memory<'_, A>, Error> {
        if !core::ptr::eq(image.allocator, self) {
            return Err(Error::ForeignImage);
        }
        self.allocate_memory_showing(Some(image.image), &request.into())
    }
}

/// The pages of a part of a memory.
fn pages_of(offset: usize, len: usize) -> Result<(usize, usize), Error> {
    let misaligned = |&value: &usize| !value.is_multiple_of(PAGE_SIZE);
    if let Some(value) = [offset, len].into_iter().find(misaligned) {
        return Err(Error::ImageMisaligned { value: value as u64 });
    }
    let limit = usize::MAX & !(PAGE_SIZE - 1);
    let end = offset.checked_add(len).and_then(page_ceil);
    let end = end.ok_or(Error::ImageTooLarge { bytes: len, limit })?;
    Ok((offset / PAGE_SIZE, end / PAGE_SIZE))
}

#[cfg(feature = "instance")]
impl<A: Arch> MemoryImage<'_, A> {
    /// The image, for as long as this handle is there.
    pub(crate) fn image(&self) -> Image {
        self.image
    }

    /// Gives `look` each page that is not zeros, with the bytes from the memory's first.
    pub(crate) fn try_for_each_page<E>(
        &self,
        mut look: impl FnMut(usize, &[u8; PAGE_SIZE]) -> Result<(), E>,
    ) -> Result<(), E> {
        let vm = &self.allocator.vm;
        let record = self.image.record(vm);
        for page in record.first()..record.end() {
            let Some(frame) = record.frame_of(vm, page) else { continue };
            let bytes: NonNull<[u8; PAGE_SIZE]> = vm.arch.physical(frame).cast();
            // SAFETY: `physical` gives memory of a page, which does not change while the
            // image lives.
            look(page * PAGE_SIZE, unsafe { bytes.as_ref() })?;
        }
        Ok(())
    }
}

impl<A: Arch> MemoryImage<'_, A> {
    /// Bytes from a memory's first to the image's.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.image.record(&self.allocator.vm).first() * PAGE_SIZE
    }

    /// Bytes that it covers: a multiple of 4 KiB.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an image of nothing is of use")]
    pub fn len(&self) -> usize {
        let record = self.image.record(&self.allocator.vm);
        (record.end() - record.first()) * PAGE_SIZE
    }

    /// Host pages of it that are not zeros: frames that it has, or shares.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.image.record(&self.allocator.vm).frames(&self.allocator.vm)
    }

    /// Gives `look` the pages that instances are expected to write, each by the bytes from
    /// the memory's first: those that earlier ones wrote, and those it was
    /// [told](Self::expect_writes).
    pub fn for_each_written_page(&self, mut look: impl FnMut(usize)) {
        let record = self.image.record(&self.allocator.vm);
        let pages = record.working_set.lock().clone();
        pages.pages().for_each(|page| look(page * PAGE_SIZE));
    }

    /// Has the pages at these offsets, in bytes, be ready to be written when an instance
    /// starts: as if an earlier one had written them. Up to 64 in each of 32 runs of 256
    /// KiB; what is beyond faults once.
    pub fn expect_writes(&self, offsets: impl IntoIterator<Item = usize>) {
        let record = self.image.record(&self.allocator.vm);
        offsets.into_iter().for_each(|offset| record.learn(offset / PAGE_SIZE));
    }

    /// Forgets what instances write.
    pub fn forget_writes(&self) {
        let record = self.image.record(&self.allocator.vm);
        record.forget_writes();
    }

    /// Whether what instances write is noted, for those after them. It is, at first.
    pub fn learns(&self, enable: bool) {
        self.image.record(&self.allocator.vm).learns.store(enable, Ordering::Relaxed);
    }
}

#[cfg(feature = "wasmtime-platform")]
impl<A: Arch> MemoryImage<'_, A> {
    /// The image, with this handle's share in it.
    pub(crate) fn into_image(self) -> Image {
        core::mem::ManuallyDrop::new(self).image
    }
}

impl<A: Arch> Clone for MemoryImage<'_, A> {
    fn clone(&self) -> Self {
        self.image.add_handle(&self.allocator.vm);
        Self { allocator: self.allocator, image: self.image }
    }
}

impl<A: Arch> Drop for MemoryImage<'_, A> {
    fn drop(&mut self) {
        self.allocator.drop_image_handle(self.image);
    }
}

impl<A: Arch> Allocator<A> {
    /// One handle less. After the last no slot at rest stays paired with the image.
    pub(crate) fn drop_image_handle(&self, image: Image) {
        if image.drop_handle(&self.vm) {
            self.pools.memory_pools().for_each(|pool| pool.end_pairings(&self.vm, image));
        }
        image.release(&self.vm);
    }
}

impl<A: Arch> fmt::Debug for MemoryImage<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryImage")
            .field("offset", &self.offset())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
