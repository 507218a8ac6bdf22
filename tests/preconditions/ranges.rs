//! Where a window and an arena may be.

extern crate alloc;

use alloc::{string::ToString, vec::Vec};
use core::ops::Range;

use allotment::{
    Allocator,
    arch::VirtAddr,
    boot::{NoWindow, window, without},
};

use crate::common::{MIB, Machine, TestArch, small};

pub(super) fn found_window<A: TestArch>() {
    let (arch, usual, arena) = A::machine(16 * MIB);
    let first = window(&arch, 1).unwrap();
    assert_eq!(first.end.0 - first.start.0, 2 * MIB as u64);
    assert!(first.start.0 >> 63 == 1 && first.start <= usual.start, "{first:?}");
    // Nothing is mapped in an emulated upper half.
    #[cfg(not(target_os = "none"))]
    assert_eq!(first.start.0, (1u64 << arch.half_bits()).wrapping_neg());
    let bytes = (32 << 30) + 5;
    let found = window(&arch, bytes).unwrap();
    assert_eq!(found, first.start..VirtAddr(first.start.0 + bytes.next_multiple_of(2 * MIB as u64)));

    // More than there is, and what cannot be rounded.
    let NoWindow { requested, largest } = window(&arch, 1 << 60).unwrap_err();
    assert!(requested == 1 << 60 && (1 << 38..1 << 60).contains(&largest), "{largest:#x}");
    assert!(window(&arch, largest).is_ok());
    assert_eq!(window(&arch, largest + 1).unwrap_err().largest, largest);
    assert!(window(&arch, u64::MAX).unwrap_err().to_string().contains("ask for less"));
    window(&arch, 0).expect_err("a window of nothing");

    // It can be carved, and is not found again.
    arch.use_window(found.clone());
    let config = small().region_space(1 << 30);
    // SAFETY: the machine is the test's.
    let m = Machine::of(unsafe { Allocator::new(arch, found.clone(), arena, &config) }.unwrap());
    let memory = m.allocator.allocate_memory(MIB).unwrap();
    m.assert_ends_at(&memory, MIB);
    m.allocator.deallocate_memory(memory);
    let next = window(m.allocator.arch(), 1).unwrap();
    // With entries of 1 GiB those that no slot and no region needs stay empty.
    let end = if m.allocator.arch().levels() == 3 { found.start } else { VirtAddr(found.end.0 - 1) };
    assert!(next.start > end, "{next:?}");
}

pub(super) fn without_taken() {
    const TAKEN: [Range<u64>; 6] =
        [0x40..0x50, 0x10..0x20, 0x18..0x30, 0x90..0xa0, 0x60..0x60, 0xb0..u64::MAX];
    const WHOLE: Range<u64> = 0..0x100;
    let left = |usable: &[Range<u64>]| without(usable.to_vec(), &TAKEN).collect::<Vec<_>>();
    assert_eq!(left(&[WHOLE]), [0..0x10, 0x30..0x40, 0x50..0x90, 0xa0..0xb0]);
    assert_eq!(left(&[0x10..0x30, 0x44..0x48, 0x100..0x200]), []);
    assert_eq!(left(&[0x4f..0x51, 0x8f..0x90, 0x61..0x62]), [0x50..0x51, 0x8f..0x90, 0x61..0x62]);
    let empty = Range { start: 9, end: 3 };
    assert_eq!(left(&[0x70..0x70, empty, 0..u64::MAX]), left(&[WHOLE]));
    assert_eq!(without([WHOLE], &[]).collect::<Vec<_>>(), [WHOLE]);
}
