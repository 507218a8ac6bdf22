//! Initial images as Wasmtime's platform has them.
//!
//! ```text
//!   wasmtime_memory_image_new(bytes of the module)   frames are shared, not copied
//!                |
//!   wasmtime_memory_image_map_at(address)            the first time: tables for where in a
//!                |                                   memory that is; then a few entries
//!   wasmtime_memory_image_free                       memories that show it may go on
//! ```
//!
//! Where in its memory an image belongs is known only when it is first placed. In
//! a slot that nobody wrote it is shown; elsewhere its bytes are copied.

use core::ptr::NonNull;

use allotment_arch::{Arch, PAGE_SIZE, VirtAddr};

use super::{Platform, PlatformError};
use crate::{Error, vm::Image};

impl<A: Arch> Platform<A> {
    /// `wasmtime_memory_image_new`: an image of `len` bytes at `bytes`, both multiples of
    /// 4 KiB. What lies in a region, read-only as Wasmtime maps modules, is shared;
    /// anything else is copied, also what is writable there. `None` if it is larger than an image can be: Wasmtime
    /// then copies data segments itself.
    ///
    /// # Errors
    ///
    /// [`PlatformError`]; there is no image then.
    ///
    /// # Safety
    ///
    /// The bytes can be read.
    pub unsafe fn new_image(
        &self,
        bytes: NonNull<u8>,
        len: usize,
    ) -> Result<Option<NonNull<u8>>, PlatformError> {
        let start = super::platform::virt(bytes);
        let copied = || {
            self.allocator().build_image(0, len, |offset, page| {
                // By the machine's own loads: they may be a mapping's.
                let (from, to) = (start.offset(offset), NonNull::from(page).cast());
                // SAFETY: by this function's contract.
                let _ = unsafe { self.allocator().vm.arch.read_bytes(from, to, PAGE_SIZE) };
            })
        };
        let built = if self.allocator().regions.contains(start) {
            // SAFETY: what is mapped read-only there is not made writable while it is in
            // an image, and not reused.
            match unsafe { self.allocator().image_of_mapped(0, start, len) } {
                Err(Error::UnknownRange { .. }) => copied(),
                result => result,
            }
        } else {
            copied()
        };
        match built {
            Ok(image) => Ok(Some(self.allocator().vm.arch.physical(image.into_image().frame()))),
            Err(Error::ImageTooLarge { .. }) => Ok(None),
            Err(error) => self.note(Err(error.into())),
        }
    }

    /// `wasmtime_memory_image_map_at`: has the `len` bytes at `start` of a mapping, all
    /// accessible, show an image.
    ///
    /// # Errors
    ///
    /// [`PlatformError`]; nothing changed then.
    ///
    /// # Safety
    ///
    /// `image` came from [`new_image`](Self::new_image) and was not freed. Nobody uses the
    /// bytes.
    pub unsafe fn map_image(
        &self,
        image: NonNull<u8>,
        start: NonNull<u8>,
        len: usize,
    ) -> Result<(), PlatformError> {
        // SAFETY: by this function's contract.
        let image = unsafe { self.image_at(image) };
        let start = super::platform::virt(start);
        let vm = &self.allocator().vm;
        if let Some((pool, id, offset)) = self.allocator().pools.find_memory(start) {
            if !offset.is_multiple_of(PAGE_SIZE) {
                return self.note(Err(PlatformError::SlotAccess { offset, bytes: len }));
            }
            match vm
                .placed_image(image, offset / PAGE_SIZE)
                .and_then(|placed| pool.show_image(vm, id, placed))
            {
                Err(Error::Written { .. }) => {}
                result => return self.note(result.map_err(PlatformError::from)),
            }
        }
        // SAFETY: by this function's contract.
        self.note(unsafe { self.copy_image(image, start, len) }.map_err(PlatformError::from))
    }

    /// `wasmtime_memory_image_free`.
    ///
    /// # Safety
    ///
    /// `image` came from [`new_image`](Self::new_image), and is used no more.
    pub unsafe fn free_image(&self, image: NonNull<u8>) {
        // SAFETY: by this function's contract.
        let image = unsafe { self.image_at(image) };
        if let Some(placed) = image.record(&self.allocator().vm).take_placed() {
            self.allocator().drop_image_handle(placed);
        }
        self.allocator().drop_image_handle(image);
    }

    /// Writes an image's bytes, page by page.
    ///
    /// # Safety
    ///
    /// Nobody uses the bytes.
    unsafe fn copy_image(&self, image: Image, start: VirtAddr, len: usize) -> Result<(), Error> {
        let (allocator, zeros) = (self.allocator(), [0u8; PAGE_SIZE]);
        let record = image.record(&allocator.vm);
        for page in 0..len / PAGE_SIZE {
            let from = match record.frame_of(&allocator.vm, page) {
                Some(frame) => allocator.vm.arch.physical(frame).cast::<[u8; PAGE_SIZE]>(),
                None => NonNull::from(&zeros),
            };
            // SAFETY: a frame of an image is a page of bytes that do not change.
            let from = unsafe { from.as_ref() };
            // SAFETY: by this function's contract.
            unsafe { allocator.write_from(start.offset(page * PAGE_SIZE), from) }?;
        }
        Ok(())
    }

    /// # Safety
    ///
    /// `image` came from [`new_image`](Self::new_image) and was not freed.
    unsafe fn image_at(&self, image: NonNull<u8>) -> Image {
        // SAFETY: by this function's contract there is a record.
        unsafe { Image::of_record(image.cast()) }
    }
}
