//! What a memory's type and the store's limiter allow.

use super::{InstanceError, MemoryType, ResourceLimiter};
use crate::{Error, MemoryRequest};

/// Bytes after growth by `delta` pages, or the largest number there is.
pub(super) fn desired_size(ty: &MemoryType, old: usize, delta: u64) -> usize {
    let added = delta.checked_mul(ty.page_size()).and_then(|bytes| usize::try_from(bytes).ok());
    added.and_then(|bytes| old.checked_add(bytes)).unwrap_or(usize::MAX)
}

/// Whether the limiter, if there is one, allows growth.
pub(super) fn ask(
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
    old: usize,
    desired: usize,
    ty: &MemoryType,
) -> Result<bool, InstanceError> {
    let Some(limiter) = limiter else { return Ok(true) };
    let maximum = ty.maximum.map(|_| ty.maximum_bytes());
    Ok(limiter.memory_growing(old, desired, maximum)?)
}

/// Grows to `desired` bytes unless the type forbids it.
pub(super) fn grow_to(
    ty: &MemoryType,
    desired: usize,
    grow: impl FnOnce(usize) -> Result<(), Error>,
) -> Result<(), InstanceError> {
    let maximum = ty.maximum_bytes();
    if desired > maximum {
        return Err(Error::BeyondMaximum { requested: desired, maximum }.into());
    }
    Ok(grow(desired)?)
}

/// The bytes that a memory begins with, if the limiter allows it to be made.
#[inline]
pub(super) fn limit_new(
    ty: &MemoryType,
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
) -> Result<usize, InstanceError> {
    limit_new_of(ty, None, limiter)
}

/// The same of a memory that begins with so many bytes, which are pages of its own, or
/// with those of its type.
#[inline]
pub(super) fn limit_new_of(
    ty: &MemoryType,
    size: Option<usize>,
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
) -> Result<usize, InstanceError> {
    let minimum = size.or_else(|| ty.minimum_bytes()).filter(|_| ty.page_size_log2 <= MOST_PAGE_SIZE_LOG2);
    // Also of what cannot be: the limiter's say comes first.
    if !ask(limiter, 0, minimum.unwrap_or(usize::MAX), ty)? {
        return Err(InstanceError::MemoryDenied { minimum: ty.minimum });
    }
    minimum.ok_or(InstanceError::MemoryUnrepresentable { minimum: ty.minimum })
}

/// Logarithm of the largest page that a memory may have.
pub(super) const MOST_PAGE_SIZE_LOG2: u8 = 16;

/// A GC heap of that type, if the limiter allows it to be made.
pub(super) fn ask_for_gc_heap(
    ty: &MemoryType,
    limiter: Option<&mut (dyn ResourceLimiter + '_)>,
) -> Result<MemoryRequest, InstanceError> {
    Ok(ty.request(limit_new(ty, limiter)?, None))
}
