//! Listing directories: `fd_readdir`.

use crate::{Errno, Guest, Host, Wasi, tree::Listed};

impl<H: Host> Wasi<H> {
    /// Fills the buffer with names from number `cookie` on, the last one cut off where the buffer ends: a full
    /// buffer tells the caller that there is more.
    pub(crate) fn fd_readdir(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        buffer: u32,
        len: u32,
        cookie: u64,
        used: u32,
    ) -> Result<(), Errno> {
        let directory = self.descriptors.directory(fd)?;
        let base = if directory.preopen.is_some() { directory.node } else { self.tree.root() };
        let skip = usize::try_from(cookie).map_err(|_| Errno::Overflow)?;
        memory.bytes(used, 4)?;

        let mut rest = memory.bytes_mut(buffer, len)?;
        for (listed, next) in self.tree.list(directory.node, base, skip).zip(cookie.saturating_add(1)..) {
            rest = put(rest, &header(&listed, next)?);
            rest = put(rest, listed.name.as_bytes());
            if rest.is_empty() {
                break;
            }
        }
        let left = u32::try_from(rest.len()).map_err(|_| Errno::Overflow)?;
        memory.write_u32(used, len - left)
    }
}

/// A `dirent`: `u64` number of the next name, `u64` inode, `u32` length of the name, `u8` file type at 20.
fn header(listed: &Listed<'_>, next: u64) -> Result<[u8; 24], Errno> {
    let len = u32::try_from(listed.name.len()).map_err(|_| Errno::Overflow)?;
    let mut header = [0; 24];
    header[0..8].copy_from_slice(&next.to_le_bytes());
    header[8..16].copy_from_slice(&listed.inode.to_le_bytes());
    header[16..20].copy_from_slice(&len.to_le_bytes());
    header[20] = listed.filetype;
    Ok(header)
}

/// Copies as much of `bytes` as fits and returns the room that is left.
fn put<'a>(room: &'a mut [u8], bytes: &[u8]) -> &'a mut [u8] {
    let len = room.len().min(bytes.len());
    let (head, rest) = room.split_at_mut(len);
    head.copy_from_slice(&bytes[..len]);
    rest
}
