//! From a CPU exception to a wasm trap.
//!
//! Wasmtime's handler does not return for a wasm trap: it sets the stack
//! pointer and jumps. Called inside the exception it would leave interrupts
//! masked and the exception's stack in use. So the exception is left first:
//!
//! ```text
//!   wasm faults -> embedder's handler -> deliver() says Divert(stub), and keeps what trapped
//!                  saved frame: pc = stub, and nothing else
//!                  iretq / eret  ->  stub, with the interrupted stack, registers and flags
//!                                    -> Wasmtime's handler -> Err(Trap)
//! ```
//!
//! A handler thus changes the one register that every kernel's handlers can change. What the
//! stub must know, but for the frame pointer that it finds in its register, waits for it among the
//! words of the thread (`threads`).

use core::sync::atomic::Ordering;

use allotment_arch::{Arch, VirtAddr};

use super::Platform;
use crate::{FaultAccess, FaultRegion, FaultReport, Verdict, vm::AboveCpu};

/// Wasmtime's trap handler: the program counter and frame pointer at the
/// fault, and the address that was accessed, if it was that kind of fault. It
/// returns only when the fault was not wasm's.
pub type TrapHandler = extern "C" fn(ip: usize, fp: usize, has_faulting_addr: bool, faulting_addr: usize);

/// A synchronous exception, as an embedder's handler found it.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// Address of the faulting instruction.
    pub pc: usize,
    /// For a page fault or data abort: the address (CR2, FAR_EL1) and what was
    /// tried there. `None` for undefined instructions and division errors.
    pub fault: Option<(usize, FaultAccess)>,
}

/// What the embedder's handler does next.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub enum Delivery {
    /// Return from the exception as it is: the access is allowed by now.
    Resume,
    /// Go on here instead: set the saved program counter (RIP, ELR_EL1) to it and return from the
    /// exception. All other registers stay as they were interrupted, flags as well; on x86_64 the
    /// direction flag must be clear, as it is in wasm.
    Divert(usize),
    /// Not wasm's doing. With a report when the address is in the window: then
    /// the kernel itself touched memory that it may not, or a fiber's stack is
    /// full.
    NotWasm(Option<FaultReport>),
}

/// What trapped, on its way from the exception to the stub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trapped {
    /// Address of the faulting instruction.
    pub pc: usize,
    /// The address that was accessed, if it was that kind of fault.
    pub address: Option<usize>,
}

impl Trapped {
    /// Puts it where the stub finds it.
    pub(super) fn keep(self, here: &AboveCpu) {
        let words = [self.pc, usize::from(self.address.is_some()), self.address.unwrap_or(0)];
        for (place, word) in here.trapped.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }

    pub(super) fn kept(here: &AboveCpu) -> Self {
        let [pc, has_address, address] = here.trapped.each_ref().map(|word| word.load(Ordering::Relaxed));
        Self { pc, address: (has_address != 0).then_some(address) }
    }
}

impl<A: Arch> Platform<A> {
    /// Says what an exception means. Takes no lock, allocates nothing.
    ///
    /// `stub` is where a trap continues, outside the exception: it asks for what
    /// [`trapped`](Self::trapped). The free function `deliver` does this for the installed platform.
    pub fn deliver_to(&self, exception: &Exception, stub: usize) -> Delivery {
        let mut report = None;
        if let Some((address, access)) = exception.fault {
            match self.allocator().fault(VirtAddr(address as u64), access) {
                Verdict::Resume => return Delivery::Resume,
                Verdict::Trap(found) => report = Some(found),
                Verdict::NotOurs => {}
            }
        }
        // Nothing more can run on a stack that is full, the stub no more than
        // wasm. Compiled code checks its stack, so that this is a host's doing.
        // Nor is it wasm's that its memory is missing in this root.
        let kernels = [FaultRegion::StackGuard, FaultRegion::NotInRoot];
        let is_kernels = report.is_some_and(|report| kernels.contains(&report.region));
        if is_kernels || !self.is_code(exception.pc) {
            return Delivery::NotWasm(report);
        }
        let address = exception.fault.map(|(address, _)| address);
        Trapped { pc: exception.pc, address }.keep(self.here());
        Delivery::Divert(stub)
    }

    /// What was diverted last on this thread: for a stub, in which it goes on, to pass to Wasmtime's handler.
    pub fn trapped(&self) -> Trapped {
        self.unswitched(|| Trapped::kept(self.here()))
    }
}
