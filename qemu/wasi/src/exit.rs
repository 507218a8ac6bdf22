//! How a program says that it is done.

use core::{error::Error, fmt};

/// The error with which wasm unwinds after `proc_exit`. It is no trap: a program that called
/// `proc_exit(0)` succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(
    /// The code as the program gave it.
    pub u32,
);

impl Exit {
    /// The exit status as a parent process sees it: the low eight bits, as with POSIX `exit`.
    pub fn status(&self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program exited with status {}", self.status())
    }
}

impl Error for Exit {}
