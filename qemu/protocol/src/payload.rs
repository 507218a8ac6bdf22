//! The payload archive: everything a machine is given at boot.
//!
//! ```text
//!   0   magic "ALLOTPAY"    8 bytes       all numbers little-endian
//!   8   version             u32
//!   12  number of entries   u32
//!   16  length of archive   u64
//!   24  table: per entry { name: offset u32, length u32; data: offset u64, length u64 }
//!       names, UTF-8, unterminated, strictly ascending by bytes
//!       data, aligned to 64 KiB if code (see `alignment_of`), else to 16 bytes
//! ```
//!
//! Offsets count from the start of the archive. The order makes lookup a binary search,
//! duplicates impossible and a directory's content one consecutive run.
//!
//! | entry | content |
//! |---|---|
//! | `module` | the `.cwasm` to run |
//! | `module-name` | its name for messages |
//! | `options` | what else the kernel is to do, see [`options`](crate::options) |
//! | `settings` | settings of Wasmtime and Allotment, see [`settings`](crate::settings) |
//! | `args` | strings, each ended by NUL; the first is the module's file name |
//! | `env` | `KEY=VALUE` strings, each ended by NUL |
//! | `preopens` | guest paths of the directories handed over, each ended by NUL |
//! | `fs/PATH` | a file; PATH is its absolute path in the guest without the slash in front |
//! | `fs/PATH/` | a directory; empty. The root is `fs/` |
//! | `link/PATH` | a symbolic link; its target |
//! | `seed` | 32 random bytes from the host |
//! | `time` | the host's clock, `u64` nanoseconds since 1970 |
//! | `guest/NAME` | tests: the `.cwasm` of guest NAME |
//! | `script/NUMBER` | the specification's tests: the steps of a file, see `spec` |
//! | `collector` | the specification's tests: who collects garbage |

use core::fmt;

#[cfg(feature = "std")]
mod writer;
#[cfg(feature = "std")]
pub use writer::{WriteError, Writer};

const MAGIC: [u8; 8] = *b"ALLOTPAY";
const VERSION: u32 = 1;
const HEADER_SIZE: usize = 24;
const ENTRY_SIZE: usize = 24;

/// Alignment of an entry's data from the start of the archive.
///
/// Code may be executed where it lies, for which Wasmtime aligns sections to the largest
/// page an aarch64 kernel may use.
#[must_use]
pub fn alignment_of(name: &str) -> usize {
    if name == "module" || name.starts_with("guest/") { 64 * 1024 } else { 16 }
}

/// The strings in an entry such as `args`: each is ended by a NUL.
///
/// Bytes after the last NUL, which no writer produces, count as one more string.
pub fn strings(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let content = content.strip_suffix(&[0]).map(Some).unwrap_or(
        // Without a NUL at the end: empty means no strings, not one empty string.
        (!content.is_empty()).then_some(content),
    );
    content.into_iter().flat_map(|content| content.split(|byte| *byte == 0))
}

/// A checked archive in memory.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    // INVARIANT: `Self::parse` has decoded every entry, so `entry(i)` is `Ok` for `i < count`.
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Payload<'a> {
    /// Checks all of an archive: every entry's name and data lie inside it and names ascend.
    ///
    /// `bytes` may be longer than the archive (memory comes in pages).
    ///
    /// # Errors
    /// Names the first thing that is wrong. Never panics, whatever the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PayloadError> {
        let truncated = |needed| PayloadError::Truncated { needed, length: bytes.len() };
        if bytes.get(..8).ok_or(truncated(HEADER_SIZE as u64))? != MAGIC {
            return Err(PayloadError::NotAnArchive);
        }
        let header = || truncated(HEADER_SIZE as u64);
        let version = u32_at(bytes, 8).ok_or_else(header)?;
        if version != VERSION {
            return Err(PayloadError::Version { found: version });
        }
        let count = u32_at(bytes, 12).ok_or_else(header)? as usize;
        let length = u64_at(bytes, 16).ok_or_else(header)?;
        let bytes =
            usize::try_from(length).ok().and_then(|length| bytes.get(..length)).ok_or(truncated(length))?;
        if (bytes.len().saturating_sub(HEADER_SIZE)) / ENTRY_SIZE < count {
            return Err(PayloadError::TooManyEntries { count, length: bytes.len() });
        }
        let payload = Self { bytes, count };
        let mut previous = None;
        for index in 0..count {
            let entry = payload.decode(index)?;
            if previous.is_some_and(|previous: &str| previous >= entry.name) {
                return Err(PayloadError::Unordered { index });
            }
            previous = Some(entry.name);
        }
        Ok(payload)
    }

    /// The content of the entry called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let entry = self.entry(self.position(name))?;
        (entry.name == name).then_some(entry.data)
    }

    /// All entries, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let payload = *self;
        (0..payload.count).map_while(move |index| payload.entry(index))
    }

    /// The entries whose names start with `prefix`, ascending by name.
    pub fn with_prefix<'p>(&self, prefix: &'p str) -> impl Iterator<Item = Entry<'a>> + use<'a, 'p> {
        let payload = *self;
        (payload.position(prefix)..payload.count)
            .map_while(move |index| payload.entry(index))
            .take_while(move |entry| entry.name.starts_with(prefix))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Index of the first entry that is not below `name`.
    fn position(&self, name: &str) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).is_some_and(|entry| entry.name < name) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn entry(&self, index: usize) -> Option<Entry<'a>> {
        (index < self.count).then(|| self.decode(index).ok()).flatten()
    }

    fn decode(&self, index: usize) -> Result<Entry<'a>, PayloadError> {
        let outside = PayloadError::OutOfBounds { index, length: self.bytes.len() };
        let at = HEADER_SIZE + index * ENTRY_SIZE;
        let word = |offset| u32_at(self.bytes, at + offset).map(u64::from);
        let long = |offset| u64_at(self.bytes, at + offset);
        let name = slice(self.bytes, word(0), word(4)).ok_or(outside)?;
        let data = slice(self.bytes, long(8), long(16)).ok_or(outside)?;
        let name = core::str::from_utf8(name).map_err(|_| PayloadError::NotUtf8 { index })?;
        Ok(Entry { name, data })
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|entry| (entry.name, entry.data.len()))).finish()
    }
}

/// One entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its content.
    pub data: &'a [u8],
}

/// Why bytes are not an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// They do not begin with the magic.
    NotAnArchive,
    /// The format has another version.
    Version {
        /// The version found.
        found: u32,
    },
    /// They end too early.
    Truncated {
        /// How many bytes there should be.
        needed: u64,
        /// How many there are.
        length: usize,
    },
    /// More entries than there is room for a table.
    TooManyEntries {
        /// How many there should be.
        count: usize,
        /// Length of the archive.
        length: usize,
    },
    /// An entry's name or data is not inside the archive.
    OutOfBounds {
        /// Which entry.
        index: usize,
        /// Length of the archive.
        length: usize,
    },
    /// An entry's name is not UTF-8.
    NotUtf8 {
        /// Which entry.
        index: usize,
    },
    /// An entry's name is not above the one before.
    Unordered {
        /// Which entry.
        index: usize,
    },
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArchive => write!(f, "not a payload archive"),
            Self::Version { found } => {
                write!(f, "payload archive of version {found}, expected {VERSION}")
            }
            Self::Truncated { needed, length } => {
                write!(f, "payload archive of {length} bytes, needs {needed}")
            }
            Self::TooManyEntries { count, length } => {
                write!(f, "payload archive of {length} bytes cannot hold {count} entries")
            }
            Self::OutOfBounds { index, length } => {
                write!(f, "payload entry {index} reaches outside the archive's {length} bytes")
            }
            Self::NotUtf8 { index } => {
                write!(f, "payload entry {index} has a name that is not UTF-8")
            }
            Self::Unordered { index } => {
                write!(f, "payload entry {index} is not above the entry before it")
            }
        }
    }
}

impl core::error::Error for PayloadError {}

fn slice(bytes: &[u8], offset: Option<u64>, length: Option<u64>) -> Option<&[u8]> {
    let start = usize::try_from(offset?).ok()?;
    let end = start.checked_add(usize::try_from(length?).ok()?)?;
    bytes.get(start..end)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(all(test, feature = "std"))]
mod tests;
