//! The kernel's exceptions, answered by Allotment, and what it says of them in
//! messages.
//!
//! ```text
//!   access is given   -> resolver: `fault` says Resume, and that is all
//!   wasm's fault      -> hook -> deliver: Divert  -> Err(Trap) -> `take_last_trap`, for the message
//!   the kernel's own  -> hook -> deliver: NotWasm -> panic     -> `explain`, in its report
//! ```

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use allotment::{
    FaultAccess, FaultReport, Verdict,
    arch::VirtAddr,
    wasmtime::{Delivery, deliver, installed},
};
use kernel::{
    Frame,
    cpus::{MAX, current},
    exception::{Access, Exception, Explainer, Handled, set_explainer, set_hook, set_resolver},
};

/// Lets Allotment answer exceptions from now on.
pub fn init() {
    set_resolver(resolve);
    set_hook(answer);
    set_explainer(&Explainer { explain, readable });
}

/// By CPU, what was accessed when wasm trapped last: the address, and one of
/// [`ACCESSES`]. Its number is past their end for a trap of another kind.
static TRAPPED_AT: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static TRAPPED_ACCESS: [AtomicU8; MAX] = [const { AtomicU8::new(NO_ACCESS) }; MAX];
const ACCESSES: [FaultAccess; 3] = [FaultAccess::Read, FaultAccess::Write, FaultAccess::Execute];
const NO_ACCESS: u8 = 3;

/// What Allotment says of the access by which wasm trapped last, if it was one
/// of the window. To be asked on the same CPU while the instance still lives; once.
pub fn take_last_trap() -> Option<FaultReport> {
    let cpu = current();
    let access = ACCESSES.get(usize::from(TRAPPED_ACCESS[cpu].swap(NO_ACCESS, Ordering::Relaxed)))?;
    report(TRAPPED_AT[cpu].load(Ordering::Relaxed), *access)
}

/// Whether the access is allowed by now. What is more than that comes again, to `answer`.
extern "C" fn resolve(addr: u64, access: Access) -> bool {
    installed().is_some_and(|platform| {
        let verdict = platform.allocator().fault(VirtAddr(addr), fault_access(access));
        matches!(verdict, Verdict::Resume)
    })
}

fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
    let fault = match *exception {
        Exception::PageFault { addr, access, .. } => Some((to_usize(addr), fault_access(access))),
        Exception::InvalidOpcode | Exception::DivideError | Exception::GeneralProtection { .. } => None,
        _ => return Handled::No,
    };
    let found = allotment::wasmtime::Exception { pc: to_usize(frame.pc()), fault };
    match deliver(&found) {
        Delivery::Resume => Handled::Resume,
        Delivery::Divert(to) => {
            note_trap(fault);
            frame.set_pc(to as u64);
            Handled::Resume
        }
        // The kernel panics, and asks `explain`.
        Delivery::NotWasm(_) => Handled::No,
    }
}

fn note_trap(fault: Option<(usize, FaultAccess)>) {
    let position = |access| ACCESSES.iter().position(|&one| one == access);
    let number = fault.and_then(|(_, access)| u8::try_from(position(access)?).ok());
    let cpu = current();
    TRAPPED_ACCESS[cpu].store(number.unwrap_or(NO_ACCESS), Ordering::Relaxed);
    if let Some((address, _)) = fault {
        TRAPPED_AT[cpu].store(address as u64, Ordering::Relaxed);
    }
}

/// Prints what an address of the window is that the kernel could not access.
fn explain(addr: u64, access: Access) {
    if let Some(report) = report(addr, fault_access(access)) {
        kernel::println!("the kernel touched memory of the window: {report}");
    }
}

fn readable(addr: u64) -> bool {
    installed().is_some_and(|platform| {
        platform.allocator().fault(VirtAddr(addr), FaultAccess::Read) == Verdict::Resume
    })
}

fn report(addr: u64, access: FaultAccess) -> Option<FaultReport> {
    match installed()?.allocator().fault(VirtAddr(addr), access) {
        Verdict::Trap(report) => Some(report),
        Verdict::Resume | Verdict::NotOurs => None,
    }
}

fn fault_access(access: Access) -> FaultAccess {
    match access {
        Access::Read => FaultAccess::Read,
        Access::Write => FaultAccess::Write,
        Access::Execute => FaultAccess::Execute,
    }
}

/// A fault in compiled code that Wasmtime does not know: compiler or kernel
/// are broken, nothing can be trusted any more.
pub fn unknown_trap(ip: usize) -> ! {
    panic!("compiled wasm faulted at {ip:#x}, where Wasmtime knows of no trap")
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
