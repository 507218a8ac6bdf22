//! What can go wrong with an instance.

use core::fmt;

use super::LimiterError;
use crate::Error;

/// Why a module's description is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadModule {
    /// Something is named that is not there.
    Missing {
        /// What.
        what: &'static str,
        /// Its index.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A number is larger than it may be.
    TooLarge {
        /// What.
        what: &'static str,
        /// The number.
        value: u64,
        /// What it may be.
        limit: u64,
    },
    /// A function is referred to that has no place for a reference.
    NotReferable {
        /// Its index.
        function: u32,
    },
    /// Two functions have the same place for a reference.
    SharedFuncRef {
        /// The place.
        place: u32,
        /// Index of the one function.
        first: u32,
        /// Index of the other.
        second: u32,
    },
    /// An expression does not leave one value, or has too many on the way.
    UnbalancedExpression {
        /// How many instructions it has.
        ops: usize,
    },
}

impl fmt::Display for BadModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, index, count } => {
                write!(f, "{what} {index} is named, there are {count}; describe all that is named")
            }
            Self::TooLarge { what, value, limit } => write!(f, "{what}: {value} exceeds {limit}; lower it"),
            Self::NotReferable { function } => {
                write!(f, "function {function} is referred to and has no `func_ref`; give it one")
            }
            Self::SharedFuncRef { place, first, second } => {
                write!(
                    f,
                    "functions {first} and {second} have the same `func_ref` {place}; give each its own"
                )
            }
            Self::UnbalancedExpression { ops } => write!(
                f,
                "a constant expression of {ops} instructions leaves not one value, or has more than {} on the way; describe what the module has",
                super::const_expr::MAX_OPERANDS
            ),
        }
    }
}

impl core::error::Error for BadModule {}

/// What wasm did that ends it, in the words that Wasmtime prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trap {
    /// An access to a memory, or a segment's bytes, ends beyond it.
    MemoryOutOfBounds,
    /// The same of a table's or segment's elements.
    TableOutOfBounds,
    /// An atomic access is not aligned.
    HeapMisaligned,
    /// A wait on a memory that is not shared.
    AtomicWaitNonSharedMemory,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemoryOutOfBounds => "out of bounds memory access",
            Self::TableOutOfBounds => "out of bounds table access",
            Self::HeapMisaligned => "unaligned atomic",
            Self::AtomicWaitNonSharedMemory => "atomic wait on non-shared memory",
        })
    }
}

impl core::error::Error for Trap {}

/// Why an instance was not made, or an operation on it not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstanceError {
    /// Slots, frames or address space are not to be had.
    Resource(Error),
    /// The limiter refused a memory.
    MemoryDenied {
        /// Pages, of its own page size, that it begins with.
        minimum: u64,
    },
    /// A memory begins with more bytes than there are numbers for.
    MemoryUnrepresentable {
        /// Pages, of its own page size, that it begins with.
        minimum: u64,
    },
    /// The limiter refused a table.
    TableDenied {
        /// Elements that it begins with.
        minimum: u64,
    },
    /// The limiter ended the program.
    Limiter(LimiterError),
    /// Not as many are imported as the module declares.
    Imports {
        /// Of what.
        what: &'static str,
        /// How many it declares.
        declared: usize,
        /// How many were given.
        given: usize,
    },
    /// The instance is larger than it may be.
    TooLarge {
        /// Bytes of it with its context.
        size: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The module has more memories or tables than a slot is made for.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many a slot is made for.
        limit: usize,
    },
    /// The heap has no room.
    OutOfHeap {
        /// Bytes.
        bytes: usize,
    },
    /// The core allocator is configured for the other strategy.
    Strategy {
        /// The one that is wanted.
        wanted: &'static str,
    },
    /// There is no such thing in the module, or it is of another type.
    NotFound {
        /// What.
        what: &'static str,
        /// Its index.
        index: usize,
    },
    /// Something of an instance is not only its own, and cannot be in a snapshot.
    NotCaptured {
        /// What.
        what: &'static str,
        /// Its index, among those that the module defines.
        index: usize,
    },
    /// A clone was asked for of a snapshot of another module's instance.
    OtherModule,
    /// Wasm's own doing.
    Trap(Trap),
}

impl fmt::Display for InstanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(error) => error.fmt(f),
            Self::MemoryDenied { minimum } => {
                write!(f, "memory minimum size of {minimum} pages exceeds memory limits")
            }
            Self::MemoryUnrepresentable { minimum } => {
                write!(f, "memory minimum size of {minimum} pages exceeds what addresses can name")
            }
            Self::TableDenied { minimum } => {
                write!(f, "table minimum size of {minimum} elements exceeds table limits")
            }
            Self::Limiter(error) => error.fmt(f),
            Self::Imports { what, declared, given } => {
                write!(f, "the module imports {declared} {what}, {given} are given; resolve each one")
            }
            Self::TooLarge { size, limit } => write!(
                f,
                "an instance of {size} bytes exceeds the limit of {limit}; raise max_core_instance_size, \
                 and validate the module to see its parts"
            ),
            Self::TooMany { what, count, limit } => {
                write!(
                    f,
                    "the module defines {count} {what}, a slot is made for {limit}; raise max_{what}_per_module, and total_{what} if that is less"
                )
            }
            Self::OutOfHeap { bytes } => write!(f, "the heap has no room for {bytes} bytes; give instances back, or enlarge it"),
            Self::Strategy { wanted } => {
                write!(f, "the allocator is not configured for {wanted}; set allocation_strategy")
            }
            Self::NotFound { what, index } => write!(f, "the module has no {what} {index} of this type; name one that it has"),
            Self::NotCaptured { what, index } => write!(
                f,
                "the instance has a {what} {index}, which no snapshot can hold; take it out, or begin with a new instance"
            ),
            Self::OtherModule => f.write_str(
                "the snapshot is of another module's instance; ask with the runtime_info that it was made with",
            ),
            Self::Trap(trap) => trap.fmt(f),
        }
    }
}

impl core::error::Error for InstanceError {}

impl From<Error> for InstanceError {
    fn from(error: Error) -> Self {
        Self::Resource(error)
    }
}

impl From<Trap> for InstanceError {
    fn from(trap: Trap) -> Self {
        Self::Trap(trap)
    }
}

impl From<LimiterError> for InstanceError {
    fn from(error: LimiterError) -> Self {
        Self::Limiter(error)
    }
}
