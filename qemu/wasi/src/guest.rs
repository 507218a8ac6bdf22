//! The guest's memory, as the calls see it: every pointer checked, every copy in bulk.

use crate::Errno;

/// A guest's linear memory for the length of one call. Pointers and lengths are the guest's and may be
/// anything; what does not lie inside gives [`Errno::Fault`].
pub(crate) struct Guest<'a>(&'a mut [u8]);

impl<'a> Guest<'a> {
    /// A guest without a memory has an empty one: all its pointers are bad.
    pub(crate) fn new(memory: &'a mut [u8]) -> Self {
        Self(memory)
    }

    /// The `len` bytes at `pointer`.
    pub(crate) fn bytes(&self, pointer: u32, len: u32) -> Result<&[u8], Errno> {
        self.0.get(range(pointer, len)?).ok_or(Errno::Fault)
    }

    /// The `len` bytes at `pointer`, to be written.
    pub(crate) fn bytes_mut(&mut self, pointer: u32, len: u32) -> Result<&mut [u8], Errno> {
        self.0.get_mut(range(pointer, len)?).ok_or(Errno::Fault)
    }

    /// The UTF-8 text at `pointer`.
    pub(crate) fn text(&self, pointer: u32, len: u32) -> Result<&str, Errno> {
        str::from_utf8(self.bytes(pointer, len)?).map_err(|_| Errno::IllegalSequence)
    }

    /// The array of `count` records of `N` bytes at `pointer`.
    pub(crate) fn records<const N: usize>(&self, pointer: u32, count: u32) -> Result<&[[u8; N]], Errno> {
        let len = record_bytes::<N>(count)?;
        Ok(self.bytes(pointer, len)?.as_chunks::<N>().0)
    }

    /// Record `index` of such an array.
    pub(crate) fn record<const N: usize>(&self, pointer: u32, index: u32) -> Result<[u8; N], Errno> {
        let start = pointer.checked_add(record_bytes::<N>(index)?).ok_or(Errno::Fault)?;
        self.read(start)
    }

    /// The `N` bytes at `pointer`.
    pub(crate) fn read<const N: usize>(&self, pointer: u32) -> Result<[u8; N], Errno> {
        let start = index(pointer)?;
        let bytes = self.0.get(start..).and_then(<[u8]>::first_chunk::<N>);
        bytes.copied().ok_or(Errno::Fault)
    }

    /// Writes all of `bytes` at `pointer`.
    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?;
        self.bytes_mut(pointer, len)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a little-endian `u32`.
    pub(crate) fn write_u32(&mut self, pointer: u32, value: u32) -> Result<(), Errno> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Writes a little-endian `u64`.
    pub(crate) fn write_u64(&mut self, pointer: u32, value: u64) -> Result<(), Errno> {
        self.write(pointer, &value.to_le_bytes())
    }
}

/// Reads field `N` bytes long at `offset` of a record. The offsets are constants of the callers, which
/// `typenames.witx` fixes; one past the record's end would read as zeros.
pub(crate) fn field<const N: usize>(record: &[u8], offset: usize) -> [u8; N] {
    let bytes = record.get(offset..).and_then(<[u8]>::first_chunk::<N>);
    bytes.copied().unwrap_or([0; N])
}

/// The bytes that `count` records of `N` bytes take.
fn record_bytes<const N: usize>(count: u32) -> Result<u32, Errno> {
    let size = u32::try_from(N).map_err(|_| Errno::Fault)?;
    count.checked_mul(size).ok_or(Errno::Fault)
}

fn range(pointer: u32, len: u32) -> Result<core::ops::Range<usize>, Errno> {
    let start = index(pointer)?;
    let end = start.checked_add(index(len)?).ok_or(Errno::Fault)?;
    Ok(start..end)
}

fn index(value: u32) -> Result<usize, Errno> {
    usize::try_from(value).map_err(|_| Errno::Fault)
}
