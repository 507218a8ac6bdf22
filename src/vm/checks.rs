//! What is refused before anything is carved: ranges that no machine has, and
//! mappings of the embedder's kernel that would not protect.

use core::ops::Range;

use allotment_arch::{Arch, Entry, Format, PAGE_SIZE, PhysAddr, TABLE_SPAN, VirtAddr, translate};

use crate::CarveError;

/// Refuses ranges that are not aligned, or no addresses at all. In one half of the address space
/// `half_bits` bits of an address differ.
pub(crate) fn check_ranges(
    window: &Range<VirtAddr>,
    arena: &Range<PhysAddr>,
    half_bits: u32,
) -> Result<(), CarveError> {
    let misaligned = |what, address: u64, alignment: usize| {
        Err(CarveError::Misaligned { what, address, alignment: alignment as u64 })
    };
    for edge in [window.start, window.end] {
        if !edge.is_aligned(TABLE_SPAN) {
            return misaligned("window", edge.0, TABLE_SPAN);
        }
    }
    for edge in [arena.start, arena.end] {
        if !edge.is_aligned(PAGE_SIZE) {
            return misaligned("arena", edge.0, PAGE_SIZE);
        }
    }
    // One half of the address space, and not page 0.
    let canonical = |address: u64| address >> half_bits == 0 || address >> half_bits == u64::MAX >> half_bits;
    let same_half = window.start.0 >> 63 == window.end.0.wrapping_sub(1) >> 63;
    let ordered = window.start.0 != 0 && window.start < window.end;
    if !(ordered && same_half && canonical(window.start.0) && canonical(window.end.0 - 1)) {
        return Err(CarveError::WindowNotCanonical { start: window.start, end: window.end, half_bits });
    }
    if arena.start.0 == 0 || arena.start >= arena.end {
        return Err(CarveError::ArenaTooSmall { needed: PAGE_SIZE as u64, available: 0 });
    }
    Ok(())
}

/// Refuses an arena whose addresses would be cut off in an entry, or whose
/// hidden entries would name memory where they must not: where a format inverts
/// them, the inverse must lie above the arena (L1TF).
pub(crate) fn check_reach<A: Arch>(arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    let last = PhysAddr(arena.end.0 - PAGE_SIZE as u64);
    let entry = Entry::Hidden { frame: last, written: false, shared: false };
    let hidden = A::Format::hidden(last, false);
    let named = hidden & A::Format::FRAME;
    if A::Format::decode(hidden) == entry && named >= last.0 {
        Ok(())
    } else {
        Err(CarveError::ArenaOutOfReach { address: last })
    }
}

/// Looks at what the embedder's kernel maps: page 0 must not translate, and
/// the arena's alias must be writable and not executable, at both ends.
///
/// # Safety
///
/// The live tables are not freed during the call.
pub(crate) unsafe fn check_mappings<A: Arch>(arch: &A, arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    // SAFETY: by this function's contract.
    if unsafe { translate(arch, VirtAddr(0)) }.is_some() {
        return Err(CarveError::NullPageMapped);
    }
    if !A::ALIAS_IS_MAPPED {
        return Ok(());
    }
    for end in [arena.start, PhysAddr(arena.end.0 - PAGE_SIZE as u64)] {
        let alias = VirtAddr(arch.physical(end).as_ptr().expose_provenance() as u64);
        // SAFETY: as above.
        match unsafe { translate(arch, alias) } {
            Some(found) if found.physical != end || !found.writable => {
                return Err(CarveError::ArenaNotMapped { address: end });
            }
            Some(found) if found.executable => return Err(CarveError::ArenaExecutable { address: end }),
            Some(_) => {}
            None => return Err(CarveError::ArenaNotMapped { address: end }),
        }
    }
    Ok(())
}
