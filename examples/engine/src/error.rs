//! What can go wrong, in the words of the wasm specification where it has some.

use alloc::{boxed::Box, string::String};
use core::fmt;

use allotment::{
    FaultReport,
    instance::{self, BadModule, InstanceError},
};

/// What ends a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trap {
    /// The instruction `unreachable`.
    Unreachable,
    /// A division by zero.
    DivisionByZero,
    /// A quotient or converted number that the type does not have.
    IntegerOverflow,
    /// NaN as an integer.
    BadConversion,
    /// An access to a memory, or a segment's bytes, ends beyond it.
    MemoryOutOfBounds,
    /// An access to a page that the memory has, and may not touch any more.
    MemoryUncommitted,
    /// The same of a table's or segment's elements.
    TableOutOfBounds,
    /// A call of an element beyond its table.
    UndefinedElement,
    /// A call of an element that is null.
    UninitializedElement,
    /// A call of a function of another type than the caller says.
    TypeMismatch,
    /// Calls within calls, more than there is room for.
    StackExhausted,
    /// The fuel is used up; see [`Store::set_fuel`](crate::Store::set_fuel).
    OutOfFuel,
    /// A host function says so.
    Host(&'static str),
    /// Allotment refused something that it should not: a bug of the engine, or a
    /// limiter that ends programs.
    Refused(InstanceError),
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::DivisionByZero => "integer divide by zero",
            Self::IntegerOverflow => "integer overflow",
            Self::BadConversion => "invalid conversion to integer",
            Self::MemoryOutOfBounds => "out of bounds memory access",
            Self::MemoryUncommitted => "memory access beyond what the instance may touch",
            Self::TableOutOfBounds => "out of bounds table access",
            Self::UndefinedElement => "undefined element",
            Self::UninitializedElement => "uninitialized element",
            Self::TypeMismatch => "indirect call type mismatch",
            Self::StackExhausted => "call stack exhausted",
            Self::OutOfFuel => "out of fuel; give the store more with set_fuel",
            Self::Host(why) => why,
            Self::Refused(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for Trap {}

impl From<InstanceError> for Trap {
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::Trap(instance::Trap::MemoryOutOfBounds) => Self::MemoryOutOfBounds,
            InstanceError::Trap(instance::Trap::TableOutOfBounds) => Self::TableOutOfBounds,
            error => Self::Refused(error),
        }
    }
}

/// Why bytes are not a module that this engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompileError {
    /// They are not valid wasm, or of a proposal that is not supported.
    Invalid {
        /// What is wrong, in the parser's words.
        message: String,
        /// The byte where that shows.
        offset: usize,
    },
    /// The module is valid, and uses something that this engine does not have.
    Unsupported(&'static str),
    /// Allotment does not take its description.
    Module(BadModule),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { message, offset } => write!(f, "invalid module: {message} (at byte {offset:#x})"),
            Self::Unsupported(what) => write!(f, "{what} are not supported; compile the module without"),
            Self::Module(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CompileError {}

impl From<wasmparser::Error> for CompileError {
    fn from(error: wasmparser::Error) -> Self {
        Self::Invalid { message: error.message().into(), offset: error.offset() }
    }
}

impl From<BadModule> for CompileError {
    fn from(error: BadModule) -> Self {
        Self::Module(error)
    }
}

/// Why an instance was not made, or a function not called or not ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Slots of this configuration never hold such an instance.
    DoesNotFit(String),
    /// No instance was to be had.
    Instance(InstanceError),
    /// An import is not there.
    UnknownImport {
        /// The module that it is imported from.
        module: String,
        /// Its name there.
        name: String,
    },
    /// An import is there, and of another type or kind.
    IncompatibleImport {
        /// The module that it is imported from.
        module: String,
        /// Its name there.
        name: String,
    },
    /// The instance exports nothing of that name and kind.
    UnknownExport(String),
    /// The values are not of the types that are wanted.
    WrongValues,
    /// The program trapped.
    Trap(Trap, Option<Box<FaultReport>>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotFit(why) => write!(f, "no slot holds such an instance: {why}"),
            Self::Instance(error) => error.fmt(f),
            Self::UnknownImport { module, name } => {
                write!(f, "unknown import `{module}` `{name}`; instantiate or define that first")
            }
            Self::IncompatibleImport { module, name } => {
                write!(
                    f,
                    "incompatible import type of `{module}` `{name}`; give it the type that is declared"
                )
            }
            Self::UnknownExport(name) => write!(f, "nothing of that kind is exported as `{name}`"),
            Self::WrongValues => f.write_str("the values are not as many, or not of the types, as declared"),
            Self::Trap(trap, None) => write!(f, "wasm trap: {trap}"),
            Self::Trap(trap, Some(fault)) => write!(f, "wasm trap: {trap} ({fault})"),
        }
    }
}

impl core::error::Error for Error {}

impl From<InstanceError> for Error {
    fn from(error: InstanceError) -> Self {
        Self::Instance(error)
    }
}
