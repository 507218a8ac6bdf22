//! The functions of preview 1, each a method of the program's state with the signature of its import.
//!
//! All follow one order: the descriptor is checked first, then flags, then pointers, then what the call is
//! about; and results are written last, to places that were checked before anything was consumed.

#![expect(clippy::too_many_arguments, reason = "the signatures are WASI's")]

mod clock;
mod descriptor;
mod directory;
mod path;
mod poll;
mod process;
mod refused;
mod stat;
mod transfer;
