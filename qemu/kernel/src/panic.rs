//! The kernel's own end: what happened, where, and by which way it got there.
//!
//! Lines `  at 0x...`, innermost first, are for the program that started QEMU, which knows the names.
//! Nothing here takes a lock or allocates.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::exception::{Exception, explainer};
use crate::power::{Exit, exit};
use crate::ranges::pointer;
use crate::{Frame, arch, cpus, println, stack};

/// The CPU that panics, and one more.
static PANICKING: AtomicUsize = AtomicUsize::new(0);

/// Lines printed at most.
const DEPTH: usize = 64;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    once();
    println!("kernel {info}");
    backtrace(arch::cpu::frame_pointer());
    if let Some(addr) = arch::exception::resolving() {
        println!("while a page fault at {addr:#x} was being answered");
        exit(Exit::Failure)
    }
    // SAFETY: null, or the frame that the hook on whose behalf this runs is looking at: it lies on
    // the exception's stack until the hook returns, and it never will.
    if let Some(frame) = unsafe { arch::cpus::interrupted().as_ref() } {
        let exception = arch::exception::cause(frame);
        println!("while an exception was being answered: {exception}");
        explain(&exception);
        println!("which had interrupted");
        interrupted(frame);
    }
    exit(Exit::Failure)
}

/// Ends the machine because of an exception that nobody answered.
pub(crate) fn panic_in_exception(frame: &Frame, exception: &Exception, circumstance: &str) -> ! {
    once();
    println!("kernel panicked: {exception}{circumstance}");
    if let Exception::PageFault { addr, .. } = *exception
        && let Some(stack) = stack::all().find(|stack| stack.guard().contains(&addr))
    {
        let bytes = stack.bytes();
        println!(
            "stack overflow: the {} stack of {} KiB is full",
            stack.name,
            (bytes.end - bytes.start) / 1024
        );
        if stack.cpu != cpus::current() {
            println!("  a stack of CPU {}, not of this one", stack.cpu);
        }
    }
    explain(exception);
    interrupted(frame);
    exit(Exit::Failure)
}

/// What the program knows of the address of a page fault.
fn explain(exception: &Exception) {
    if let (&Exception::PageFault { addr, access, .. }, Some(explainer)) = (exception, explainer()) {
        (explainer.explain)(addr, access);
    }
}

/// Prints the registers of an interrupted program and how it got to where it was.
fn interrupted(frame: &Frame) {
    println!("{frame}");
    println!("  at {:#x}", frame.pc());
    backtrace(frame.fp());
}

/// A panic while panicking says one line and no more. If several CPUs panic, one reports and ends the machine.
fn once() {
    let me = cpus::current() + 1;
    match PANICKING.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            if cpus::several() {
                println!("on CPU {}:", cpus::current());
            }
        }
        Err(panicking) if panicking == me => {
            println!("kernel panicked again while it reported a panic");
            exit(Exit::Failure);
        }
        Err(_) => stop(),
    }
}

/// Whether this CPU reports a panic. If another one does, this one stops here.
pub(crate) fn here() -> bool {
    let panicking = PANICKING.load(Ordering::Relaxed);
    if panicking != 0 && panicking != cpus::current() + 1 {
        stop();
    }
    panicking != 0
}

/// Leaves the end of the machine to the CPU that reports it.
fn stop() -> ! {
    loop {
        arch::cpu::relax();
    }
}

/// Prints the return addresses in the frame records from `frame_pointer` on, as long as they look sound. A
/// function that calls itself over and over takes one line.
fn backtrace(frame_pointer: u64) {
    let mut record = frame_pointer;
    let (mut last, mut repeats, mut lines) = (0, 0, 0);
    let tell = |repeats| {
        if repeats > 0 {
            println!("  ... {repeats} more times");
        }
    };
    while let Some([caller, return_address]) = read(record) {
        if return_address == 0 {
            break;
        }
        if return_address == last {
            repeats += 1;
        } else if lines == DEPTH {
            println!("  ...");
            break;
        } else {
            tell(repeats);
            println!("  at {return_address:#x}");
            (last, repeats, lines) = (return_address, 0, lines + 1);
        }
        // Callers are further up. A record that says otherwise was overwritten, or is on another stack,
        // which an exception's frame tells about better.
        if caller <= record {
            return tell(repeats);
        }
        record = caller;
    }
    tell(repeats);
}

/// The frame record at `address`, if it lies in a stack: the kernel's, or the program's.
fn read(address: u64) -> Option<[u64; 2]> {
    let record = address..address.checked_add(16)?;
    let inside = |stack: stack::Stack| {
        let bytes = stack.bytes();
        bytes.start <= record.start && record.end <= bytes.end
    };
    let readable = || {
        explainer()
            .is_some_and(|explainer| [record.start, record.end - 1].into_iter().all(explainer.readable))
    };
    if !address.is_multiple_of(8) || !(stack::all().any(inside) || readable()) {
        return None;
    }
    let pointer = pointer::<[u64; 2]>(address);
    // SAFETY: aligned, inside a stack of the kernel's, which is always mapped, or mapped by the
    // program, as it says itself. Volatile, because what lies there may belong to a function that
    // is still running.
    Some(unsafe { pointer.read_volatile() })
}
