//! Writing an archive; on the host only.

use core::fmt;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use super::{ENTRY_SIZE, HEADER_SIZE, MAGIC, VERSION, alignment_of};

/// Collects entries and writes them out in the order that the reader wants.
#[derive(Debug, Default)]
pub struct Writer<'a> {
    entries: BTreeMap<String, Cow<'a, [u8]>>,
}

impl<'a> Writer<'a> {
    /// An archive without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If there is one of that name.
    pub fn add(&mut self, name: impl Into<String>, data: impl Into<Cow<'a, [u8]>>) -> Result<(), WriteError> {
        let name = name.into();
        if self.entries.contains_key(&name) {
            return Err(WriteError::Duplicate { name });
        }
        self.entries.insert(name, data.into());
        Ok(())
    }

    /// Adds an entry of strings, each ended by NUL.
    ///
    /// # Errors
    /// If there is an entry of that name, or a string contains a NUL.
    pub fn add_strings<S: AsRef<[u8]>>(
        &mut self,
        name: &str,
        strings: impl IntoIterator<Item = S>,
    ) -> Result<(), WriteError> {
        let mut data = Vec::new();
        for string in strings {
            let string = string.as_ref();
            if string.contains(&0) {
                let string = String::from_utf8_lossy(string).into_owned();
                return Err(WriteError::ContainsNul { string });
            }
            data.extend_from_slice(string);
            data.push(0);
        }
        self.add(name, data)
    }

    /// Length of the archive in bytes.
    ///
    /// # Errors
    /// If there are too many entries, or their names are too long, for the format.
    pub fn length(&self) -> Result<u64, WriteError> {
        Ok(self.layout()?.length)
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// Those of [`Self::length`], and what `to` reports.
    pub fn write_to(&self, to: &mut impl io::Write) -> Result<(), WriteError> {
        let layout = self.layout()?;
        let mut out = Counted { to, written: 0 };
        out.write(&MAGIC)?;
        out.write(&VERSION.to_le_bytes())?;
        out.write(&layout.count.to_le_bytes())?;
        out.write(&layout.length.to_le_bytes())?;
        let mut name_at = layout.names;
        for ((name, data), data_at) in self.entries.iter().zip(&layout.data) {
            // The layout has checked that names end below 4 GiB.
            let name_length = u32::try_from(name.len()).map_err(|_| WriteError::TooLarge)?;
            out.write(&name_at.to_le_bytes())?;
            out.write(&name_length.to_le_bytes())?;
            out.write(&data_at.to_le_bytes())?;
            out.write(&(data.len() as u64).to_le_bytes())?;
            name_at += name_length;
        }
        for name in self.entries.keys() {
            out.write(name.as_bytes())?;
        }
        for (data, data_at) in self.entries.values().zip(&layout.data) {
            out.pad_to(*data_at)?;
            out.write(data)?;
        }
        Ok(())
    }

    /// The archive as bytes.
    ///
    /// # Errors
    /// Those of [`Self::length`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    fn layout(&self) -> Result<Layout, WriteError> {
        let count = u32::try_from(self.entries.len()).map_err(|_| WriteError::TooLarge)?;
        let names = HEADER_SIZE + self.entries.len() * ENTRY_SIZE;
        let names_end = names + self.entries.keys().map(String::len).sum::<usize>();
        u32::try_from(names_end).map_err(|_| WriteError::TooLarge)?;
        let mut end = names_end as u64;
        let data = self
            .entries
            .iter()
            .map(|(name, data)| {
                let start = end.next_multiple_of(alignment_of(name) as u64);
                end = start + data.len() as u64;
                start
            })
            .collect();
        Ok(Layout {
            count,
            names: u32::try_from(names).map_err(|_| WriteError::TooLarge)?,
            data,
            length: end,
        })
    }
}

struct Layout {
    count: u32,
    /// Where the first name begins.
    names: u32,
    /// Where each entry's data begins.
    data: Vec<u64>,
    length: u64,
}

struct Counted<'a, W> {
    to: &'a mut W,
    written: u64,
}

impl<W: io::Write> Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        let missing = position - self.written;
        self.written = position;
        io::copy(&mut io::Read::take(io::repeat(0), missing), self.to).map(drop)
    }
}

/// Why an archive cannot be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// Two entries of one name.
    Duplicate {
        /// The name.
        name: String,
    },
    /// A string with a NUL inside, which its reader would take for its end.
    ContainsNul {
        /// The string.
        string: String,
    },
    /// The table and names would end beyond 4 GiB.
    TooLarge,
    /// Writing failed.
    Io(io::Error),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { name } => write!(f, "payload has two entries called `{name}`"),
            Self::ContainsNul { string } => write!(f, "string contains a NUL byte: {string:?}"),
            Self::TooLarge => write!(f, "table and names of the payload are larger than 4 GiB"),
            Self::Io(error) => write!(f, "cannot write the payload: {error}"),
        }
    }
}

impl core::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
