//! Segments, and stacks of their own for exceptions.

use spin::LazyLock;
use x86_64::{
    VirtAddr,
    instructions::tables::load_tss,
    registers::segmentation::{CS, DS, ES, SS, Segment, SegmentSelector},
    structures::{
        gdt::{Descriptor, GlobalDescriptorTable},
        tss::TaskStateSegment,
    },
};

/// Whoever faults may have no stack left.
pub const FAULT_STACK: u16 = 0;
/// Nor may the handler of that.
pub const DOUBLE_FAULT_STACK: u16 = 1;

const STACK_SIZE: usize = 5 * 4096;

/// The CPU aligns what it pushes.
static mut STACKS: [[u8; STACK_SIZE]; 2] = [[0; STACK_SIZE]; 2];

static TSS: LazyLock<TaskStateSegment> = LazyLock::new(|| {
    let mut tss = TaskStateSegment::new();
    let stacks = VirtAddr::from_ptr(&raw const STACKS);
    for number in [FAULT_STACK, DOUBLE_FAULT_STACK] {
        let end = stacks + (u64::from(number) + 1) * STACK_SIZE as u64;
        tss.interrupt_stack_table[usize::from(number)] = end;
    }
    tss
});

static GDT: LazyLock<(GlobalDescriptorTable, [SegmentSelector; 3])> = LazyLock::new(|| {
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let tss = gdt.append(Descriptor::tss_segment(&TSS));
    (gdt, [code, data, tss])
});

pub fn init() {
    let (gdt, [code, data, tss]) = &*GDT;
    gdt.load();
    // SAFETY: these are what the new table has there.
    unsafe {
        CS::set_reg(*code);
        SS::set_reg(*data);
        DS::set_reg(*data);
        ES::set_reg(*data);
        load_tss(*tss);
    }
}
