//! The machine of README's text on bare metal: the one that it boots on.

pub(crate) type Here = allotment::arch::Native;

/// `Native::current` finds the machine by itself. (It knows of one CPU, as the text has it, also where the
/// boot kernel has more: those use no address of this window.)
pub(crate) fn run_on(_machine: Here) {}
