//! Following tables from the root: at the carve, to look at what the embedder's
//! kernel maps, and for faults in regions. Memory slots find their leaf entries
//! by arithmetic and never walk.

use core::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{Arch, ENTRIES_PER_TABLE, Format, PhysAddr, Upper, VirtAddr};

/// Index of `address` in a table of `level`.
#[must_use]
pub const fn index(address: VirtAddr, level: u8) -> usize {
    ((address.0 >> (12 + 9 * level as u32)) & 511) as usize
}

/// One table, or a run of physically contiguous leaf tables, as entries.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    first: NonNull<AtomicU64>,
    len: usize,
    memory: PhantomData<&'a AtomicU64>,
}

// SAFETY: a `Table` is a shared reference to atomics.
unsafe impl Send for Table<'_> {}
// SAFETY: as above.
unsafe impl Sync for Table<'_> {}

impl<'a> Table<'a> {
    /// The `count` physically contiguous tables that start at `frame`.
    ///
    /// # Safety
    ///
    /// For `'a` the frames are tables that `arch` can reach, and everybody
    /// else accesses them only atomically (as MMU and this type do).
    #[must_use]
    pub unsafe fn new<A: Arch>(arch: &'a A, frame: PhysAddr, count: usize) -> Self {
        Self { first: arch.physical(frame).cast(), len: count * ENTRIES_PER_TABLE, memory: PhantomData }
    }

    /// The entries.
    #[must_use]
    pub fn entries(self) -> &'a [AtomicU64] {
        // SAFETY: `new`'s caller promised `len` entries for `'a`, accessed
        // only atomically; `AtomicU64` has no invalid values.
        unsafe { NonNull::slice_from_raw_parts(self.first, self.len).as_ref() }
    }
}

/// What a virtual address translates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The physical address.
    pub physical: PhysAddr,
    /// Whether privileged code may write there.
    pub writable: bool,
    /// Whether privileged code may execute there.
    pub executable: bool,
    /// Bytes of the page or block that the address is in: 4 KiB, 2 MiB, 1 GiB.
    pub bytes: u64,
}

/// Walks the live tables for `address`, with the limits of every level
/// applied, whoever wrote them.
///
/// # Safety
///
/// The live tables must not be freed during the call.
pub unsafe fn translate<A: Arch>(arch: &A, address: VirtAddr) -> Option<Translation> {
    if !arch.walks(address) {
        return None;
    }
    let (mut read_only, mut no_execute) = (false, false);
    let mut frame = arch.root(address);
    for level in (0..arch.levels()).rev() {
        // SAFETY: the root is live, and below it we follow table entries only;
        // the caller keeps them.
        let table = unsafe { Table::new(arch, frame, 1) };
        let entry = table.entries()[index(address, level)].load(Ordering::Relaxed);
        match A::Format::upper(level, entry) {
            Upper::NotPresent => return None,
            Upper::Table { frame: next, read_only: r, no_execute: x } => {
                frame = next;
                read_only |= r;
                no_execute |= x;
            }
            Upper::Leaf { frame: first, writable, executable } => {
                let span = 1u64 << (12 + 9 * u32::from(level));
                return Some(Translation {
                    physical: PhysAddr(first.0 + (address.0 & (span - 1))),
                    writable: writable && !read_only,
                    executable: executable && !no_execute,
                    bytes: span,
                });
            }
        }
    }
    None
}

/// The leaf-table entry for `address`, if every table above it exists and none
/// of them maps a block there.
///
/// # Safety
///
/// As for [`translate`]; the result must not outlive the leaf table.
pub unsafe fn find_leaf_entry<A: Arch>(arch: &A, address: VirtAddr) -> Option<&AtomicU64> {
    let mut frame = arch.root(address);
    for level in (1..arch.levels()).rev() {
        // SAFETY: as in `translate`.
        let table = unsafe { Table::new(arch, frame, 1) };
        let entry = table.entries()[index(address, level)].load(Ordering::Acquire);
        match A::Format::upper(level, entry) {
            Upper::Table { frame: next, .. } => frame = next,
            Upper::NotPresent | Upper::Leaf { .. } => return None,
        }
    }
    // SAFETY: as in `translate`.
    let table = unsafe { Table::new(arch, frame, 1) };
    Some(&table.entries()[index(address, 0)])
}
