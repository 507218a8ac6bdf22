//! Frames on the channel, the virtio console that carries a program's bytes.
//!
//! ```text
//!   +--------+-----------------+------------------------+
//!   | kind   | length          | `length` bytes         |
//!   | 1 byte | 4 bytes, little | at most MAX_LENGTH     |
//!   +--------+-----------------+------------------------+
//! ```
//!
//! The kernel speaks first, with [`Kind::Ready`]. Standard input is pulled: the kernel asks with
//! [`Kind::ReadStdin`] and the host answers with one [`Kind::Stdin`] of 1 to that many
//! bytes, or with [`Kind::StdinEnd`]; so the host never sends what the kernel has no room for.
//! [`Kind::Exit`] is the kernel's last frame.

use core::fmt;

/// Version of this protocol, the one byte that [`Kind::Ready`] carries.
pub const VERSION: u8 = 1;

/// Bytes in an encoded [`Header`].
pub const HEADER_SIZE: usize = 5;

/// The longest content of a frame. A writer with more bytes sends several frames.
pub const MAX_LENGTH: u32 = 64 * 1024;

/// Which side of the channel sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The kernel, inside the machine.
    Kernel,
    /// The program that started QEMU.
    Host,
}

/// What a frame means. Numbers that are not listed are reserved and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// Kernel: the channel is open. Content: [`VERSION`], one byte.
    Ready = 0x01,
    /// Kernel: bytes for standard output.
    Stdout = 0x02,
    /// Kernel: bytes for standard error.
    Stderr = 0x03,
    /// Kernel: asks for standard input. Content: the most bytes wanted, `u32`, not 0.
    ReadStdin = 0x04,
    /// Kernel: the program is over. Content: an encoded [`Status`](crate::status::Status).
    Exit = 0x05,
    /// Host: bytes of standard input, at least one and at most what was asked for.
    Stdin = 0x81,
    /// Host: standard input has ended; nothing more will ever come. No content.
    StdinEnd = 0x82,
}

impl Kind {
    /// Which side may send this kind.
    #[must_use]
    pub const fn sender(self) -> Sender {
        match self {
            Self::Ready | Self::Stdout | Self::Stderr | Self::ReadStdin | Self::Exit => Sender::Kernel,
            Self::Stdin | Self::StdinEnd => Sender::Host,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Ready,
            0x02 => Self::Stdout,
            0x03 => Self::Stderr,
            0x04 => Self::ReadStdin,
            0x05 => Self::Exit,
            0x81 => Self::Stdin,
            0x82 => Self::StdinEnd,
            _ => return None,
        })
    }
}

/// The first five bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame means.
    pub kind: Kind,
    /// How many bytes follow, at most [`MAX_LENGTH`].
    pub length: u32,
}

impl Header {
    /// The bytes that go over the wire.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_SIZE] {
        let [a, b, c, d] = self.length.to_le_bytes();
        [self.kind as u8, a, b, c, d]
    }

    /// Reads the header of a frame that `sender` sent.
    ///
    /// # Errors
    /// For a kind that is unknown or that `sender` may not send, and for a length that
    /// the kind cannot have. After any of them the two sides have lost step: close the channel.
    pub fn decode(bytes: [u8; HEADER_SIZE], sender: Sender) -> Result<Self, FrameError> {
        let [kind, a, b, c, d] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]);
        let kind = Kind::from_byte(kind)
            .filter(|kind| kind.sender() == sender)
            .ok_or(FrameError::UnknownKind { kind, sender })?;
        let allowed = match kind {
            Kind::Ready => 1..=1,
            Kind::ReadStdin => 4..=4,
            Kind::StdinEnd => 0..=0,
            Kind::Stdin | Kind::Exit => 1..=MAX_LENGTH,
            Kind::Stdout | Kind::Stderr => 0..=MAX_LENGTH,
        };
        if allowed.contains(&length) {
            Ok(Self { kind, length })
        } else {
            Err(FrameError::BadLength { kind, length, least: *allowed.start(), most: *allowed.end() })
        }
    }
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// No such kind, or not one that this side sends.
    UnknownKind {
        /// The byte received.
        kind: u8,
        /// Who sent it.
        sender: Sender,
    },
    /// A length that this kind of frame cannot have.
    BadLength {
        /// The kind received.
        kind: Kind,
        /// The length received.
        length: u32,
        /// The least it may be.
        least: u32,
        /// The most it may be.
        most: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownKind { kind, sender } => {
                let sender = match sender {
                    Sender::Kernel => "kernel",
                    Sender::Host => "host",
                };
                write!(f, "frame of kind {kind:#04x}, which the {sender} never sends")
            }
            Self::BadLength { kind, length, least, most } => {
                write!(f, "{kind:?} frame of {length} bytes, must be {least} to {most}")
            }
        }
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::{FrameError, Header, Kind, MAX_LENGTH, Sender};

    const ALL: [(Kind, u32); 7] = [
        (Kind::Ready, 1),
        (Kind::Stdout, MAX_LENGTH),
        (Kind::Stderr, 0),
        (Kind::ReadStdin, 4),
        (Kind::Exit, 2),
        (Kind::Stdin, 1),
        (Kind::StdinEnd, 0),
    ];

    #[test]
    fn every_kind_comes_back() {
        for (kind, length) in ALL {
            let header = Header { kind, length };
            assert_eq!(Header::decode(header.encode(), kind.sender()), Ok(header));
        }
    }

    #[test]
    fn every_other_byte_is_refused_from_both_sides() {
        for byte in 0..=u8::MAX {
            for sender in [Sender::Kernel, Sender::Host] {
                let known = ALL.iter().any(|(kind, _)| *kind as u8 == byte && kind.sender() == sender);
                let refused = Header::decode([byte, 0, 0, 0, 0], sender)
                    == Err(FrameError::UnknownKind { kind: byte, sender });
                assert_eq!(known, !refused, "{byte:#x} {sender:?}");
            }
        }
    }

    #[test]
    fn lengths_out_of_range_are_refused() {
        for (kind, length) in [
            (Kind::Ready, 0),
            (Kind::Stdout, MAX_LENGTH + 1),
            (Kind::Stderr, u32::MAX),
            (Kind::ReadStdin, 5),
            (Kind::Exit, 0),
            (Kind::Stdin, 0),
            (Kind::StdinEnd, 1),
        ] {
            let error = Header::decode(Header { kind, length }.encode(), kind.sender());
            assert!(matches!(error, Err(FrameError::BadLength { .. })), "{kind:?} {length}: {error:?}");
        }
    }

    #[test]
    fn errors_name_value_and_limit() {
        let long = Header { kind: Kind::Stdout, length: 65537 };
        assert_eq!(
            Header::decode(long.encode(), Sender::Kernel).unwrap_err().to_string(),
            "Stdout frame of 65537 bytes, must be 0 to 65536"
        );
        assert_eq!(
            Header::decode([0x81, 1, 0, 0, 0], Sender::Kernel).unwrap_err().to_string(),
            "frame of kind 0x81, which the kernel never sends"
        );
    }
}
