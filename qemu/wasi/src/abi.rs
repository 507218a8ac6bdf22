//! Numbers of `typenames.witx`: file types, flags, rights. Layouts stand where they are written.

/// `filetype`.
pub(crate) mod filetype {
    pub(crate) const UNKNOWN: u8 = 0;
    pub(crate) const CHARACTER_DEVICE: u8 = 2;
    pub(crate) const DIRECTORY: u8 = 3;
    pub(crate) const REGULAR_FILE: u8 = 4;
    pub(crate) const SYMBOLIC_LINK: u8 = 7;
}

/// `lookupflags`.
pub(crate) mod lookup {
    pub(crate) const SYMLINK_FOLLOW: u32 = 1 << 0;
    pub(crate) const ALL: u32 = 1;
}

/// `oflags`.
pub(crate) mod open {
    pub(crate) const CREATE: u32 = 1 << 0;
    pub(crate) const DIRECTORY: u32 = 1 << 1;
    pub(crate) const EXCLUSIVE: u32 = 1 << 2;
    pub(crate) const TRUNCATE: u32 = 1 << 3;
    pub(crate) const ALL: u32 = 0xf;
}

/// `fdflags`.
pub(crate) mod fdflags {
    pub(crate) const APPEND: u16 = 1 << 0;
    pub(crate) const NONBLOCK: u16 = 1 << 2;
    pub(crate) const ALL: u32 = 0x1f;
}

/// `rights`. Nothing is refused for lack of a right, as in Wasmtime; but old C libraries look at what a
/// directory grants before they call, so that preopened directories grant what Wasmtime's do, writing
/// included. The call itself then says `EROFS`.
pub(crate) mod rights {
    pub(crate) const FD_READ: u64 = 1 << 1;
    pub(crate) const FD_WRITE: u64 = 1 << 6;
    const FD_SEEK: u64 = 1 << 2;
    const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
    const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    const ALL: u64 = (1 << 30) - 1;

    /// An open file.
    pub(crate) const FILE: u64 = ALL & !FD_WRITE;
    /// An open directory.
    pub(crate) const DIRECTORY: u64 =
        ALL & !(FD_WRITE | FD_SEEK | FD_FILESTAT_SET_SIZE | PATH_FILESTAT_SET_SIZE);
    /// A preopened directory: all `path_*` rights but `path_filestat_set_size`, `fd_readdir`,
    /// `fd_filestat_get` and `fd_filestat_set_times`.
    pub(crate) const PREOPEN: u64 = bits(9, 18) | bits(20, 21) | bits(23, 26);
    /// What can be had through one: besides those all that a file takes.
    pub(crate) const PREOPEN_INHERITING: u64 = PREOPEN | bits(0, 8) | FD_FILESTAT_SET_SIZE | bits(27, 27);

    /// Bits `first` to `last`.
    const fn bits(first: u32, last: u32) -> u64 {
        (1 << (last + 1)) - (1 << first)
    }
}

/// `clockid`.
pub(crate) mod clock {
    pub(crate) const REALTIME: u32 = 0;
    pub(crate) const MONOTONIC: u32 = 1;
    pub(crate) const PROCESS_CPU: u32 = 2;
    pub(crate) const THREAD_CPU: u32 = 3;
}
