//! Images of memories in use.

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, PAGE_SIZE, PhysAddr, page_ceil};

use super::MemoryImage;
use crate::{
    Allocator, Error, MakeAccessible, Memory,
    memory::DynamicMemory,
    vm::{PageSource, copy_on_write::is_own, pages, region_entry},
};

impl<A: Arch> Allocator<A> {
    /// Makes an image of all that `memory` shows now, from its first byte to its last page's
    /// end. Memories of its size and larger can show it, and go on from there; so does the
    /// memory itself. None sees what another writes.
    ///
    /// Of a memory in a pool it takes tables, and what first writes may take from now on
    /// ([`Backing::Elastic`](crate::Backing)), or copies of what was written
    /// ([`Backing::Fixed`](crate::Backing)). What the memory shows of an earlier image is
    /// shared with that. Of a memory on demand it copies what was written.
    ///
    /// Nobody writes the memory during the call. Another CPU that goes on with it afterwards
    /// [arrives](Self::arrive) first.
    ///
    /// # Errors
    ///
    /// [`Error::ImageTooLarge`] of more than 512 MiB, [`Error::OutOfFrames`], and
    /// [`Error::Stale`]. The memory is as it was then.
    pub fn capture_memory<'m>(&self, memory: &Memory<'m, A>) -> Result<MemoryImage<'m, A>, Error> {
        match memory {
            Memory::Static { make_accessible, .. } => {
                let MakeAccessible { allocator, id, .. } = *make_accessible;
                // By its own allocator, should the caller hold several.
                allocator.with_room(|| {
                    let image = allocator.pools.of(id).capture(&allocator.vm, id)?;
                    Ok(MemoryImage { allocator, image })
                })
            }
            Memory::Dynamic(memory) => memory.copy(),
        }
    }
}

impl<'a, A: Arch> DynamicMemory<'a, A> {
    /// An image with copies of all own pages that are not zeros. Others are shared.
    fn copy(&self) -> Result<MemoryImage<'a, A>, Error> {
        self.allocator.regions.check(self.place.id)?;
        let (allocator, vm) = (self.allocator, &self.allocator.vm);
        let end = page_ceil(self.size).unwrap_or(self.size) / PAGE_SIZE;
        let entry = |page: usize| {
            let entry = region_entry(vm, self.place.base.offset(page * PAGE_SIZE));
            entry.map_or(0, |entry| entry.load(Ordering::Acquire))
        };
        let source = |page: usize| match pages::shown_frame::<A>(entry(page)) {
            Some(_) if is_own::<A>(entry(page)) => PageSource::Copy,
            Some(frame) if frame != vm.zeros.frame() => PageSource::Frame(frame),
            _ => PageSource::Zeros,
        };
        let mut fill = |page: usize, to: PhysAddr| {
            let Some(from) = pages::shown_frame::<A>(entry(page)) else { return false };
            // SAFETY: nobody writes the memory meanwhile, and the other frame was taken for this
            // page.
            unsafe { vm.arch.copy_frame(from, to) };
            !pages::is_zero(vm, to)
        };
        allocator.with_room(|| {
            let copies = (0..end).filter(|&page| source(page) == PageSource::Copy).count();
            // SAFETY: frames that are shared do not change, and the memory shows an image that
            // keeps them.
            let image = unsafe { vm.build_image(0, end, copies, |_| None, source, &mut fill) }?;
            Ok(MemoryImage { allocator, image })
        })
    }
}
