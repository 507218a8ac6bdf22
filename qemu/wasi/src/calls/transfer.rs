//! Reading and writing: `fd_read`, `fd_pread`, `fd_write`, `fd_pwrite`.
//!
//! Buffers come as arrays of `iovec`: `u32` pointer, `u32` length.

use crate::{Errno, Guest, Host, Stream, Wasi, descriptor::Descriptor, guest::field};

/// As many bytes as Linux moves in one call (`MAX_RW_COUNT`); callers go on after a short transfer. Buffers
/// may overlap, so that their lengths can add up to more than the memory's.
const MAX_TRANSFER: u32 = 0x7fff_f000;

impl<H: Host> Wasi<H> {
    pub(crate) fn fd_read(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        read: u32,
    ) -> Result<(), Errno> {
        let len = match self.descriptors.get_mut(fd)? {
            Descriptor::Stream(Stream::Input, _) => {
                let (buffer, len) = check(memory, vectors, count, read)?.first_filled.unwrap_or_default();
                match memory.bytes_mut(buffer, len)? {
                    [] => 0,
                    // One buffer only: to fill the next might mean to wait although there is something to return.
                    bytes => u32::try_from(self.host.stdin_read(bytes)).unwrap_or(len).min(len),
                }
            }
            Descriptor::File(position) => {
                check(memory, vectors, count, read)?;
                let contents = self.tree.contents(position.node).ok_or(Errno::BadDescriptor)?;
                let len = scatter(memory, vectors, count, from(contents, position.offset));
                position.offset = position.offset.saturating_add(u64::from(len));
                len
            }
            Descriptor::Stream(..) | Descriptor::Directory(_) => return Err(Errno::BadDescriptor),
        };
        memory.write_u32(read, len)
    }

    pub(crate) fn fd_pread(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        offset: u64,
        read: u32,
    ) -> Result<(), Errno> {
        let contents = match self.descriptors.get(fd)? {
            Descriptor::File(position) => self.tree.contents(position.node).ok_or(Errno::BadDescriptor)?,
            Descriptor::Stream(Stream::Input, _) => return Err(Errno::InvalidSeek),
            Descriptor::Stream(..) | Descriptor::Directory(_) => return Err(Errno::BadDescriptor),
        };
        check(memory, vectors, count, read)?;
        let len = scatter(memory, vectors, count, from(contents, offset));
        memory.write_u32(read, len)
    }

    pub(crate) fn fd_write(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        written: u32,
    ) -> Result<(), Errno> {
        let write = match self.descriptors.get(fd)? {
            Descriptor::Stream(Stream::Output, _) => H::stdout_write,
            Descriptor::Stream(Stream::Error, _) => H::stderr_write,
            Descriptor::Stream(Stream::Input, _) | Descriptor::Directory(_) => {
                return Err(Errno::BadDescriptor);
            }
            Descriptor::File(_) => return Err(Errno::ReadOnly),
        };
        let total = check(memory, vectors, count, written)?.total;
        let mut left = total;
        for vector in memory.records::<8>(vectors, count)? {
            let (buffer, len) = parse(vector);
            let len = len.min(left);
            if len > 0 {
                // Straight from the guest's memory.
                write(&mut self.host, memory.bytes(buffer, len)?);
            }
            left -= len;
        }
        memory.write_u32(written, total)
    }

    pub(crate) fn fd_pwrite(
        &mut self,
        _memory: &mut Guest<'_>,
        fd: u32,
        _vectors: u32,
        _count: u32,
        _offset: u64,
        _written: u32,
    ) -> Result<(), Errno> {
        match self.descriptors.get(fd)? {
            Descriptor::File(_) => Err(Errno::ReadOnly),
            Descriptor::Stream(Stream::Output | Stream::Error, _) => Err(Errno::InvalidSeek),
            Descriptor::Stream(Stream::Input, _) | Descriptor::Directory(_) => Err(Errno::BadDescriptor),
        }
    }
}

/// Buffers that all lie in the guest's memory.
struct Checked {
    /// How many bytes they take, at most [`MAX_TRANSFER`].
    total: u32,
    /// The first that is not empty.
    first_filled: Option<(u32, u32)>,
}

/// Checks all buffers, and the place for the result, before the first byte moves.
fn check(memory: &Guest<'_>, vectors: u32, count: u32, result: u32) -> Result<Checked, Errno> {
    memory.bytes(result, 4)?;
    let mut checked = Checked { total: 0, first_filled: None };
    for vector in memory.records::<8>(vectors, count)? {
        let (buffer, len) = parse(vector);
        memory.bytes(buffer, len)?;
        checked.total = checked.total.saturating_add(len).min(MAX_TRANSFER);
        if len > 0 {
            checked.first_filled.get_or_insert((buffer, len.min(MAX_TRANSFER)));
        }
    }
    Ok(checked)
}

/// Copies `source` over the buffers, one after the other, and returns how many bytes found room.
fn scatter(memory: &mut Guest<'_>, vectors: u32, count: u32, source: &[u8]) -> u32 {
    let mut copied = 0;
    let mut rest = source;
    for index in 0..count {
        // The copy may have written over the array itself; what is no buffer any more ends it.
        let Ok(vector) = memory.record::<8>(vectors, index) else { break };
        let (buffer, len) = parse(&vector);
        let len = len.min(MAX_TRANSFER - copied).min(u32::try_from(rest.len()).unwrap_or(u32::MAX));
        let Ok(bytes) = memory.bytes_mut(buffer, len) else { break };
        let Some((head, tail)) = rest.split_at_checked(bytes.len()) else { break };
        bytes.copy_from_slice(head);
        copied += len;
        rest = tail;
        if rest.is_empty() || copied == MAX_TRANSFER {
            break;
        }
    }
    copied
}

fn parse(vector: &[u8; 8]) -> (u32, u32) {
    (u32::from_le_bytes(field(vector, 0)), u32::from_le_bytes(field(vector, 4)))
}

/// What lies at and after `offset`.
fn from(contents: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|offset| contents.get(offset..)).unwrap_or_default()
}
