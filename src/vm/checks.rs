//! What is refused before anything is carved: ranges that no machine has, and
//! mappings of the embedder's kernel that would not protect.

use core::ops::Range;

use allotment_arch::{
    Arch, Entry, Format, PAGE_SIZE, PhysAddr, TABLE_SPAN, Translation, VirtAddr, translate,
};

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
pub(crate) fn check_reach<A: Arch>(arch: &A, arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    let last = PhysAddr(arena.end.0 - PAGE_SIZE as u64);
    let is_cut_off = last.0 >> arch.physical_bits() != 0;
    let entry = Entry::Hidden { frame: last, written: false, shared: false };
    let hidden = A::Format::hidden(last, false);
    let named = hidden & A::Format::FRAME;
    if A::Format::decode(hidden) == entry && named >= last.0 && !is_cut_off {
        Ok(())
    } else {
        Err(CarveError::ArenaOutOfReach { address: last })
    }
}

/// Refuses a machine that numbers this CPU as none of its own.
pub(crate) fn check_cpu<A: Arch>(arch: &A) -> Result<(), CarveError> {
    let (current, count) = (arch.current_cpu(), arch.cpus());
    if current < count { Ok(()) } else { Err(CarveError::UnknownCpu { current, count }) }
}

/// Refuses a physical map in which the root is not where it says: a wrong offset, as a rule.
///
/// # Safety
///
/// The live tables are not freed during the call.
pub(crate) unsafe fn check_root<A: Arch>(arch: &A, window: VirtAddr) -> Result<(), CarveError> {
    if !A::ALIAS_IS_MAPPED {
        return Ok(());
    }
    let root = arch.root(window);
    let alias = alias(arch, root);
    if !A::ALIAS_IS_MAPPED {
        return Ok(());
    }
    // SAFETY: by this function's contract.
    let found = unsafe { translate(arch, alias) }.map(|found| found.physical);
    if found == Some(root) { Ok(()) } else { Err(CarveError::RootNotMapped { root, alias, found }) }
}

/// Looks at what the embedder's kernel maps: page 0 must not translate, and
/// the arena's alias must be writable and not executable, all of it.
///
/// # Safety
///
/// The live tables are not freed during the call.
pub(crate) unsafe fn check_mappings<A: Arch>(arch: &A, arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    // SAFETY: by this function's contract.
    if let Some(found) = unsafe { translate(arch, VirtAddr(0)) } {
        return Err(CarveError::NullPageMapped { physical: found.physical });
    }
    if !A::ALIAS_IS_MAPPED {
        return Ok(());
    }
    let mut address = arena.start;
    while address < arena.end {
        // SAFETY: as above.
        let found = unsafe { check_alias(arch, address) }?;
        if found.executable {
            return Err(CarveError::ArenaExecutable { address, alias: alias(arch, address) });
        }
        // On with the next page or block: linear, as a map is, it begins a whole number of them further.
        address = PhysAddr((address.0 & !(found.bytes - 1)) + found.bytes);
    }
    Ok(())
}

/// What is mapped where the arch says that `address` is: that, and writable.
///
/// # Safety
///
/// As for [`check_mappings`].
unsafe fn check_alias<A: Arch>(arch: &A, address: PhysAddr) -> Result<Translation, CarveError> {
    let alias = alias(arch, address);
    // SAFETY: by this function's contract.
    match unsafe { translate(arch, alias) } {
        Some(found) if found.physical != address => {
            Err(CarveError::ArenaNotMapped { address, alias, found: Some(found.physical) })
        }
        Some(found) if !found.writable => Err(CarveError::ArenaReadOnly { address, alias }),
        Some(found) => Ok(found),
        None => Err(CarveError::ArenaNotMapped { address, alias, found: None }),
    }
}

/// Whether a frame can become a table: it is a page that can be written, and that entries can name.
///
/// # Safety
///
/// As for [`check_mappings`].
pub(crate) unsafe fn is_usable_frame<A: Arch>(arch: &A, frame: PhysAddr) -> bool {
    let end = frame.offset(PAGE_SIZE);
    let in_reach = frame.0 != 0
        && frame.is_aligned(PAGE_SIZE)
        && end > frame
        && check_reach(arch, &(frame..end)).is_ok();
    // SAFETY: by this function's contract.
    in_reach && (!A::ALIAS_IS_MAPPED || unsafe { check_alias(arch, frame) }.is_ok())
}

/// Where the arch says that `address` is mapped.
pub(crate) fn alias<A: Arch>(arch: &A, address: PhysAddr) -> VirtAddr {
    VirtAddr(arch.physical(address).as_ptr().expose_provenance() as u64)
}
