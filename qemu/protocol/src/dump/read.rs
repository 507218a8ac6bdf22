//! Reading a dump; on the host only.

use core::fmt;

use super::{Arena, BEGIN, END, Line, Pool, Region, Slot, Window};

/// A whole dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The address space.
    pub window: Window,
    /// The physical memory.
    pub arena: Arena,
    /// The pools; none on demand.
    pub pools: Vec<Pool>,
    /// Slots that are in use or were.
    pub slots: Vec<Slot>,
    /// The regions.
    pub regions: Vec<Region>,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// Names the first line that is wrong, or what is missing.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        let mut lines = (1..).zip(text.lines());
        match lines.next() {
            Some((_, BEGIN)) => {}
            first => {
                let line = first.map_or_else(String::new, |(_, line)| line.to_owned());
                return Err(DumpError::NotADump { line });
            }
        }
        let (mut window, mut arena) = (None, None);
        let (mut pools, mut slots, mut regions) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let (number, text) = lines.next().ok_or(DumpError::Missing { what: "last line" })?;
            if text == END {
                break;
            }
            match Line::parse(text) {
                Some(Line::Window(line)) => window = Some(line),
                Some(Line::Arena(line)) => arena = Some(line),
                Some(Line::Pool(line)) => pools.push(line),
                Some(Line::Slot(line)) => slots.push(line),
                Some(Line::Region(line)) => regions.push(line),
                None => return Err(DumpError::UnknownLine { number, line: text.to_owned() }),
            }
        }
        let window = window.ok_or(DumpError::Missing { what: "line `window`" })?;
        let arena = arena.ok_or(DumpError::Missing { what: "line `arena`" })?;
        Ok(Self { window, arena, pools, slots, regions })
    }
}

/// Why a dump is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpError {
    /// It does not begin as a dump of this version does.
    NotADump {
        /// Its first line.
        line: String,
    },
    /// A line that means nothing.
    UnknownLine {
        /// Its number, from 1.
        number: usize,
        /// The line.
        line: String,
    },
    /// Something without which no dump is whole.
    Missing {
        /// What.
        what: &'static str,
    },
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADump { line } => write!(f, "a dump begins with `{BEGIN}`, this with `{line}`"),
            Self::UnknownLine { number, line } => {
                write!(f, "line {number} of the dump means nothing: `{line}`")
            }
            Self::Missing { what } => write!(f, "the dump has no {what}; it was cut off"),
        }
    }
}

impl core::error::Error for DumpError {}
