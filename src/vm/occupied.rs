//! Whether an arena is somebody's already: of all mistakes the one that shows last, as the kernel
//! is overwritten a page at a time.
//!
//! ```text
//!   physical   | .. | kernel | stacks | tables | usable ............ |
//!                        ^       ^        ^
//!   the CPU says         |       |        every table that a walk can reach
//!   where code, stack, handlers are       (also another allocator's)
//! ```
//!
//! What nobody points to, such as the kernel's heap, is not found.

use core::{ops::Range, sync::atomic::Ordering};

use allotment_arch::{
    Arch, Format, Occupant, PAGE_SIZE, PhysAddr, Table, Translation, Upper, VirtAddr, translate,
};

use crate::CarveError;

/// Refuses an arena that holds live tables, or what this CPU uses.
///
/// # Safety
///
/// The live tables are not freed during the call.
pub(super) unsafe fn check_unoccupied<A: Arch>(arch: &A, arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    // SAFETY: by this function's contract.
    unsafe { check_tables(arch, arena) }?;
    let mut result = Ok(());
    arch.in_use(&mut |by, at| {
        // SAFETY: by this function's contract.
        let Some(used) = (unsafe { extent(arch, at) }) else { return };
        if result.is_ok() && used.start < arena.end && arena.start < used.end {
            result = Err(CarveError::ArenaInUse { address: used.start.max(arena.start), by, at });
        }
    });
    result
}

/// Refuses an arena that holds a table of either half.
///
/// # Safety
///
/// As for [`check_unoccupied`].
unsafe fn check_tables<A: Arch>(arch: &A, arena: &Range<PhysAddr>) -> Result<(), CarveError> {
    let bits = 12 + 9 * u32::from(arch.levels());
    let halves = [VirtAddr(0), VirtAddr(u64::MAX << bits)];
    let is_one_root = arch.root(halves[0]) == arch.root(halves[1]);
    for &half in halves[..if is_one_root { 1 } else { 2 }].iter().filter(|&&half| arch.walks(half)) {
        let root = Node { frame: arch.root(half), level: arch.levels() - 1, first: half };
        // SAFETY: by this function's contract: it is a live root.
        if let Some(Node { frame, first, .. }) = unsafe { find_table(arch, root, arena) } {
            // One root has both halves, the upper one after the lower.
            let is_upper = is_one_root && first.0 >> (bits - 1) != 0;
            let at = if is_upper { VirtAddr(first.0 | halves[1].0) } else { first };
            return Err(CarveError::ArenaInUse { address: frame, by: Occupant::PageTable, at });
        }
    }
    Ok(())
}

/// A table, and the first address that it serves.
#[derive(Clone, Copy)]
struct Node {
    frame: PhysAddr,
    level: u8,
    first: VirtAddr,
}

/// The first table in `arena` among this one and all below it. Leaf tables are not looked into.
///
/// # Safety
///
/// `node` is one of the live tables, which are not freed during the call.
unsafe fn find_table<A: Arch>(arch: &A, node: Node, arena: &Range<PhysAddr>) -> Option<Node> {
    let Node { frame, level, first } = node;
    if arena.contains(&frame) {
        return Some(node);
    }
    let below = level.checked_sub(1)?;
    // SAFETY: by this function's contract.
    let table = unsafe { Table::new(arch, frame, 1) };
    let mut before = 0;
    for (nth, entry) in table.entries().iter().enumerate() {
        let entry = entry.load(Ordering::Relaxed);
        // A kernel may fill much of a table with one and the same.
        if entry == core::mem::replace(&mut before, entry) {
            continue;
        }
        let Upper::Table { frame, .. } = A::Format::upper(level, entry) else { continue };
        let first = VirtAddr(first.0 | (nth as u64) << (12 + 9 * u32::from(level)));
        // SAFETY: a live table points to it.
        let found = unsafe { find_table(arch, Node { frame, level: below, first }, arena) };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The physical memory of what is at `address`: its page, and as far as pages around it are read-only
/// as it is, and adjacent: text and constants of a kernel. `None` if nothing is mapped there.
///
/// A writable page says nothing about those beside it, as it may be one of all memory's map.
///
/// # Safety
///
/// As for [`check_unoccupied`].
unsafe fn extent<A: Arch>(arch: &A, address: VirtAddr) -> Option<Range<PhysAddr>> {
    /// More pages or blocks than any kernel has.
    const LIMIT: usize = 1 << 16;
    let page = VirtAddr(address.0 & !(PAGE_SIZE as u64 - 1));
    // SAFETY: by this function's contract.
    let found = unsafe { translate(arch, page) }?;
    let mut used = found.physical..found.physical.offset(PAGE_SIZE);
    if found.writable {
        return Some(used);
    }
    let offset = page.0.wrapping_sub(found.physical.0);
    let continues = |physical: PhysAddr| {
        // SAFETY: by this function's contract.
        let next = unsafe { translate(arch, VirtAddr(physical.0.wrapping_add(offset))) };
        next.filter(|next| next.physical == physical && !next.writable)
    };
    let begin = |found: &Translation| found.physical.0 & !(found.bytes - 1);
    for _ in 0..LIMIT {
        let Some(next) = continues(used.end) else { break };
        used.end = PhysAddr(begin(&next) + next.bytes);
    }
    for _ in 0..LIMIT {
        let Some(next) = used.start.0.checked_sub(1).and_then(|last| continues(PhysAddr(last))) else {
            break;
        };
        used.start = PhysAddr(begin(&next));
    }
    Some(used)
}
