//! Error numbers of preview 1.

/// Why a call failed, as the number the guest sees (`errno` of `typenames.witx`). Only those that
/// this crate gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Errno {
    /// The descriptor is not open, or not of a kind that the call takes.
    BadDescriptor = 8,
    /// The name is already taken.
    Exists = 20,
    /// A pointer leads out of the guest's memory.
    Fault = 21,
    /// A path is not UTF-8.
    IllegalSequence = 25,
    /// An argument has no meaning.
    Invalid = 28,
    /// A directory, where a file is needed.
    IsDirectory = 31,
    /// Too many symbolic links, or one where none may be followed.
    Loop = 32,
    /// No descriptor is free.
    TooManyOpen = 33,
    /// A path or a buffer for one has the wrong length.
    NameTooLong = 37,
    /// No such file or directory.
    NoEntry = 44,
    /// Not a function of this machine.
    NotImplemented = 52,
    /// A file, where a directory is needed.
    NotDirectory = 54,
    /// A value does not fit its type.
    Overflow = 61,
    /// The path leads out of the directory it starts from.
    NotPermitted = 63,
    /// The file system takes no writes.
    ReadOnly = 69,
    /// The descriptor has no position.
    InvalidSeek = 70,
}

/// What a call returns to the guest: 0, or the error number.
pub(crate) fn returned(result: Result<(), Errno>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(errno) => i32::from(errno as u16),
    }
}
