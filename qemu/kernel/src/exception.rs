//! Exceptions: what they mean, and who answers.
//!
//! ```text
//!   CPU -> arch stub
//!            |- a load or store faulted: resolver   the program's short answer, if it has set one
//!            |    |- true: it is tried again
//!            |<---`- false
//!            |
//!            |  saves registers and vector state on a stack of its own
//!            `- dispatch -> hook   the program's answer, if it has set one
//!                 |           |- Resume: back to the (edited) frame, nothing printed
//!                 |           `- No ---.
//!                 `- no hook ----------+-> panic: decoded exception, registers, backtrace
//! ```
//!
//! Hook and resolver run in exception context: they must take no lock and allocate nothing. An
//! exception inside one of them is reported as such and ends the machine. All CPUs have the
//! same; they may run on several at once.
//!
//! A panic, whatever it is about, asks the program's [`Explainer`] what it knows of the address.

use core::fmt;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::Frame;
use crate::arch::cpus::{clear_interrupted, interrupted, set_interrupted};
use crate::panic::panic_in_exception;

/// What an access was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// It read.
    Read = 0,
    /// It wrote.
    Write = 1,
    /// It fetched an instruction.
    Execute = 2,
}

/// An exception, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exception {
    /// A memory access that translation refused.
    PageFault {
        /// The virtual address.
        addr: u64,
        /// What the access was for.
        access: Access,
        /// Whether a page is mapped there (and forbids the access).
        present: bool,
    },
    /// An instruction that does not exist here: x86_64 `#UD`, aarch64 `EC` 0 (`udf`).
    InvalidOpcode,
    /// An integer division by zero or that overflows: x86_64 only.
    DivideError,
    /// A breakpoint instruction.
    Breakpoint,
    /// x86_64 `#GP`.
    GeneralProtection {
        /// The error code.
        code: u64,
    },
    /// Anything else.
    Other {
        /// x86_64: the vector. aarch64: the exception class, `ESR_EL1.EC`.
        class: u64,
        /// x86_64: the error code. aarch64: `ESR_EL1`.
        code: u64,
        /// Its name.
        name: &'static str,
    },
}

/// What a hook decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Go on as the frame says.
    Resume,
    /// Not mine: the kernel panics.
    No,
}

/// A program's answer to exceptions.
pub type Hook = fn(&mut Frame, &Exception) -> Handled;

/// The hook as an address, null if there is none: the exception path takes no lock.
static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets the function that is asked first about every exception.
pub fn set_hook(hook: Hook) {
    HOOK.store(hook as *mut (), Ordering::Release);
}

/// Whether a load or store that faulted can be tried again, which the function may have made possible.
pub type Resolver = extern "C" fn(addr: u64, access: Access) -> bool;

/// The resolver as an address; stubs call it.
#[unsafe(no_mangle)]
static EXCEPTION_RESOLVER: AtomicPtr<()> = AtomicPtr::new(nobody as *mut ());

extern "C" fn nobody(_: u64, _: Access) -> bool {
    false
}

/// Sets the function that is asked about loads and stores that fault before any hook is, and for a fraction of
/// the price: it sees no frame, so that the stub saves only what a call may change. Of vector registers that
/// is all on aarch64. On x86_64 it is none, and there a resolver has no vector instructions of its own; Rust code for this
/// target has none, nor have the kernel's `memcpy` and its like while an exception is being answered.
pub fn set_resolver(resolver: Resolver) {
    EXCEPTION_RESOLVER.store(resolver as *mut (), Ordering::Release);
}

/// Asks the resolver.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) fn resolved(addr: u64, access: Access) -> bool {
    let resolver = EXCEPTION_RESOLVER.load(Ordering::Acquire);
    // SAFETY: `set_resolver` is the only writer, and it stores a `Resolver`, as was there from the start.
    let resolver = unsafe { core::mem::transmute::<*mut (), Resolver>(resolver) };
    resolver(addr, access)
}

/// What a program knows of addresses and the kernel does not, for reports of panics. Both run in
/// exception context.
#[derive(Clone, Copy, Debug)]
pub struct Explainer {
    /// Prints what the address is at which an access faulted, if it is the program's.
    pub explain: fn(addr: u64, access: Access),
    /// Whether the program has made the byte at an address readable: a backtrace goes on in a
    /// stack that is the program's.
    pub readable: fn(addr: u64) -> bool,
}

/// The explainer, null if there is none.
static EXPLAINER: AtomicPtr<Explainer> = AtomicPtr::new(core::ptr::null_mut());

/// Sets what panics ask about addresses.
pub fn set_explainer(explainer: &'static Explainer) {
    EXPLAINER.store(core::ptr::from_ref(explainer).cast_mut(), Ordering::Release);
}

pub(crate) fn explainer() -> Option<&'static Explainer> {
    // SAFETY: null, or what `set_explainer` was given for good.
    unsafe { EXPLAINER.load(Ordering::Acquire).as_ref() }
}

/// Begins to answer what may have come while something else was being answered; returns what that had
/// interrupted, for [`resume`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn begin(frame: &mut Frame) -> *mut Frame {
    let before = interrupted();
    set_interrupted(frame);
    before
}

/// Goes back to what was being answered before [`begin`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn resume(interrupted: *mut Frame) {
    set_interrupted(interrupted);
}

/// Answers one exception; returns if the interrupted program goes on as `frame` says.
#[inline]
pub(crate) fn dispatch(frame: &mut Frame, exception: Exception) {
    // A load and a store, not a swap: only this CPU's exceptions meet here, and one that comes
    // in between leaves it as it was.
    if !interrupted().is_null() {
        nested(frame, &exception);
    }
    let hook = HOOK.load(Ordering::Acquire);
    if !hook.is_null() {
        set_interrupted(frame);
        // SAFETY: `set_hook` is the only writer, and it stores a `Hook`.
        let hook = unsafe { core::mem::transmute::<*mut (), Hook>(hook) };
        let handled = hook(frame, &exception);
        if handled == Handled::Resume {
            clear_interrupted();
            return;
        }
    }
    unanswered(frame, &exception)
}

#[cold]
#[inline(never)]
fn unanswered(frame: &Frame, exception: &Exception) -> ! {
    panic_in_exception(frame, exception, "")
}

#[cold]
#[inline(never)]
fn nested(frame: &Frame, exception: &Exception) -> ! {
    panic_in_exception(frame, exception, " while an exception was being answered")
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PageFault { addr, access, present } => {
                let access = match access {
                    Access::Read => "read",
                    Access::Write => "write",
                    Access::Execute => "instruction fetch",
                };
                let why = if present { "forbidden by its page" } else { "no page there" };
                write!(f, "page fault: {access} at {addr:#x}, {why}")
            }
            Self::InvalidOpcode => write!(f, "invalid instruction"),
            Self::DivideError => write!(f, "division by zero or overflow"),
            Self::Breakpoint => write!(f, "breakpoint"),
            Self::GeneralProtection { code } => write!(f, "general protection fault, code {code:#x}"),
            Self::Other { class, code, name } => {
                write!(f, "{name} (class {class:#x}, code {code:#x})")
            }
        }
    }
}
