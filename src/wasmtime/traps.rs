//! From a CPU exception to a wasm trap.
//!
//! Wasmtime's handler does not return for a wasm trap: it sets the stack
//! pointer and jumps. Called inside the exception it would leave interrupts
//! masked and the exception's stack in use. So the exception is left first:
//!
//! ```text
//!   wasm faults -> embedder's handler -> deliver() says Divert
//!                  saved frame: pc = stub, sp = below wasm's, 4 arguments
//!                  iretq / eret  ->  stub(pc, fp, has address, address)
//!                                    with the interrupted stack and flags
//!                                    -> Wasmtime's handler -> Err(Trap)
//! ```

use allotment_arch::{Arch, VirtAddr};

use super::Platform;
use crate::{FaultAccess, FaultRegion, FaultReport, Verdict};

/// Wasmtime's trap handler: the program counter and frame pointer at the
/// fault, and the address that was accessed, if it was that kind of fault. It
/// returns only when the fault was not wasm's.
pub type TrapHandler = extern "C" fn(ip: usize, fp: usize, has_faulting_addr: bool, faulting_addr: usize);

/// A synchronous exception, as an embedder's handler found it.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// Address of the faulting instruction.
    pub pc: usize,
    /// Stack pointer of the interrupted code.
    pub sp: usize,
    /// Frame pointer of the interrupted code: RBP, or X29.
    pub fp: usize,
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
    /// Change the saved frame as it says and return from the exception.
    Divert(Diversion),
    /// Not wasm's doing. With a report when the address is in the window: then
    /// the kernel itself touched memory that it may not, or a fiber's stack is
    /// full.
    NotWasm(Option<FaultReport>),
}

/// The frame to return to. All other registers and flags stay as interrupted;
/// on x86_64 the direction flag must be clear, as it is in wasm.
#[derive(Clone, Copy, Debug)]
pub struct Diversion {
    /// Where to continue.
    pub pc: usize,
    /// With this stack pointer.
    pub sp: usize,
    /// First to fourth argument registers: RDI, RSI, RDX, RCX or X0 to X3.
    pub arguments: [usize; 4],
}

impl<A: Arch> Platform<A> {
    /// Says what an exception means. Takes no lock, allocates nothing.
    ///
    /// `stub` is where a trap continues, outside the exception. The free function
    /// `deliver` does this for the installed platform.
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
        let (has_address, address) = match exception.fault {
            Some((address, _)) => (1, address),
            None => (0, 0),
        };
        Delivery::Divert(Diversion {
            pc: stub,
            sp: stub_stack(exception.sp),
            arguments: [exception.pc, exception.fp, has_address, address],
        })
    }
}

/// The stack pointer that a function finds on entry, below what the
/// interrupted code may use (wasm code keeps no red zone; 128 bytes are cheap).
fn stub_stack(sp: usize) -> usize {
    const RED_ZONE: usize = 128;
    let aligned = sp.wrapping_sub(RED_ZONE) & !15;
    // On x86_64 a call leaves the return address on an aligned stack.
    if cfg!(target_arch = "x86_64") { aligned.wrapping_sub(8) } else { aligned }
}
