//! What the CPU says about an exception, in the kernel's words.

use core::fmt;

use x86_64::registers::control::Cr2;
use x86_64::structures::idt::PageFaultErrorCode;

use super::cpus;
use super::descriptors::{self, DOUBLE_FAULT, FAULT, INTERRUPTION};
use crate::cpus::answer;
use crate::exception::{Access, Exception, dispatch};
use crate::stack::Stack;

/// The interrupted program, as the stubs in `vectors.s` saved it and will restore it.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// `RFLAGS.DF`, which makes string instructions run backwards.
const DIRECTION: u64 = 1 << 10;

impl Frame {
    /// The program counter.
    #[must_use]
    pub fn pc(&self) -> u64 {
        self.rip
    }

    /// The stack pointer.
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.rsp
    }

    /// The frame pointer.
    #[must_use]
    pub fn fp(&self) -> u64 {
        self.rbp
    }

    /// Goes on at the start of a function, for which the direction flag is clear (System V ABI). The
    /// interrupt flag stays as it was interrupted.
    pub fn set_pc(&mut self, pc: u64) {
        self.rip = pc;
        self.rflags &= !DIRECTION;
    }

    /// Changes the stack pointer. A function expects it to be 8 below a multiple of 16.
    pub fn set_sp(&mut self, sp: u64) {
        self.rsp = sp;
    }

    /// Changes the frame pointer.
    pub fn set_fp(&mut self, fp: u64) {
        self.rbp = fp;
    }

    /// The register of a function's argument `n`, from 0.
    ///
    /// # Panics
    /// If `n` is more than 3.
    #[must_use]
    pub fn argument(&self, n: usize) -> u64 {
        [self.rdi, self.rsi, self.rdx, self.rcx][n]
    }

    /// Changes the register of a function's argument `n`, from 0.
    ///
    /// # Panics
    /// If `n` is more than 3.
    pub fn set_argument(&mut self, n: usize, value: u64) {
        *[&mut self.rdi, &mut self.rsi, &mut self.rdx, &mut self.rcx][n] = value;
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, .. } = self;
        let Self { r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags, .. } = self;
        let Self { vector, code, .. } = self;
        writeln!(f, "  rip {rip:#018x} rflags {rflags:#x} vector {vector} code {code:#x}")?;
        writeln!(f, "  rax {rax:#018x} rbx {rbx:#018x} rcx {rcx:#018x} rdx {rdx:#018x}")?;
        writeln!(f, "  rsi {rsi:#018x} rdi {rdi:#018x} rbp {rbp:#018x} rsp {rsp:#018x}")?;
        writeln!(f, "   r8 {r8:#018x}  r9 {r9:#018x} r10 {r10:#018x} r11 {r11:#018x}")?;
        write!(f, "  r12 {r12:#018x} r13 {r13:#018x} r14 {r14:#018x} r15 {r15:#018x}")
    }
}

/// Makes exceptions arrive at the boot CPU.
pub(crate) fn init() {
    descriptors::init();
}

/// The stacks that handlers run on.
pub(crate) fn stacks() -> impl Iterator<Item = Stack> {
    [FAULT.stack("exception"), DOUBLE_FAULT.stack("double fault"), INTERRUPTION.stack("interruption")]
        .into_iter()
}

/// Called by the stubs; on return they restore what is in the frame.
#[unsafe(no_mangle)]
extern "C" fn exception_entry(frame: &mut Frame) {
    let exception = decode(frame);
    dispatch(frame, exception);
}

/// The address of the page fault that a resolver is asked about, if one is.
pub(crate) fn resolving() -> Option<u64> {
    (cpus::interrupted().addr() == RESOLVING).then(Cr2::read_raw)
}

/// What [`cpus::interrupted`] says while a resolver runs: there is no frame.
const RESOLVING: usize = 1;

/// Called by the stub for non-maskable interrupts, as `exception_entry` is.
#[unsafe(no_mangle)]
extern "C" fn interrupt_entry(frame: &mut Frame) {
    if crate::cpus::count() == 1 {
        // Nobody here has sent it.
        return exception_entry(frame);
    }
    answer(frame);
    frame.rip = cpus::after_interrupt(frame.rip);
}

/// The exception that is being answered and had interrupted this frame, as long as no other page fault came.
pub(crate) fn cause(frame: &Frame) -> Exception {
    decode(frame)
}

/// SDM Vol. 3A, 7.15.
#[inline]
fn decode(frame: &Frame) -> Exception {
    match frame.vector {
        14 => page_fault(frame.code),
        6 => Exception::InvalidOpcode,
        0 => Exception::DivideError,
        3 => Exception::Breakpoint,
        13 => Exception::GeneralProtection { code: frame.code },
        vector => Exception::Other { class: vector, code: frame.code, name: name(vector) },
    }
}

#[inline]
fn page_fault(code: u64) -> Exception {
    let code = PageFaultErrorCode::from_bits_retain(code);
    let access = if code.contains(PageFaultErrorCode::INSTRUCTION_FETCH) {
        Access::Execute
    } else if code.contains(PageFaultErrorCode::CAUSED_BY_WRITE) {
        Access::Write
    } else {
        Access::Read
    };
    // `read` would refuse an address that is not canonical, and faults at those are not page faults.
    let addr = Cr2::read_raw();
    Exception::PageFault { addr, access, present: code.contains(PageFaultErrorCode::PROTECTION_VIOLATION) }
}

fn name(vector: u64) -> &'static str {
    match vector {
        1 => "debug exception",
        2 => "non-maskable interrupt",
        4 => "overflow",
        5 => "bound range exceeded",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid task state segment",
        11 => "segment not present",
        12 => "stack segment fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point exception",
        20 => "virtualization exception",
        21 => "control protection exception",
        _ => "reserved exception",
    }
}
