//! Calls that would write, which a read-only file system refuses, and calls that are not implemented.
//!
//! As on a read-only mount of Linux, what would fail anyway says so: making what exists gives `EEXIST`, a
//! path through what does not exist `ENOENT`. All else gives `EROFS`.

use crate::{Errno, Guest, Host, Wasi, abi::lookup, descriptor::Descriptor, tree::NodeId};

impl<H: Host> Wasi<H> {
    pub(crate) fn fd_allocate(
        &mut self,
        _: &mut Guest<'_>,
        fd: u32,
        _offset: u64,
        _len: u64,
    ) -> Result<(), Errno> {
        self.refuse_file(fd)
    }

    pub(crate) fn fd_filestat_set_size(
        &mut self,
        _: &mut Guest<'_>,
        fd: u32,
        _size: u64,
    ) -> Result<(), Errno> {
        self.refuse_file(fd)
    }

    pub(crate) fn fd_filestat_set_times(
        &mut self,
        _: &mut Guest<'_>,
        fd: u32,
        _accessed: u64,
        _modified: u64,
        _flags: u32,
    ) -> Result<(), Errno> {
        match self.descriptors.get(fd)? {
            Descriptor::File(_) | Descriptor::Directory(_) => Err(Errno::ReadOnly),
            Descriptor::Stream(..) => Err(Errno::BadDescriptor),
        }
    }

    pub(crate) fn path_create_directory(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        path: u32,
        len: u32,
    ) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        self.refuse_creation(base, memory.text(path, len)?)
    }

    pub(crate) fn path_symlink(
        &mut self,
        memory: &mut Guest<'_>,
        target: u32,
        target_len: u32,
        fd: u32,
        path: u32,
        len: u32,
    ) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        memory.text(target, target_len)?;
        self.refuse_creation(base, memory.text(path, len)?)
    }

    pub(crate) fn path_link(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        len: u32,
        new_fd: u32,
        new_path: u32,
        new_len: u32,
    ) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        let new_base = self.descriptors.directory(new_fd)?.node;
        let follow = lookup & lookup::SYMLINK_FOLLOW != 0;
        self.tree.resolve(base, memory.text(path, len)?, follow)?.ok_or(Errno::NoEntry)?;
        self.refuse_creation(new_base, memory.text(new_path, new_len)?)
    }

    pub(crate) fn path_rename(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        path: u32,
        len: u32,
        new_fd: u32,
        new_path: u32,
        new_len: u32,
    ) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        let new_base = self.descriptors.directory(new_fd)?.node;
        self.tree.resolve(base, memory.text(path, len)?, false)?;
        self.tree.resolve(new_base, memory.text(new_path, new_len)?, false)?;
        Err(Errno::ReadOnly)
    }

    pub(crate) fn path_remove_directory(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        path: u32,
        len: u32,
    ) -> Result<(), Errno> {
        self.refuse_removal(memory, fd, path, len)
    }

    pub(crate) fn path_unlink_file(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        path: u32,
        len: u32,
    ) -> Result<(), Errno> {
        self.refuse_removal(memory, fd, path, len)
    }

    pub(crate) fn path_filestat_set_times(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        len: u32,
        _accessed: u64,
        _modified: u64,
        _flags: u32,
    ) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        let follow = lookup & lookup::SYMLINK_FOLLOW != 0;
        self.tree.resolve(base, memory.text(path, len)?, follow)?.ok_or(Errno::NoEntry)?;
        Err(Errno::ReadOnly)
    }

    /// A call that changes an open file.
    fn refuse_file(&self, fd: u32) -> Result<(), Errno> {
        match self.descriptors.get(fd)? {
            Descriptor::File(_) => Err(Errno::ReadOnly),
            Descriptor::Directory(_) | Descriptor::Stream(..) => Err(Errno::BadDescriptor),
        }
    }

    /// A call that makes something at `path`.
    fn refuse_creation(&self, base: NodeId, path: &str) -> Result<(), Errno> {
        match self.tree.resolve(base, path, false)? {
            Some(_) => Err(Errno::Exists),
            None => Err(Errno::ReadOnly),
        }
    }

    /// A call that removes what is at a path. Linux does not even look whether the name is there.
    fn refuse_removal(&self, memory: &Guest<'_>, fd: u32, path: u32, len: u32) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        self.tree.resolve(base, memory.text(path, len)?, false)?;
        Err(Errno::ReadOnly)
    }
}

macro_rules! not_implemented {
    ($($name:ident($($type:ty),*);)*) => {
        impl<H: Host> Wasi<H> {$(
            pub(crate) fn $name(&mut self, _: &mut Guest<'_>, $(_: $type),*) -> Result<(), Errno> {
                Err(Errno::NotImplemented)
            }
        )*}
    };
}

not_implemented! {
    fd_advise(u32, u64, u64, u32);
    fd_datasync(u32);
    fd_fdstat_set_rights(u32, u64, u64);
    fd_sync(u32);
    proc_raise(u32);
    sock_accept(u32, u32, u32);
    sock_recv(u32, u32, u32, u32, u32, u32);
    sock_send(u32, u32, u32, u32, u32);
    sock_shutdown(u32, u32);
}
