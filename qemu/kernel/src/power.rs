//! The end of the machine.

use protocol::verdict;

use crate::arch;
use crate::println;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As it meant to.
    Success,
    /// Because something is wrong with the kernel or what it ran.
    Failure,
}

/// Says on the console how the machine ends, as its last line, and ends it.
pub fn exit(exit: Exit) -> ! {
    match exit {
        Exit::Success => println!("{}", verdict::ENDED_WELL),
        Exit::Failure => println!("{}", verdict::FAILED),
    }
    arch::power::end(exit)
}
