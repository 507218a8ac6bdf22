//! Segments, interrupt stacks and the interrupt table.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use crate::stack::GuardedStack;

/// How many vectors are the CPU's own.
pub(super) const EXCEPTIONS: usize = 32;

/// Bytes between the stubs of two vectors, see `vectors.s`.
const STUB: usize = 16;

const SIZE: usize = 64 * 1024;

/// What faults and traps run on.
#[unsafe(link_section = ".stacks")]
pub(super) static FAULT: GuardedStack<SIZE> = GuardedStack::new();
/// Double faults: whatever went wrong on the first one.
#[unsafe(link_section = ".stacks")]
pub(super) static DOUBLE_FAULT: GuardedStack<SIZE> = GuardedStack::new();
/// What can interrupt a fault's handler: NMI and machine check.
#[unsafe(link_section = ".stacks")]
pub(super) static INTERRUPTION: GuardedStack<SIZE> = GuardedStack::new();

/// A gate, SDM Vol. 3A, 7.14.1.
struct Gate([AtomicU64; 2]);

/// The offset of the interrupt table's last byte.
const LIMIT: u16 = 32 * 16 - 1;
const _: () = assert!(size_of::<[Gate; EXCEPTIONS]>() == LIMIT as usize + 1);

static GATES: [Gate; EXCEPTIONS] = [const { Gate([AtomicU64::new(0), AtomicU64::new(0)]) }; EXCEPTIONS];

unsafe extern "C" {
    /// In `vectors.s`: the first of `EXCEPTIONS` stubs.
    static exception_stubs: u8;
}

/// Loads all of them, the first time it is called.
pub(super) fn load() {
    static LOADED: Once<()> = Once::new();
    LOADED.call_once(load_once);
}

fn load_once() {
    static TSS: Once<TaskStateSegment> = Once::new();
    static GDT: Once<GlobalDescriptorTable> = Once::new();
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        // By value: the structure is packed.
        let mut table = tss.interrupt_stack_table;
        for (entry, stack) in table.iter_mut().zip([&FAULT, &DOUBLE_FAULT, &INTERRUPTION]) {
            *entry = VirtAddr::new(stack.top());
        }
        tss.interrupt_stack_table = table;
        tss
    });
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let tss = gdt.append(Descriptor::tss_segment(tss));
    debug_assert_eq!(code.rpl(), PrivilegeLevel::Ring0);
    GDT.call_once(|| gdt).load();
    // SAFETY: a 64-bit code segment at ring 0, as in the table that boot code left.
    unsafe { CS::set_reg(code) };
    // SAFETY: a writable data segment.
    unsafe { SS::set_reg(data) };
    // SAFETY: likewise.
    unsafe { DS::set_reg(data) };
    // SAFETY: likewise.
    unsafe { ES::set_reg(data) };
    // SAFETY: the table has it there, and it lives for good.
    unsafe { load_tss(tss) };

    for (vector, gate) in GATES.iter().enumerate() {
        let stub = (&raw const exception_stubs).addr() as u64 + (vector * STUB) as u64;
        gate.set(stub, code.0, stack_of(vector));
    }
    let table = DescriptorTablePointer { limit: LIMIT, base: VirtAddr::from_ptr(&raw const GATES) };
    // SAFETY: every gate leads to a stub of its vector, on a stack that is there.
    unsafe { lidt(&table) };
}

/// Which entry of the interrupt stack table a vector uses, from 1.
fn stack_of(vector: usize) -> u64 {
    match vector {
        8 => 2,
        2 | 18 => 3,
        _ => 1,
    }
}

impl Gate {
    fn set(&self, target: u64, code: u16, stack: u64) {
        // Present, type 14: an interrupt gate, which masks interrupts.
        const INTERRUPT_GATE: u64 = 0x8e << 40;
        let low = target & 0xffff
            | u64::from(code) << 16
            | stack << 32
            | INTERRUPT_GATE
            | (target >> 16 & 0xffff) << 48;
        self.0[0].store(low, Ordering::Relaxed);
        self.0[1].store(target >> 32, Ordering::Relaxed);
    }
}
