//! Exceptions that a hook answers, by going on behind the instruction.

use kernel::{
    Frame,
    exception::{Exception, Handled, set_hook},
};

#[cfg(target_arch = "x86_64")]
use super::trial::DIVISION;
use super::trial::{INVALID, LOAD, clobber, end, trial};

static SEEN: spin::Mutex<Option<Exception>> = spin::Mutex::new(None);

pub(crate) fn page_fault() {
    survive(LOAD, 0, |exception| matches!(exception, Exception::PageFault { addr: 0, .. }));
}

pub(crate) fn invalid_instruction() {
    survive(INVALID, 0, |exception| matches!(exception, Exception::InvalidOpcode));
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn division_error() {
    survive(DIVISION, 0, |exception| matches!(exception, Exception::DivideError));
}

/// Makes an instruction fault of which the hook learns what was `expected`.
pub(crate) fn survive(kind: u64, address: u64, expected: impl Fn(&Exception) -> bool) {
    set_hook(answer);
    trial(kind, address);
    let seen = SEEN.lock().take().expect("nothing faulted");
    assert!(expected(&seen), "{seen}");
}

/// Clobbers every vector register and goes on after the fault.
fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
    *SEEN.lock() = Some(*exception);
    clobber();
    frame.set_pc(end());
    Handled::Resume
}
