//! What a program is started with.

use alloc::{string::String, vec::Vec};
use core::{error::Error, fmt};

use crate::Tree;

/// What a program finds when it starts: the arguments, the environment and the files.
#[derive(Debug, Default)]
pub struct Program {
    /// The arguments; by custom the first is the program's name.
    pub args: Vec<Vec<u8>>,
    /// The environment, each variable as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// The files.
    pub tree: Tree,
    /// Directories of `tree` that are open from the start, at descriptors 3 and up. The program sees the
    /// name as it stands here; `.` and `data` mean `/` and `/data` of the tree.
    pub preopens: Vec<String>,
}

/// Why a [`Program`] cannot be started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramError {
    /// A preopened name is no directory of the tree.
    NoSuchPreopen(String),
    /// More preopened directories than descriptors.
    TooManyPreopens {
        /// How many were asked for.
        preopens: usize,
        /// How many descriptors there are, the three standard streams included.
        limit: usize,
    },
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPreopen(name) => {
                write!(
                    f,
                    "the preopened directory `{name}` is not a directory of the file tree: add it as one"
                )
            }
            Self::TooManyPreopens { preopens, limit } => {
                write!(
                    f,
                    "{preopens} preopened directories and 3 streams exceed the {limit} descriptors: preopen fewer"
                )
            }
        }
    }
}

impl Error for ProgramError {}
