//! Segments and interrupt stacks, for each CPU its own, and the interrupt table, which all share.

use alloc::boxed::Box;

use spin::Once;
use x86_64::{
    VirtAddr,
    instructions::{
        segmentation::{CS, Segment},
        tables::load_tss,
    },
    structures::{
        gdt::{Descriptor, GlobalDescriptorTable},
        idt::InterruptDescriptorTable,
        tss::TaskStateSegment,
    },
};

use crate::{cpus, exceptions};

const STACK_SIZE: usize = 32 << 10;

/// Exceptions have a stack of their own, as there may be none left where they come; and so do interrupts.
const EXCEPTIONS: u16 = 0;
const INTERRUPTS: u16 = 1;
const DOUBLE_FAULT: u16 = 2;

static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Loads all of it on this CPU.
pub fn load() {
    let mut tss = TaskStateSegment::new();
    for stack in [EXCEPTIONS, INTERRUPTS, DOUBLE_FAULT] {
        let bottom = Box::leak(Box::new([0u128; STACK_SIZE / 16]));
        tss.interrupt_stack_table[usize::from(stack)] = VirtAddr::from_ptr(bottom.as_ptr_range().end);
    }
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    gdt.append(Descriptor::kernel_data_segment());
    let tss = gdt.append(Descriptor::tss_segment(Box::leak(Box::new(tss))));
    Box::leak(Box::new(gdt)).load();
    // SAFETY: a 64-bit code segment; the data segment is where boot code had it.
    unsafe { CS::set_reg(code) };
    // SAFETY: the table has it there.
    unsafe { load_tss(tss) };
    IDT.call_once(interrupt_table).load();
}

fn interrupt_table() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    macro_rules! gates {
        ($($gate:expr => $stub:ident, $stack:expr;)*) => {$(
            let stub = VirtAddr::from_ptr(exceptions::$stub as *const ());
            // SAFETY: the stub saves and restores all that it uses, and returns as the gate wants it.
            let gate = unsafe { $gate.set_handler_addr(stub) };
            // SAFETY: the stack is there, and of this vector's kind alone.
            unsafe { gate.set_stack_index($stack) };
        )*};
    }
    gates! {
        idt.divide_error => divide_error, EXCEPTIONS;
        idt.invalid_opcode => invalid_opcode, EXCEPTIONS;
        idt.double_fault => double_fault, DOUBLE_FAULT;
        idt.general_protection_fault => general_protection, EXCEPTIONS;
        idt.page_fault => page_fault, EXCEPTIONS;
        idt[cpus::VECTOR] => call, INTERRUPTS;
    }
    idt
}
