//! Descriptors: what a program has open.

use alloc::{string::String, vec, vec::Vec};

use crate::{Errno, Stream, abi::fdflags, tree::NodeId};

/// One open descriptor.
#[derive(Debug)]
pub(crate) enum Descriptor {
    /// A standard stream, with the flags that the program set on it.
    Stream(Stream, u16),
    File(Position),
    Directory(OpenDirectory),
}

/// A place in an open file.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) node: NodeId,
    /// Where the next `fd_read` starts; may lie past the end.
    pub(crate) offset: u64,
    pub(crate) flags: u16,
}

/// An open directory; nothing outside it can be reached through it.
#[derive(Debug)]
pub(crate) struct OpenDirectory {
    pub(crate) node: NodeId,
    /// The name it was opened under before the program started, if it was.
    pub(crate) preopen: Option<String>,
}

/// The table of descriptors. A new one gets the lowest free number, as in POSIX.
#[derive(Debug)]
pub(crate) struct Descriptors(Vec<Option<Descriptor>>);

impl Descriptors {
    /// As many as a process on Linux may have open unless it asks for more.
    pub(crate) const LIMIT: usize = 1024;

    /// The three standard streams.
    pub(crate) fn standard() -> Self {
        let stream = |stream| Some(Descriptor::Stream(stream, 0));
        Self(vec![stream(Stream::Input), stream(Stream::Output), stream(Stream::Error)])
    }

    pub(crate) fn open(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free >= Self::LIMIT {
            return Err(Errno::TooManyOpen);
        }
        let fd = u32::try_from(free).map_err(|_| Errno::TooManyOpen)?;
        match self.0.get_mut(free) {
            Some(slot) => *slot = Some(descriptor),
            None => self.0.push(Some(descriptor)),
        }
        Ok(fd)
    }

    pub(crate) fn close(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        self.slot(fd)?.take().ok_or(Errno::BadDescriptor)
    }

    /// Closes `to` and gives its number to `from`. Both must be open.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.get(from)?;
        self.get(to)?;
        if from != to {
            let moved = self.close(from)?;
            *self.slot(to)? = Some(moved);
        }
        Ok(())
    }

    pub(crate) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        let slot = usize::try_from(fd).ok().and_then(|fd| self.0.get(fd));
        slot.and_then(Option::as_ref).ok_or(Errno::BadDescriptor)
    }

    pub(crate) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.slot(fd)?.as_mut().ok_or(Errno::BadDescriptor)
    }

    /// The position of an open file; streams have none.
    pub(crate) fn seekable(&mut self, fd: u32) -> Result<&mut Position, Errno> {
        match self.get_mut(fd)? {
            Descriptor::File(position) => Ok(position),
            Descriptor::Stream(..) => Err(Errno::InvalidSeek),
            Descriptor::Directory(_) => Err(Errno::BadDescriptor),
        }
    }

    /// The directory that a path starts from.
    pub(crate) fn directory(&self, fd: u32) -> Result<&OpenDirectory, Errno> {
        match self.get(fd)? {
            Descriptor::Directory(directory) => Ok(directory),
            Descriptor::File(_) | Descriptor::Stream(..) => Err(Errno::BadDescriptor),
        }
    }

    fn slot(&mut self, fd: u32) -> Result<&mut Option<Descriptor>, Errno> {
        let slot = usize::try_from(fd).ok().and_then(|fd| self.0.get_mut(fd));
        slot.ok_or(Errno::BadDescriptor)
    }
}

/// The flags a program may set on a descriptor. Only these two have a meaning here; as in Wasmtime, asking
/// for synchronous writes is refused.
pub(crate) fn settable_flags(flags: u32) -> Result<u16, Errno> {
    let flags = u16::try_from(flags).map_err(|_| Errno::Invalid)?;
    if flags & !(fdflags::APPEND | fdflags::NONBLOCK) != 0 {
        return Err(Errno::Invalid);
    }
    Ok(flags)
}
