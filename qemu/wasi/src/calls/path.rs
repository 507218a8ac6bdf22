//! Opening paths and reading links.

use crate::{
    Errno, Guest, Host, Wasi,
    abi::{fdflags, lookup, open, rights},
    descriptor::{Descriptor, OpenDirectory, Position},
    tree::NodeId,
};

impl<H: Host> Wasi<H> {
    pub(crate) fn path_open(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        len: u32,
        how: u32,
        base: u64,
        _inheriting: u64,
        flags: u32,
        opened: u32,
    ) -> Result<(), Errno> {
        let directory = match self.descriptors.get(fd)? {
            Descriptor::Directory(directory) => directory.node,
            Descriptor::File(_) => return Err(Errno::NotDirectory),
            Descriptor::Stream(..) => return Err(Errno::BadDescriptor),
        };
        let creates_directory = how & (open::CREATE | open::DIRECTORY) == open::CREATE | open::DIRECTORY;
        if lookup & !lookup::ALL != 0
            || how & !open::ALL != 0
            || flags & !fdflags::ALL != 0
            || creates_directory
        {
            return Err(Errno::Invalid);
        }
        let exclusive = how & (open::CREATE | open::EXCLUSIVE) == open::CREATE | open::EXCLUSIVE;
        let follow = lookup & lookup::SYMLINK_FOLLOW != 0 && !exclusive;
        let node = match self.tree.resolve(directory, memory.text(path, len)?, follow)? {
            Some(_) if exclusive => return Err(Errno::Exists),
            Some(node) => node,
            None if how & open::CREATE != 0 => return Err(Errno::ReadOnly),
            None => return Err(Errno::NoEntry),
        };
        let descriptor = self.opened(node, how, base, flags)?;
        memory.bytes(opened, 4)?;
        let new = self.descriptors.open(descriptor)?;
        memory.write_u32(opened, new)
    }

    /// What opening `node` gives. Opening a file that exists is no write, even if it could have been made;
    /// opening it to write is.
    fn opened(&self, node: NodeId, how: u32, base: u64, flags: u32) -> Result<Descriptor, Errno> {
        let writes = base & rights::FD_WRITE != 0 || how & open::TRUNCATE != 0;
        if self.tree.directory(node).is_some() {
            if writes || how & open::CREATE != 0 {
                return Err(Errno::IsDirectory);
            }
            return Ok(Descriptor::Directory(OpenDirectory { node, preopen: None }));
        }
        if self.tree.link(node).is_some() {
            return Err(Errno::Loop);
        }
        if how & open::DIRECTORY != 0 {
            return Err(Errno::NotDirectory);
        }
        if writes {
            return Err(Errno::ReadOnly);
        }
        let kept = u16::try_from(flags).map_err(|_| Errno::Invalid)? & (fdflags::APPEND | fdflags::NONBLOCK);
        Ok(Descriptor::File(Position { node, offset: 0, flags: kept }))
    }

    /// Copies as much of the link's target as fits.
    pub(crate) fn path_readlink(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        path: u32,
        len: u32,
        buffer: u32,
        buffer_len: u32,
        used: u32,
    ) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        let node = self.tree.resolve(base, memory.text(path, len)?, false)?.ok_or(Errno::NoEntry)?;
        let target = self.tree.link(node).ok_or(Errno::Invalid)?.as_bytes();
        memory.bytes(used, 4)?;
        let room = memory.bytes_mut(buffer, buffer_len)?;
        let len = room.len().min(target.len());
        room[..len].copy_from_slice(&target[..len]);
        memory.write_u32(used, u32::try_from(len).map_err(|_| Errno::Overflow)?)
    }
}
