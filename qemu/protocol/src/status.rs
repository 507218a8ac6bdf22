//! How a program ended, and which exit status the host makes of it.
//!
//! | what happened | exit status of `cargo xtask run` |
//! |---|---|
//! | the program ended with status N | N |
//! | usage error on the command line | 2 |
//! | the deadline passed | 124 |
//! | the kernel panicked or the machine failed | 125 |
//! | the module was refused, before it ran | 126 |
//! | the program trapped | 134 |
//!
//! 134 is what Wasmtime's own command line gives after a trap (128 + SIGABRT);
//! 124 to 126 follow `timeout(1)` and the shell.

use core::fmt;

/// The command line made no sense.
pub const USAGE: u8 = 2;
/// The deadline passed before the program ended.
pub const DEADLINE: u8 = 124;
/// The kernel panicked or the machine failed: not the program's fault.
pub const MACHINE: u8 = 125;
/// The module was refused: malformed, foreign, a missing import, more memory than there is.
pub const REFUSED: u8 = 126;
/// The program trapped.
pub const TRAPPED: u8 = 134;

/// Size of the buffer for [`Status::encode`]. Longer messages are cut.
pub const MAX_ENCODED: usize = 16 * 1024;

const TAG_EXITED: u8 = 0;
const TAG_TRAPPED: u8 = 1;
const TAG_REFUSED: u8 = 2;
const TAG_PANICKED: u8 = 3;

/// How the program in the machine ended; the content of an [`Exit`](crate::frame::Kind::Exit) frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status<'a> {
    /// It ended by itself, with this status (0 if it just returned).
    Exited(u8),
    /// It trapped.
    Trapped {
        /// What happened and where, for people.
        message: &'a str,
    },
    /// It never ran.
    Refused {
        /// What is wrong with it, for people.
        message: &'a str,
    },
    /// The kernel panicked; the serial console says why.
    Panicked,
}

impl<'a> Status<'a> {
    /// The exit status that the host passes on.
    #[must_use]
    pub const fn process_exit(&self) -> u8 {
        match self {
            Self::Exited(status) => *status,
            Self::Trapped { .. } => TRAPPED,
            Self::Refused { .. } => REFUSED,
            Self::Panicked => MACHINE,
        }
    }

    /// The message that comes with it, if its kind has one.
    #[must_use]
    pub const fn message(&self) -> Option<&'a str> {
        match self {
            Self::Trapped { message } | Self::Refused { message } => Some(message),
            Self::Exited(_) | Self::Panicked => None,
        }
    }

    /// The bytes of an `Exit` frame. Cuts a message that does not fit, between characters.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; MAX_ENCODED]) -> &'b [u8] {
        let (tag, content) = match self {
            Self::Exited(status) => (TAG_EXITED, core::slice::from_ref(status)),
            Self::Trapped { message } => (TAG_TRAPPED, cut(message).as_bytes()),
            Self::Refused { message } => (TAG_REFUSED, cut(message).as_bytes()),
            Self::Panicked => (TAG_PANICKED, [].as_slice()),
        };
        let end = 1 + content.len();
        buffer[0] = tag;
        buffer[1..end].copy_from_slice(content);
        &buffer[..end]
    }

    /// Reads the content of an `Exit` frame.
    ///
    /// # Errors
    /// For an unknown tag, a missing or surplus byte, or a message that is not UTF-8.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, StatusError> {
        let (&tag, content) = bytes.split_first().ok_or(StatusError::Empty)?;
        let message = || core::str::from_utf8(content).map_err(|_| StatusError::NotUtf8);
        let wrong = StatusError::BadLength { tag, length: content.len() };
        match tag {
            TAG_EXITED => match content {
                &[status] => Ok(Self::Exited(status)),
                _ => Err(wrong),
            },
            TAG_TRAPPED => Ok(Self::Trapped { message: message()? }),
            TAG_REFUSED => Ok(Self::Refused { message: message()? }),
            TAG_PANICKED if content.is_empty() => Ok(Self::Panicked),
            TAG_PANICKED => Err(wrong),
            _ => Err(StatusError::UnknownTag { tag }),
        }
    }
}

/// The longest prefix of `message` that fits behind a tag and ends between characters.
fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_ENCODED - 1)]
}

/// Why the content of an `Exit` frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusError {
    /// No bytes at all.
    Empty,
    /// A first byte that means nothing.
    UnknownTag {
        /// The byte.
        tag: u8,
    },
    /// Too few or too many bytes behind the first one.
    BadLength {
        /// The first byte.
        tag: u8,
        /// How many followed it.
        length: usize,
    },
    /// The message is not UTF-8.
    NotUtf8,
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "exit status without content"),
            Self::UnknownTag { tag } => {
                write!(f, "exit status of kind {tag}, known are 0 to {TAG_PANICKED}")
            }
            Self::BadLength { tag, length } => {
                write!(f, "exit status of kind {tag} with {length} bytes of content")
            }
            Self::NotUtf8 => write!(f, "exit status with a message that is not UTF-8"),
        }
    }
}

impl core::error::Error for StatusError {}

#[cfg(test)]
mod tests {
    use super::{MAX_ENCODED, Status, StatusError};

    #[test]
    fn every_status_comes_back() {
        let mut all: Vec<Status<'_>> = (0..=255).map(Status::Exited).collect();
        all.extend([
            Status::Trapped { message: "" },
            Status::Trapped { message: "wasm trap: ü" },
            Status::Refused { message: "unknown import" },
            Status::Panicked,
        ]);
        for status in all {
            let mut buffer = [0; MAX_ENCODED];
            assert_eq!(Status::decode(status.encode(&mut buffer)), Ok(status));
        }
    }

    #[test]
    fn process_exits_are_the_documented_ones() {
        assert_eq!(Status::Exited(7).process_exit(), 7);
        assert_eq!(Status::Trapped { message: "" }.process_exit(), 134);
        assert_eq!(Status::Refused { message: "" }.process_exit(), 126);
        assert_eq!(Status::Panicked.process_exit(), 125);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        // Two bytes a character and an odd number of bytes of room.
        let message = "ü".repeat(MAX_ENCODED);
        let mut buffer = [0; MAX_ENCODED];
        let encoded = Status::Trapped { message: &message }.encode(&mut buffer);
        assert_eq!(encoded.len(), MAX_ENCODED - 1);
        let decoded = Status::decode(encoded).unwrap();
        assert_eq!(decoded.message(), Some(&message[..MAX_ENCODED - 2]));
    }

    #[test]
    fn malformed_content_is_refused() {
        for (bytes, error) in [
            ([].as_slice(), StatusError::Empty),
            (&[0], StatusError::BadLength { tag: 0, length: 0 }),
            (&[0, 1, 2], StatusError::BadLength { tag: 0, length: 2 }),
            (&[1, 0xff], StatusError::NotUtf8),
            (&[3, 0], StatusError::BadLength { tag: 3, length: 1 }),
            (&[4], StatusError::UnknownTag { tag: 4 }),
        ] {
            assert_eq!(Status::decode(bytes), Err(error));
        }
    }
}
