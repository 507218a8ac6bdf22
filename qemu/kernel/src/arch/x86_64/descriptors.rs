//! Segments and interrupt stacks, for each CPU its own, and the interrupt table, which all share.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use crate::cpus::MAX;
use crate::stack::GuardedStack;

/// How many vectors there are: 32 of the CPU's own, and these two.
const VECTORS: usize = 34;

/// The timer's interrupt.
pub(super) const TIMER_VECTOR: u32 = 32;

/// What the APIC sends when an interrupt went away before it was taken.
pub(super) const SPURIOUS_VECTOR: u32 = 33;

/// The code segment's selector: the first after the null descriptor.
const CODE: u16 = 8;

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
const LIMIT: u16 = 34 * 16 - 1;
const _: () = assert!(size_of::<[Gate; VECTORS]>() == LIMIT as usize + 1);

static GATES: [Gate; VECTORS] = [const { Gate([AtomicU64::new(0), AtomicU64::new(0)]) }; VECTORS];

unsafe extern "C" {
    /// In `vectors.s`: the first of `VECTORS` stubs.
    static exception_stubs: u8;
}

/// Sets up the boot CPU, the first time it is called.
pub(super) fn init() {
    static LOADED: Once<()> = Once::new();
    LOADED.call_once(|| {
        for (vector, gate) in GATES.iter().enumerate() {
            let stub = (&raw const exception_stubs).addr() as u64 + (vector * STUB) as u64;
            gate.set(stub, stack_of(vector));
        }
        load(0, [FAULT.top(), DOUBLE_FAULT.top(), INTERRUPTION.top()]);
    });
}

/// Loads all of them on this CPU, whose number is `cpu`, with these stacks in its interrupt stack table. Once.
pub(super) fn load(cpu: usize, stacks: [u64; 3]) {
    static TSS: [Once<TaskStateSegment>; MAX] = [const { Once::new() }; MAX];
    static GDT: [Once<GlobalDescriptorTable>; MAX] = [const { Once::new() }; MAX];
    let tss = TSS[cpu].call_once(|| {
        let mut tss = TaskStateSegment::new();
        // By value: the structure is packed.
        let mut table = tss.interrupt_stack_table;
        for (entry, top) in table.iter_mut().zip(stacks) {
            *entry = VirtAddr::new(top);
        }
        tss.interrupt_stack_table = table;
        tss
    });
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let tss = gdt.append(Descriptor::tss_segment(tss));
    debug_assert_eq!(code.rpl(), PrivilegeLevel::Ring0);
    debug_assert_eq!(code.0, CODE);
    GDT[cpu].call_once(|| gdt).load();
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

    let table = DescriptorTablePointer { limit: LIMIT, base: VirtAddr::from_ptr(&raw const GATES) };
    // SAFETY: every gate leads to a stub of its vector, on a stack that is there.
    unsafe { lidt(&table) };
}

/// Which entry of the interrupt stack table a vector uses, from 1. The timer's interrupt is masked as long as
/// anybody is on the first.
fn stack_of(vector: usize) -> u64 {
    match vector {
        8 => 2,
        2 | 18 => 3,
        _ => 1,
    }
}

impl Gate {
    fn set(&self, target: u64, stack: u64) {
        // Present, type 14: an interrupt gate, which masks interrupts.
        const INTERRUPT_GATE: u64 = 0x8e << 40;
        let low = target & 0xffff
            | u64::from(CODE) << 16
            | stack << 32
            | INTERRUPT_GATE
            | (target >> 16 & 0xffff) << 48;
        self.0[0].store(low, Ordering::Relaxed);
        self.0[1].store(target >> 32, Ordering::Relaxed);
    }
}
