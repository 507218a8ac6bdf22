//! Failures that have an exit status of their own.

use std::fmt;

/// A mistake on the command line that only shows after parsing.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

/// A module that is refused before any machine is started.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Usage {}
impl core::error::Error for Refusal {}

/// The exit status for a failure.
pub(crate) fn exit_status(error: &anyhow::Error) -> u8 {
    use protocol::status;

    if error.is::<Usage>() {
        status::USAGE
    } else if error.is::<Refusal>() {
        status::REFUSED
    } else {
        status::MACHINE
    }
}
