//! Descriptors as such: closing, renumbering, positions, flags, preopened directories.

use crate::{
    Errno, Guest, Host, Stream, Wasi,
    abi::{filetype, rights},
    descriptor::{Descriptor, OpenDirectory, settable_flags},
};

impl<H: Host> Wasi<H> {
    pub(crate) fn fd_close(&mut self, _memory: &mut Guest<'_>, fd: u32) -> Result<(), Errno> {
        self.descriptors.close(fd).map(drop)
    }

    pub(crate) fn fd_renumber(&mut self, _memory: &mut Guest<'_>, from: u32, to: u32) -> Result<(), Errno> {
        self.descriptors.renumber(from, to)
    }

    pub(crate) fn fd_seek(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        offset: i64,
        whence: u32,
        position: u32,
    ) -> Result<(), Errno> {
        let file = self.descriptors.seekable(fd)?;
        let start = match whence {
            0 => 0,
            1 => file.offset,
            2 => {
                let contents = self.tree.contents(file.node).ok_or(Errno::BadDescriptor)?;
                u64::try_from(contents.len()).map_err(|_| Errno::Overflow)?
            }
            _ => return Err(Errno::Invalid),
        };
        let target = start.checked_add_signed(offset).ok_or(Errno::Invalid)?;
        // A position beyond what an offset can say could not be returned from.
        if i64::try_from(target).is_err() {
            return Err(Errno::Invalid);
        }
        memory.write_u64(position, target)?;
        file.offset = target;
        Ok(())
    }

    pub(crate) fn fd_tell(&mut self, memory: &mut Guest<'_>, fd: u32, position: u32) -> Result<(), Errno> {
        let offset = self.descriptors.seekable(fd)?.offset;
        memory.write_u64(position, offset)
    }

    /// Writes an `fdstat`: `u8` file type, `u16` flags at 2, `u64` rights at 8, `u64` inheriting rights at 16.
    pub(crate) fn fd_fdstat_get(&mut self, memory: &mut Guest<'_>, fd: u32, stat: u32) -> Result<(), Errno> {
        let (filetype, flags, base, inheriting) = match self.descriptors.get(fd)? {
            Descriptor::Stream(stream, flags) => {
                let right = if *stream == Stream::Input { rights::FD_READ } else { rights::FD_WRITE };
                (self.stream_filetype(*stream), *flags, right, right)
            }
            Descriptor::File(position) => {
                (filetype::REGULAR_FILE, position.flags, rights::FILE, rights::FILE)
            }
            Descriptor::Directory(OpenDirectory { preopen: Some(_), .. }) => {
                (filetype::DIRECTORY, 0, rights::PREOPEN, rights::PREOPEN_INHERITING)
            }
            Descriptor::Directory(_) => (filetype::DIRECTORY, 0, rights::DIRECTORY, rights::DIRECTORY),
        };
        let mut record = [0; 24];
        record[0] = filetype;
        record[2..4].copy_from_slice(&flags.to_le_bytes());
        record[8..16].copy_from_slice(&base.to_le_bytes());
        record[16..24].copy_from_slice(&inheriting.to_le_bytes());
        memory.write(stat, &record)
    }

    /// Flags are kept and reported, and change nothing: reads of memory never wait, and standard input is
    /// asked only when the program wants to wait for it.
    pub(crate) fn fd_fdstat_set_flags(
        &mut self,
        _memory: &mut Guest<'_>,
        fd: u32,
        flags: u32,
    ) -> Result<(), Errno> {
        let kept = match self.descriptors.get_mut(fd)? {
            Descriptor::Stream(_, kept) => kept,
            Descriptor::File(position) => &mut position.flags,
            Descriptor::Directory(_) => return Err(Errno::BadDescriptor),
        };
        *kept = settable_flags(flags)?;
        Ok(())
    }

    /// Writes a `prestat`: `u8` kind (0, a directory), `u32` length of its name at 4.
    pub(crate) fn fd_prestat_get(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        prestat: u32,
    ) -> Result<(), Errno> {
        let Descriptor::Directory(OpenDirectory { preopen: Some(name), .. }) = self.descriptors.get(fd)?
        else {
            return Err(Errno::BadDescriptor);
        };
        let len = u32::try_from(name.len()).map_err(|_| Errno::Overflow)?;
        let mut record = [0; 8];
        record[4..8].copy_from_slice(&len.to_le_bytes());
        memory.write(prestat, &record)
    }

    pub(crate) fn fd_prestat_dir_name(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        path: u32,
        len: u32,
    ) -> Result<(), Errno> {
        let Descriptor::Directory(OpenDirectory { preopen: Some(name), .. }) = self.descriptors.get(fd)?
        else {
            return Err(Errno::NotDirectory);
        };
        if usize::try_from(len).is_ok_and(|len| name.len() > len) {
            return Err(Errno::NameTooLong);
        }
        memory.write(path, name.as_bytes())
    }

    /// What a standard stream is: C libraries buffer by lines what is a character device.
    pub(super) fn stream_filetype(&self, stream: Stream) -> u8 {
        if self.host.is_terminal(stream) { filetype::CHARACTER_DEVICE } else { filetype::UNKNOWN }
    }
}
