//! A picture of a running machine, as lines of text.
//!
//! ```text
//!   allotment dump 1
//!   window start=0xffff900000000000 end=0xffff980000000000
//!   arena start=0x... end=0x... overhead=0x... own=0x... frames=0x... available=0x... idle=0x...
//!   pool kind=memory slots=0x10 base=0x... stride=0x... reservation=0x... guard-before=0x... limit=0x... tables=0x...
//!   slot kind=memory number=0x0 base=0x... generation=0x1 used=yes accessible=0x10000 resident=0x10000
//!   region start=0x... bytes=0x... accessible=0x... executable=0x... resident=0x...
//!   end
//! ```
//!
//! The kernel writes it with `Display`, one [`Line`] after another, and [`END`] when it is whole. Slots
//! that nobody ever used are left out. Sizes are bytes, but frames of the arena are counted.

use core::fmt;

#[cfg(any(feature = "std", test))]
mod read;
#[cfg(any(feature = "std", test))]
pub use read::{Dump, DumpError};

/// The first line, with the version of the format.
pub const BEGIN: &str = "allotment dump 1";
/// The last line.
pub const END: &str = "end";

/// Defines the lines: each a word, then `name=value` in this order.
macro_rules! lines {
    ($(
        $(#[$doc:meta])*
        $word:literal $line:ident { $($(#[$field_doc:meta])* $name:literal $field:ident: $type:ty,)* }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $line {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl fmt::Display for $line {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str($word)?;
                    $(
                        write!(f, " {}=", $name)?;
                        Value::write(&self.$field, f)?;
                    )*
                    Ok(())
                }
            }

            impl $line {
                fn parse(mut words: core::str::Split<'_, char>) -> Option<Self> {
                    let line = Self { $($field: value(words.next()?, $name)?,)* };
                    words.next().is_none().then_some(line)
                }
            }
        )*

        /// A line between the first and the last.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Line {
            $($(#[$doc])* $line($line),)*
        }

        impl Line {
            /// Reads a line; `None` if it is none of these.
            #[must_use]
            pub fn parse(line: &str) -> Option<Self> {
                let mut words = line.split(' ');
                match words.next()? {
                    $($word => $line::parse(words).map(Self::$line),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Line {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$line(line) => line.fmt(f),)*
                }
            }
        }
    };
}

lines! {
    /// The address space that the allocator has.
    "window" Window {
        /// Its first byte.
        "start" start: u64,
        /// The byte behind it.
        "end" end: u64,
    }

    /// The physical memory that the allocator has.
    "arena" Arena {
        /// Its first byte.
        "start" start: u64,
        /// The byte behind it.
        "end" end: u64,
        /// Bytes of tables and records that were set aside when it was carved.
        "overhead" overhead: u64,
        /// Frames that slots own from then on.
        "own" own: u64,
        /// Frames for everything else.
        "frames" frames: u64,
        /// Frames of those that could be given.
        "available" available: u64,
        /// Frames of those that slots keep meanwhile.
        "idle" idle: u64,
    }

    /// Slots of one kind and size.
    "pool" Pool {
        /// What for.
        "kind" kind: Kind,
        /// How many.
        "slots" slots: u64,
        /// Address of the first.
        "base" base: u64,
        /// From one slot's first byte to the next one's.
        "stride" stride: u64,
        /// Bytes of a slot before its guard.
        "reservation" reservation: u64,
        /// Bytes of guard before the first slot.
        "guard-before" guard_before: u64,
        /// The most that may become accessible.
        "limit" limit: u64,
        /// Bytes of leaf tables that each slot has for good.
        "tables" tables: u64,
    }

    /// A slot that is in use or was.
    "slot" Slot {
        /// Which pool's.
        "kind" kind: Kind,
        /// Its number in the pool.
        "number" number: u64,
        /// Its first byte.
        "base" base: u64,
        /// How often it changed hands.
        "generation" generation: u64,
        /// Whether it is in use.
        "used" used: bool,
        /// What can be accessed.
        "accessible" accessible: u64,
        /// What has frames.
        "resident" resident: u64,
    }

    /// Address space of any size.
    "region" Region {
        /// Its first byte.
        "start" start: u64,
        /// Its size.
        "bytes" bytes: u64,
        /// What can be accessed.
        "accessible" accessible: u64,
        /// What of that can be executed.
        "executable" executable: u64,
        /// What has frames.
        "resident" resident: u64,
    }
}

/// What kind of slots a pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linear memories and GC heaps.
    Memory,
    /// Tables.
    Table,
    /// Fiber stacks.
    Stack,
}

/// What a field can be.
trait Value: Sized {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn read(text: &str) -> Option<Self>;
}

impl Value for u64 {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#x}")
    }

    fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x")?;
        // `from_str_radix` takes a sign as well.
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if are_digits { Self::from_str_radix(digits, 16).ok() } else { None }
    }
}

impl Value for bool {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self { "yes" } else { "no" })
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }
}

impl Value for Kind {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Table => "table",
            Self::Stack => "stack",
        })
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "memory" => Some(Self::Memory),
            "table" => Some(Self::Table),
            "stack" => Some(Self::Stack),
            _ => None,
        }
    }
}

/// The value of `word`, which must be `name=value`.
fn value<T: Value>(word: &str, name: &str) -> Option<T> {
    T::read(word.strip_prefix(name)?.strip_prefix('=')?)
}

#[cfg(test)]
mod tests;
