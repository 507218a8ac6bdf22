//! Which image somebody shows.

use core::sync::atomic::{AtomicU64, Ordering};

use allotment_arch::PhysAddr;

use super::Image;

/// The image that a slot or region shows, of which it is an owner; or none.
#[derive(Debug, Default)]
pub(crate) struct ShownImage {
    /// The frame of its record; 0 for none.
    record: AtomicU64,
}

impl ShownImage {
    #[inline]
    pub(crate) fn get(&self) -> Option<Image> {
        image_at(self.record.load(Ordering::Relaxed))
    }

    /// Notes which one it is. The share in it is the caller's to count.
    pub(crate) fn set(&self, image: Option<Image>) {
        self.record.store(image.map_or(0, |image| image.frame().0), Ordering::Release);
    }

    /// Takes the image out, and the share in it with it.
    pub(crate) fn take(&self) -> Option<Image> {
        image_at(self.record.swap(0, Ordering::AcqRel))
    }
}

#[inline]
fn image_at(record: u64) -> Option<Image> {
    (record != 0).then_some(Image::from_frame(PhysAddr(record)))
}
