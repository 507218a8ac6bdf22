//! The kernel's exceptions, answered by Allotment.

use allotment::{
    FaultAccess,
    wasmtime::{Delivery, deliver},
};
use kernel::{
    Frame,
    exception::{Access, Exception, Handled, set_hook},
};

/// Lets Allotment answer exceptions from now on.
pub fn init() {
    set_hook(answer);
}

fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
    let fault = match *exception {
        Exception::PageFault { addr, access, .. } => {
            let access = match access {
                Access::Read => FaultAccess::Read,
                Access::Write => FaultAccess::Write,
                Access::Execute => FaultAccess::Execute,
            };
            Some((to_usize(addr), access))
        }
        Exception::InvalidOpcode | Exception::DivideError | Exception::GeneralProtection { .. } => None,
        _ => return Handled::No,
    };
    let found = allotment::wasmtime::Exception {
        pc: to_usize(frame.pc()),
        sp: to_usize(frame.sp()),
        fp: to_usize(frame.fp()),
        fault,
    };
    match deliver(&found) {
        Delivery::Resume => Handled::Resume,
        Delivery::Divert(to) => {
            frame.set_pc(to.pc as u64);
            frame.set_sp(to.sp as u64);
            for (number, argument) in to.arguments.into_iter().enumerate() {
                frame.set_argument(number, argument as u64);
            }
            Handled::Resume
        }
        Delivery::NotWasm(report) => {
            if let Some(report) = report {
                kernel::println!("the kernel touched memory of the window: {report}");
            }
            Handled::No
        }
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
