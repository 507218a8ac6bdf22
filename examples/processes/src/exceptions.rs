//! From an exception to whoever answers it.

use core::{arch::naked_asm, fmt};

use allotment::FaultReport;
use spin::Mutex;
use x86_64::{registers::control::Cr2, structures::idt::PageFaultErrorCode};

use crate::{cpus, wasm};

/// The interrupted program, as the stubs save and restore it.
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
    pub rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// An exception that has to be told apart.
#[derive(Clone, Copy, Debug)]
pub enum Exception {
    /// Access to an address, as the error code has it.
    PageFault { address: u64, code: PageFaultErrorCode },
    /// An instruction that cannot run.
    Instruction,
}

/// Called by the stubs; on return they restore what is in the frame.
extern "C" fn exception(frame: &mut Frame) {
    let exception = match frame.vector {
        14 => Exception::PageFault {
            address: Cr2::read_raw(),
            code: PageFaultErrorCode::from_bits_truncate(frame.code),
        },
        0 | 6 | 13 => Exception::Instruction,
        vector if vector == u64::from(cpus::VECTOR) => return cpus::answer(),
        vector => panic!("exception {vector} on CPU {}\n{frame}", cpus::current()),
    };
    match wasm::answer(frame, exception) {
        Ok(()) => {}
        // `try_read` wants to know.
        Err(found) if frame.rip == load as *const () as u64 => {
            *FOUND.lock() = found;
            frame.rip = load_faulted as *const () as u64;
        }
        Err(Some(found)) => panic!("on CPU {}: {found}\n{frame}", cpus::current()),
        Err(None) => panic!("{exception:?} on CPU {}\n{frame}", cpus::current()),
    }
}

/// What was found of the last fault of `try_read`.
static FOUND: Mutex<Option<FaultReport>> = Mutex::new(None);

/// Loads a byte of the window, or says why there is none. On one CPU at a time.
pub fn try_read(address: usize) -> Result<u8, FaultReport> {
    // SAFETY: a fault is caught; any byte will do.
    let loaded = unsafe { load(address) };
    u8::try_from(loaded).map_err(|_| FOUND.lock().take().expect("an address of the window"))
}

/// Loads a byte. The first instruction is the one that may fault.
#[unsafe(naked)]
unsafe extern "C" fn load(address: usize) -> u64 {
    naked_asm!("movzx eax, byte ptr [rdi]", "ret")
}

/// Where `load` goes on after a fault: with more than a byte has.
#[unsafe(naked)]
extern "C" fn load_faulted() {
    naked_asm!("mov eax, 256", "ret")
}

macro_rules! stubs {
    ($($name:ident: $vector:literal $($no_code:literal)?;)*) => {$(
        #[unsafe(naked)]
        pub extern "C" fn $name() {
            naked_asm!($($no_code,)? "push {}", "jmp {}", const $vector, sym save)
        }
    )*};
}

stubs! {
    divide_error: 0 "push 0";
    invalid_opcode: 6 "push 0";
    double_fault: 8;
    general_protection: 13;
    page_fault: 14;
    call: 240 "push 0";
}

/// Saves a [`Frame`], has it answered, and goes on with what it says then.
#[unsafe(naked)]
extern "C" fn save() {
    naked_asm!(
        "push rax",
        "push rbx",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rbp",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rdi, rsp",
        "cld",
        "call {exception}",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rbp",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        exception = sym exception,
    )
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rip, rsp, rflags, vector, code, .. } = self;
        write!(f, "rip {rip:#x} rsp {rsp:#x} rflags {rflags:#x} vector {vector} code {code:#x}")
    }
}

const _: () = assert!(cpus::VECTOR == 240);
