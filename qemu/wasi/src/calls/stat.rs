//! Attributes of files: `fd_filestat_get`, `path_filestat_get`.

use crate::{
    Errno, Guest, Host, Wasi,
    abi::lookup,
    descriptor::Descriptor,
    tree::{Metadata, NodeId},
};

/// The one device that all files are on.
const DEVICE: u64 = 1;

impl<H: Host> Wasi<H> {
    pub(crate) fn fd_filestat_get(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        stat: u32,
    ) -> Result<(), Errno> {
        let node = match self.descriptors.get(fd)? {
            Descriptor::Stream(stream, _) => {
                // A stream has a type and nothing else.
                let filetype = self.stream_filetype(*stream);
                let nothing = Metadata { inode: 0, filetype, links: 0, size: 0, modified_ns: 0 };
                return write(memory, stat, 0, nothing);
            }
            Descriptor::File(position) => position.node,
            Descriptor::Directory(directory) => directory.node,
        };
        self.write_stat(memory, stat, node)
    }

    pub(crate) fn path_filestat_get(
        &mut self,
        memory: &mut Guest<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        len: u32,
        stat: u32,
    ) -> Result<(), Errno> {
        let base = self.descriptors.directory(fd)?.node;
        if lookup & !lookup::ALL != 0 {
            return Err(Errno::Invalid);
        }
        let follow = lookup & lookup::SYMLINK_FOLLOW != 0;
        let node = self.tree.resolve(base, memory.text(path, len)?, follow)?.ok_or(Errno::NoEntry)?;
        self.write_stat(memory, stat, node)
    }

    fn write_stat(&self, memory: &mut Guest<'_>, stat: u32, node: NodeId) -> Result<(), Errno> {
        let metadata = self.tree.metadata(node).ok_or(Errno::BadDescriptor)?;
        write(memory, stat, DEVICE, metadata)
    }
}

/// Writes a `filestat`: `u64` device, `u64` inode, `u8` file type at 16, `u64` links at 24, `u64` size, and
/// three `u64` times: access, contents, attributes.
fn write(memory: &mut Guest<'_>, stat: u32, device: u64, metadata: Metadata) -> Result<(), Errno> {
    let Metadata { inode, filetype, links, size, modified_ns } = metadata;
    let fields = [device, inode, u64::from(filetype), links, size, modified_ns, modified_ns, modified_ns];
    let mut record = [0; 64];
    for (place, value) in record.as_chunks_mut().0.iter_mut().zip(fields) {
        *place = value.to_le_bytes();
    }
    memory.write(stat, &record)
}
