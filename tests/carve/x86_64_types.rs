//! What a kernel has that uses the crate `x86_64`, and such a kernel's mistakes.

use allotment::{
    Allocator, CarveError,
    arch::{
        Arch, CpuError, Native, PhysAddr, PhysOffset, VirtAddr,
        x86_64_v0_15::{X86BumpFrames, X86Frames},
    },
};
use x86_64::registers::{
    control::{Cr0, Cr0Flags},
    model_specific::Msr,
};
use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, PageTable, PhysFrame, Size4KiB};

use super::{MIB, Machine, TestArch, small};

struct Bump(PhysFrame, usize);

// SAFETY: frames of the test's own arena, each given once.
unsafe impl FrameAllocator<Size4KiB> for Bump {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.0;
        self.0 += 1;
        self.1 += 1;
        Some(frame)
    }
}

impl FrameDeallocator<Size4KiB> for Bump {
    unsafe fn deallocate_frame(&mut self, _frame: PhysFrame) {}
}

pub(super) fn without_write_protection() {
    let set = |flags| {
        // SAFETY: nothing here writes to a read-only page.
        unsafe { Cr0::write(flags) };
    };
    let flags = Cr0::read();
    set(flags - Cr0Flags::WRITE_PROTECT);
    let refused = Machine::<Native>::try_new(&small(), 16 * MIB).err();
    set(flags);
    assert_eq!(refused, Some(CarveError::Cpu(CpuError::WriteProtectOff)));
    assert!(Machine::<Native>::try_new(&small(), 16 * MIB).is_ok());
}

pub(super) fn with_uncached_memory() {
    const IA32_PAT: u32 = 0x277;
    let mut types = Msr::new(IA32_PAT);
    let set = |types: &mut Msr, value| {
        // SAFETY: slow, if the machine has caches at all, and the same again soon.
        unsafe { types.write(value) };
    };
    // SAFETY: every CPU with long mode has it.
    let usual = unsafe { types.read() };
    set(&mut types, usual & !7);
    let refused = Machine::<Native>::try_new(&small(), 16 * MIB).err();
    set(&mut types, usual);
    assert_eq!(refused, Some(CarveError::Cpu(CpuError::MemoryType { found: 0 })));
    assert!(Machine::<Native>::try_new(&small(), 16 * MIB).is_ok());
}

pub(super) fn fit() {
    for bump_only in [false, true] {
        let (machine, window, arena) = Native::machine(16 * MIB);
        let first = x86_64::PhysAddr::new(arena.start.0);
        let mut frames = Bump(PhysFrame::containing_address(first), 0);
        let rest = arena.start.offset(MIB)..arena.end;
        let root = machine.physical(machine.root(window.start)).cast::<PageTable>();
        // SAFETY: the live root, which nobody changes meanwhile.
        let root = unsafe { root.as_ref() };
        // SAFETY: that is what CR3 holds, and memory is mapped at its own address.
        let arch = unsafe { Native::of_table(PhysOffset(0), root) };
        assert_eq!(arch.root(window.start), machine.root(window.start));
        assert_eq!(PhysAddr::from(first), arena.start);
        // Its addresses have 48 bits, also where there are five levels.
        let address = x86_64::VirtAddr::new(0xffff_9000_0000_0000);
        assert_eq!(VirtAddr::from(address), VirtAddr(0xffff_9000_0000_0000));
        let config = small();
        let (mut whole, mut bump);
        let source: &mut dyn allotment::arch::FrameSource = if bump_only {
            bump = X86BumpFrames(&mut frames);
            &mut bump
        } else {
            whole = X86Frames(&mut frames);
            &mut whole
        };
        // SAFETY: the machine is the test's, and the source is not the arena.
        let allocator = unsafe { Allocator::with_tables(arch, window, rest, &config, source) }.unwrap();
        assert!(frames.1 > 0, "no table came from there");
        let m = Machine::of(allocator);
        let memory = m.allocator.allocate_memory(MIB).unwrap();
        m.assert_ends_at(&memory, MIB);
        m.allocator.deallocate_memory(memory);
    }
}
