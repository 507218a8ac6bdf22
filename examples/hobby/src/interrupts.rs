//! The IDT, and who answers exceptions.
//!
//! `extern "x86-interrupt"` is not stable yet, so that each exception enters through a few
//! instructions of its own that save the registers, by name, where the handler can change them.

use core::arch::naked_asm;

use spin::LazyLock;
use x86_64::{
    VirtAddr,
    registers::control::Cr2,
    structures::idt::{ExceptionVector, InterruptDescriptorTable, PageFaultErrorCode},
};

use crate::{gdt, wasm};

/// What was interrupted: all registers, as [`enter`] leaves them on the stack.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

static IDT: LazyLock<InterruptDescriptorTable> = LazyLock::new(|| {
    let mut idt = InterruptDescriptorTable::new();
    let at = |entry: unsafe extern "C" fn()| VirtAddr::from_ptr(entry as *const ());
    // SAFETY: each of these enters and leaves as its vector's exception wants it, with or without an
    // error code, and the stacks are there.
    unsafe {
        idt.divide_error.set_handler_addr(at(divide_error)).set_stack_index(gdt::FAULT_STACK);
        idt.invalid_opcode.set_handler_addr(at(invalid_opcode)).set_stack_index(gdt::FAULT_STACK);
        idt.general_protection_fault
            .set_handler_addr(at(general_protection))
            .set_stack_index(gdt::FAULT_STACK);
        idt.page_fault.set_handler_addr(at(page_fault)).set_stack_index(gdt::FAULT_STACK);
        idt.double_fault.set_handler_addr(at(double_fault)).set_stack_index(gdt::DOUBLE_FAULT_STACK);
    }
    idt
});

pub fn init() {
    IDT.load();
}

/// Every exception of this kernel.
extern "C" fn exception(frame: &mut Frame) {
    let fault = (frame.vector == ExceptionVector::Page as u64).then(|| {
        let address = Cr2::read_raw();
        (address, PageFaultErrorCode::from_bits_truncate(frame.error_code))
    });
    if frame.vector != ExceptionVector::Double as u64 && wasm::on_exception(frame, fault) {
        return;
    }
    panic!("exception {} at {:#x}, {fault:?}\n{frame:#x?}", frame.vector, frame.rip);
}

macro_rules! entries {
    ($($name:ident: $vector:expr, $push:literal;)*) => {$(
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!($push, "push {vector}", "jmp {enter}", vector = const $vector as u8, enter = sym enter)
        }
    )*};
}

entries! {
    divide_error: ExceptionVector::Division, "push 0";
    invalid_opcode: ExceptionVector::InvalidOpcode, "push 0";
    // The CPU has pushed an error code.
    double_fault: ExceptionVector::Double, "";
    general_protection: ExceptionVector::GeneralProtection, "";
    page_fault: ExceptionVector::Page, "";
}

/// Saves what [`Frame`] has above `vector`, calls [`exception`], and returns to what the frame says then. The
/// stack is a multiple of 16 at the call: the CPU begins with one, and a frame has 22 words. Vector registers
/// stay as they are, since a kernel for this target uses none.
#[unsafe(naked)]
unsafe extern "C" fn enter() {
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
        "cld",
        "mov rdi, rsp",
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
